//! What came out of a compression: the numbers that the table, the JSON object and the report repeat.
//!
//! Stored as `summary.json` in the run folder. Nobody downstream computes anew. Nothing here is a type of the wire: an agent
//! and a protocol of tomorrow leave the summaries of today readable.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Diagnostic;
use crate::measurement::Measurement;
use crate::model_io::atomic_file;
use crate::network::Network;
use crate::search::answer::Measured;
use crate::search::constraint::Metric;
use crate::search::{Counts, NearMiss};
use crate::training::{Accuracy, ClassAccuracy, PairedDifference};
use crate::units;
use crate::usage::Usage;

/// Version of the file. 1 had no number, and wrote digests as lists of bytes.
pub const SCHEMA: u32 = 2;
/// Largest file, bytes: the samples of two measurements and two networks take some 100 KB.
const MOST_BYTES: u64 = 64 << 20;

/// File in the run folder.
pub const FILE: &str = "summary.json";

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`] when it is written; files that this program reads may have an earlier one.
    #[serde(default = "first")]
    pub schema: u32,
    /// Run folder.
    pub run: PathBuf,
    /// Board as the user wrote it.
    pub board: String,
    /// Whether that is this machine.
    pub this_machine: bool,
    /// What the board says it is.
    pub board_model: String,
    /// Class of board, for which the student was made; empty in runs of older versions.
    #[serde(default)]
    pub board_class: String,
    /// Data set.
    pub dataset: String,
    /// Limits in base units.
    pub limits: Vec<(Metric, f64)>,
    /// The teacher.
    pub teacher: Side,
    /// The student; `None` if none meets the limits.
    pub student: Option<Student>,
    /// Uniform width, the student that all others have to beat; `None` if it was no finalist, where
    /// something is to be made small (finalists are of many sizes then), or without a student.
    #[serde(default)]
    pub uniform: Option<Baseline>,
    /// The best of the other simple students; `None` as before.
    #[serde(default)]
    pub simple: Option<Baseline>,
    /// Where there is no student: the candidates that miss the limits by least, nearest first.
    #[serde(default)]
    pub nearest: Vec<NearMiss>,
    /// Candidates that were proposed.
    pub candidates: usize,
    /// How many of them came how far; unknown in runs of older versions.
    #[serde(default)]
    pub counts: Option<Counts>,
    /// Whole job, over all its resumed parts, seconds.
    pub wall_s: f64,
    /// Seconds by step of the job, in order.
    pub seconds: Vec<(String, f64)>,
}

/// Teacher or student, from the very file that is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// ONNX file.
    pub file: PathBuf,
    /// Structure: the student's with batch norm, as it was trained.
    pub network: Network,
    /// On the test split.
    pub test: Accuracy,
    /// The same by class, in label order; empty in runs of older versions.
    #[serde(default)]
    pub classes: Vec<ClassAccuracy>,
    /// On the second half of the validation split.
    pub validation: Accuracy,
    /// Trained parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// On the board.
    pub measured: Measured,
    /// The whole measurement.
    pub measurement: Measurement,
}

/// The student, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Student {
    /// Its numbers.
    pub side: Side,
    /// Student minus teacher on the test split.
    pub difference: PairedDifference,
    /// Which searcher found it, or which simple student it is.
    #[serde(alias = "searcher")]
    pub found_by: String,
    /// The limit that kept it from being larger; unknown in runs of older versions.
    #[serde(default)]
    pub binding: Option<Metric>,
    /// What the limit on accuracy says, where there is one.
    #[serde(default)]
    pub accuracy_loss: Option<AccuracyLoss>,
    /// What a program has to know to feed it; unknown in runs of older versions.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Whether it runs in the board's active slot.
    pub shipped: bool,
    /// Why it does not, when it was to.
    #[serde(default)]
    pub not_shipped: Option<String>,
    /// Share of images on which board and host name the same class, of those that were compared.
    pub board_agreement: Option<Accuracy>,
}

/// What a student loses against its teacher on the images that decide, and what it may.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyLoss {
    /// A share.
    pub allowed: f64,
    /// Student minus teacher, on the second half of the validation split.
    pub difference: PairedDifference,
}

impl AccuracyLoss {
    /// Whether the estimate keeps the limit.
    pub fn is_kept(&self) -> bool {
        self.beyond() <= 0.0
    }

    /// Share that is lost beyond what may be; negative where less is.
    pub fn beyond(&self) -> f64 {
        -self.difference.estimate() - self.allowed
    }

    /// For people: limit, estimate, interval, and whether the interval leaves a doubt.
    pub fn words(&self) -> String {
        let (low, high) = self.difference.interval();
        let doubt = if low >= -self.allowed || high < -self.allowed { "" } else { ", within the error" };
        format!(
            "{} points [{}, {}] on {} validation images, {} allowed{doubt}",
            units::points(self.difference.estimate()),
            units::points(low),
            units::points(high),
            self.difference.images,
            units::points(-self.allowed)
        )
    }
}

/// A student that anybody would try first, retrained as all finalists were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its name.
    pub found_by: String,
    /// Trained parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Median on the board, where latency counts.
    pub latency_ns: Option<u64>,
    /// On the second half of the validation split, after the finalists' retraining.
    pub validation: Accuracy,
    /// The student after that same retraining minus this one, on those images: what the search added.
    pub added: PairedDifference,
}

impl Baseline {
    /// What the student has over this one, for people.
    pub fn words(&self) -> String {
        let (low, high) = self.added.interval();
        format!(
            "{} points [{}, {}] over {} ({} parameters), retrained alike, on {} validation images",
            units::points(self.added.estimate()),
            units::points(low),
            units::points(high),
            self.found_by,
            units::count(self.params),
            self.added.images,
        )
    }
}

impl Student {
    /// The class that lost most against the teacher: its name, the teacher's share of right answers and the student's.
    /// `None` if none lost anything, or nothing is known by class.
    pub fn worst_loss<'a>(&self, teacher: &'a Side) -> Option<(&'a str, f64, f64)> {
        let pairs = teacher.classes.iter().zip(&self.side.classes);
        let known = pairs.filter(|(teacher, _)| teacher.accuracy.total > 0);
        known
            .map(|(teacher, student)| {
                (teacher.class.as_str(), teacher.accuracy.fraction(), student.accuracy.fraction())
            })
            .filter(|(_, teacher, student)| student < teacher)
            .max_by(|a, b| (a.1 - a.2).total_cmp(&(b.1 - b.2)))
    }
}

/// Why a summary cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// The file is none of ours, or damaged.
    #[error("{path}: expected a summary, got {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A later version wrote it.
    #[error("{path}: expected schema 1 to {SCHEMA}, got {got}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        got: u32,
    },
}

impl Diagnostic for SummaryError {
    fn next_step(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::Damaged { .. } => {
                Some("the run itself is not lost: --resume writes the file again".to_owned())
            }
            Self::Schema { .. } => Some("read it with the n2n version that wrote it".to_owned()),
        }
    }
}

/// Schema of files that state none.
fn first() -> u32 {
    1
}

impl Summary {
    /// Writes `summary.json` into the run folder, whole or not at all.
    ///
    /// # Errors
    /// [`SummaryError::Io`]: a full disk, a folder that is gone.
    pub fn save(&self, run: &Path) -> Result<(), SummaryError> {
        let path = run.join(FILE);
        let written = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        written
            .and_then(|text| atomic_file::write(&path, &text))
            .map_err(|source| SummaryError::Io { path, source })
    }

    /// Reads `summary.json` of a run folder; `None` where the run has not ended.
    ///
    /// # Errors
    /// [`SummaryError::Schema`] for a file of a later version, [`SummaryError::Damaged`] for one that is no summary.
    pub fn load(run: &Path) -> Result<Option<Self>, SummaryError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            #[serde(default = "first")]
            schema: u32,
        }
        let path = run.join(FILE);
        let damaged = |reason: String| SummaryError::Damaged { path: path.clone(), reason };
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SummaryError::Io { path, source }),
            Ok(_) if text.len() as u64 > MOST_BYTES => {
                return Err(damaged(format!("more than {MOST_BYTES} bytes")));
            }
            Ok(_) => {}
        }
        let Head { schema } = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if !(1..=SCHEMA).contains(&schema) {
            return Err(SummaryError::Schema { path, got: schema });
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| damaged(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of the first schema, as the program wrote it on 27 November 2026.
    const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/run-schema-1");

    fn recorded() -> Summary {
        Summary::load(Path::new(RECORDED)).unwrap().unwrap()
    }

    #[test]
    fn a_summary_of_the_first_schema_still_loads() {
        let summary = recorded();
        assert_eq!((summary.schema, summary.candidates, summary.teacher.params), (1, 12, 24393));
        let student = summary.student.unwrap();
        assert_eq!(student.side.measurement.latency.ends_ns(), Some((40429, 47991)));
        assert_eq!(student.side.measurement.engine.name, "tract");
        assert_eq!(student.side.measurement.model.len(), 64);
        assert_eq!(student.difference.estimate(), (139.0 - 82.0) / 2000.0);
    }

    #[test]
    fn what_is_written_is_of_this_schema_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Summary::load(folder.path()).unwrap(), None);
        let summary = Summary { schema: SCHEMA, ..recorded() };
        summary.save(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(text.starts_with("{\n  \"schema\": 2,"), "{}", &text[..80]);
        assert_eq!(Summary::load(folder.path()).unwrap(), Some(summary));
    }

    #[test]
    fn a_later_schema_and_a_damaged_file_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            Summary::load(folder.path()).unwrap_err()
        };
        let later = load("{\"schema\": 3, \"anything\": []}");
        assert!(matches!(later, SummaryError::Schema { got: 3, .. }), "{later}");
        for text in ["", "{", "[]", "{\"schema\": 2}", "{\"schema\": 2.5}"] {
            let error = load(text);
            assert!(matches!(error, SummaryError::Damaged { .. }), "{text}: {error}");
        }
    }
}
