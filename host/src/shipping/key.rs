//! The user's signing key: a board that took one bundle takes later ones from the same signer only.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::model_io::atomic_file;

/// Bytes of a key file: 64 hexadecimal digits, and room for line ends.
const MAX_FILE_BYTES: u64 = 80;
/// Any right of group or others.
const OTHERS: u32 = 0o077;

/// An ed25519 key that signs bundles.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// Somebody else could sign in this user's name.
    #[error("{path}: expected a file that only its owner can read, got mode {mode:o}")]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key.
    #[error("{path}: expected 64 hexadecimal digits")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

impl KeyFileError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::NotPrivate { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Format { path } => Some(format!(
                "restore {} from a copy; without it, boards that know you must be told to trust a new key",
                path.display()
            )),
        }
    }
}

impl SigningKey {
    /// The key in this file, which is made, readable by its owner only, if it is not there.
    ///
    /// # Errors
    /// When the file cannot be read or written, is no key, or is open to others.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.into(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::create(path).map_err(io),
            Err(error) => return Err(io(error)),
        };
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(KeyFileError::NotPrivate { path: path.into(), mode });
        }
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(io)?;
        let mut secret = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut secret)
            .map_err(|_| KeyFileError::Format { path: path.into() })?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        atomic_file::write_private(path, format!("{}\n", hex::encode(secret)).as_bytes())?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    /// What boards know this user by.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of these bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        ed25519_dalek::Signer::sign(&self.0, bytes).to_bytes()
    }
}

impl std::fmt::Debug for SigningKey {
    /// Never the secret: this text may end in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey").field(&hex::encode(self.public())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/signing.key");
        let made = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::load_or_create(&path).unwrap().public(), made.public());
        let secret = fs::read_to_string(&path).unwrap();
        assert!(!format!("{made:?}").contains(secret.trim()));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = SigningKey::load_or_create(&path).unwrap_err();
        assert!(error.hint().unwrap().starts_with("chmod 600"), "{error}");
    }

    #[test]
    fn what_is_no_key_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        for text in ["", "abc", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            atomic_file::write_private(&path, text.as_bytes()).unwrap();
            assert!(matches!(SigningKey::load_or_create(&path), Err(KeyFileError::Format { .. })), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
