//! Why there is no answer.

use crate::bounded::text;
use crate::limits;
use alloc::string::String;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Why there is no answer. The kinds never mix: only `Infeasible` is ever scored. The first six keep their encoding in all
/// versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema, thiserror::Error)]
pub enum Failure {
    /// The student's fault.
    #[error("infeasible on this board: {0}")]
    Infeasible(Infeasible),
    /// The worker's, the file's or the disk's fault: the same request may succeed later.
    #[error("{0}")]
    Failed(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// Every place in the queue, or every session, is taken.
    #[error("busy: {client} has had the board for {since_s} s")]
    Busy {
        /// Who.
        client: String,
        /// For how long, seconds.
        since_s: u32,
    },
    /// The board got too hot or too loaded for a trustworthy number.
    #[error("no trustworthy number: {0}")]
    Disturbed(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// Version, limit, quota or order of calls.
    #[error("refused: {0}")]
    Refused(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// The request was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// This board cannot tell: no number, no fault of link or board, and nothing that a retry would change.
    #[error("unknown on this board: {0}")]
    Unknown(Unknown),
}

impl Failure {
    /// The same failure with each of its texts changed: cut to what the wire takes, or made safe to show.
    #[must_use]
    pub fn map_texts(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::Failed(text) => Self::Failed(change(text)),
            Self::Busy { client, since_s } => Self::Busy { client: change(client), since_s },
            Self::Disturbed(text) => Self::Disturbed(change(text)),
            Self::Refused(text) => Self::Refused(change(text)),
            Self::Unknown(unknown) => Self::Unknown(match unknown {
                Unknown::Unsupported(text) => Unknown::Unsupported(change(text)),
                Unknown::EngineMissing(text) => Unknown::EngineMissing(change(text)),
                Unknown::Crashed(text) => Unknown::Crashed(change(text)),
                Unknown::WrongAnswer(text) => Unknown::WrongAnswer(change(text)),
                Unknown::NotLoaded { .. } | Unknown::NotPrepared { .. } => unknown,
            }),
            Self::Infeasible(_) | Self::Cancelled => self,
        }
    }
}

/// How a student does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema, thiserror::Error)]
pub enum Infeasible {
    /// The worker hit its memory limit.
    #[error("out of memory at a limit of {limit_bytes} bytes")]
    OutOfMemory {
        /// The limit.
        limit_bytes: u64,
    },
    /// One inference took longer than allowed.
    #[error("one inference took over {limit_ms} ms")]
    TooSlow {
        /// The limit.
        limit_ms: u32,
    },
}

/// Why a board cannot tell what a student costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema, thiserror::Error)]
pub enum Unknown {
    /// The engine does not run this model: an operator, a type, a shape.
    #[error("the engine cannot run the model: {0}")]
    Unsupported(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// The engine is not on this board.
    #[error("engine {0} is not on this board")]
    EngineMissing(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// Loading took too long.
    #[error("the engine did not load the model within {limit_ms} ms")]
    NotLoaded {
        /// The limit.
        limit_ms: u32,
    },
    /// Preparing took too long.
    #[error("the engine did not prepare the model within {limit_ms} ms")]
    NotPrepared {
        /// The limit.
        limit_ms: u32,
    },
    /// The engine crashed on the model.
    #[error("the engine crashed on the model: {0}")]
    Crashed(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// The engine's answer is not the golden one.
    #[error("the engine computes another answer: {0}")]
    WrongAnswer(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
}
