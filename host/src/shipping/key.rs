//! The user's signing key: a board that took one bundle takes later ones from the same signer only.

use n2n_secrets::SecretError;
use std::path::{Path, PathBuf};

/// Bytes of a key file: 64 hexadecimal digits, and room for line ends.
const MAX_FILE_BYTES: u64 = 80;

/// An ed25519 key that signs bundles.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written, or somebody else could sign in this user's name.
    #[error(transparent)]
    File(#[from] SecretError),
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
            Self::File(error) => error.hint(),
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
        let text = match n2n_secrets::read(path, MAX_FILE_BYTES) {
            Err(error) if error.is_missing() => return Self::create(path),
            text => text?,
        };
        let mut secret = [0; 32];
        hex::decode_to_slice(text.trim(), &mut secret)
            .map_err(|_| KeyFileError::Format { path: path.into() })?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    fn create(path: &Path) -> Result<Self, KeyFileError> {
        let mut secret = [0; 32];
        let no_randomness = |error: getrandom::Error| SecretError::System {
            path: path.into(),
            error: std::io::Error::other(error.to_string()),
        };
        getrandom::fill(&mut secret).map_err(no_randomness)?;
        n2n_secrets::write(path, &format!("{}\n", hex::encode(secret)))?;
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
    use std::os::unix::fs::PermissionsExt as _;

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
            n2n_secrets::write(&path, text).unwrap();
            assert!(matches!(SigningKey::load_or_create(&path), Err(KeyFileError::Format { .. })), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
