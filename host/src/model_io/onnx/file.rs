//! Model files on disk: bounded reading. They are written by `atomic_file`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{MAX_BYTES, Model, ReadError, read};
use crate::exit::Diagnostic;
use crate::model_io::foreign::recognise;

/// A model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// No ONNX at all.
    #[error("{path}: expected an ONNX file, got {what}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What mends it.
        hint: &'static str,
    },
    /// The content is not a model that can be read here.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
}

impl ModelFileError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("`n2n teacher train` makes a model file")
            }
            Self::Io { .. } => None,
            Self::Other { hint, .. } => Some(hint),
            Self::Content { source, .. } => Some(source.hint()),
        }
    }
}

impl Diagnostic for ModelFileError {
    fn next_step(&self) -> Option<String> {
        self.hint().map(str::to_owned)
    }
}

/// Reads a model file.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(path: &Path) -> Result<Model, ModelFileError> {
    let io = |source| ModelFileError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that `read` sees that there is more.
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if let Some((what, hint)) = recognise(&bytes) {
        return Err(ModelFileError::Other { path: path.into(), what, hint });
    }
    read(&bytes).map_err(|source| ModelFileError::Content { path: path.into(), source })
}
