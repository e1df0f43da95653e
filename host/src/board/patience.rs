//! How long the host waits for what. The defaults suit a board on a bad radio link; tests bring shorter ones.

use n2n_protocol::limits;
use n2n_protocol::line::transfer;
use std::time::Duration;

/// Deadlines of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a board's name to become addresses: the system's resolver has no deadline of its own.
    pub resolve: Duration,
    /// For a connection to one address.
    pub connect: Duration,
    /// For the handshake; a board needs some 10 ms for its part.
    pub handshake: Duration,
    /// For the agent to take a request; the largest, 8 MiB, needs 270 kB/s.
    pub send: Duration,
    /// Silence that is a fault: an agent shows a sign of life every second while it works.
    pub silence: Duration,
    /// For a request that only reads or writes small things, or one piece of a blob.
    pub short: Duration,
    /// For one batch of inputs.
    pub infer: Duration,
    /// For a bundle's verification: load, golden inference, some latency samples; and for a switch, before which a board
    /// looks at the student's bytes and answer again and tells the user's program.
    pub stage: Duration,
    /// For an activation: the slot is read again, the model loaded, its golden answer asked for.
    pub activate: Duration,
    /// For a measurement beyond its own time budget: starting and ending workers, cooling down between repetitions.
    pub measure_margin: Duration,
    /// For the agent to end a cancelled request, workers and all.
    pub cancel: Duration,
    /// For the board's turn, while others have it: a careful measurement takes up to five minutes, and several may be ahead.
    pub turn: Duration,
    /// Tries of one reconnect that is not told how long to wait.
    pub reconnect_tries: u32,
    /// Pause after the first try, doubled each time up to some seconds: with seven tries 13 s in all, longer than an agent
    /// takes to restart.
    pub reconnect_pause: Duration,
}

impl Patience {
    /// As this, and as much longer as a serial line needs for what the waits cover, twice over for what it repeats.
    #[must_use]
    pub fn on_line(&self, baud: u32) -> Self {
        let slow = |bytes: usize| 2 * transfer(bytes as u64, baud);
        let (request, reply) = (slow(limits::REQUEST_BYTES), slow(limits::REPLY_BYTES));
        Self {
            // Two round trips, each of which a bad line repeats.
            handshake: 3 * self.handshake,
            send: self.send + request,
            short: self.short + slow(limits::CHUNK_BYTES),
            infer: self.infer + reply,
            measure_margin: self.measure_margin + reply,
            ..*self
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            send: Duration::from_secs(30),
            silence: Duration::from_secs(10),
            short: Duration::from_secs(30),
            infer: Duration::from_mins(5),
            stage: Duration::from_mins(5),
            activate: Duration::from_mins(3),
            measure_margin: Duration::from_mins(2),
            cancel: Duration::from_secs(8),
            turn: Duration::from_mins(30),
            reconnect_tries: 7,
            reconnect_pause: Duration::from_millis(250),
        }
    }
}
