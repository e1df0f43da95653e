//! Requests and replies: any bytes are an error, or a message that is written and read again as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2n_protocol::limits::{REPLY_BYTES, REQUEST_BYTES};
use n2n_protocol::{Reply, Request, codec};
use std::fmt::Debug;

fn check<T>(bytes: &[u8], limit: usize)
where
    T: serde::Serialize + serde::de::DeserializeOwned + Debug,
{
    let Ok(message) = codec::decode::<T>(bytes, limit) else { return };
    // Numbers may have been written longer than needed, so the bytes differ; what they say must not.
    let written = codec::encode(&message, limit).expect("what was read can be written");
    let again: T = codec::decode(&written, limit).expect("what was written can be read");
    let once_more = codec::encode(&again, limit).expect("what was read can be written");
    assert_eq!(written, once_more);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind & 1 == 0 { check::<Request>(bytes, REQUEST_BYTES) } else { check::<Reply>(bytes, REPLY_BYTES) }
    let _ = codec::request_id(bytes);
});
