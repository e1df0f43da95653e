//! A serial line as an ordered stream of bytes: what TCP does for a network, in a few hundred lines that fit a
//! microcontroller.
//!
//! ```text
//! stream ─► outgoing: cuts, remembers, repeats ─► frame: CRC-32, COBS, 0x00 ─► wire ─► frame ─► incoming: in order ─► stream
//! ```
//! - A connection has a random number, which every frame carries: what is left of an earlier one is ignored, and a host
//!   that starts anew resets both sides.
//! - Offsets count bytes, so that what is repeated may be cut smaller: frames shrink on a line that damages many.
//! - Go-back-N: a line loses and damages, but never reorders. A receipt echoes the number of the last transmission that
//!   came through; a transmission before it whose bytes are not confirmed is known to be lost, without waiting.
//! - A silent peer, or one that does not confirm, ends the connection within a bounded time.
//!
//! No I/O and no clock: bytes and the time come in, bytes and the time to come back go out. Nothing here is secret or
//! authenticated; that is the channel's work, above.

mod frame;
mod incoming;
mod limits;
mod outgoing;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::time::Duration;
use frame::{DELIMITER, Deframer, Header, Kind};
use incoming::Incoming;
pub use limits::STUCK;
use limits::{MAX_FRAME, MIN_FRAME, RECEIVE_BYTES};
use outgoing::Outgoing;

/// Bits in a second where nobody says otherwise: the highest of the traditional rates, which CH340, CP2102, FT232 and the
/// Raspberry Pi's PL011 all keep; 92 kB/s.
pub const DEFAULT_BAUD: u32 = 921_600;

/// Slowest line, bits in a second: below it a candidate of 10 kB takes longer than the wait for its receipt.
pub const MIN_BAUD: u32 = 9600;

/// Fastest line, bits in a second: what USB adapters reach (FT232H, CP2102N and their like stop at 3 or 4 Mbaud).
pub const MAX_BAUD: u32 = 4_000_000;

/// Bits on the wire for a byte: a start bit, eight, a stop bit.
const BITS_PER_BYTE: u32 = 10;

/// Version of everything in this module. Another one is told to the host, and there is no connection.
const LINE_VERSION: u8 = 1;

/// Silence of this side after which it says that it still lives.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Silence of the peer that ends a connection: five heartbeats, so that losing some does not.
pub const SILENCE: Duration = Duration::from_secs(10);

/// Between two questions whether somebody is there.
const OPEN_EVERY: Duration = Duration::from_millis(300);

/// For what is left to be confirmed before a close is said all the same.
const LINGER: Duration = Duration::from_secs(2);

/// What depends on the speed of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Largest payload of a frame, bytes.
    frame_bytes: usize,
    /// Until a frame without a receipt is sent again, before it is known how long receipts take.
    repeat_after: Duration,
}

impl Timing {
    /// For so many bits in a second.
    pub fn of_baud(baud: u32) -> Self {
        /// Of a system's and an adapter's buffers: an FT232 holds bytes back for 16 ms, in both directions.
        const LATENCY: Duration = Duration::from_millis(60);
        /// A frame takes at most 1/20 s, so that a receipt need not wait longer behind it.
        const FRAMES_PER_SECOND: u32 = 20;
        let bytes_per_second = baud.clamp(MIN_BAUD, MAX_BAUD) / BITS_PER_BYTE;
        let frame_bytes = ((bytes_per_second / FRAMES_PER_SECOND) as usize).clamp(MIN_FRAME, MAX_FRAME);
        // A window before it and, in the other direction, a window before its receipt.
        let window = transfer(2 * (outgoing::WINDOW_FRAMES * frame_bytes) as u64, baud);
        Self { frame_bytes, repeat_after: LATENCY + window }
    }
}

/// How long so many bytes are on a line, without any overhead.
pub fn transfer(bytes: u64, baud: u32) -> Duration {
    let nanoseconds = u128::from(bytes) * u128::from(BITS_PER_BYTE) * 1_000_000_000 / u128::from(baud.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// One of the two sides closed it, or the peer does not know it any more.
    #[error("closed")]
    Closed,
    /// Nobody answers.
    #[error("nobody answers on this line")]
    Unanswered,
    /// A peer of another version answers.
    #[error("the peer speaks version {0} of the line protocol, {LINE_VERSION} expected")]
    Version(u8),
    /// Nothing was heard of the peer.
    #[error("the peer is silent")]
    Silent,
    /// The peer can be heard, but confirms nothing.
    #[error("the peer does not confirm what it is sent")]
    Stuck,
    /// The device is gone.
    #[error("the device is gone")]
    Gone,
}

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An agent that waits for a host.
    Waiting,
    /// A host that asks whether somebody is there.
    Opening,
    /// Connected.
    Open,
    /// Not any more. What has come before can still be read; an agent may be opened again.
    Ended(End),
}

/// One end of a line.
#[derive(Debug)]
pub struct Line {
    timing: Timing,
    is_host: bool,
    phase: Phase,
    connection: u32,
    frames: Deframer,
    outgoing: Outgoing,
    incoming: Incoming,
    heard: Duration,
    spoke: Duration,
    /// When to ask again, while opening.
    ask: Duration,
    /// Set while an open has to be answered.
    greeting_due: bool,
    /// A connection that the peer has to be told is over.
    close_due: Option<u32>,
    closing: Option<Duration>,
}

impl Line {
    /// An agent's end: waits.
    pub fn listen(timing: Timing) -> Self {
        Self::new(timing, false, Phase::Waiting, 0, Duration::ZERO)
    }

    /// A host's end: asks. `connection` is a number that no earlier connection on this line had: a random one.
    pub fn dial(timing: Timing, connection: u32, now: Duration) -> Self {
        Self::new(timing, true, Phase::Opening, connection, now)
    }

    fn new(timing: Timing, is_host: bool, phase: Phase, connection: u32, now: Duration) -> Self {
        Self {
            timing,
            is_host,
            phase,
            connection,
            frames: Deframer::default(),
            outgoing: Outgoing::new(timing.frame_bytes, timing.repeat_after),
            incoming: Incoming::default(),
            heard: now,
            spoke: now,
            ask: now,
            greeting_due: false,
            close_due: None,
            closing: None,
        }
    }

    /// Where the line stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number of the connection that is open or was the last one.
    pub fn connection(&self) -> Option<u32> {
        matches!(self.phase, Phase::Open | Phase::Ended(_)).then_some(self.connection)
    }

    /// Take bytes from the application; says how many. None fit when it is faster than the line.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.phase != Phase::Open || self.closing.is_some() {
            return 0;
        }
        self.outgoing.write(bytes)
    }

    /// Give bytes to the application; says how many.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        self.incoming.read(buffer)
    }

    /// Close, after what was written has been delivered or `LINGER` has passed.
    pub fn close(&mut self, now: Duration) {
        if self.phase == Phase::Open {
            self.closing.get_or_insert(now + LINGER);
        } else if self.phase == Phase::Opening {
            self.phase = Phase::Ended(End::Closed);
        }
    }

    /// The device has vanished, and the connection with it.
    pub fn lose(&mut self) {
        self.frames = Deframer::default();
        if matches!(self.phase, Phase::Open | Phase::Opening) {
            self.phase = Phase::Ended(End::Gone);
        }
    }

    /// Bytes from the wire.
    pub fn push(&mut self, bytes: &[u8], now: Duration) {
        for &byte in bytes {
            if let Some(frame) = self.frames.push(byte)
                && let Some((header, payload)) = frame::decode(frame)
            {
                // Copied out: the payload lies in the deframer, and is small.
                let payload = Vec::from(payload);
                self.take(header, &payload, now);
            }
        }
    }

    fn take(&mut self, Header { connection, kind }: Header, payload: &[u8], now: Duration) {
        let ours = connection == self.connection;
        match (kind, self.phase) {
            (Kind::Open { version, room }, _) if !self.is_host => {
                self.opened_by_host(connection, version, room, now);
            }
            (Kind::Opened { version, room }, Phase::Opening) if ours => {
                self.heard = now;
                if version == LINE_VERSION {
                    self.phase = Phase::Open;
                    self.outgoing.room(room);
                } else {
                    self.phase = Phase::Ended(End::Version(version));
                }
            }
            (Kind::Data { number, offset, receipt }, Phase::Open) if ours => {
                self.heard = now;
                self.outgoing.receipt(receipt, now);
                self.incoming.take(number, offset, payload);
            }
            (Kind::Receipt(receipt), Phase::Open) if ours => {
                self.heard = now;
                self.outgoing.receipt(receipt, now);
            }
            (Kind::Close, Phase::Open) if ours => self.phase = Phase::Ended(End::Closed),
            // A peer that goes on with a connection that is none any more. Hosts come and go; an agent tells them.
            (Kind::Data { .. } | Kind::Receipt(_), _) if !self.is_host => self.close_due = Some(connection),
            _ => {}
        }
    }

    fn opened_by_host(&mut self, connection: u32, version: u8, room: u16, now: Duration) {
        let known = connection == self.connection && self.connection().is_some();
        if !known && version == LINE_VERSION {
            let close_due = self.close_due.take();
            let frames = core::mem::take(&mut self.frames);
            *self = Self::new(self.timing, false, Phase::Open, connection, now);
            (self.frames, self.close_due) = (frames, close_due);
            self.outgoing.room(room);
        } else if !known {
            // Only for the answer, which carries our version; whoever spoke to us before is gone from this line.
            self.connection = connection;
            self.phase = Phase::Waiting;
        }
        self.heard = now;
        self.greeting_due = true;
    }

    /// Bytes for the wire, appended to `wire`; whatever is due by now is done first.
    pub fn transmit(&mut self, now: Duration, wire: &mut Vec<u8>) {
        self.expire(now);
        let start = wire.len();
        // Whatever garbage stands on the line ends here.
        wire.push(DELIMITER);
        if let Some(connection) = self.close_due.take() {
            frame::encode(Header { connection, kind: Kind::Close }, &[], wire);
        }
        let connection = self.connection;
        let mut say = |kind, payload: &[u8]| frame::encode(Header { connection, kind }, payload, wire);
        if self.phase == Phase::Opening && now >= self.ask {
            self.ask = now + OPEN_EVERY;
            say(Kind::Open { version: LINE_VERSION, room: RECEIVE_BYTES }, &[]);
        }
        if core::mem::take(&mut self.greeting_due) {
            say(Kind::Opened { version: LINE_VERSION, room: RECEIVE_BYTES }, &[]);
        }
        if self.phase == Phase::Open {
            let mut said = false;
            let receipt = self.incoming.receipt();
            while let Some(flight) = self.outgoing.next(now) {
                said = true;
                let kind = Kind::Data { number: flight.number, offset: flight.offset, receipt };
                say(kind, &flight.payload);
            }
            if !said && (self.incoming.is_receipt_due() || now >= self.spoke + HEARTBEAT) {
                say(Kind::Receipt(receipt), &[]);
            }
            self.incoming.receipt_is_said();
            if let Some(linger) = self.closing
                && (now >= linger || self.outgoing.is_delivered())
            {
                say(Kind::Close, &[]);
                self.phase = Phase::Ended(End::Closed);
            }
        }
        if wire.len() == start + 1 {
            wire.truncate(start);
        } else {
            self.spoke = now;
        }
    }

    /// When [`Self::transmit`] has to be called again, if nothing else happens before.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting | Phase::Ended(_) => None,
            Phase::Opening => Some(self.ask.min(self.heard + SILENCE)),
            Phase::Open => {
                let timers = [self.outgoing.wake_at(), self.closing];
                let always = (self.spoke + HEARTBEAT).min(self.heard + SILENCE);
                Some(timers.into_iter().flatten().fold(always, Duration::min))
            }
        }
    }

    fn expire(&mut self, now: Duration) {
        let silent = now >= self.heard + SILENCE;
        match self.phase {
            Phase::Opening if silent => self.phase = Phase::Ended(End::Unanswered),
            Phase::Open if silent => self.phase = Phase::Ended(End::Silent),
            Phase::Open if self.outgoing.is_stuck(now) => self.phase = Phase::Ended(End::Stuck),
            Phase::Open => self.outgoing.expire(now),
            _ => {}
        }
    }
}
