//! Why a data set cannot be used, and what to do about it.

use std::path::PathBuf;

use super::kind::DataKind;
use crate::exit::{Code, Diagnostic};

/// A data set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The text after `--data` is no data set.
    #[error("data `{text}`: expected {expected}")]
    Spec {
        /// What was given.
        text: String,
        /// What would be right.
        expected: String,
    },
    /// A file or folder is not there.
    #[error("{path}: not found, expected {what}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
        /// The data set it belongs to.
        kind: DataKind,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: expected {expected}, got {got}")]
    Format {
        /// The file.
        path: PathBuf,
        /// By the format.
        expected: String,
        /// In the file.
        got: String,
    },
    /// What lies there is whole, and not what it was taken for.
    #[error("{path}: expected {expected}, got {got}")]
    Layout {
        /// The file or folder.
        path: PathBuf,
        /// What it was taken for.
        expected: String,
        /// What it is.
        got: String,
        /// The next step.
        hint: String,
    },
    /// The file wants more memory than a data set may take.
    #[error("{path}: {what}: expected at most {limit}, got {got}")]
    Limit {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
        /// How much there is.
        got: u64,
    },
    /// Too few images for the cut that was asked for.
    #[error("{path}: expected at least {expected} images{}, got {got}", class_suffix(.class.as_deref()))]
    TooFew {
        /// The data set.
        path: PathBuf,
        /// The class, where one class is the problem.
        class: Option<String>,
        /// Least number.
        expected: usize,
        /// Found.
        got: usize,
    },
}

fn class_suffix(class: Option<&str>) -> String {
    class.map_or_else(String::new, |class| format!(" of class `{class}`"))
}

impl DataError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec { .. } => Some(format!("write {}", DataKind::usage())),
            Self::Missing { kind, .. } => Some(kind.how_to_get().to_owned()),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("check who may read the file".into())
            }
            Self::Io { .. } => None,
            Self::Format { .. } => Some("the file is damaged or of another kind: fetch it again".into()),
            Self::Layout { hint, .. } => Some(hint.clone()),
            Self::Limit { .. } => Some("use a smaller data set".into()),
            Self::TooFew { .. } => Some("add images, or ask for a smaller validation set".into()),
        }
    }
}

impl Diagnostic for DataError {
    fn exit_code(&self) -> Code {
        match self {
            Self::Spec { .. } => Code::Usage,
            Self::Missing { .. }
            | Self::Io { .. }
            | Self::Format { .. }
            | Self::Layout { .. }
            | Self::Limit { .. }
            | Self::TooFew { .. } => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}
