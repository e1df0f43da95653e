//! The bytes that a bundle's signature covers.

use crate::BundleManifest;
use alloc::vec::Vec;

/// No signature made for another purpose can be taken for a bundle's.
const PURPOSE: &[u8] = b"n2n bundle 1\0";

impl BundleManifest {
    /// Everything but the signature, in one canonical form: fixed order, little endian, every length in front. The model
    /// enters by its digest.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::from(PURPOSE);
        bytes.extend((self.name.len() as u64).to_le_bytes());
        bytes.extend(self.name.as_bytes());
        bytes.extend(self.model.0);
        bytes.extend(self.golden.input_seed.to_le_bytes());
        bytes.extend((self.golden.logits.len() as u64).to_le_bytes());
        bytes.extend(self.golden.logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes()));
        bytes.extend(self.golden.tolerance.to_bits().to_le_bytes());
        bytes.push(u8::from(self.latency_limit_ns.is_some()));
        bytes.extend(self.latency_limit_ns.unwrap_or(0).to_le_bytes());
        bytes.extend(self.signer);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Golden};
    use alloc::{string::String, vec};

    #[test]
    fn every_field_but_the_signature_counts() {
        let bundle = BundleManifest {
            name: String::from("a"),
            model: Digest([1; 32]),
            golden: Golden { input_seed: 2, logits: vec![0.5], tolerance: 0.25 },
            latency_limit_ns: None,
            signer: [3; 32],
            signature: vec![],
        };
        let signed = bundle.signed_bytes();
        assert_eq!(Digest::of(&signed).0[..4], [0x5e, 0xc6, 0xd7, 0x11], "the signed form is pinned");
        assert_eq!(BundleManifest { signature: vec![1; 64], ..bundle.clone() }.signed_bytes(), signed);
        let golden = bundle.golden.clone();
        for other in [
            BundleManifest { name: String::from("b"), ..bundle.clone() },
            BundleManifest { model: Digest([2; 32]), ..bundle.clone() },
            BundleManifest { golden: Golden { input_seed: 3, ..golden.clone() }, ..bundle.clone() },
            BundleManifest { golden: Golden { logits: vec![0.5, 0.5], ..golden.clone() }, ..bundle.clone() },
            BundleManifest { golden: Golden { tolerance: 0.5, ..golden }, ..bundle.clone() },
            BundleManifest { latency_limit_ns: Some(0), ..bundle.clone() },
            BundleManifest { signer: [4; 32], ..bundle.clone() },
        ] {
            assert_ne!(other.signed_bytes(), signed);
        }
    }
}
