//! Records after the handshake: a wire that damages, cuts, repeats and reorders gives the sent messages in order or an error,
//! never another message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2n_protocol::channel::Channel;
use n2n_protocol::handshake::{Initiator, Prologue, Responder};
use n2n_protocol::key::Key;
use std::sync::LazyLock;

static KEY: LazyLock<Key> = LazyLock::new(|| "ab".repeat(32).parse().expect("a key"));

/// Longest message, bytes.
const LIMIT: usize = 1 << 18;

fn pair() -> (Channel, Channel) {
    let prologue = Prologue::old();
    let (initiator, first) = Initiator::begin(&KEY, &prologue).expect("a first message");
    let (_, responder) = Responder::verify([&*KEY], &prologue, &first).expect("our own key");
    let (agent, answer) = responder.answer(LIMIT).expect("an answer");
    (initiator.finish(&answer, LIMIT).expect("a channel"), agent)
}

fuzz_target!(|bytes: &[u8]| {
    let (mut host, mut agent) = pair();
    let mut sent = Vec::new();
    let mut stream = Vec::new();
    let mut seen = Vec::new();
    for instruction in bytes.chunks_exact(3) {
        let [what, place, value] = *instruction else { return };
        match what % 6 {
            0 => {
                let message = vec![place; 1 + usize::from(value) * 300];
                host.seal(&message, &mut stream).expect("sealed");
                sent.push(message);
            }
            1 if !stream.is_empty() => {
                let index = usize::from(place) * stream.len() / 256;
                stream[index] ^= value;
            }
            2 => stream.truncate(usize::from(place) * stream.len() / 256),
            3 => stream.extend_from_within(..stream.len().min(usize::from(value) * 64)),
            4 => stream.extend_from_slice(instruction),
            _ => {
                let cut = usize::from(place) * stream.len() / 255;
                agent.push(&stream[..cut.min(stream.len())]);
                stream.drain(..cut.min(stream.len()));
                loop {
                    match agent.pop() {
                        Ok(Some(message)) => seen.push(message),
                        Ok(None) => break,
                        // The connection ends here.
                        Err(_) => return assert!(sent.starts_with(&seen), "another message came"),
                    }
                }
            }
        }
    }
    assert!(sent.starts_with(&seen), "another message came");
});
