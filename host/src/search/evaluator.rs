//! The one seam between the search and the world: boards, trainers, the clock and Ctrl-C are behind [`Evaluator`]. Tasks go out
//! as plain data, and come back judged, in any order.
//!
//! One machine's part is [`super::hands`]. Nothing in this folder may measure, train, read a clock or a file in any other way.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::base::Base;
use super::constraint::{Limits, Resources};
use super::digits::tidy;
use super::fit::is_off;
use super::genome::Genome;
use super::hands::Job;
use super::reward::Scoring;
use crate::model_io::Weights;

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// One question about one candidate: plain data, so that it can be asked of any machine that has the base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its place in the order of asking.
    pub ticket: usize,
    /// What the candidate is.
    pub genome: Genome,
    /// [`Base::digest`](super::base::Base::digest) of what the genome applies to.
    pub base: String,
    /// [`Network::digest`](crate::network::Network::digest) of the candidate: what latency depends on.
    pub digest: String,
    /// Identity of structure *and* of which layers were kept, and whose weights: what accuracy depends on.
    pub lineage: String,
    /// How its weights begin.
    pub start: Start,
    /// How much training.
    pub rung: Rung,
    /// For re-initialised tensors, batches and augmentation.
    pub seed: u64,
    /// Whether the board is asked.
    pub board: Board,
    /// Which kind of board, engine, threads: measurements of another are no answer.
    pub board_key: String,
    /// Whether it is trained, once it is measured.
    pub gate: Gate,
}

/// How a student's weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Slices of its base's.
    Inherited,
    /// Drawn by its seed; the `paper` preset.
    Fresh,
}

/// What decides from a measurement whether a candidate is trained: what the search would say, as data that goes with the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// How students are scored.
    pub scoring: Scoring,
    /// The limits in base units.
    pub limits: Limits,
    /// How far they are relaxed.
    pub epsilon: f64,
    /// What the candidate costs without a board's word, and that word where it is known.
    pub costs: Resources,
    /// What it is fitted to, as long as it may be fitted anew to what the board says: it is then asked about again.
    pub aim: Option<Limits>,
    /// Whether its training is known already.
    pub trained: bool,
}

impl Gate {
    /// Whether the candidate goes on to its training.
    pub fn admits(&self, measured: Option<&Measured>) -> bool {
        let measured = measured.copied().map(tidy).or(self.costs.measured);
        let costs = Resources { measured, ..self.costs };
        let again = self.costs.measured.is_none() && self.aim.as_ref().is_some_and(|aim| is_off(aim, &costs));
        let parts = self.scoring.parts(&self.limits, &costs, None);
        !self.trained && !again && self.scoring.worth_training(&parts, self.epsilon)
    }
}

/// Whether a task needs the board's word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Board {
    /// A measurement of an equal network is known.
    Known(Measured),
    /// It is to be measured.
    Asked,
    /// No limit depends on it.
    Spared,
}

/// What became of a [`Task`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub fn is_admitted(&self, gate: &Gate) -> bool {
        match &self.measured {
            _ if self.late => false,
            None => gate.admits(None),
            Some(Outcome::Done(measured)) => gate.admits(Some(measured)),
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

/// Whoever judges candidates: one machine or many, which complete what they were given in any order.
pub trait Evaluator {
    /// Takes a base that tasks will be about; one that is known already is no error.
    ///
    /// # Errors
    /// A [`Fault`] when it cannot be kept.
    fn take(&mut self, base: &Rc<Base>) -> Result<(), Fault>;

    /// Takes tasks.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame.
    fn submit(&mut self, tasks: Vec<Task>) -> Result<(), Fault>;

    /// The next that is completed, with its ticket; waits for it.
    ///
    /// # Errors
    /// A [`Fault`] when the world, not a student, is to blame; what was submitted is then forgotten.
    fn complete(&mut self) -> Result<(usize, Evaluated), Fault>;

    /// The weights that the training of this job gave, or gives. Asked when a searcher goes on from a candidate.
    ///
    /// # Errors
    /// A [`Fault`] when the world is to blame.
    fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault>;

    /// At which reading of the clock measurements and trainings in flight are given up; `None`: never.
    fn give_up_at(&mut self, deadline: Option<Duration>);

    /// Time spent on this search so far, over all its resumed parts.
    fn elapsed(&self) -> Duration;

    /// Whether the user asked to stop.
    fn cancelled(&self) -> bool;
}

/// Sends tasks out and gives their answers in the order of asking, in whatever order they came: so a seed repeats on any number
/// of hands.
///
/// # Errors
/// The evaluator's faults, and an answer that nobody asked for.
pub fn ask(evaluator: &mut dyn Evaluator, tasks: Vec<Task>) -> Result<Vec<Evaluated>, Fault> {
    let mut answers: BTreeMap<usize, Option<Evaluated>> =
        tasks.iter().map(|task| (task.ticket, None)).collect();
    evaluator.submit(tasks)?;
    for _ in 0..answers.len() {
        let (ticket, answer) = evaluator.complete()?;
        match answers.get_mut(&ticket) {
            Some(place @ None) => *place = Some(answer),
            Some(Some(_)) | None => {
                return Err(Fault::Training(format!("an answer to ticket {ticket}, which nobody waits for")));
            }
        }
    }
    Ok(answers.into_values().flatten().collect())
}
