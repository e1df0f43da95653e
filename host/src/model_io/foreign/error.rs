//! Why a file of another program cannot be measured as it is, and what to do about it.

use std::path::PathBuf;

use crate::exit::Diagnostic;
use crate::units;

/// A file that cannot be sent as it is.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// No ONNX at all.
    #[error("{path}: expected an ONNX file, got {what}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What mends it.
        hint: String,
    },
    /// More than host or board can hold.
    #[error("{path}: {} with its weights, expected at most {} ({why})", units::bytes(*.got), units::bytes(*.limit))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Size of the file with all weights, bytes, at least.
        got: u64,
        /// Largest size that is taken, bytes.
        limit: u64,
        /// Whose limit it is.
        why: String,
    },
    /// Weights are said to lie in another file.
    #[error("{path}: weights of `{tensor}` in `{location}`: {reason}")]
    External {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Where its weights are said to lie.
        location: String,
        /// Why they cannot be had.
        reason: String,
    },
    /// ONNX, and nothing that one picture goes into and one row of numbers comes out of.
    #[error("{path}: expected {expected}, got {got}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What can be run.
        expected: String,
        /// What it has.
        got: String,
        /// The next step.
        hint: String,
    },
}

impl Diagnostic for ForeignError {
    fn next_step(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::Other { hint, .. } | Self::Shape { hint, .. } => Some(hint.clone()),
            Self::TooLarge { .. } => Some("a smaller model, or a board and a host with more memory".into()),
            Self::External { .. } => Some(
                "keep the model file and its .data files in one folder, as the exporter wrote them, or export again \
                 with external_data=False"
                    .into(),
            ),
        }
    }
}
