//! Messages over a wire whose handshake is done.

use super::super::patience::Patience;
use super::fault::LinkError;
use super::wire::Wire;
use n2n_protocol::channel::Channel;
use std::time::{Duration, Instant};

/// Bytes read at once: a record.
const READ_BYTES: usize = 64 << 10;

/// An open link.
pub(in super::super) struct Link {
    wire: Wire,
    channel: Channel,
    buffer: Vec<u8>,
    send_wait: Duration,
    heard: Instant,
}

impl Link {
    /// Over a wire whose handshake is done.
    pub(super) fn over(wire: Wire, channel: Channel, patience: &Patience) -> Self {
        Self { wire, channel, buffer: vec![0; READ_BYTES], send_wait: patience.send, heard: Instant::now() }
    }

    /// When the last bytes came.
    pub(in super::super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Send one message.
    pub(in super::super) fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let mut sealed = Vec::with_capacity(message.len() + 64);
        self.channel.seal(message, &mut sealed)?;
        self.wire.write(&sealed, Instant::now() + self.send_wait, "sending a request")
    }

    /// The next message, or `None` if none is whole at `until`.
    pub(in super::super) fn receive(&mut self, until: Instant) -> Result<Option<Vec<u8>>, LinkError> {
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
