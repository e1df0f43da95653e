//! A secret, authenticated stream of messages over any ordered stream of bytes: Noise `NNpsk0_25519_ChaChaPoly_BLAKE2s`.
//!
//! ```text
//! stream    = handshake frame, then records
//! record    = u16 length | that many bytes of Noise ciphertext           (big endian, at most 65,535)
//! plaintext = u32 message length | first piece of the message            (big endian; only the first record has it)
//!           | next piece                                                 (further records)
//! ```
//! Each side sends one handshake frame of fixed length; a record of length 0 in its place says "I do not know your key".
//!
//! A state machine without I/O and without time: whoever owns the stream pushes bytes in, takes messages out, and keeps
//! the deadlines. What an unknown peer can make it hold is one handshake frame; what a known one can, one record and one
//! message up to the limit in force.

use crate::key::Key;
use crate::limits::{RECORD_BYTES, RECORD_PAYLOAD_BYTES, TAG_BYTES};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Mixed into the handshake, so that a key used elsewhere with the same pattern does not open this service.
const PROLOGUE: &[u8] = b"n2n 1";

/// Bytes of the length in front of a record.
const LENGTH_BYTES: usize = 2;

/// Bytes of a handshake message: an ephemeral key and the tag of an empty payload. The same in both directions.
const HANDSHAKE_BYTES: usize = 32 + TAG_BYTES;

/// Bytes of a handshake frame, both directions.
pub const HANDSHAKE_FRAME_BYTES: usize = LENGTH_BYTES + HANDSHAKE_BYTES;

/// What a responder sends instead of its handshake frame when the key is not its own.
pub const REJECTION: [u8; LENGTH_BYTES] = [0; LENGTH_BYTES];

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
    /// The stream does not begin as this protocol does.
    #[error("not a peer of this protocol: a handshake of {0} bytes, {HANDSHAKE_BYTES} expected")]
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
fn crypto(error: snow::Error) -> ChannelError {
    match error {
        snow::Error::Rng => ChannelError::Crypto("no random numbers from the system"),
        snow::Error::State(_) => ChannelError::Crypto("out of turn"),
        _ => ChannelError::Crypto("failed"),
    }
}

/// The system's randomness for ephemeral keys; all else is the library's own.
struct Resolver;

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        getrandom::fill(bytes).map_err(|_| snow::Error::Rng)
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn builder(key: &Key) -> Result<Builder<'_>, ChannelError> {
    let pattern: NoiseParams = PATTERN.parse().map_err(crypto)?;
    Builder::with_resolver(pattern, Box::new(Resolver))
        .psk(0, key.bytes())
        .and_then(|b| b.prologue(PROLOGUE))
        .map_err(crypto)
}

/// The initiator (host) between its handshake frame and the answer.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Begin: the state, and the frame to send.
    ///
    /// # Errors
    /// [`ChannelError::Crypto`].
    pub fn begin(key: &Key) -> Result<(Self, Vec<u8>), ChannelError> {
        let mut state = builder(key)?.build_initiator().map_err(crypto)?;
        let frame = handshake_frame(&mut state)?;
        Ok((Self(state), frame))
    }

    /// What the first [`REJECTION`]`.len()` bytes of the answer say.
    ///
    /// # Errors
    /// [`ChannelError::KeyRefused`], [`ChannelError::NotAPeer`].
    pub fn check_length(length: [u8; LENGTH_BYTES]) -> Result<(), ChannelError> {
        match usize::from(u16::from_be_bytes(length)) {
            HANDSHAKE_BYTES => Ok(()),
            0 => Err(ChannelError::KeyRefused),
            bytes => Err(ChannelError::NotAPeer(bytes)),
        }
    }

    /// Finish with the answer's frame.
    ///
    /// # Errors
    /// As [`Self::check_length`], and [`ChannelError::WrongKey`].
    pub fn finish(mut self, frame: &[u8], limit: usize) -> Result<Channel, ChannelError> {
        read_handshake(&mut self.0, frame)?;
        Channel::new(self.0, limit)
    }
}

/// The responder's (agent's) whole handshake: the channel, and the frame to send.
///
/// # Errors
/// [`ChannelError::WrongKey`] (answer [`REJECTION`]), [`ChannelError::NotAPeer`].
pub fn respond(key: &Key, frame: &[u8], limit: usize) -> Result<(Channel, Vec<u8>), ChannelError> {
    let mut state = builder(key)?.build_responder().map_err(crypto)?;
    read_handshake(&mut state, frame)?;
    let answer = handshake_frame(&mut state)?;
    Ok((Channel::new(state, limit)?, answer))
}

fn handshake_frame(state: &mut HandshakeState) -> Result<Vec<u8>, ChannelError> {
    let mut frame = vec![0; HANDSHAKE_FRAME_BYTES];
    let (length, body) = frame.split_at_mut(LENGTH_BYTES);
    let written = state.write_message(&[], body).map_err(crypto)?;
    length.copy_from_slice(&(written as u16).to_be_bytes());
    Ok(frame)
}

fn read_handshake(state: &mut HandshakeState, frame: &[u8]) -> Result<(), ChannelError> {
    let (&length, body) = frame.split_first_chunk().ok_or(ChannelError::ShortHandshake(frame.len()))?;
    Initiator::check_length(length)?;
    if body.len() != HANDSHAKE_BYTES {
        return Err(ChannelError::ShortHandshake(frame.len()));
    }
    // Anything that fails to open here was made with another key, or by nobody who knows one.
    state.read_message(body, &mut [0; HANDSHAKE_BYTES]).map(drop).map_err(|_| ChannelError::WrongKey)
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
    fn new(handshake: HandshakeState, limit: usize) -> Result<Self, ChannelError> {
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
    use crate::limits::REQUEST_BYTES;
    use proptest::prelude::*;

    fn key(byte: u8) -> Key {
        hex::encode([byte; 32]).parse().unwrap()
    }

    fn pair(limit: usize) -> (Channel, Channel) {
        let (initiator, frame) = Initiator::begin(&key(1)).unwrap();
        assert_eq!(frame.len(), HANDSHAKE_FRAME_BYTES);
        let (agent, answer) = respond(&key(1), &frame, limit).unwrap();
        assert_eq!(answer.len(), HANDSHAKE_FRAME_BYTES);
        (initiator.finish(&answer, limit).unwrap(), agent)
    }

    #[test]
    fn another_key_is_named_on_both_sides() {
        let (_, frame) = Initiator::begin(&key(2)).unwrap();
        assert_eq!(respond(&key(1), &frame, 10).err(), Some(ChannelError::WrongKey));
        let (initiator, _) = Initiator::begin(&key(2)).unwrap();
        assert_eq!(initiator.finish(&REJECTION, 10).err(), Some(ChannelError::KeyRefused));
        // A man in the middle who answers with a frame of his own.
        let (initiator, _) = Initiator::begin(&key(2)).unwrap();
        let (_, other) = Initiator::begin(&key(2)).unwrap();
        let (_, answer) = respond(&key(2), &other, 10).unwrap();
        assert_eq!(initiator.finish(&answer, 10).err(), Some(ChannelError::WrongKey));
    }

    #[test]
    fn strangers_are_named() {
        let mut web = b"GET / HTTP/1.1\r\nHost: board.local\r\nAccept: */*\r\n\r\n".to_vec();
        web.truncate(HANDSHAKE_FRAME_BYTES);
        assert_eq!(respond(&key(1), &web, 10).err(), Some(ChannelError::NotAPeer(0x4745)));
        assert_eq!(respond(&key(1), &[0, 48, 1], 10).err(), Some(ChannelError::ShortHandshake(3)));
        assert_eq!(respond(&key(1), &[], 10).err(), Some(ChannelError::ShortHandshake(0)));
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
            prop_assert!(respond(&key(1), &bytes, 100).is_err());
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
