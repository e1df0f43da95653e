//! Digests as people and files write them: 64 hexadecimal digits.

use crate::Digest;
use core::fmt;
use core::str::FromStr;
use sha2::{Digest as _, Sha256};

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits; {0}")]
pub struct DigestError(hex::FromHexError);

impl Digest {
    /// The digest of a blob.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(DigestError)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_and_back() {
        let digest = Digest::of(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert!("ba78".parse::<Digest>().is_err());
        assert!(text.replace('b', "x").parse::<Digest>().is_err());
    }
}
