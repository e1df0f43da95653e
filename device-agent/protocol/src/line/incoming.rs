//! The stream that comes: in order, once, and no more than there is room for.

use super::frame::Receipt;
use super::limits::RECEIVE_BYTES;
use alloc::collections::VecDeque;

/// Room below which the peer may have stopped; when the application has made more, it has to hear of it.
const SCARCE: u16 = RECEIVE_BYTES / 4;

#[derive(Debug, Default)]
pub(super) struct Incoming {
    buffer: VecDeque<u8>,
    expected: u32,
    echo: u16,
    due: bool,
}

impl Incoming {
    /// A piece from the peer. One that begins later than expected is dropped: something before it is lost and will come
    /// again, and this piece too. Of one that begins earlier, having been cut anew, only the tail is news.
    pub(super) fn take(&mut self, number: u16, offset: u32, payload: &[u8]) {
        self.echo = number;
        self.due = true;
        let known = self.expected.wrapping_sub(offset) as usize;
        if let Some(news) = payload.get(known..)
            && news.len() <= usize::from(self.room())
        {
            self.buffer.extend(news);
            self.expected = self.expected.wrapping_add(news.len() as u32);
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let scarce = self.room() < SCARCE;
        let length = buffer.len().min(self.buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.buffer.drain(..length)) {
            *to = from;
        }
        self.due |= scarce && self.room() >= SCARCE;
        length
    }

    pub(super) fn receipt(&self) -> Receipt {
        Receipt { echo: self.echo, expected: self.expected, room: self.room() }
    }

    pub(super) fn is_receipt_due(&self) -> bool {
        self.due
    }

    pub(super) fn receipt_is_said(&mut self) {
        self.due = false;
    }

    fn room(&self) -> u16 {
        u16::try_from(self.buffer.len()).map_or(0, |held| RECEIVE_BYTES.saturating_sub(held))
    }
}
