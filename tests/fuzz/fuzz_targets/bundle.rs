//! Bundles: any bytes are an error, or a bundle whose signed form tells it from every other; no forged one verifies.
#![no_main]

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use libfuzzer_sys::fuzz_target;
use n2n_protocol::limits::REQUEST_BYTES;
use n2n_protocol::{Shipment, codec};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut shipment) = codec::decode::<Shipment>(bytes, REQUEST_BYTES) else { return };
    let bundle = &mut shipment.bundle;
    let verifies = |bundle: &n2n_protocol::BundleManifest| {
        let key = VerifyingKey::from_bytes(&bundle.signer).ok();
        let signature = Signature::from_slice(&bundle.signature).ok();
        key.zip(signature).is_some_and(|(key, signature)| {
            key.verify_strict(&bundle.signed_bytes(), &signature).is_ok()
        })
    };
    // The corpus knows no secret key, so nothing that it makes up can be signed.
    let ours = SigningKey::from_bytes(&[7; 32]);
    assert!(bundle.signer == ours.verifying_key().to_bytes() || !verifies(bundle));

    bundle.signer = ours.verifying_key().to_bytes();
    bundle.signature = ours.sign(&bundle.signed_bytes()).to_bytes().to_vec();
    assert!(verifies(bundle));
    bundle.artifact.number = bundle.artifact.number.wrapping_add(1);
    assert!(!verifies(bundle), "a changed bundle keeps its signature");
});
