//! A secret, authenticated stream of messages over any ordered stream of bytes, after the handshake.
//!
//! ```text
//! stream    = the handshake's frames (see `handshake`), then records
//! record    = u16 length | that many bytes of Noise ciphertext           (big endian, at most 65,535)
//! plaintext = u32 message length | first piece of the message            (big endian; only the first record has it)
//!           | next piece                                                 (further records)
//! ```
//!
//! A state machine without I/O and without time: the owner of the stream pushes bytes in, takes messages out, and keeps
//! the deadlines. A peer with the key can make it hold one record and one message up to the limit in force.

use crate::limits::{HANDSHAKE_FRAME_BYTES, LENGTH_BYTES, RECORD_BYTES, RECORD_PAYLOAD_BYTES, TAG_BYTES};
use alloc::vec::Vec;
use snow::{HandshakeState, TransportState};

/// Bytes of the message length in a message's first record.
const MESSAGE_LENGTH_BYTES: usize = 4;

/// Why a channel cannot go on. Every one ends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The peer's handshake was not made with our key.
    #[error("the peer does not hold the same key")]
    WrongKey,
    /// The peer says that our key is not its own.
    #[error("the peer refuses our key")]
    KeyRefused,
    /// The stream does not begin as this protocol does: a frame of another length, in bytes, than its place has.
    #[error("not a peer of this protocol: its first two bytes announce a frame of {0} bytes")]
    NotAPeer(usize),
    /// The stream ended or was cut inside a handshake frame.
    #[error("handshake frame of {0} bytes, {HANDSHAKE_FRAME_BYTES} expected")]
    ShortHandshake(usize),
    /// A record whose length cannot be.
    #[error("record of {0} bytes, more than {TAG_BYTES} and at most {RECORD_BYTES} expected")]
    RecordLength(usize),
    /// A record that was changed, repeated, or left out.
    #[error("a record fails its authentication")]
    Tampered,
    /// A message longer than allowed now.
    #[error("message of {bytes} bytes announced, at most {limit} allowed")]
    MessageLength {
        /// Announced.
        bytes: usize,
        /// Allowed.
        limit: usize,
    },
    /// A record with more than the rest of its message.
    #[error("a record runs over the end of its message")]
    Overrun,
    /// The cryptographic library failed otherwise: no randomness, or a wrong state.
    #[error("cryptography: {0}")]
    Crypto(&'static str),
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub(crate) fn crypto(error: snow::Error) -> ChannelError {
    match error {
        snow::Error::Rng => ChannelError::Crypto("no random numbers from the system"),
        snow::Error::State(_) => ChannelError::Crypto("out of turn"),
        _ => ChannelError::Crypto("failed"),
    }
}

/// Both directions after the handshake.
pub struct Channel {
    state: TransportState,
    /// Bytes pushed and not yet opened: less than one record between calls.
    pending: Vec<u8>,
    /// The message under way, and how long it will be.
    message: Vec<u8>,
    announced: usize,
    limit: usize,
    plain: Vec<u8>,
}

impl Channel {
    pub(crate) fn new(handshake: HandshakeState, limit: usize) -> Result<Self, ChannelError> {
        let state = handshake.into_transport_mode().map_err(crypto)?;
        Ok(Self { state, pending: Vec::new(), message: Vec::new(), announced: 0, limit, plain: Vec::new() })
    }

    /// Allow messages of this length from the peer, bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The records of one message, appended to `stream`.
    ///
    /// # Errors
    /// [`ChannelError::MessageLength`] for an empty message or one beyond a u32; [`ChannelError::Crypto`].
    pub fn seal(&mut self, message: &[u8], stream: &mut Vec<u8>) -> Result<(), ChannelError> {
        let announced = match u32::try_from(message.len()) {
            Ok(length) if length > 0 => length,
            _ => return Err(ChannelError::MessageLength { bytes: message.len(), limit: u32::MAX as usize }),
        };
        let first = message.len().min(RECORD_PAYLOAD_BYTES - MESSAGE_LENGTH_BYTES);
        let (first, rest) = message.split_at(first);
        self.plain.clear();
        self.plain.extend(announced.to_be_bytes());
        self.plain.extend(first);
        seal_record(&mut self.state, &self.plain, stream)?;
        rest.chunks(RECORD_PAYLOAD_BYTES).try_for_each(|piece| seal_record(&mut self.state, piece, stream))
    }

    /// Bytes from the stream. Take the messages out by [`Self::pop`] before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Whether a message has begun that is not whole yet.
    pub fn is_partial(&self) -> bool {
        self.announced > 0 || !self.pending.is_empty()
    }

    /// The next whole message, if it has come.
    ///
    /// # Errors
    /// [`ChannelError`]; the channel cannot be used any more.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let mut start = 0;
        let outcome = loop {
            let Some((length, body)) = self.pending.get(start..).and_then(<[u8]>::split_first_chunk) else {
                break Ok(None);
            };
            let length = usize::from(u16::from_be_bytes(*length));
            if length <= TAG_BYTES {
                break Err(ChannelError::RecordLength(length));
            }
            let Some(record) = body.get(..length) else { break Ok(None) };
            self.plain.resize(length, 0);
            let Ok(plain) = self.state.read_message(record, &mut self.plain) else {
                break Err(ChannelError::Tampered);
            };
            start += LENGTH_BYTES + length;
            self.plain.truncate(plain);
            match self.take_plain() {
                Ok(None) => {}
                other => break other,
            }
        };
        self.pending.drain(..start);
        outcome
    }

    /// Put an opened record to its message; the message, if this was its last.
    fn take_plain(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let mut piece = self.plain.as_slice();
        if self.announced == 0 {
            let (length, first) =
                piece.split_first_chunk().ok_or(ChannelError::RecordLength(piece.len() + TAG_BYTES))?;
            let bytes = u32::from_be_bytes(*length) as usize;
            if bytes == 0 || bytes > self.limit {
                return Err(ChannelError::MessageLength { bytes, limit: self.limit });
            }
            self.announced = bytes;
            // Memory follows what has come, not what was announced.
            self.message = Vec::with_capacity(bytes.min(RECORD_PAYLOAD_BYTES));
            piece = first;
        }
        if self.message.len() + piece.len() > self.announced {
            return Err(ChannelError::Overrun);
        }
        self.message.extend_from_slice(piece);
        if self.message.len() < self.announced {
            return Ok(None);
        }
        self.announced = 0;
        Ok(Some(core::mem::take(&mut self.message)))
    }
}

fn seal_record(state: &mut TransportState, plain: &[u8], stream: &mut Vec<u8>) -> Result<(), ChannelError> {
    let length = plain.len() + TAG_BYTES;
    stream.extend((length as u16).to_be_bytes());
    let start = stream.len();
    stream.resize(start + length, 0);
    let record = stream.get_mut(start..).unwrap_or_default();
    state.write_message(plain, record).map(drop).map_err(crypto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::{Initiator, Prologue, Responder, challenge, opening};
    use crate::key::Key;
    use crate::limits::REQUEST_BYTES;
    use proptest::prelude::*;

    fn pair(limit: usize) -> (Channel, Channel) {
        let key: Key = hex::encode([1; 32]).parse().unwrap();
        let prologue = Prologue::new(&opening(&key).unwrap(), &challenge().unwrap()).unwrap();
        let (initiator, frame) = Initiator::begin(&key, &prologue).unwrap();
        let (_, responder) = Responder::verify([&key], &prologue, &frame).unwrap();
        let (agent, answer) = responder.answer(limit).unwrap();
        (initiator.finish(&answer, limit).unwrap(), agent)
    }

    #[test]
    fn long_messages_take_several_records_and_come_byte_by_byte() {
        let (mut host, mut agent) = pair(REQUEST_BYTES);
        let message: Vec<u8> = (0..150_000u32).map(|index| index as u8).collect();
        let mut stream = Vec::new();
        host.seal(&message, &mut stream).unwrap();
        host.seal(b"next", &mut stream).unwrap();
        assert_eq!(stream.len(), message.len() + 4 + 3 * (2 + TAG_BYTES) + 4 + 4 + 2 + TAG_BYTES);
        let mut seen = Vec::new();
        for byte in &stream {
            agent.push(&[*byte]);
            seen.extend(agent.pop().unwrap());
        }
        assert_eq!(seen, [message, b"next".to_vec()]);
        assert!(!agent.is_partial());
    }

    #[test]
    fn records_that_are_changed_repeated_or_lost_are_noticed() {
        let record = |host: &mut Channel| {
            let mut stream = Vec::new();
            host.seal(b"hello", &mut stream).unwrap();
            stream
        };
        let (mut host, mut agent) = pair(100);
        let mut changed = record(&mut host);
        changed[7] ^= 1;
        agent.push(&changed);
        assert_eq!(agent.pop(), Err(ChannelError::Tampered));

        let (mut host, mut agent) = pair(100);
        let first = record(&mut host);
        agent.push(&[first.clone(), first].concat());
        assert_eq!(agent.pop(), Ok(Some(b"hello".to_vec())));
        assert_eq!(agent.pop(), Err(ChannelError::Tampered));

        let (mut host, mut agent) = pair(100);
        record(&mut host);
        agent.push(&record(&mut host));
        assert_eq!(agent.pop(), Err(ChannelError::Tampered));
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_cost_anything() {
        let (mut host, mut agent) = pair(100);
        let mut stream = Vec::new();
        host.seal(&[0; 101], &mut stream).unwrap();
        agent.push(&stream);
        assert_eq!(agent.pop(), Err(ChannelError::MessageLength { bytes: 101, limit: 100 }));
        assert_eq!(agent.message.capacity(), 0);
        let (mut host, mut agent) = pair(100);
        agent.push(&[0, 16, 1]);
        assert_eq!(agent.pop(), Err(ChannelError::RecordLength(16)));
        assert!(host.seal(&[], &mut Vec::new()).is_err());
        // A record that carries more than its message.
        let (mut host, mut agent) = pair(100);
        let mut stream = Vec::new();
        seal_record(&mut host.state, &[0, 0, 0, 1, 7, 7], &mut stream).unwrap();
        agent.push(&stream);
        assert_eq!(agent.pop(), Err(ChannelError::Overrun));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_make_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (_, mut agent) = pair(100);
            agent.push(&bytes);
            prop_assert!(!matches!(agent.pop(), Ok(Some(_))));
        }

        #[test]
        fn messages_come_back_however_the_stream_is_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..400), 1..5),
            cut in 1usize..100,
        ) {
            let (mut host, mut agent) = pair(400);
            let mut stream = Vec::new();
            for message in &messages {
                host.seal(message, &mut stream).unwrap();
            }
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                agent.push(piece);
                while let Some(message) = agent.pop().unwrap() {
                    seen.push(message);
                }
            }
            prop_assert_eq!(seen, messages);
        }
    }
}
