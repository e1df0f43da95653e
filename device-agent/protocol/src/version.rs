//! Who understands whom.
//!
//! Major: old peers can no longer be understood. Minor: variants were appended, which an older peer refuses one by one.
//! The schema hash catches a table that was changed without saying so.

use crate::{Reply, Request, Version};
use postcard_schema::key::hash::fnv1a64::hash_ty_path;

/// What this build speaks.
pub const VERSION: Version = Version { major: 2, minor: 1 };

/// A hash of all types of the message table, names and order of fields and variants included, computed by the compiler.
pub const SCHEMA_HASH: [u8; 8] = hash_ty_path::<(Request, Reply)>("n2n");

/// Two peers that would misread each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "protocol {}.{} (schema {:016x}) here, {}.{} (schema {:016x}) there: install the same version of n2n on both sides",
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
    use alloc::string::ToString;

    #[test]
    fn the_table_is_the_one_that_was_agreed_on() {
        assert_eq!(
            SCHEMA_HASH,
            [0xaa, 0xcf, 0x92, 0x6e, 0x0d, 0x78, 0xa1, 0x6a],
            "the message table has changed: raise the minor (variants appended) or the major version, then pin {SCHEMA_HASH:02x?}",
        );
    }

    #[test]
    fn other_majors_and_silent_changes_are_refused() {
        assert_eq!(check(VERSION, SCHEMA_HASH), Ok(()));
        assert_eq!(check(Version { minor: VERSION.minor + 1, ..VERSION }, [1; 8]), Ok(()));
        assert!(check(VERSION, [1; 8]).is_err());
        let text = check(Version { major: 9, minor: 2 }, [1; 8]).unwrap_err().to_string();
        assert!(text.contains("2.1 (schema") && text.contains("9.2 (schema 0101010101010101)"), "{text}");
    }
}
