//! Whose bundles are taken: those of the first signer that this board met.
//!
//! It must not read files: the trusted key comes from outside.

use super::student::Student;
use ed25519_dalek::{Signature, VerifyingKey};

/// Check a student's signature.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn verify(student: &Student) -> Result<(), String> {
    let bundle = &student.bundle;
    let key = VerifyingKey::from_bytes(&bundle.signer).map_err(|_| "its public key is not one".to_owned())?;
    let signature =
        Signature::from_slice(&bundle.signature).map_err(|_| "expected 64 bytes of ed25519".to_owned())?;
    // Strict: no weak keys, no second form of the same signature.
    key.verify_strict(&student.signed_bytes(), &signature)
        .map_err(|_| "it does not fit the bundle".to_owned())
}

/// Check that a bundle comes from the trusted signer, if there is one already.
///
/// # Errors
/// Who signed, whom the board trusts, and where that stands.
pub(super) fn admit(name: &str, signer: &[u8; 32], trusted: Option<[u8; 32]>) -> Result<(), String> {
    match trusted {
        Some(trusted) if trusted != *signer => Err(format!(
            "bundle `{name}` is signed by {}, this board trusts {} (the file `signer` in the agent's slots folder)",
            short(signer),
            short(&trusted)
        )),
        _ => Ok(()),
    }
}

/// The beginning of a key, enough to tell two apart.
fn short(key: &[u8; 32]) -> String {
    format!("{}…", hex::encode(&key[..8]))
}
