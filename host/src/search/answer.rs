//! What the world says of candidates: measurements, looks, and why there may be none. Plain data.

use serde::{Deserialize, Serialize};

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
