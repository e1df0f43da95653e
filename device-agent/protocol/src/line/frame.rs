//! One frame of a line: header, payload, CRC-32, COBS, delimiter. A frame that is damaged in any way is none.

use super::limits::MAX_FRAME;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Between frames, and nowhere inside: that is what COBS is for.
pub(super) const DELIMITER: u8 = 0;

/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 4;

/// Largest header, bytes: a tag, and every number at its longest (postcard: 3 bytes a u16, 5 a u32).
const HEADER_BYTES: usize = 1 + 5 + (3 + 5) + (3 + 5 + 3);

/// Largest frame without its delimiter, bytes; COBS adds one in 254, and one.
const FRAME_BYTES: usize = cobs::max_encoding_length(HEADER_BYTES + MAX_FRAME + CHECKSUM_BYTES);

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) connection: u32,
    pub(super) kind: Kind,
}

/// What a frame is for; only data has a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// A host asks for a new connection, and can take so many bytes.
    Open { version: u8, room: u16 },
    /// The agent has one.
    Opened { version: u8, room: u16 },
    /// A piece of the stream: the number of this transmission, and where its first byte belongs.
    Data { number: u16, offset: u32, receipt: Receipt },
    /// What has come, alone: also a sign of life.
    Receipt(Receipt),
    /// The connection is over.
    Close,
}

/// What one side tells the other of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Number of the last transmission that came through whole, accepted or not.
    pub(super) echo: u16,
    /// Everything before this offset has come.
    pub(super) expected: u32,
    /// Bytes from there on for which there is room.
    pub(super) room: u16,
}

/// A frame and its delimiter, appended to `wire`.
pub(super) fn encode(header: Header, payload: &[u8], wire: &mut Vec<u8>) {
    let plain = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    // Into a vector, numbers always fit.
    let Ok(mut plain) = postcard::to_extend(&header, plain) else { return };
    plain.extend(payload);
    plain.extend(crc32fast::hash(&plain).to_be_bytes());
    let start = wire.len();
    wire.resize(start + cobs::max_encoding_length(plain.len()), 0);
    let length = wire.get_mut(start..).and_then(|room| cobs::try_encode(&plain, room).ok()).unwrap_or(0);
    wire.truncate(start + length);
    wire.push(DELIMITER);
}

/// What is in a frame without its delimiter; `None` for damage and garbage.
pub(super) fn decode(frame: &mut [u8]) -> Option<(Header, &[u8])> {
    let length = cobs::decode_in_place(frame).ok()?;
    let (body, checksum) = frame.get(..length)?.split_last_chunk::<CHECKSUM_BYTES>()?;
    if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
        return None;
    }
    postcard::take_from_bytes(body).ok()
}

/// Cuts what comes from the wire at its delimiters, and never holds more than a frame.
#[derive(Debug, Default)]
pub(super) struct Deframer {
    bytes: Vec<u8>,
    /// What is on the wire is too long for a frame: nothing of it counts until the next delimiter.
    overrun: bool,
    whole: Vec<u8>,
}

impl Deframer {
    /// The next byte; a frame, if this was its delimiter.
    pub(super) fn push(&mut self, byte: u8) -> Option<&mut [u8]> {
        if byte != DELIMITER {
            if self.bytes.capacity() == 0 {
                self.bytes = Vec::with_capacity(FRAME_BYTES);
            }
            self.overrun |= self.bytes.len() >= FRAME_BYTES;
            if !self.overrun {
                self.bytes.push(byte);
            }
            return None;
        }
        let usable = !self.overrun && !self.bytes.is_empty();
        self.overrun = false;
        core::mem::swap(&mut self.whole, &mut self.bytes);
        self.bytes.clear();
        usable.then_some(self.whole.as_mut_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn data(number: u16, offset: u32) -> Header {
        let receipt = Receipt { echo: u16::MAX, expected: u32::MAX, room: u16::MAX };
        Header { connection: u32::MAX, kind: Kind::Data { number, offset, receipt } }
    }

    fn frames(wire: &[u8]) -> Vec<(Header, Vec<u8>)> {
        let mut deframer = Deframer::default();
        let mut seen = Vec::new();
        for &byte in wire {
            if let Some(frame) = deframer.push(byte)
                && let Some((header, payload)) = decode(frame)
            {
                seen.push((header, payload.to_vec()));
            }
        }
        seen
    }

    #[test]
    fn the_largest_frame_is_as_large_as_announced_and_comes_back() {
        let payload = vec![0x55; MAX_FRAME];
        let mut wire = Vec::new();
        encode(data(u16::MAX, u32::MAX), &payload, &mut wire);
        assert!((FRAME_BYTES - 1..=FRAME_BYTES + 1).contains(&wire.len()), "{} {FRAME_BYTES}", wire.len());
        assert_eq!(frames(&wire), [(data(u16::MAX, u32::MAX), payload)]);
    }

    #[test]
    fn garbage_between_frames_is_skipped_and_never_kept() {
        let mut wire = b"U-Boot 2024.01\r\n".to_vec();
        wire.push(DELIMITER);
        encode(data(1, 2), b"one", &mut wire);
        wire.extend(core::iter::repeat_n(7, 100_000));
        wire.push(DELIMITER);
        encode(data(2, 5), b"two", &mut wire);
        assert_eq!(frames(&wire), [(data(1, 2), b"one".to_vec()), (data(2, 5), b"two".to_vec())]);
        let mut deframer = Deframer::default();
        for _ in 0..100_000 {
            assert!(deframer.push(1).is_none());
        }
        assert!(deframer.bytes.capacity() <= FRAME_BYTES);
    }

    proptest! {
        #[test]
        fn any_single_damaged_byte_is_noticed(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            place in any::<proptest::sample::Index>(),
            change in 1u8..,
        ) {
            let mut wire = Vec::new();
            encode(data(3, 4), &payload, &mut wire);
            *place.get_mut(&mut wire) ^= change;
            prop_assert_eq!(frames(&wire), []);
        }

        #[test]
        fn arbitrary_bytes_never_make_a_frame(wire in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(frames(&wire), []);
        }
    }
}
