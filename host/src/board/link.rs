//! Messages to and from an agent: the Noise channel over a wire, blocking, and never for longer than told.

mod opening;
mod wire;

use super::patience::Patience;
use n2n_protocol::channel::{Channel, ChannelError};
use n2n_protocol::key::{Key, KeyId};
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
    #[error("it took the connection and closed it before a word")]
    Closed,
    #[error("strangers crowd it: the connection was closed {0} times before the handshake was done")]
    Crowded(u32),
    #[error("{error}; ours has the id {ours}")]
    Key { error: ChannelError, ours: KeyId },
    #[error("{0}")]
    OldAgent(String),
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
    /// Shake hands over a wire that `connect` makes. It makes another one when an agent that strangers crowd closed the
    /// first, or one that is too old to be understood: such an agent is asked in its own form for its words.
    pub(super) fn open(
        connect: impl FnMut() -> Result<Wire, LinkError>,
        key: &Key,
        patience: &Patience,
    ) -> Result<Self, LinkError> {
        let (wire, channel) = opening::open(connect, key, patience)?;
        Ok(Self::over(wire, channel, patience))
    }

    fn over(wire: Wire, channel: Channel, patience: &Patience) -> Self {
        Self { wire, channel, buffer: vec![0; READ_BYTES], send_wait: patience.send, heard: Instant::now() }
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
