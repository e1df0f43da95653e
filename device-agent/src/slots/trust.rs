//! Whose bundles are taken: those of the first signer that this board met.

use ed25519_dalek::{Signature, VerifyingKey};
use n2n_protocol::{BundleManifest, Failure};

/// Check a bundle's signature, and that its signer is the trusted one if there is one already.
pub(super) fn verify(manifest: &BundleManifest, trusted: Option<[u8; 32]>) -> Result<(), Failure> {
    if let Some(trusted) = trusted.filter(|trusted| *trusted != manifest.signer) {
        return Err(Failure::Refused(format!(
            "bundle `{}` is signed by {}, this board trusts {} (the file `signer` in the agent's slots folder)",
            manifest.name,
            short(&manifest.signer),
            short(&trusted)
        )));
    }
    let wrong = |why: &str| Failure::Refused(format!("signature of bundle `{}`: {why}", manifest.name));
    let key = VerifyingKey::from_bytes(&manifest.signer).map_err(|_| wrong("its public key is not one"))?;
    let signature =
        Signature::from_slice(&manifest.signature).map_err(|_| wrong("expected 64 bytes of ed25519"))?;
    // Strict: no weak keys, no second form of the same signature.
    key.verify_strict(&manifest.signed_bytes(), &signature).map_err(|_| wrong("it does not fit the bundle"))
}

/// The beginning of a key, enough to tell two apart.
fn short(key: &[u8; 32]) -> String {
    format!("{}…", hex::encode(&key[..8]))
}
