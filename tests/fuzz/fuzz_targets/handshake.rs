//! The handshake: no bytes of a stranger make a channel, on either side.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2n_protocol::handshake::{FRAME_BYTES, FirstFrame, Initiator, Prologue, Responder, opening, proves};
use n2n_protocol::key::Key;
use std::sync::LazyLock;

static KEY: LazyLock<Key> = LazyLock::new(|| "ab".repeat(32).parse().expect("a key"));

fuzz_target!(|bytes: &[u8]| {
    let key = &*KEY;
    let Some((&role, bytes)) = bytes.split_first() else { return };
    if let Some(frame) = bytes.first_chunk::<FRAME_BYTES>() {
        let _ = FirstFrame::of(frame);
        assert!(!proves(frame, key), "a stranger proves a key");
    }
    if role & 1 == 0 {
        // A stranger's first message, with a challenge of the stranger's own choosing.
        let (challenge, frame) = bytes.split_at(bytes.len().min(18));
        let prologue = challenge.try_into().ok().and_then(|challenge| Prologue::new(&opening(key).expect("randomness"), challenge).ok());
        let prologue = prologue.unwrap_or_else(Prologue::old);
        assert!(Responder::verify([key], &prologue, frame).is_err(), "a stranger is let in");
    } else {
        let (initiator, _) = Initiator::begin(key, &Prologue::old()).expect("a first message");
        assert!(initiator.finish(bytes, 1024).is_err(), "a host takes a stranger for its board");
    }
});
