//! How long an agent waits for whom: a wait without an end would hold a place, a worker or memory for ever.

use n2n_protocol::limits;
use n2n_protocol::line::transfer;
use std::time::Duration;

/// How long a session waits for what.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// From the connection to the end of the handshake: a stranger's whole time.
    pub handshake: Duration,
    /// From the handshake to the end of the hello.
    pub greeting: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Between two messages, when nothing runs.
    pub idle: Duration,
    /// Silence, when nothing runs, after which a session loses its place to a host that waits for one.
    pub quiet: Duration,
    /// For the peer to take an answer.
    pub write: Duration,
    /// Between two signs of life of a running request.
    pub progress: Duration,
    /// For a cancelled request to end by itself.
    pub cancel: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            // A Raspberry Pi Zero needs some 10 ms for its part; the rest is for bad radio links.
            handshake: Duration::from_secs(5),
            greeting: Duration::from_secs(5),
            // 8 MiB in two minutes is 70 kB/s.
            message: Duration::from_mins(2),
            // A search may train for hours between two measurements; a dead peer is noticed by keep-alive long before.
            idle: Duration::from_hours(6),
            // A search trains for longer than this, and finds a place again when it comes back.
            quiet: Duration::from_secs(10),
            write: Duration::from_secs(30),
            progress: Duration::from_secs(1),
            // Killing a worker and reaping it is a matter of milliseconds.
            cancel: Duration::from_secs(5),
        }
    }
}

impl Deadlines {
    /// As these, and as much longer as a serial line needs for the longest messages, twice over for what it repeats.
    #[must_use]
    pub fn on_line(&self, baud: u32) -> Self {
        let slow = |bytes: usize| 2 * transfer(bytes as u64, baud);
        Self {
            // A bad line repeats each of its round trips, and nobody crowds it.
            handshake: 3 * self.handshake,
            greeting: 3 * self.greeting,
            message: self.message + slow(limits::REQUEST_BYTES),
            write: self.write + slow(limits::REPLY_BYTES),
            ..self.clone()
        }
    }
}
