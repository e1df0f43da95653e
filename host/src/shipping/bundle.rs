//! What goes to a board beside the model: name, digest, golden answer, latency limit, and a signature over all of it.

use n2n_protocol::{Artifact, BundleManifest, Digest, Execution, Golden, Model, limits};

use super::SigningKey;

/// A bundle that no board would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The name cannot be shown in one line.
    #[error("name `{}`: expected 1 to {} bytes without control characters", .0.escape_debug(), limits::NAME_BYTES)]
    Name(String),
    /// More logits than a board takes.
    #[error("golden answer: expected 1 to {max} logits, got {0}", max = limits::LOGITS)]
    Logits(usize),
}

/// The signed manifest of a model file.
///
/// # Errors
/// When the name or the golden answer is not one that a board takes.
pub fn bundle(
    name: &str,
    onnx: &[u8],
    execution: Execution,
    golden: Golden,
    latency_limit_ns: Option<u64>,
    key: &SigningKey,
) -> Result<BundleManifest, BundleError> {
    if name.is_empty() || name.len() > limits::NAME_BYTES || name.chars().any(char::is_control) {
        return Err(BundleError::Name(name.into()));
    }
    if !(1..=limits::LOGITS).contains(&golden.logits.len()) {
        return Err(BundleError::Logits(golden.logits.len()));
    }
    let mut manifest = BundleManifest {
        name: name.into(),
        artifact: Artifact {
            model: Model::onnx(Digest::of(onnx)),
            execution,
            classes: Vec::new(),
            target: String::new(),
            number: 0,
        },
        golden,
        latency_limit_ns,
        signer: key.public(),
        signature: Vec::new(),
    };
    manifest.signature = key.sign(&manifest.signed_bytes()).into();
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};

    fn execution() -> Execution {
        Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 }
    }

    fn golden() -> Golden {
        Golden { input_seed: 1, logits: vec![0.5, 2.0], tolerance: 1e-3 }
    }

    #[test]
    fn the_signature_holds_and_covers_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&folder.path().join("k")).unwrap();
        let manifest = bundle("student", b"a model", execution(), golden(), Some(5), &key).unwrap();
        assert_eq!(manifest.artifact.model.digest, Digest::of(b"a model"));
        let verifies = |manifest: &BundleManifest| {
            let signature = Signature::from_slice(&manifest.signature).unwrap();
            let signer = VerifyingKey::from_bytes(&manifest.signer).unwrap();
            signer.verify_strict(&manifest.signed_bytes(), &signature).is_ok()
        };
        assert!(verifies(&manifest));
        let mut other = manifest.clone();
        other.artifact.model.digest = Digest::of(b"another");
        assert!(!verifies(&other));
        assert!(!verifies(&BundleManifest { latency_limit_ns: None, ..manifest }));
    }

    #[test]
    fn names_that_do_not_fit_a_line_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&folder.path().join("k")).unwrap();
        for name in ["", "two\nlines", &"x".repeat(129)] {
            assert!(matches!(
                bundle(name, b"", execution(), golden(), None, &key),
                Err(BundleError::Name(_))
            ));
        }
        let empty = Golden { logits: vec![], ..golden() };
        assert_eq!(bundle("a", b"", execution(), empty, None, &key), Err(BundleError::Logits(0)));
    }
}
