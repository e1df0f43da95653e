//! Why an ONNX file cannot be read here, and what to do about it.

use crate::model_io::WeightsError;
use crate::network::NetworkError;

/// An ONNX file that cannot be read here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// Too large.
    #[error("{what}: expected at most {limit}, got {got}")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How much there may be.
        limit: u64,
        /// How much there is, or at least is.
        got: u64,
    },
    /// Not ONNX, or damaged.
    #[error("not a whole ONNX file: {0}")]
    Damaged(String),
    /// Another program's.
    #[error(
        "this ONNX was not written by n2n (producer `{producer}`); import of other models is not there yet"
    )]
    Foreign {
        /// Who wrote it, as the file says.
        producer: String,
    },
    /// Another version's.
    #[error("{what}: expected {expected}, got {got}")]
    Version {
        /// Of what.
        what: &'static str,
        /// Ours.
        expected: String,
        /// The file's.
        got: String,
    },
    /// Written by n2n, it says, but not like this.
    #[error("{place}: expected {expected}, got {got}")]
    Structure {
        /// Node, tensor or metadata key.
        place: String,
        /// By the mapping.
        expected: String,
        /// In the file.
        got: String,
    },
    /// The nodes make no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Tensors and network disagree.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl ReadError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => {
                "to compress, train a teacher with `n2n teacher train`; `n2n measure` and `n2n ship` take this file as it is"
            }
            Self::Version { .. } => "read it with the n2n version that wrote it, or write it again",
            Self::TooLarge { .. }
            | Self::Damaged(_)
            | Self::Structure { .. }
            | Self::Network(_)
            | Self::Weights(_) => "the file is damaged or was changed by another program: write it again",
        }
    }
}

pub(super) fn wrong(
    place: impl Into<String>,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> ReadError {
    ReadError::Structure { place: place.into(), expected: expected.into(), got: got.into() }
}
