//! Both sides of the protocol by hand, without the care of the real ones: for peers that are strange, old or hostile.

use n2n_protocol::channel::{Channel, ChannelError};
use n2n_protocol::handshake::{
    CHALLENGE_FRAME_BYTES, FRAME_BYTES, Initiator, Prologue, REJECTION, Responder, challenge, opening,
};
use n2n_protocol::key::Key;
use n2n_protocol::{Answer, Call, Failure, Hello, Reply, Request, SCHEMA_HASH, VERSION, codec, limits};
use std::io::{self, Read, Write};

/// An agent's part of the handshake.
///
/// # Errors
/// The peer is gone, or does not hold the key.
pub fn respond<S: Read + Write>(stream: &mut S, key: &Key) -> io::Result<Channel> {
    let mut opening = [0; FRAME_BYTES];
    stream.read_exact(&mut opening)?;
    respond_to(stream, key, &opening)
}

/// As [`respond`], after the opening.
///
/// # Errors
/// As [`respond`].
pub fn respond_to<S: Read + Write>(
    stream: &mut S,
    key: &Key,
    opening: &[u8; FRAME_BYTES],
) -> io::Result<Channel> {
    let challenge = challenge().map_err(io::Error::other)?;
    stream.write_all(&challenge)?;
    let mut frame = [0; FRAME_BYTES];
    stream.read_exact(&mut frame)?;
    let prologue = Prologue::new(opening, &challenge).map_err(io::Error::other)?;
    answer(stream, key, &prologue, &frame)
}

/// An agent's part of the handshake as protocol 1 has it: the first frame is the host's message already.
///
/// # Errors
/// As [`respond`].
pub fn respond_as_1_0<S: Read + Write>(
    stream: &mut S,
    key: &Key,
    first: &[u8; FRAME_BYTES],
) -> io::Result<Channel> {
    answer(stream, key, &Prologue::old(), first)
}

fn answer<S: Write>(stream: &mut S, key: &Key, prologue: &Prologue, frame: &[u8]) -> io::Result<Channel> {
    let (_, responder) = Responder::verify([key], prologue, frame).map_err(io::Error::other)?;
    let (channel, answer) = responder.answer(limits::REQUEST_BYTES).map_err(io::Error::other)?;
    stream.write_all(&answer)?;
    Ok(channel)
}

/// A host's part of the handshake.
///
/// # Errors
/// The peer is gone; of kind [`io::ErrorKind::PermissionDenied`] when it refuses the key.
pub fn initiate<S: Read + Write>(stream: &mut S, key: &Key) -> io::Result<Channel> {
    let (opening, mut challenge) = (opening(key).map_err(io::Error::other)?, [0; CHALLENGE_FRAME_BYTES]);
    stream.write_all(&opening)?;
    stream.read_exact(&mut challenge)?;
    initiate_with(stream, key, &Prologue::new(&opening, &challenge).map_err(io::Error::other)?)
}

/// A host's part of the handshake as protocol 1 has it.
///
/// # Errors
/// As [`initiate`].
pub fn initiate_as_1_0<S: Read + Write>(stream: &mut S, key: &Key) -> io::Result<Channel> {
    initiate_with(stream, key, &Prologue::old())
}

fn initiate_with<S: Read + Write>(stream: &mut S, key: &Key, prologue: &Prologue) -> io::Result<Channel> {
    let (initiator, frame) = Initiator::begin(key, prologue).map_err(io::Error::other)?;
    stream.write_all(&frame)?;
    let mut answer = [0; FRAME_BYTES];
    let (length, body) = answer.split_at_mut(REJECTION.len());
    stream.read_exact(length)?;
    if *length == REJECTION {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, ChannelError::KeyRefused));
    }
    stream.read_exact(body)?;
    initiator.finish(&answer, limits::REPLY_BYTES).map_err(io::Error::other)
}

/// The next message; `None` when the peer has closed the stream.
///
/// # Errors
/// The stream or the channel is broken.
pub fn receive<S: Read>(stream: &mut S, channel: &mut Channel) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = channel.pop().map_err(io::Error::other)? {
            return Ok(Some(message));
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            read => channel.push(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Send one message.
///
/// # Errors
/// The stream is broken.
pub fn send<S: Write>(stream: &mut S, channel: &mut Channel, message: &[u8]) -> io::Result<()> {
    let mut sealed = Vec::new();
    channel.seal(message, &mut sealed).map_err(io::Error::other)?;
    stream.write_all(&sealed)
}

/// Greet as a host of this version, and return the agent's outcome.
///
/// # Errors
/// The stream or the channel is broken, or the agent closed it without an answer.
pub fn greet<S: Read + Write>(stream: &mut S, channel: &mut Channel) -> io::Result<Result<Answer, Failure>> {
    let hello = Hello { version: VERSION, schema: SCHEMA_HASH, client: "a host by hand".to_owned() };
    let request = Request { request_id: 1, call: Call::Hello(hello) };
    let request = codec::encode(&request, limits::HELLO_BYTES).map_err(io::Error::other)?;
    send(stream, channel, &request)?;
    let answer = receive(stream, channel)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let reply: Reply = codec::decode(&answer, limits::REPLY_BYTES).map_err(io::Error::other)?;
    Ok(reply.outcome)
}
