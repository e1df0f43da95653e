//! Why a secret is not used, and the command that mends it.

use std::io;
use std::path::PathBuf;

/// Why a secret is not used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such file.
    #[error("{}: no such file", .0.display())]
    Missing(PathBuf),
    /// The system refused.
    #[error("{}: {error}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// A folder, a pipe or a device: reading it could wait for ever.
    #[error("{}: a regular file expected", .0.display())]
    NotAFile(PathBuf),
    /// Group or others have rights that a secret's file or folder must not give.
    #[error("{}: {what} (mode {mode:o})", path.display())]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// What others can do.
        what: &'static str,
        /// Its permission bits.
        mode: u32,
        /// What `chmod` has to be told.
        mend: &'static str,
    },
    /// Another user owns it and could exchange it.
    #[error("{}: it belongs to user {owner}, user {reader} reads it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// User id of this process.
        reader: u32,
    },
    /// Longer than such a file can be.
    #[error("{}: longer than {most} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        most: u64,
    },
    /// Bytes that are no text.
    #[error("{}: not a text", .0.display())]
    NotText(PathBuf),
}

impl SecretError {
    /// The command that mends it, where one does.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, mend, .. } => Some(format!("chmod {mend} {}", path.display())),
            Self::Foreign { path, reader, .. } => Some(format!("sudo chown {reader} {}", path.display())),
            Self::System { path, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("who owns it? ls -l {}", path.display()))
            }
            Self::NotAFile(_) => Some("name a file; what a command prints goes to standard input".to_owned()),
            _ => None,
        }
    }

    /// Whether the file just is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}
