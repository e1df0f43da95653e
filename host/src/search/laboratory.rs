//! The one seam between the search and the world: boards, trainers, the clock and Ctrl-C are behind [`Laboratory`].
//!
//! Two real implementations: the live one (`crate::compress`) and [`super::replay::Replay`], which answers from a
//! recorded journal. Nothing in this folder may measure, train, read a clock or a file in any other way.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model_io::Weights;
use crate::network::Network;
use crate::network::surgery::Inheritance;

/// What the board (or the file that would ship) says about a network; it does not depend on the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Median latency of one inference at batch 1. In a search whose limit is a share of the teacher's latency, as the board
    /// was when the search began: drift that the reference model shows is divided out.
    pub latency_ns: u64,
    /// Upper confidence bound of that median; what limits bind.
    pub latency_upper_ns: u64,
    /// Lower confidence bound of that median.
    pub latency_lower_ns: u64,
    /// What the student costs on the board, beyond the engine's own memory.
    pub model_memory_bytes: u64,
    /// Size of the file that would ship.
    pub file_bytes: u64,
    /// The board's relative noise between processes, for example 0.02; differences below it are ties.
    pub noise: f64,
}

/// An answer that counts. Faults are never answers: they are [`Fault`]s.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// It was done.
    Done(T),
    /// The student's own fault (out of the board's memory, far too slow, unbuildable): scored, with the reason.
    Infeasible(String),
    /// The world cannot tell, however often it is asked (the engine lacks an operator, crashes, computes another answer; a
    /// GPU's memory is full): no reward and no advantage, out of its batch, with the reason.
    Unknown(String),
}

impl<T> Outcome<T> {
    /// The answer, if there is one.
    pub fn done(&self) -> Option<&T> {
        match self {
            Self::Done(answer) => Some(answer),
            Self::Infeasible(_) | Self::Unknown(_) => None,
        }
    }
}

/// How much training an accuracy costs and is worth; accuracies are compared within one rung only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Starting weights, with batch-norm statistics re-estimated; no gradient step.
    Inherited,
    /// So many distillation steps (batches).
    Steps(u32),
    /// So many passes over the training images with distillation.
    Epochs(u32),
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inherited => write!(f, "inherited"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Epochs(epochs) => write!(f, "{epochs} epochs"),
        }
    }
}

/// Where a student's weights begin.
#[derive(Clone, Debug)]
pub enum StartingWeights {
    /// `training::inheritance::inherit(&job.network, &inheritance, &source, job.seed)`.
    Inherited {
        /// Weights of the network that surgery began from (the teacher, or the removal stage's student).
        source: Arc<Weights>,
        /// Which slices each tensor takes.
        inheritance: Inheritance,
    },
    /// `training::inheritance::initial_weights(&job.network, job.seed)`; the `paper` preset.
    Fresh,
}

/// One training to do. The distiller is always the original teacher, in both stages.
#[derive(Clone, Debug)]
pub struct Job {
    /// [`Network::digest`]: what latency depends on.
    pub digest: String,
    /// Identity of structure *and* of which teacher layers were kept: what accuracy depends on. Two students of one
    /// structure that inherit other layers differ here. Name stored weights after this.
    pub lineage: String,
    /// The student.
    pub network: Network,
    /// Its weights before training.
    pub start: StartingWeights,
    /// How much training.
    pub rung: Rung,
    /// For re-initialised tensors, batches and augmentation.
    pub seed: u64,
}

/// Negative log-likelihoods beyond this are cut: they say that a student is sure of the wrong class, and not how good it is.
pub const WORST_NLL: f64 = 20.0;

/// What training gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Share of correct answers on `validation_search` (of the untrained rung: on its first images), 0 to 1.
    pub accuracy: f64,
    /// Share of the same images on which the student's class is the teacher's, 0 to 1: a finer figure than hits, since it
    /// needs no label to be right.
    pub agreement: f64,
    /// Mean negative log-likelihood of the labels, nats; at most [`WORST_NLL`].
    pub nll: f64,
    /// Tensors that had nothing to inherit.
    pub fresh_tensors: Vec<String>,
    /// Its part of the wall-clock time; trainings of one batch run at once.
    pub seconds: f64,
}

/// One candidate to measure (unless that is known) and perhaps to train.
#[derive(Clone, Debug)]
pub struct Task {
    /// The training that follows if the measurement is admitted; holds network and digest.
    pub job: Job,
    /// Whether the board is asked.
    pub board: Board,
}

/// Whether a task needs the board's word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Board {
    /// A measurement of an equal network is known.
    Known(Measured),
    /// It is to be measured.
    Asked,
    /// No limit depends on it.
    Spared,
}

/// What became of a [`Task`].
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The measurement: the known one, or a new one; `None` when none was needed.
    pub measured: Option<Outcome<Measured>>,
    /// Seconds that measuring took; 0 when it was known.
    pub measure_s: f64,
    /// The training; `None` when the measurement was not admitted, or it came too late.
    pub trained: Option<Outcome<Trained>>,
    /// Whether it was given up at the deadline.
    pub late: bool,
}

/// Decides from the measurement of task `index`, if one was needed, whether it is trained.
pub type Admit<'a> = &'a (dyn Fn(usize, Option<&Measured>) -> bool + Sync);

impl Evaluated {
    /// Not trained yet.
    pub fn measured(measured: Option<Outcome<Measured>>, measure_s: f64) -> Self {
        Self { measured, measure_s, trained: None, late: false }
    }

    /// Given up before it was measured.
    pub fn late() -> Self {
        Self { measured: None, measure_s: 0.0, trained: None, late: true }
    }

    /// What its training came to; `None` if it was not done in time.
    pub fn take(&mut self, trained: Option<Outcome<Trained>>) {
        self.late = trained.is_none();
        self.trained = trained;
    }

    /// Whether it goes on to its training.
    pub fn is_admitted(&self, admit: Admit<'_>, index: usize) -> bool {
        match &self.measured {
            _ if self.late => false,
            None => admit(index, None),
            Some(Outcome::Done(measured)) => admit(index, Some(measured)),
            Some(Outcome::Infeasible(_) | Outcome::Unknown(_)) => false,
        }
    }
}

/// Why there is no answer. A fault is never scored and never reaches a policy: the search stops at the last whole
/// update, and resumes from its journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The link was lost, the agent died or refused.
    #[error("board unavailable: {0}")]
    Board(String),
    /// The user asked to stop.
    #[error("stopped by the user")]
    Cancelled,
    /// Training broke in a way that is no student's fault.
    #[error("training failed: {0}")]
    Training(String),
    /// The journal could not be written.
    #[error("journal: {0}")]
    Journal(String),
}

/// Everything that the search needs from the world.
pub trait Laboratory {
    /// Measures networks (by digest) with seeded random weights, in order; `None` for those that came too late.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn measure(&mut self, networks: &[(&str, &Network)]) -> Result<Vec<Option<Outcome<Measured>>>, Fault>;

    /// Trains and validates, in order; `None` for those that were not done in time. Keep the trained weights by `lineage`
    /// and rung: `weights` may ask for them.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn train(&mut self, jobs: &[&Job]) -> Result<Vec<Option<Outcome<Trained>>>, Fault>;

    /// At which reading of the clock measurements and trainings in flight are given up; `None`: never.
    fn give_up_at(&mut self, deadline: Option<Duration>);

    /// The weights that `train` gave, or gives, for this job. Asked once per run, for the removal stage's student.
    ///
    /// # Errors
    /// A [`Fault`] when the world is to blame.
    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault>;

    /// Time spent on this search so far, over all its resumed parts.
    fn elapsed(&self) -> Duration;

    /// Whether the user asked to stop.
    fn cancelled(&self) -> bool;

    /// Measures the tasks and trains the admitted ones: [`in_turns`] where board and trainer share a machine, both at
    /// once where they do not.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn evaluate(&mut self, tasks: &[Task], admit: Admit<'_>) -> Result<Vec<Evaluated>, Fault>;
}

/// Measures all tasks first, then trains the admitted ones.
///
/// # Errors
/// A [`Fault`] when the world, not a student, is to blame.
pub fn in_turns(lab: &mut dyn Laboratory, tasks: &[Task], admit: Admit<'_>) -> Result<Vec<Evaluated>, Fault> {
    let unknown: Vec<usize> = (0..tasks.len()).filter(|&index| tasks[index].board == Board::Asked).collect();
    let networks: Vec<(&str, &Network)> =
        unknown.iter().map(|&index| (tasks[index].job.digest.as_str(), &tasks[index].job.network)).collect();
    let before = lab.elapsed();
    let fresh = if networks.is_empty() { Vec::new() } else { lab.measure(&networks)? };
    let measure_s = lab.elapsed().saturating_sub(before).as_secs_f64() / fresh.len().max(1) as f64;
    let mut fresh = fresh.into_iter();
    let mut results: Vec<Evaluated> = Vec::with_capacity(tasks.len());
    for task in tasks {
        results.push(match task.board {
            Board::Known(known) => Evaluated::measured(Some(Outcome::Done(known)), 0.0),
            Board::Spared => Evaluated::measured(None, 0.0),
            Board::Asked => match fresh.next() {
                Some(Some(outcome)) => Evaluated::measured(Some(outcome), measure_s),
                Some(None) => Evaluated::late(),
                None => return Err(Fault::Board("fewer measurements than networks".into())),
            },
        });
    }
    let admitted: Vec<usize> =
        (0..tasks.len()).filter(|&index| results[index].is_admitted(admit, index)).collect();
    if lab.cancelled() {
        return Err(Fault::Cancelled);
    }
    let jobs: Vec<&Job> = admitted.iter().map(|&index| &tasks[index].job).collect();
    if !jobs.is_empty() {
        let trained = lab.train(&jobs)?;
        if trained.len() != jobs.len() {
            return Err(Fault::Training("fewer results than jobs".into()));
        }
        for (index, trained) in admitted.into_iter().zip(trained) {
            results[index].take(trained);
        }
    }
    Ok(results)
}
