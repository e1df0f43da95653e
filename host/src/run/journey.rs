//! How far a job has come, on disk: `journey.jsonl` beside the search's own journal.
//!
//! A line is written when its work is safe on the disk, so a resumed job does no line's work again. What a line names is
//! kept by digest: weights in `students/`, the student's file in the run folder. Must not decide what is done next.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::journal::{self, Journal, JournalError};
use crate::measurement::Measurement;
use crate::search::answer::Measured;
use crate::search::{Budget, Limits};
use crate::training::Accuracy;

/// Version of the lines.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    schema: u32,
    /// Time of the whole job when the milestone was done, over all its parts.
    elapsed_ns: u64,
    milestone: Milestone,
}

impl journal::Line for Line {
    const SCHEMA: u32 = SCHEMA;
}

/// Something that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Milestone {
    /// The teacher was measured, and a student can keep the limits.
    Prepared(Box<OnBoard>),
    /// The search went to its end.
    Searched {
        /// Candidates that it scored.
        candidates: usize,
    },
    /// A finalist was measured carefully, without its weights.
    Measured {
        /// Digest of its network.
        network: String,
        /// What came of it.
        finding: Finding,
    },
    /// A finalist was retrained, or a student distilled.
    Trained(Trained),
    /// The file that would ship was measured.
    Checked {
        /// Digest of its weights before batch norm was folded.
        weights: String,
        /// What came of it.
        finding: Finding,
    },
    /// The choice is made.
    Chosen {
        /// Digest of the student's weights; `None` where no finalist keeps the limits.
        weights: Option<String>,
    },
    /// The test split was read, and the summary written.
    Verified {
        /// SHA-256 of the student's file.
        file: Option<String>,
    },
    /// The student runs in the board's active slot.
    Shipped {
        /// Images on which board and host agree, of those that were compared.
        agreement: Option<Accuracy>,
    },
    /// The run was given a larger budget: the search goes on.
    Extended {
        /// In force before, in all.
        from: Budget,
        /// From now on, in all.
        to: Budget,
    },
}

/// A model on the board.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnBoard {
    /// What a search asks of it.
    pub measured: Measured,
    /// The whole measurement.
    pub measurement: Measurement,
}

/// What a careful measurement came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Finding {
    /// It was measured.
    Measured(Box<BesideTeacher>),
    /// The board cannot run it.
    Infeasible {
        /// What the board said, for people.
        reason: String,
    },
    /// Whether it keeps the limits cannot be told.
    Unknown {
        /// What the board said, for people.
        reason: String,
    },
}

/// A student's measurement, and the teacher's that it is judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BesideTeacher {
    /// The teacher; of the same time, where a limit is on latency.
    pub teacher: OnBoard,
    /// The student.
    pub student: OnBoard,
    /// The limits that follow from that teacher.
    pub limits: Limits,
}

/// A training that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Which training: digest of all that decides it.
    pub training: String,
    /// Passes over the training images.
    pub epochs: usize,
    /// Its seed.
    pub seed: u64,
    /// Digest of the weights that it gave.
    pub weights: String,
    /// Their accuracy on the second half of the validation split.
    pub accuracy: Accuracy,
}

/// How far a job has come: its milestones, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Milestones(Vec<Milestone>);

impl Milestones {
    /// The milestones of a job that another process may be at; none where there is no file.
    ///
    /// # Errors
    /// As [`journal::read`].
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        Ok(Self(journal::read::<Line>(path)?.0.into_iter().map(|line| line.milestone).collect()))
    }

    /// Those after the last extension of the budget.
    fn current(&self) -> &[Milestone] {
        let extended = self.0.iter().rposition(|milestone| matches!(milestone, Milestone::Extended { .. }));
        &self.0[extended.map_or(0, |index| index + 1)..]
    }

    /// The teacher as it was measured last before the search went on.
    pub fn prepared(&self) -> Option<&OnBoard> {
        self.0
            .iter()
            .rev()
            .find_map(|milestone| if let Milestone::Prepared(it) = milestone { Some(&**it) } else { None })
    }

    /// Whether the search went to its end.
    pub fn is_searched(&self) -> bool {
        self.current().iter().any(|milestone| matches!(milestone, Milestone::Searched { .. }))
    }

    /// What a careful measurement of this network came to.
    pub fn measured(&self, network: &str) -> Option<&Finding> {
        self.0.iter().find_map(|milestone| match milestone {
            Milestone::Measured { network: of, finding } if of == network => Some(finding),
            _ => None,
        })
    }

    /// What this training came to.
    pub fn trained(&self, training: &str) -> Option<&Trained> {
        self.0.iter().find_map(|milestone| match milestone {
            Milestone::Trained(trained) if trained.training == training => Some(trained),
            _ => None,
        })
    }

    /// What measuring the file of these weights came to.
    pub fn checked(&self, weights: &str) -> Option<&Finding> {
        self.0.iter().find_map(|milestone| match milestone {
            Milestone::Checked { weights: of, finding } if of == weights => Some(finding),
            _ => None,
        })
    }

    /// Whether the choice is made.
    pub fn is_chosen(&self) -> bool {
        self.current().iter().any(|milestone| matches!(milestone, Milestone::Chosen { .. }))
    }

    /// The file that was verified: `None` if none was yet, and `Some(None)` if there is no student.
    pub fn verified(&self) -> Option<Option<&str>> {
        self.current().iter().rev().find_map(|milestone| match milestone {
            Milestone::Verified { file } => Some(file.as_deref()),
            _ => None,
        })
    }

    /// Whether the student runs on the board.
    pub fn is_shipped(&self) -> bool {
        self.current().iter().any(|milestone| matches!(milestone, Milestone::Shipped { .. }))
    }

    /// The budget before and after each extension.
    pub fn extensions(&self) -> Vec<(Budget, Budget)> {
        let extension = |milestone: &Milestone| match milestone {
            Milestone::Extended { from, to } => Some((*from, *to)),
            _ => None,
        };
        self.0.iter().filter_map(extension).collect()
    }
}

/// The journey of a job, open for more.
#[derive(Debug)]
pub struct Journey {
    journal: Journal<Line>,
    milestones: Milestones,
    began: Instant,
    /// Time of earlier parts of the job.
    before: Duration,
}

impl Journey {
    /// Opens or makes the file; a torn last line is dropped.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let (journal, lines) = Journal::<Line>::open(path)?;
        let before = Duration::from_nanos(lines.last().map_or(0, |line| line.elapsed_ns));
        let milestones = Milestones(lines.into_iter().map(|line| line.milestone).collect());
        Ok(Self { journal, milestones, began: Instant::now(), before })
    }

    /// Writes that a milestone is reached.
    ///
    /// # Errors
    /// The system's: a full disk, a folder that is gone.
    pub fn note(&mut self, milestone: Milestone) -> Result<(), JournalError> {
        let elapsed_ns = u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let line = Line { schema: SCHEMA, elapsed_ns, milestone };
        self.journal.append(&line)?;
        self.milestones.0.push(line.milestone);
        Ok(())
    }

    /// That the job has taken so long at the least before this part of it: what another journal knows of a part that
    /// ended without a line here.
    pub fn took_before(&mut self, known: Duration) {
        self.before = self.before.max(known);
    }

    /// Time of the whole job, over all its parts.
    pub fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    /// What is done.
    pub fn milestones(&self) -> &Milestones {
        &self.milestones
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trained(training: &str) -> Milestone {
        let accuracy = Accuracy { correct: 7, total: 9 };
        let (training, weights) = (training.to_owned(), "w".to_owned());
        Milestone::Trained(Trained { training, epochs: 3, seed: 1, weights, accuracy })
    }

    fn path() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journey.jsonl");
        (folder, path)
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_its_step_is_not_done() {
        let (_folder, path) = path();
        assert_eq!(Milestones::read(&path).unwrap(), Milestones::default());
        let mut journey = Journey::open(&path).unwrap();
        journey.note(trained("a")).unwrap();
        journey.note(trained("b")).unwrap();
        drop(journey);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut journey = Journey::open(&path).unwrap();
        assert!(journey.milestones().trained("a").is_some() && journey.milestones().trained("b").is_none());
        journey.note(trained("b")).unwrap();
        assert_eq!(Milestones::read(&path).unwrap().0, [trained("a"), trained("b")]);
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let (_folder, path) = path();
        std::fs::write(&path, "{\"schema\":9,\"elapsed_ns\":1,\"milestone\":{\"kind\":\"flown\"}}\n")
            .unwrap();
        for error in
            [Journey::open(&path).map(|_| ()).unwrap_err(), Milestones::read(&path).map(|_| ()).unwrap_err()]
        {
            assert!(error.to_string().contains("journey.jsonl: expected schema 1, got 9"), "{error}");
        }
    }

    #[test]
    fn an_extended_run_is_not_over_and_its_trainings_still_count() {
        let (from, to) = (Budget::Candidates(10), Budget::Candidates(20));
        let milestones = [
            trained("a"),
            Milestone::Searched { candidates: 10 },
            Milestone::Verified { file: Some("f".into()) },
            Milestone::Shipped { agreement: None },
            Milestone::Extended { from, to },
        ];
        let over = Milestones(milestones[..4].to_vec());
        assert!(over.is_searched() && over.is_shipped() && over.extensions().is_empty());
        assert_eq!(over.verified(), Some(Some("f")));
        let extended = Milestones(milestones.to_vec());
        assert!(!extended.is_searched() && !extended.is_shipped());
        assert_eq!((extended.verified(), extended.extensions()), (None, vec![(from, to)]));
        assert!(extended.trained("a").is_some());
    }

    #[test]
    fn time_is_that_of_all_parts() {
        let (_folder, path) = path();
        let mut journey = Journey::open(&path).unwrap();
        journey.took_before(Duration::from_secs(50));
        journey.note(trained("a")).unwrap();
        drop(journey);
        assert!(Journey::open(&path).unwrap().elapsed() >= Duration::from_secs(50));
    }
}
