//! A serial line: whatever comes, at whatever times, it neither panics nor holds more than its windows; and what a peer
//! sends over a damaged wire arrives in order, or not at all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use n2n_protocol::line::{Line, Timing};
use std::time::Duration;

/// More than a window in each direction can hold.
const MOST_BYTES: usize = 64 << 10;

struct End {
    line: Line,
    wire: Vec<u8>,
    seen: Vec<u8>,
}

impl End {
    fn turn(&mut self, now: Duration) {
        self.line.transmit(now, &mut self.wire);
        assert!(self.wire.len() <= MOST_BYTES, "a line sends {} bytes at once", self.wire.len());
        let mut buffer = [0; 512];
        loop {
            match self.line.read(&mut buffer) {
                0 => return,
                read => self.seen.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut now = Duration::ZERO;
    let timing = Timing::of_baud(115_200);
    let mut host = End { line: Line::dial(timing, 7, now), wire: vec![], seen: vec![] };
    let mut agent = End { line: Line::listen(timing), wire: vec![], seen: vec![] };
    let mut sent = Vec::new();
    // Each instruction is three bytes: what happens, where, and how much.
    for instruction in bytes.chunks_exact(3) {
        let [what, place, value] = *instruction else { return };
        host.turn(now);
        agent.turn(now);
        match what % 8 {
            0 | 1 => {
                let text: Vec<u8> = (0..value).map(|byte| byte ^ place).collect();
                let taken = host.line.write(&text);
                sent.extend_from_slice(&text[..taken]);
            }
            2 => now += Duration::from_millis(u64::from(value) * 20),
            3 if !host.wire.is_empty() => {
                let index = usize::from(place) % host.wire.len();
                host.wire[index] ^= value;
            }
            4 if !agent.wire.is_empty() => {
                let index = usize::from(place) % agent.wire.len();
                agent.wire.truncate(index);
            }
            // Bytes that no line wrote.
            5 => agent.line.push(&bytes[..usize::from(value).min(bytes.len())], now),
            6 => host.line.push(&bytes[..usize::from(value).min(bytes.len())], now),
            _ => {
                agent.line.push(&std::mem::take(&mut host.wire), now);
                host.line.push(&std::mem::take(&mut agent.wire), now);
            }
        }
    }
    host.turn(now);
    agent.turn(now);
    // A frame's check sum is no secret, so bytes that the fuzzer makes up may be a frame; one that it only damaged may not.
    if !bytes.chunks_exact(3).any(|it| matches!(it[0] % 8, 5 | 6)) {
        assert!(sent.starts_with(&agent.seen), "the line gives other bytes than were sent");
    }
});
