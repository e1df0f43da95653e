//! The secret that a host and a board share.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// 256 random bits. Never printed by accident: `Debug` hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not the text of a key; the text itself is not repeated.
    #[error("a key has 64 hexadecimal digits; {0}")]
    Text(hex::FromHexError),
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
        Ok(Self(bytes))
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
    use alloc::format;

    #[test]
    fn a_key_survives_its_text_and_hides_itself() {
        let key = Key::generate().unwrap();
        assert_eq!(format!("  {}\n", key.reveal()).parse(), Ok(key.clone()));
        assert!(!format!("{key:?}").contains(&key.reveal()[..4]));
        assert!(matches!("12".parse::<Key>(), Err(KeyError::Text(_))));
        assert_ne!(key, Key::generate().unwrap());
    }
}
