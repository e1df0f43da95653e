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
        /// What was probably meant.
        meant: Option<String>,
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
    /// Pictures that cannot be read.
    #[error("{path}: {} of {pictures} pictures cannot be read: {}", files.len(), listed(.path, .files))]
    Bad {
        /// The data set.
        path: PathBuf,
        /// All that there are.
        pictures: usize,
        /// Each with its reason.
        files: Vec<(PathBuf, String)>,
        /// Whether they were to be left out.
        skip: bool,
    },
    /// A class has no pictures in a part.
    #[error(
        "{path}: class `{class}` has no picture in {}: {} train, {} + {} validation, {} test",
        PARTS[*part], counts[0], counts[1], counts[2], counts[3]
    )]
    EmptyPart {
        /// The data set.
        path: PathBuf,
        /// The class.
        class: String,
        /// 0 to 3: training, the two halves of validation, test.
        part: usize,
        /// Its pictures by part.
        counts: [usize; 4],
        /// A salt by which no part is empty.
        salt: Option<String>,
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

/// The parts, in order.
const PARTS: [&str; 4] =
    ["train", "the search's half of validation", "the finalists' half of validation", "test"];
/// Files named in an error.
const FILES_SHOWN: usize = 100;

fn listed(folder: &std::path::Path, files: &[(PathBuf, String)]) -> String {
    let names: Vec<String> = files
        .iter()
        .map(|(file, reason)| format!("{} ({reason})", file.strip_prefix(folder).unwrap_or(file).display()))
        .collect();
    crate::units::listed(&names, FILES_SHOWN)
}

fn class_suffix(class: Option<&str>) -> String {
    class.map_or_else(String::new, |class| format!(" of class `{class}`"))
}

impl DataError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec { meant: Some(meant), .. } => Some(format!("did you mean {meant}?")),
            Self::Spec { meant: None, .. } => {
                Some("`n2n data inspect` shows what a folder of pictures holds, as in folder:photos; fashion-mnist needs no path".into())
            }
            Self::Missing { kind, .. } => Some(kind.how_to_get().to_owned()),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("check who may read the file".into())
            }
            Self::Io { .. } => None,
            Self::Format { .. } => Some("the file is damaged or of another kind: fetch it again".into()),
            Self::Layout { hint, .. } => Some(hint.clone()),
            Self::Limit { .. } => Some("use a smaller data set".into()),
            Self::Bad { skip: false, .. } => {
                Some("mend or remove them, or leave them out with --skip-bad".into())
            }
            Self::Bad { skip: true, .. } => {
                Some("--skip-bad leaves out at most 5 %: mend or remove the files".into())
            }
            Self::EmptyPart { salt: Some(salt), .. } => {
                Some(format!("--split-salt {salt} deals them so that no part is empty; or add pictures"))
            }
            Self::EmptyPart { salt: None, .. } => Some(
                "add pictures: each class needs some in training, both halves of validation and test".into(),
            ),
            Self::TooFew { .. } => Some("add images: each class needs some in every part".into()),
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
            | Self::Bad { .. }
            | Self::EmptyPart { .. }
            | Self::TooFew { .. } => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}
