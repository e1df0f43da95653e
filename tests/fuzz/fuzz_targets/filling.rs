//! Models without weights: any bytes are an error, or a file within the limit whose tensors are whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2n_agent::weightless::whole;

/// Weights of a candidate in this target, bytes: small, so that most time is spent on deciding and not on filling.
const LIMIT_BYTES: u64 = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Ok(filled) = whole(bytes.to_vec(), LIMIT_BYTES) else { return };
    assert!(filled.len() as u64 <= LIMIT_BYTES + 2 * bytes.len() as u64 + 1024, "{} bytes", filled.len());
    assert_eq!(whole(filled.clone(), u64::MAX).as_ref(), Ok(&filled), "what is whole stays as it is");
});
