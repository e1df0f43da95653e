//! What goes to a board beside the model: what it is, how it runs, whom it is for, its golden answer, and a signature over
//! all of it.

use n2n_protocol::{Artifact, BundleManifest, Digest, Execution, Golden, Input, Model, limits};

use super::SigningKey;

/// What travels beside a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The name users gave it.
    pub name: String,
    /// What the model takes.
    pub input: Input,
    /// Engine, threads, batch and pace that it was searched with.
    pub execution: Execution,
    /// Names of the classes, in the order of the logits; empty if unknown.
    pub classes: Vec<String>,
    /// Class of board that it was measured on; empty for any.
    pub target: String,
    /// Higher than in any bundle that this user made before.
    pub number: u64,
    /// An input by seed and the host's answer to it.
    pub golden: Golden,
    /// Upper bound of its median latency, ns.
    pub latency_limit_ns: Option<u64>,
}

/// A bundle that no board would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The name cannot be shown in one line.
    #[error("name `{}`: expected 1 to {} bytes without control characters", .0.escape_debug(), limits::NAME_BYTES)]
    Name(String),
    /// More logits than a board takes.
    #[error("golden answer: expected 1 to {max} logits, got {0}", max = limits::LOGITS)]
    Logits(usize),
    /// More classes than a board takes.
    #[error("classes: expected at most {max}, got {0}", max = limits::LOGITS)]
    Classes(usize),
}

/// The signed manifest of a model file.
///
/// # Errors
/// When the name, the classes or the golden answer are not what a board takes.
pub fn bundle(onnx: &[u8], facts: Facts, key: &SigningKey) -> Result<BundleManifest, BundleError> {
    let Facts { name, input, execution, classes, target, number, golden, latency_limit_ns } = facts;
    if name.is_empty() || name.len() > limits::NAME_BYTES || name.chars().any(char::is_control) {
        return Err(BundleError::Name(name));
    }
    if !(1..=limits::LOGITS).contains(&golden.logits.len()) {
        return Err(BundleError::Logits(golden.logits.len()));
    }
    if classes.len() > limits::LOGITS {
        return Err(BundleError::Classes(classes.len()));
    }
    let model = Model { input, ..Model::onnx(Digest::of(onnx)) };
    let mut manifest = BundleManifest {
        name,
        artifact: Artifact { model, execution, classes, target, number },
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

    fn facts() -> Facts {
        Facts {
            name: "student".into(),
            input: Model::onnx(Digest([0; 32])).input,
            execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
            classes: vec!["ok".into()],
            target: "pi".into(),
            number: 7,
            golden: Golden { input_seed: 1, logits: vec![0.5, 2.0], tolerance: 1e-3 },
            latency_limit_ns: Some(5),
        }
    }

    fn key() -> SigningKey {
        SigningKey::load_or_create(&tempfile::tempdir().unwrap().path().join("k")).unwrap()
    }

    #[test]
    fn the_signature_holds_and_covers_the_model() {
        let manifest = bundle(b"a model", facts(), &key()).unwrap();
        assert_eq!(manifest.artifact.model.digest, Digest::of(b"a model"));
        assert_eq!((manifest.artifact.number, manifest.artifact.target.as_str()), (7, "pi"));
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
    fn what_does_not_fit_a_board_is_refused() {
        for name in ["", "two\nlines", &"x".repeat(129)] {
            let refused = bundle(b"", Facts { name: name.into(), ..facts() }, &key());
            assert!(matches!(refused, Err(BundleError::Name(_))));
        }
        let empty = Facts { golden: Golden { logits: vec![], ..facts().golden }, ..facts() };
        assert_eq!(bundle(b"", empty, &key()), Err(BundleError::Logits(0)));
        let many = Facts { classes: vec![String::new(); limits::LOGITS + 1], ..facts() };
        assert_eq!(bundle(b"", many, &key()), Err(BundleError::Classes(limits::LOGITS + 1)));
    }
}
