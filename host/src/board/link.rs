//! Messages to and from an agent: the Noise channel over a wire, blocking, and never for longer than told.

mod wire;

use super::patience::Patience;
use n2n_protocol::channel::{Channel, ChannelError, HANDSHAKE_FRAME_BYTES, Initiator};
use n2n_protocol::key::Key;
use n2n_protocol::limits;
use n2n_serial::DialError;
use std::io;
use std::time::{Duration, Instant};
pub(super) use wire::Wire;

/// Bytes read at once: a record.
const READ_BYTES: usize = 64 << 10;

/// Why a link is not there, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the name `{0}` has no address")]
    Name(String),
    #[error("{address}: {error}")]
    Connect { address: String, error: io::Error },
    #[error("link lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0} took too long")]
    Late(&'static str),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// An open link.
pub(super) struct Link {
    wire: Wire,
    channel: Channel,
    buffer: Vec<u8>,
    send_wait: Duration,
    heard: Instant,
}

impl Link {
    /// Shake hands over a wire.
    pub(super) fn open(mut wire: Wire, key: &Key, patience: &Patience) -> Result<Self, LinkError> {
        let deadline = Instant::now() + patience.handshake;
        let (initiator, frame) = Initiator::begin(key)?;
        wire.write(&frame, deadline, "the handshake")?;
        let mut answer = [0; HANDSHAKE_FRAME_BYTES];
        let (length, body) = answer.split_at_mut(2);
        read_exact(&mut wire, length, deadline)?;
        if let [high, low] = *length {
            Initiator::check_length([high, low])?;
        }
        read_exact(&mut wire, body, deadline)?;
        let channel = initiator.finish(&answer, limits::REPLY_BYTES)?;
        let buffer = vec![0; READ_BYTES];
        Ok(Self { wire, channel, buffer, send_wait: patience.send, heard: Instant::now() })
    }

    /// When the last bytes came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Send one message.
    pub(super) fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let mut sealed = Vec::with_capacity(message.len() + 64);
        self.channel.seal(message, &mut sealed)?;
        self.wire.write(&sealed, Instant::now() + self.send_wait, "sending a request")
    }

    /// The next message, or `None` if none is whole at `until`.
    pub(super) fn receive(&mut self, until: Instant) -> Result<Option<Vec<u8>>, LinkError> {
        loop {
            if let Some(message) = self.channel.pop()? {
                return Ok(Some(message));
            }
            match self.wire.read(&mut self.buffer, until)? {
                None => return Ok(None),
                Some(read) => {
                    self.heard = Instant::now();
                    self.channel.push(self.buffer.get(..read).unwrap_or_default());
                }
            }
        }
    }
}

fn read_exact(wire: &mut Wire, mut buffer: &mut [u8], deadline: Instant) -> Result<(), LinkError> {
    while !buffer.is_empty() {
        let read = wire.read(buffer, deadline)?.ok_or(LinkError::Late("the handshake"))?;
        buffer = buffer.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}
