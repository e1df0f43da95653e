//! Who understands whom.
//!
//! Major: old peers can no longer be understood. Minor: variants were appended, which an older peer refuses one by one.
//! The schema hash catches a table that was changed without saying so.

use crate::Version;

/// What this build speaks.
pub const VERSION: Version = Version { major: 1, minor: 0 };

/// First bytes of the SHA-256 of the message table, comments, blanks and error texts left out; a test recomputes it from
/// `messages.rs`, so that no change of the table goes unnoticed.
pub const SCHEMA_HASH: [u8; 8] = [0xc7, 0x16, 0x83, 0xf0, 0xcf, 0x8f, 0x58, 0x38];

/// Two peers that would misread each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "protocol {}.{} (schema {:016x}) here, {}.{} (schema {:016x}) there",
    ours.major, ours.minor, u64::from_be_bytes(*our_schema), theirs.major, theirs.minor, u64::from_be_bytes(*their_schema)
)]
pub struct Mismatch {
    /// Version of this side.
    pub ours: Version,
    /// Schema hash of this side.
    pub our_schema: [u8; 8],
    /// Version of the other side.
    pub theirs: Version,
    /// Schema hash of the other side.
    pub their_schema: [u8; 8],
}

/// Whether this build can talk to a peer.
///
/// # Errors
/// [`Mismatch`] for another major version, or for the same version with another table.
pub fn check(theirs: Version, their_schema: [u8; 8]) -> Result<(), Mismatch> {
    let mismatch = Mismatch { ours: VERSION, our_schema: SCHEMA_HASH, theirs, their_schema };
    let same_table = theirs.minor != VERSION.minor || their_schema == SCHEMA_HASH;
    if theirs.major == VERSION.major && same_table { Ok(()) } else { Err(mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use alloc::string::{String, ToString};

    /// The table without comments, blanks and error texts; its other attributes decide about the encoding too.
    fn canonical(source: &str) -> String {
        let says_something =
            |line: &&str| !["//", "#[error", "#[expect"].iter().any(|start| line.starts_with(start));
        source.lines().map(str::trim).filter(says_something).flat_map(str::split_whitespace).collect()
    }

    #[test]
    fn the_table_is_the_one_that_was_agreed_on() {
        let digest = Digest::of(canonical(include_str!("messages.rs")).as_bytes());
        assert_eq!(
            digest.0[..8],
            SCHEMA_HASH,
            "the message table has changed: raise the minor (variants appended) or the major version, then set \
             SCHEMA_HASH to {:02x?}",
            &digest.0[..8]
        );
    }

    #[test]
    fn comments_and_blanks_are_no_change() {
        assert_eq!(canonical("/// a\nenum A {\n    // b\n    B,\n}\n"), canonical("enum A { B, }"));
        assert_ne!(canonical("enum A { B, C }"), canonical("enum A { C, B }"));
    }

    #[test]
    fn other_majors_and_silent_changes_are_refused() {
        assert_eq!(check(VERSION, SCHEMA_HASH), Ok(()));
        assert_eq!(check(Version { minor: VERSION.minor + 1, ..VERSION }, [1; 8]), Ok(()));
        assert!(check(VERSION, [1; 8]).is_err());
        let text = check(Version { major: 9, minor: 2 }, [1; 8]).unwrap_err().to_string();
        assert!(text.contains("1.0 (schema") && text.contains("9.2 (schema 0101010101010101)"), "{text}");
    }
}
