//! The secret that a host and a board share.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use sha2::{Digest as _, Sha256};

/// What is hashed in front of a key for its id: no hash made for another purpose tells anything about it.
const ID_PURPOSE: &[u8] = b"n2n key id 1\0";

/// 256 random bits. Never printed by accident: `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// Name of a key, made from it: four bytes, shown as eight digits that people can read to each other. No secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub [u8; 4]);

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not the text of a key; the text itself is not repeated.
    #[error("a key has 64 hexadecimal digits; {0}")]
    Text(hex::FromHexError),
    /// Zeros only: what an erased or unfinished file holds, and the first key that anybody would try.
    #[error("the key is all zeros, which is no secret")]
    Zero,
    /// The system has no randomness to give.
    #[error("no random numbers from the system: {0}")]
    Entropy(getrandom::Error),
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Entropy`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(KeyError::Entropy)?;
        Ok(Self(bytes))
    }

    /// As hexadecimal digits: for the one file, or the one line, that hands it on.
    pub fn reveal(&self) -> String {
        hex::encode(self.0)
    }

    /// What tells this key from others without showing it: the beginning of a SHA-256.
    pub fn id(&self) -> KeyId {
        let hash: [u8; 32] = Sha256::new().chain_update(ID_PURPOSE).chain_update(self.0).finalize().into();
        let [a, b, c, d, ..] = hash;
        KeyId([a, b, c, d])
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Key {
    type Err = KeyError;

    /// Reads [`Key::reveal`]'s digits, blanks around them allowed.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(KeyError::Text)?;
        if bytes == [0; 32] { Err(KeyError::Zero) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("Key(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString};

    #[test]
    fn a_key_survives_its_text_and_hides_itself() {
        let key = Key::generate().unwrap();
        assert_eq!(format!("  {}\n", key.reveal()).parse(), Ok(key.clone()));
        assert!(!format!("{key:?}").contains(&key.reveal()[..4]));
        assert!(matches!("12".parse::<Key>(), Err(KeyError::Text(_))));
        assert_ne!(key, Key::generate().unwrap());
    }

    #[test]
    fn a_key_of_zeros_is_refused() {
        assert_eq!("00".repeat(32).parse::<Key>(), Err(KeyError::Zero));
    }

    #[test]
    fn an_id_tells_keys_apart_and_is_pinned() {
        let key: Key = "07".repeat(32).parse().unwrap();
        assert_eq!(key.id().to_string(), "aff1aa41");
        assert_ne!(key.id(), Key::generate().unwrap().id());
        assert!(!key.reveal().contains(&key.id().to_string()));
    }
}
