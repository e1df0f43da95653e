//! How a connection begins: opening, challenge, and the two handshake messages of Noise
//! `NNpsk0_25519_ChaChaPoly_BLAKE2s`.
//!
//! ```text
//! host  -> agent   opening    u16 0x4E32 | u16 major version | id of the key | 16 random bytes | proof, 16 | 10 bytes zero
//!                             (big endian; 50 bytes)
//! agent -> host    challenge  u16 16     | 16 random bytes
//! host  -> agent   first      u16 48     | ephemeral key, tag
//! agent -> host    second     u16 48     | ephemeral key, tag      or u16 0: "none of my keys made that"
//! ```
//! Opening and challenge are the handshake's prologue. A recorded first message fails its tag on every later
//! connection, because the challenge is another one; and it fails before any key exchange: the tag of `psk, e` needs
//! hashes only. [`Responder::verify`] therefore costs microseconds, and [`Responder::answer`], which has the key
//! exchange, is reached by holders of a key alone. The id of the key spares an agent with many keys from trying all. The
//! proof is a hash of the key and of all before it: whoever recorded an opening can repeat it, and nobody without a key can
//! make a new one. [`proves`] tells an agent whose wait to end first when it has more connections than places.
//!
//! Protocol 1 had no opening: its host sends the first message at once. Both are 50 bytes long, so that each side knows
//! the other's form from the first frame: an agent of protocol 1 takes the opening for a handshake of impossible length
//! and closes. The old form is kept for one purpose: to tell an old peer in words that it is too old. Opening,
//! challenge, handshake, [`crate::Hello`] and [`crate::Failure::Refused`] keep their bytes in every later major version.
//!
//! No I/O and no time: the owner of the stream keeps the deadlines.

use crate::channel::{Channel, ChannelError, crypto};
use crate::key::{Key, KeyId};
use crate::limits::{HANDSHAKE_FRAME_BYTES, LENGTH_BYTES};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use sha2::{Digest as _, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// First part of the prologue: a key used elsewhere with the same pattern does not open this service.
const PURPOSE: &[u8] = b"n2n 2";

/// The whole prologue of protocol 1.
const OLD_PURPOSE: &[u8] = b"n2n 1";

/// Bytes of a handshake message: an ephemeral key and the tag of an empty payload. The same in both directions.
const MESSAGE_BYTES: usize = HANDSHAKE_FRAME_BYTES - LENGTH_BYTES;

/// Bytes of the first frame of a connection, opening or handshake, and of the responder's handshake frame.
pub const FRAME_BYTES: usize = HANDSHAKE_FRAME_BYTES;

/// First two bytes of an opening ("N2"): no length that a handshake can have.
const OPENING: u16 = 0x4E32;

/// Random bytes of an opening, and of a challenge: 128 bits never repeat.
pub const NONCE_BYTES: usize = 16;

/// Where an opening's random bytes end, and its proof.
const NONCE: core::ops::Range<usize> = 8..8 + NONCE_BYTES;
const PROOF: core::ops::Range<usize> = NONCE.end..NONCE.end + 16;

/// What is hashed in front of a key for the proof in an opening.
const PROOF_PURPOSE: &[u8] = b"n2n opening 2\0";

/// Bytes of the challenge's frame.
pub const CHALLENGE_FRAME_BYTES: usize = LENGTH_BYTES + NONCE_BYTES;

/// What a responder sends instead of its handshake frame when none of its keys made the first one.
pub const REJECTION: [u8; LENGTH_BYTES] = [0; LENGTH_BYTES];

/// The first frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstFrame {
    /// An opening; the peer waits for a challenge.
    Opening {
        /// Major version of the peer's protocol, for logs: nothing depends on it.
        major: u16,
        /// Which key the peer will use.
        key: KeyId,
        /// Its random bytes.
        nonce: [u8; NONCE_BYTES],
    },
    /// A handshake message at once, as hosts of protocol 1 send it.
    OldHandshake,
}

impl FirstFrame {
    /// What a frame is, by its first two bytes.
    ///
    /// # Errors
    /// [`ChannelError::NotAPeer`] for anything else.
    pub fn of(frame: &[u8; FRAME_BYTES]) -> Result<Self, ChannelError> {
        let [a, b, c, d, e, f, g, h, ..] = *frame;
        match u16::from_be_bytes([a, b]) {
            OPENING => {
                let mut nonce = [0; NONCE_BYTES];
                nonce.copy_from_slice(&frame[NONCE]);
                Ok(Self::Opening { major: u16::from_be_bytes([c, d]), key: KeyId([e, f, g, h]), nonce })
            }
            length if usize::from(length) == MESSAGE_BYTES => Ok(Self::OldHandshake),
            length => Err(ChannelError::NotAPeer(usize::from(length))),
        }
    }
}

/// A fresh opening frame of an initiator that will use `key`.
///
/// # Errors
/// [`ChannelError::Crypto`] when the system has no random numbers.
pub fn opening(key: &Key) -> Result<[u8; FRAME_BYTES], ChannelError> {
    let mut frame = [0; FRAME_BYTES];
    let head = OPENING.to_be_bytes().into_iter().chain(crate::VERSION.major.to_be_bytes()).chain(key.id().0);
    for (byte, value) in frame.iter_mut().zip(head) {
        *byte = value;
    }
    getrandom::fill(&mut frame[NONCE]).map_err(|_| crypto(snow::Error::Rng))?;
    let proof = proof(key, &frame);
    frame[PROOF].copy_from_slice(&proof);
    Ok(frame)
}

/// Whether a holder of `key` made this opening, now or earlier: a recorded one has the same random bytes.
pub fn proves(opening: &[u8; FRAME_BYTES], key: &Key) -> bool {
    // In constant time.
    let differences = opening[PROOF].iter().zip(proof(key, opening)).fold(0, |sum, (a, b)| sum | (a ^ b));
    differences == 0
}

/// Hash of the key and of an opening up to its proof. All have one length, so that no hash can be continued.
fn proof(key: &Key, opening: &[u8; FRAME_BYTES]) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(PROOF_PURPOSE)
        .chain_update(key.bytes())
        .chain_update(&opening[..PROOF.start])
        .finalize();
    let mut proof = [0; 16];
    proof.iter_mut().zip(hash).for_each(|(byte, value)| *byte = value);
    proof
}

/// A responder's fresh challenge, as its frame.
///
/// # Errors
/// [`ChannelError::Crypto`] when the system has no random numbers.
pub fn challenge() -> Result<[u8; CHALLENGE_FRAME_BYTES], ChannelError> {
    let mut frame = [0; CHALLENGE_FRAME_BYTES];
    let (length, random) = frame.split_at_mut(LENGTH_BYTES);
    length.copy_from_slice(&(NONCE_BYTES as u16).to_be_bytes());
    getrandom::fill(random).map_err(|_| crypto(snow::Error::Rng))?;
    Ok(frame)
}

/// What both sides have seen before the handshake; it goes into the handshake, so that nobody in between can change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prologue(Vec<u8>);

impl Prologue {
    /// Of a connection with an opening and a challenge.
    ///
    /// # Errors
    /// [`ChannelError::NotAPeer`] for a challenge that is none.
    pub fn new(
        opening: &[u8; FRAME_BYTES],
        challenge: &[u8; CHALLENGE_FRAME_BYTES],
    ) -> Result<Self, ChannelError> {
        let (length, _) = challenge.split_at(LENGTH_BYTES);
        check_length(length, NONCE_BYTES)?;
        Ok(Self([PURPOSE, opening, challenge].concat()))
    }

    /// Of a connection in protocol 1's form.
    pub fn old() -> Self {
        Self(OLD_PURPOSE.to_vec())
    }
}

/// Whether the first two bytes of a challenge's frame are in order; so a peer of another kind is known early.
///
/// # Errors
/// [`ChannelError::NotAPeer`].
pub fn check_challenge(length: [u8; LENGTH_BYTES]) -> Result<(), ChannelError> {
    check_length(&length, NONCE_BYTES)
}

/// The initiator (host) between its handshake frame and the answer.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Begin: the state, and the frame to send.
    ///
    /// # Errors
    /// [`ChannelError::Crypto`].
    pub fn begin(key: &Key, prologue: &Prologue) -> Result<(Self, Vec<u8>), ChannelError> {
        let mut state = builder(key, prologue)?.build_initiator().map_err(crypto)?;
        let frame = write_frame(&mut state)?;
        Ok((Self(state), frame))
    }

    /// What the first [`REJECTION`]`.len()` bytes of the answer say.
    ///
    /// # Errors
    /// [`ChannelError::KeyRefused`], [`ChannelError::NotAPeer`].
    pub fn check_length(length: [u8; LENGTH_BYTES]) -> Result<(), ChannelError> {
        if length == REJECTION { Err(ChannelError::KeyRefused) } else { check_length(&length, MESSAGE_BYTES) }
    }

    /// Finish with the answer's frame. The channel takes messages of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::check_length`]; [`ChannelError::WrongKey`] for a frame made without the key;
    /// [`ChannelError::ShortHandshake`] for one of another length.
    pub fn finish(mut self, frame: &[u8], limit: usize) -> Result<Channel, ChannelError> {
        if frame.starts_with(&REJECTION) {
            return Err(ChannelError::KeyRefused);
        }
        read_frame(&mut self.0, frame)?;
        Channel::new(self.0, limit)
    }
}

/// The responder (agent) after a first message that one of its keys made.
pub struct Responder(HandshakeState);

impl Responder {
    /// Find the key that made the first message: its place in `keys`, and the state that answers. Hashes and a cipher
    /// only, no key exchange.
    ///
    /// # Errors
    /// [`ChannelError::WrongKey`] if none did (answer [`REJECTION`]); [`ChannelError::NotAPeer`] or
    /// [`ChannelError::ShortHandshake`] for a frame that is none.
    pub fn verify<'k>(
        keys: impl IntoIterator<Item = &'k Key>,
        prologue: &Prologue,
        frame: &[u8],
    ) -> Result<(usize, Self), ChannelError> {
        for (index, key) in keys.into_iter().enumerate() {
            let mut state = builder(key, prologue)?.build_responder().map_err(crypto)?;
            match read_frame(&mut state, frame) {
                Ok(()) => return Ok((index, Self(state))),
                Err(ChannelError::WrongKey) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ChannelError::WrongKey)
    }

    /// Answer: the channel, which takes messages of at most `limit` bytes, and the frame to send. This is the key
    /// exchange.
    ///
    /// # Errors
    /// [`ChannelError::Crypto`].
    pub fn answer(mut self, limit: usize) -> Result<(Channel, Vec<u8>), ChannelError> {
        let answer = write_frame(&mut self.0)?;
        Ok((Channel::new(self.0, limit)?, answer))
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
        let dh = DefaultResolver.resolve_dh(choice);
        #[cfg(test)]
        let dh = dh.map(tests::counted);
        dh
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn builder<'k>(key: &'k Key, prologue: &'k Prologue) -> Result<Builder<'k>, ChannelError> {
    let pattern: NoiseParams = PATTERN.parse().map_err(crypto)?;
    Builder::with_resolver(pattern, Box::new(Resolver))
        .psk(0, key.bytes())
        .and_then(|b| b.prologue(&prologue.0))
        .map_err(crypto)
}

fn write_frame(state: &mut HandshakeState) -> Result<Vec<u8>, ChannelError> {
    let mut frame = vec![0; FRAME_BYTES];
    let (length, body) = frame.split_at_mut(LENGTH_BYTES);
    let written = state.write_message(&[], body).map_err(crypto)?;
    length.copy_from_slice(&(written as u16).to_be_bytes());
    Ok(frame)
}

fn read_frame(state: &mut HandshakeState, frame: &[u8]) -> Result<(), ChannelError> {
    let (length, body) =
        frame.split_at_checked(LENGTH_BYTES).ok_or(ChannelError::ShortHandshake(frame.len()))?;
    check_length(length, MESSAGE_BYTES)?;
    if body.len() != MESSAGE_BYTES {
        return Err(ChannelError::ShortHandshake(frame.len()));
    }
    // Anything that fails to open here was made with another key, for another connection, or by nobody who knows one.
    state.read_message(body, &mut [0; MESSAGE_BYTES]).map(drop).map_err(|_| ChannelError::WrongKey)
}

fn check_length(length: &[u8], expected: usize) -> Result<(), ChannelError> {
    let bytes = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if bytes == expected { Ok(()) } else { Err(ChannelError::NotAPeer(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use proptest::prelude::*;

    std::thread_local! {
        /// Key exchanges of this thread, which is this test's own.
        static EXCHANGES: Cell<usize> = const { Cell::new(0) };
    }

    fn count_exchange() {
        EXCHANGES.set(EXCHANGES.get() + 1);
    }

    /// A key exchange that is counted.
    struct Counted(Box<dyn Dh>);

    pub(super) fn counted(dh: Box<dyn Dh>) -> Box<dyn Dh> {
        Box::new(Counted(dh))
    }

    impl Dh for Counted {
        fn name(&self) -> &'static str {
            self.0.name()
        }

        fn pub_len(&self) -> usize {
            self.0.pub_len()
        }

        fn priv_len(&self) -> usize {
            self.0.priv_len()
        }

        fn set(&mut self, private: &[u8]) {
            count_exchange();
            self.0.set(private);
        }

        fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
            count_exchange();
            self.0.generate(random)
        }

        fn pubkey(&self) -> &[u8] {
            self.0.pubkey()
        }

        fn privkey(&self) -> &[u8] {
            self.0.privkey()
        }

        fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
            count_exchange();
            self.0.dh(public, out)
        }
    }

    fn key(byte: u8) -> Key {
        hex::encode([byte; 32]).parse().unwrap()
    }

    fn prologue() -> Prologue {
        Prologue::new(&opening(&key(1)).unwrap(), &challenge().unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_of_opening_and_challenge_are_pinned() {
        let (opening, id) = (opening(&key(1)).unwrap(), key(1).id());
        assert_eq!(opening[..4], [0x4E, 0x32, 0, crate::VERSION.major as u8]);
        assert_eq!((opening.len(), &opening[4..8], &opening[40..]), (50, &id.0[..], &[0; 10][..]));
        let (major, nonce) = (crate::VERSION.major, *opening[8..].first_chunk().unwrap());
        assert_eq!(FirstFrame::of(&opening), Ok(FirstFrame::Opening { major, key: id, nonce }));
        let challenge = challenge().unwrap();
        assert_eq!((challenge.len(), &challenge[..2]), (18, &[0, 16][..]));
        assert!(check_challenge([0, 16]).is_ok());
        // What an agent of protocol 1 makes of an opening: a frame of its handshake's length that is no handshake.
        assert_eq!(read_frame_of_protocol_1(&opening), Err(ChannelError::NotAPeer(0x4E32)));
        let (_, old) = Initiator::begin(&key(1), &Prologue::old()).unwrap();
        assert_eq!(FirstFrame::of(old.first_chunk().unwrap()), Ok(FirstFrame::OldHandshake));
    }

    fn read_frame_of_protocol_1(frame: &[u8]) -> Result<(), ChannelError> {
        Responder::verify([&key(1)], &Prologue::old(), frame).map(drop)
    }

    #[test]
    fn an_opening_proves_its_key_and_no_change_of_it_does() {
        let [one, other] = [opening(&key(1)).unwrap(), opening(&key(1)).unwrap()];
        assert!(proves(&one, &key(1)) && proves(&other, &key(1)) && one[8..24] != other[8..24]);
        assert!(!proves(&one, &key(2)));
        for place in 0..40 {
            let mut changed = one;
            changed[place] ^= 1;
            assert!(!proves(&changed, &key(1)), "byte {place}");
        }
        // SHA-256 of the purpose, the key and the first 24 bytes, by another implementation (Python's hashlib).
        let mut pinned = [0; FRAME_BYTES];
        pinned[..4].copy_from_slice(&[0x4E, 0x32, 0, 2]);
        pinned[4..8].copy_from_slice(&key(1).id().0);
        pinned[8..24].copy_from_slice(&[7; 16]);
        pinned[24..40].copy_from_slice(&hex::decode("4e89a731ce7da246ce85a707104704fc").unwrap());
        assert!(proves(&pinned, &key(1)));
    }

    #[test]
    fn each_of_several_keys_opens_a_channel_and_is_told_apart() {
        let keys = [key(1), key(2), key(3)];
        for (place, key) in keys.iter().enumerate() {
            let prologue = prologue();
            let (initiator, frame) = Initiator::begin(key, &prologue).unwrap();
            assert_eq!(frame.len(), FRAME_BYTES);
            let (found, responder) = Responder::verify(&keys, &prologue, &frame).unwrap();
            assert_eq!(found, place);
            let (mut agent, answer) = responder.answer(100).unwrap();
            let mut host = initiator.finish(&answer, 100).unwrap();
            let mut stream = Vec::new();
            host.seal(b"hello", &mut stream).unwrap();
            agent.push(&stream);
            assert_eq!(agent.pop(), Ok(Some(b"hello".to_vec())));
        }
    }

    #[test]
    fn another_key_is_named_on_both_sides() {
        let prologue = prologue();
        let (_, frame) = Initiator::begin(&key(2), &prologue).unwrap();
        assert_eq!(Responder::verify([&key(1)], &prologue, &frame).err(), Some(ChannelError::WrongKey));
        let (initiator, _) = Initiator::begin(&key(2), &prologue).unwrap();
        assert_eq!(initiator.finish(&REJECTION, 10).err(), Some(ChannelError::KeyRefused));
        // A man in the middle who answers with a frame of another connection.
        let (initiator, _) = Initiator::begin(&key(2), &prologue).unwrap();
        let (_, other) = Initiator::begin(&key(2), &prologue).unwrap();
        let (_, responder) = Responder::verify([&key(2)], &prologue, &other).unwrap();
        let (_, answer) = responder.answer(10).unwrap();
        assert_eq!(initiator.finish(&answer, 10).err(), Some(ChannelError::WrongKey));
    }

    #[test]
    fn a_recorded_first_message_fails_on_the_next_connection_before_any_key_exchange() {
        let keys: Vec<Key> = (1..=32).map(key).collect();
        let first = prologue();
        let (_, recorded) = Initiator::begin(&keys[31], &first).unwrap();
        let before = EXCHANGES.get();
        let replayed = Responder::verify(&keys, &prologue(), &recorded);
        assert_eq!(replayed.err(), Some(ChannelError::WrongKey));
        let (_, genuine) = Responder::verify(&keys, &first, &recorded).unwrap();
        assert_eq!(EXCHANGES.get(), before, "hashes only until here");
        genuine.answer(10).unwrap();
        assert!(EXCHANGES.get() > before, "the count counts");
    }

    #[test]
    fn an_opening_that_was_changed_on_the_way_fails_the_handshake() {
        let (sent, challenge) = (opening(&key(1)).unwrap(), challenge().unwrap());
        let mut seen = sent;
        seen[3] ^= 1;
        let (_, frame) = Initiator::begin(&key(1), &Prologue::new(&sent, &challenge).unwrap()).unwrap();
        let other = Prologue::new(&seen, &challenge).unwrap();
        assert_eq!(Responder::verify([&key(1)], &other, &frame).err(), Some(ChannelError::WrongKey));
        // Nor does the old form pass for the new one.
        assert_eq!(
            Responder::verify([&key(1)], &Prologue::old(), &frame).err(),
            Some(ChannelError::WrongKey)
        );
    }

    #[test]
    fn strangers_are_named() {
        let web = *b"GET / HTTP/1.1\r\nHost: board.local\r\nAccept: */*\r\n\r\n";
        assert_eq!(FirstFrame::of(&web), Err(ChannelError::NotAPeer(0x4745)));
        let verify = |frame: &[u8]| Responder::verify([&key(1)], &prologue(), frame).err();
        assert_eq!(verify(&web), Some(ChannelError::NotAPeer(0x4745)));
        assert_eq!(verify(&[0, 48, 1]), Some(ChannelError::ShortHandshake(3)));
        assert_eq!(verify(&[]), Some(ChannelError::ShortHandshake(0)));
        let mut challenge = challenge().unwrap();
        challenge[1] = 17;
        assert_eq!(Prologue::new(&opening(&key(1)).unwrap(), &challenge), Err(ChannelError::NotAPeer(17)));
    }

    proptest! {
        #[test]
        fn arbitrary_frames_open_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(Responder::verify([&key(1)], &prologue(), &bytes).is_err());
            let (initiator, _) = Initiator::begin(&key(1), &prologue()).unwrap();
            prop_assert!(initiator.finish(&bytes, 100).is_err());
        }
    }
}
