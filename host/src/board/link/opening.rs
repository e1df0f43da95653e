//! The host's part of a connection's beginning: opening, challenge, handshake; and the question to an agent that does not
//! understand the opening, because it speaks protocol 1.

use super::super::patience::Patience;
use super::fault::LinkError;
use super::messages::Link;
use super::wire::Wire;
use n2n_protocol::channel::{Channel, ChannelError};
use n2n_protocol::handshake::{
    CHALLENGE_FRAME_BYTES, FRAME_BYTES, Initiator, Prologue, check_challenge, opening,
};
use n2n_protocol::key::Key;
use n2n_protocol::{Call, Failure, Hello, Reply, Request, SCHEMA_HASH, VERSION, codec, limits};
use std::io;
use std::time::{Duration, Instant};

/// Openings before an agent that closes them counts as crowded, or as none at all.
const TRIES: u32 = 3;

/// Pause between two of them, doubled each time.
const PAUSE: Duration = Duration::from_millis(100);

/// Request id of a hello in protocol 1's form.
const REQUEST: u32 = 1;

/// Why one connection did not open.
enum Cut {
    /// The agent closed it; whether a challenge had come, which no agent of protocol 1 sends.
    Closed { challenged: bool },
    /// A fault that another connection would not mend.
    Fault(LinkError),
}

impl From<LinkError> for Cut {
    fn from(fault: LinkError) -> Self {
        Self::Fault(fault)
    }
}

impl From<ChannelError> for Cut {
    fn from(fault: ChannelError) -> Self {
        Self::Fault(fault.into())
    }
}

/// Shake hands over a wire that `connect` makes. It makes another one when an agent that strangers crowd closed the first,
/// or one that is too old to be understood: such an agent is asked in its own form for its words.
///
/// # Errors
/// [`LinkError`].
pub(in super::super) fn open(
    mut connect: impl FnMut() -> Result<Wire, LinkError>,
    key: &Key,
    patience: &Patience,
) -> Result<Link, LinkError> {
    let mut pause = PAUSE;
    let mut modern = false;
    for tried in 1..=TRIES {
        let mut wire = connect()?;
        match shake_hands(&mut wire, key, Instant::now() + patience.handshake) {
            Ok(channel) => return Ok(Link::over(wire, channel, patience)),
            Err(Cut::Closed { challenged }) => modern |= challenged,
            Err(Cut::Fault(fault)) => return Err(fault),
        }
        // An agent that sent no challenge either speaks protocol 1 or was crowded. The question tells which.
        if tried == 1 && !modern && ask_in_the_old_form(connect()?, key, patience)? {
            modern = true;
        }
        if tried < TRIES {
            std::thread::sleep(pause);
            pause *= 2;
        }
    }
    Err(if modern { LinkError::Crowded(TRIES) } else { LinkError::Closed })
}

fn shake_hands(wire: &mut Wire, key: &Key, deadline: Instant) -> Result<Channel, Cut> {
    let opening = opening(key)?;
    let mut challenge = [0; CHALLENGE_FRAME_BYTES];
    let begun = wire.write(&opening, deadline, "the handshake").and_then(|()| {
        let (length, random) = challenge.split_at_mut(2);
        read_exact(wire, length, deadline)?;
        if let [high, low] = *length {
            check_challenge([high, low])?;
        }
        read_exact(wire, random, deadline)
    });
    if closed(&begun) {
        return Err(Cut::Closed { challenged: false });
    }
    begun?;
    let channel = exchange(wire, key, &Prologue::new(&opening, &challenge)?, deadline);
    if closed(&channel) { Err(Cut::Closed { challenged: true }) } else { Ok(channel?) }
}

/// The two messages of the handshake itself.
fn exchange(
    wire: &mut Wire,
    key: &Key,
    prologue: &Prologue,
    deadline: Instant,
) -> Result<Channel, LinkError> {
    let wrong_key = |error| match error {
        ChannelError::WrongKey | ChannelError::KeyRefused => LinkError::Key { error, ours: key.id() },
        error => error.into(),
    };
    let (initiator, frame) = Initiator::begin(key, prologue)?;
    wire.write(&frame, deadline, "the handshake")?;
    let mut answer = [0; FRAME_BYTES];
    let (length, body) = answer.split_at_mut(2);
    read_exact(wire, length, deadline)?;
    if let [high, low] = *length {
        Initiator::check_length([high, low]).map_err(wrong_key)?;
    }
    read_exact(wire, body, deadline)?;
    initiator.finish(&answer, limits::REPLY_BYTES).map_err(wrong_key)
}

/// Greet as protocol 1 does, for the agent's words alone: whatever it answers, no session comes of it. Returns whether it
/// is an agent of our own version, which was crowded.
///
/// # Errors
/// [`LinkError::OldAgent`] with the words of an agent of protocol 1; [`LinkError::Key`].
fn ask_in_the_old_form(mut wire: Wire, key: &Key, patience: &Patience) -> Result<bool, LinkError> {
    let deadline = Instant::now() + patience.handshake;
    let channel = exchange(&mut wire, key, &Prologue::old(), deadline);
    if closed(&channel) {
        return Ok(false);
    }
    let mut link = Link::over(wire, channel?, patience);
    let hello = Hello { version: VERSION, schema: SCHEMA_HASH, client: "n2n".to_owned() };
    let request = Request { request_id: REQUEST, call: Call::Hello(hello) };
    let hello =
        codec::encode(&request, limits::HELLO_BYTES).map_err(|error| io::Error::other(error.to_string()))?;
    let answer = link.send(&hello).and_then(|()| link.receive(deadline));
    if closed(&answer) {
        return Ok(false);
    }
    let old = format!("it speaks protocol 1, and this program {}.{}", VERSION.major, VERSION.minor);
    match answer?.map(|answer| codec::decode::<Reply>(&answer, limits::REPLY_BYTES)) {
        Some(Ok(Reply { outcome: Err(Failure::Refused(words)), .. })) => {
            Err(LinkError::OldAgent(format!("{old}; it says: {words}")))
        }
        // Only an agent that knows the old form as the old one answers a hello of its own version so.
        Some(Ok(Reply { outcome: Err(Failure::Busy { .. }), .. })) => Ok(true),
        _ => Err(LinkError::OldAgent(old)),
    }
}

/// Whether the agent closed the connection.
fn closed<T>(outcome: &Result<T, LinkError>) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let Err(LinkError::Lost(error)) = outcome else { return false };
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn read_exact(wire: &mut Wire, mut buffer: &mut [u8], deadline: Instant) -> Result<(), LinkError> {
    while !buffer.is_empty() {
        let read = wire.read(buffer, deadline)?.ok_or(LinkError::Late("the handshake"))?;
        buffer = buffer.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}
