//! The stream that goes: cut into frames, kept until confirmed, repeated from where the peer stands.

use super::frame::Receipt;
use super::limits::{MIN_FRAME, SEND_BYTES, STUCK};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Frames on their way at once: 8 KiB cover 27 ms at 3 Mbaud, the latency of two USB adapters.
pub(super) const WINDOW_FRAMES: usize = 8;

/// Frames in a row that have to come through before they grow again: at that rate of loss, 3 %, twice the size pays.
const CLEAN_RUN: u32 = 32;

/// Doublings of the wait when repeating does not help: the peer's machine may be busy, the line is not the cause.
const MAX_DOUBLINGS: u32 = 3;

/// Shortest wait before repeating: what a loaded system takes to wake a thread.
const MIN_PATIENCE: Duration = Duration::from_millis(20);

/// A transmission that has not been confirmed.
#[derive(Debug)]
struct Flight {
    number: u16,
    end: u32,
    since: Duration,
}

/// A frame to send.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) number: u16,
    pub(super) offset: u32,
    pub(super) payload: Vec<u8>,
}

/// How long receipts take: Jacobson and Karels, 1988, as in RFC 6298. An echo names its very transmission, so that a sample
/// is never ambiguous.
#[derive(Debug)]
struct RoundTrip {
    smooth: Duration,
    deviation: Duration,
}

impl RoundTrip {
    fn sample(&mut self, took: Duration) {
        self.deviation = (self.deviation * 3 + self.smooth.abs_diff(took)) / 4;
        self.smooth = (self.smooth * 7 + took) / 8;
    }

    /// After which nothing can be expected any more.
    fn patience(&self) -> Duration {
        (self.smooth + self.deviation * 4).max(MIN_PATIENCE)
    }
}

#[derive(Debug)]
pub(super) struct Outgoing {
    /// From `confirmed` on.
    buffer: VecDeque<u8>,
    /// The peer has everything before this offset.
    confirmed: u32,
    /// Where the next frame begins; goes back when something is lost.
    next: u32,
    /// Nothing from this offset on was ever sent.
    reached: u32,
    /// Bytes from `confirmed` on that the peer has room for.
    room: u16,
    /// Transmissions since we last went back, oldest first.
    flights: VecDeque<Flight>,
    number: u16,
    frame_bytes: usize,
    max_frame_bytes: usize,
    clean: u32,
    round_trip: RoundTrip,
    doublings: u32,
    /// When to repeat; set while something is on its way.
    timer: Option<Duration>,
    /// Since when nothing was confirmed; set while something is on its way.
    waiting_since: Option<Duration>,
}

impl Outgoing {
    pub(super) fn new(max_frame_bytes: usize, repeat_after: Duration) -> Self {
        Self {
            buffer: VecDeque::new(),
            confirmed: 0,
            next: 0,
            reached: 0,
            room: 0,
            flights: VecDeque::new(),
            number: 0,
            frame_bytes: max_frame_bytes,
            max_frame_bytes,
            clean: 0,
            round_trip: RoundTrip { smooth: repeat_after / 2, deviation: repeat_after / 8 },
            doublings: 0,
            timer: None,
            waiting_since: None,
        }
    }

    /// The room the peer begins with.
    pub(super) fn room(&mut self, room: u16) {
        self.room = room;
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(SEND_BYTES.saturating_sub(self.buffer.len()));
        self.buffer.extend(bytes.iter().take(taken));
        taken
    }

    /// The next frame that may go now.
    pub(super) fn next(&mut self, now: Duration) -> Option<Piece> {
        let ahead = self.next.wrapping_sub(self.confirmed) as usize;
        let window = (WINDOW_FRAMES * self.frame_bytes).min(usize::from(self.room));
        let waiting = self.buffer.len().saturating_sub(ahead);
        let length = self.frame_bytes.min(waiting).min(window.saturating_sub(ahead));
        // A frame cut short by the window, not by the stream, would be all overhead; a receipt will make room.
        if length == 0 || (length < self.frame_bytes && length < waiting && !self.flights.is_empty()) {
            return None;
        }
        let payload = self.buffer.iter().skip(ahead).take(length).copied().collect();
        let offset = self.next;
        self.next = self.next.wrapping_add(length as u32);
        if ahead + length > self.reached.wrapping_sub(self.confirmed) as usize {
            self.reached = self.next;
        }
        self.number = self.number.wrapping_add(1);
        self.flights.push_back(Flight { number: self.number, end: self.next, since: now });
        self.timer.get_or_insert(now + self.round_trip.patience() * (1 << self.doublings));
        self.waiting_since.get_or_insert(now);
        Some(Piece { number: self.number, offset, payload })
    }

    pub(super) fn receipt(&mut self, receipt: Receipt, now: Duration) {
        let news = receipt.expected.wrapping_sub(self.confirmed);
        if news > self.reached.wrapping_sub(self.confirmed) {
            // Older than one we had, or of bytes that were never sent.
            return;
        }
        self.room = receipt.room;
        if let Some(flight) = self.flights.iter().find(|flight| flight.number == receipt.echo) {
            self.round_trip.sample(now.saturating_sub(flight.since));
        }
        if news > 0 {
            // What was sent again without need is confirmed as well.
            let ahead = self.next.wrapping_sub(self.confirmed);
            self.buffer.drain(..self.buffer.len().min(news as usize));
            self.confirmed = receipt.expected;
            if ahead < news {
                self.next = self.confirmed;
            }
            self.doublings = 0;
            let on_its_way = self.confirmed != self.reached;
            self.timer = on_its_way.then_some(now + self.round_trip.patience());
            self.waiting_since = on_its_way.then_some(now);
        }
        self.settle(receipt.echo);
    }

    /// Everything up to this transmission has come through or never will.
    fn settle(&mut self, echo: u16) {
        let mut lost = false;
        while let Some(flight) = self.flights.front() {
            if (echo.wrapping_sub(flight.number) as i16) < 0 {
                break;
            }
            // Not confirmed: it was lost, or one before it was.
            if (self.confirmed.wrapping_sub(flight.end) as i32) < 0 {
                lost = true;
                break;
            }
            self.flights.pop_front();
            self.clean += 1;
        }
        if lost {
            self.go_back();
        } else if self.clean >= CLEAN_RUN {
            self.clean = 0;
            self.frame_bytes = (self.frame_bytes * 2).min(self.max_frame_bytes);
        }
    }

    fn go_back(&mut self) {
        self.next = self.confirmed;
        self.flights.clear();
        self.clean = 0;
        self.frame_bytes = (self.frame_bytes / 2).max(MIN_FRAME);
        self.timer = None;
    }

    /// Repeat what is overdue.
    pub(super) fn expire(&mut self, now: Duration) {
        if self.timer.is_some_and(|timer| now >= timer) {
            self.go_back();
            self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        }
    }

    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        self.waiting_since.is_some_and(|since| now >= since + STUCK)
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        let stuck = self.waiting_since.map(|since| since + STUCK);
        self.timer.into_iter().chain(stuck).min()
    }
}
