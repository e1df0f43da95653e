//! The bytes that a stored student's signature covers: in the form of the protocol that it came by, for ever.

use n2n_protocol::BundleManifest;

/// No signature made for another purpose can be taken for a bundle's of protocol 1.
const PURPOSE: &[u8] = b"n2n bundle 1\0";

/// What a signature was made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The bundle of protocol 1.
    One,
    /// [`BundleManifest::signed_bytes`] of protocol 2.
    Two,
}

impl Form {
    /// Everything of a bundle but the signature.
    pub(super) fn signed_bytes(self, bundle: &BundleManifest) -> Vec<u8> {
        match self {
            Self::One => of_protocol_1(bundle),
            Self::Two => bundle.signed_bytes(),
        }
    }
}

/// Everything of a bundle of protocol 1 but the signature: fixed order, little endian, every length in front.
fn of_protocol_1(bundle: &BundleManifest) -> Vec<u8> {
    let BundleManifest { name, artifact, golden, latency_limit_ns, signer, .. } = bundle;
    let mut bytes = Vec::from(PURPOSE);
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(artifact.model.digest.0);
    bytes.extend(golden.input_seed.to_le_bytes());
    bytes.extend((golden.logits.len() as u64).to_le_bytes());
    bytes.extend(golden.logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes()));
    bytes.extend(golden.tolerance.to_bits().to_le_bytes());
    bytes.push(u8::from(latency_limit_ns.is_some()));
    bytes.extend(latency_limit_ns.unwrap_or(0).to_le_bytes());
    bytes.extend(signer);
    bytes
}
