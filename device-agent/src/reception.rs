//! The way of a connection from its first byte to a session: opening, challenge, first message, hello, a place.
//!
//! Up to the first message that a key made, it holds a stranger's place, costs some microseconds of hashing, and can be
//! driven out. A session's place is taken only after a hello that the channel authenticated. Nothing here knows verbs
//! other than hello.

use crate::deadlines::Deadlines;
use crate::handler::Origin;
use crate::key::NamedKey;
use crate::key::watch::Keys;
use crate::link::Link;
use crate::places::hosts::Crowd;
use crate::places::recent::Recent;
use crate::places::strangers::Stage;
use crate::room::{HostPlace, Room, StrangerPlace};
use crate::tally::Turned;
use n2n_protocol::channel::{Channel, ChannelError};
use n2n_protocol::handshake::{
    FRAME_BYTES, FirstFrame, NONCE_BYTES, Prologue, REJECTION, Responder, challenge, proves,
};
use n2n_protocol::key::KeyId;
use n2n_protocol::text::printable;
use n2n_protocol::{Call, Failure, Hello, Request, codec, limits, version};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Between two hosts of protocol 1 that are told in words that they are too old, over all addresses. A recorded first
/// message of theirs can be repeated and costs a key exchange each time: so often, and no more.
const OLD_HOSTS_EVERY: Duration = Duration::from_secs(2);

/// Openings that are remembered, 16 bytes each: whoever has recorded more can drive out hosts, as an attacker on the way
/// could by cutting.
const OPENINGS: usize = 4096;

/// Lets connections in; all of them share one.
#[derive(Debug)]
pub(crate) struct Reception {
    /// The keys in force.
    pub(crate) keys: Keys,
    /// The places.
    pub(crate) room: Room,
    /// Openings of holders of keys: a recorded one proves nothing again.
    openings: Mutex<Recent>,
    /// When the last host of protocol 1 was answered.
    last_old: Mutex<Option<Instant>>,
}

/// A host that has greeted, and its place.
pub(crate) struct Greeted<S> {
    /// The way to it.
    pub(crate) link: Link<S>,
    /// Number of its hello, for the answer.
    pub(crate) request_id: u32,
    /// What it calls itself.
    pub(crate) client: String,
    /// What we know it by.
    pub(crate) origin: Origin,
    /// The key it holds.
    pub(crate) key: NamedKey,
    /// Its place.
    pub(crate) place: HostPlace,
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    /// A stranger, or somebody that cannot be told from one.
    Stranger(Turned),
    /// A host with a key, which was told why; the log has its line.
    Host,
}

impl From<Turned> for Away {
    fn from(turned: Turned) -> Self {
        Self::Stranger(turned)
    }
}

/// A connection whose first message one of our keys made.
struct Known {
    channel: Channel,
    key: NamedKey,
    /// Whether it opened as protocol 1 does: then the message may be a repeated one.
    old: bool,
}

impl Reception {
    pub(crate) fn new(keys: Keys, room: Room) -> Self {
        Self { keys, room, openings: Mutex::new(Recent::new(OPENINGS)), last_old: Mutex::default() }
    }

    /// Receive a connection. What was said to a host that is sent away has been written when this returns.
    ///
    /// # Errors
    /// Why it was turned away.
    pub(crate) async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        peer: &str,
        deadlines: &Deadlines,
        place: &StrangerPlace,
    ) -> Result<Greeted<S>, Away> {
        let known = timeout(deadlines.handshake, self.shake_hands(&mut stream, place)).await;
        let known = known.unwrap_or(Err(Turned::Silent))?;
        let link = Link::new(stream, known.channel, deadlines.write);
        let (key, old) = (known.key, known.old);
        let greeted = timeout(deadlines.greeting, self.greet(link, peer, key, old)).await;
        greeted.unwrap_or(Err(Turned::BadGreeting.into()))
    }

    /// The agent's part of the handshake.
    async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        place: &StrangerPlace,
    ) -> Result<Known, Turned> {
        let mut first = [0; FRAME_BYTES];
        stream.read_exact(&mut first).await.map_err(|_| Turned::Left)?;
        match FirstFrame::of(&first).map_err(|_| Turned::NotAPeer)? {
            FirstFrame::Opening { key, nonce, .. } => {
                place.advance(self.stage(&first, key, nonce));
                let challenge = challenge().map_err(|_| Turned::NotAccepted)?;
                let prologue = Prologue::new(&first, &challenge).map_err(|_| Turned::NotAPeer)?;
                stream.write_all(&challenge).await.map_err(|_| Turned::Left)?;
                let mut frame = [0; FRAME_BYTES];
                stream.read_exact(&mut frame).await.map_err(|_| Turned::Left)?;
                let ring = self.keys.borrow().clone();
                let keys = ring.with_id(key);
                let known = answer(stream, &keys, &prologue, &frame, || place.advance(Stage::Known)).await;
                known.map(|(channel, key)| Known { channel, key, old: false })
            }
            FirstFrame::OldHandshake => {
                if !self.may_answer_old(Instant::now()) {
                    return Err(Turned::OldHost);
                }
                let ring = self.keys.borrow().clone();
                let all: Vec<&NamedKey> = ring.all().iter().collect();
                let known = answer(stream, &all, &Prologue::old(), &first, || {}).await;
                known.map(|(channel, key)| Known { channel, key, old: true })
            }
        }
    }

    /// How far an opening brings a connection.
    fn stage(&self, opening: &[u8; FRAME_BYTES], key: KeyId, nonce: [u8; NONCE_BYTES]) -> Stage {
        let ring = self.keys.borrow().clone();
        let proven = ring.with_id(key).iter().any(|held| proves(opening, &held.key));
        let fresh = proven && self.openings.lock().unwrap_or_else(PoisonError::into_inner).is_new(nonce);
        if fresh { Stage::Proven } else { Stage::Opened }
    }

    /// Whether one more host of protocol 1 may be answered now; if so, it counts.
    fn may_answer_old(&self, now: Instant) -> bool {
        let mut last = self.last_old.lock().unwrap_or_else(PoisonError::into_inner);
        let early = last.is_some_and(|last| now.saturating_duration_since(last) < OLD_HOSTS_EVERY);
        if !early {
            *last = Some(now);
        }
        !early
    }

    /// Hello, and a place; or words.
    async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut link: Link<S>,
        peer: &str,
        key: NamedKey,
        old: bool,
    ) -> Result<Greeted<S>, Away> {
        let message = link.receive().await.map_err(|_| Turned::BadGreeting)?;
        // Another version's hello may be longer, or end with fields of its own; its number is readable all the same.
        let request_id = codec::request_id(&message).unwrap_or(0);
        let failure = match hello(&message) {
            Ok(_) if old => driven_out(),
            Ok(hello) => match self.room.sit(&hello.client) {
                Ok(place) => {
                    let origin = Origin { key: key.name.clone(), peer: peer.to_owned() };
                    let client = printable(&hello.client).into_owned();
                    return Ok(Greeted { link, request_id, client, origin, key, place });
                }
                Err(crowd) => crowded(&crowd),
            },
            Err(refusal) => Failure::Refused(refusal),
        };
        let _ = link.reply(request_id, Err(failure.clone())).await;
        let _ = link.close().await;
        if old {
            return Err(Turned::OldHost.into());
        }
        tracing::warn!(%peer, key = %key.name, told = %failure, "a host was turned away");
        Err(Away::Host)
    }
}

/// Find the key of a first message, and answer it. `known` is called between the two: what comes after is paid for.
async fn answer<S: AsyncWrite + Unpin>(
    stream: &mut S,
    keys: &[&NamedKey],
    prologue: &Prologue,
    frame: &[u8],
    known: impl FnOnce(),
) -> Result<(Channel, NamedKey), Turned> {
    let (place, responder) = match Responder::verify(keys.iter().map(|held| &held.key), prologue, frame) {
        Ok(found) => found,
        Err(ChannelError::WrongKey) => {
            let _ = stream.write_all(&REJECTION).await;
            let _ = stream.shutdown().await;
            return Err(Turned::WrongKey);
        }
        Err(_) => return Err(Turned::NotAPeer),
    };
    let key = keys.get(place).copied().ok_or(Turned::WrongKey)?.clone();
    known();
    let (channel, answer) = responder.answer(limits::HELLO_BYTES).map_err(|_| Turned::NotAccepted)?;
    stream.write_all(&answer).await.map_err(|_| Turned::Left)?;
    Ok((channel, key))
}

/// The hello in a first message, or what to tell its sender.
fn hello(message: &[u8]) -> Result<Hello, String> {
    match codec::decode(message, limits::HELLO_BYTES) {
        Ok(Request { call: Call::Hello(hello), .. }) => match version::check(hello.version, hello.schema) {
            Ok(()) => Ok(hello),
            Err(mismatch) => Err(mismatch.to_string()),
        },
        Ok(_) => Err("hello must come first".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// For a host of our version that opened as protocol 1 does: its opening was cut off, and it took us for an old agent.
fn driven_out() -> Failure {
    Failure::Busy { client: "a crowd of strangers".to_owned(), since_s: 0 }
}

/// For a host that finds all places taken.
fn crowded(crowd: &Crowd) -> Failure {
    let Crowd { places, client, for_time } = crowd;
    let client = format!("{client}, one of {places} hosts that take all places,");
    Failure::Busy { client, since_s: u32::try_from(for_time.as_secs()).unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyRing;
    use crate::key::watch::fixed;

    #[test]
    fn old_hosts_are_answered_at_a_bounded_rate() {
        let reception = Reception::new(fixed(KeyRing::default()), Room::new(1, 1, Duration::ZERO));
        let start = Instant::now();
        assert!(reception.may_answer_old(start));
        assert!((0..1000).all(|_| !reception.may_answer_old(start + OLD_HOSTS_EVERY / 2)));
        assert!(reception.may_answer_old(start + OLD_HOSTS_EVERY));
    }
}
