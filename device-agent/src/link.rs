//! Messages to and from a host after the handshake, over any stream. It keeps the limits and the deadline of writing; when
//! to read and what the messages mean is the session's business.

use crate::log_tail::clip;
use n2n_protocol::channel::{Channel, ChannelError};
use n2n_protocol::codec::{self, CodecError};
use n2n_protocol::{Answer, Failure, Reply, limits};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Bytes read from the stream at once.
const READ_BYTES: usize = 16 << 10;

/// Why a link, and the session on it, ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// A deadline passed.
    #[error("{0} took too long")]
    Late(&'static str),
    /// The stream failed, or ended in the middle of something.
    #[error("link: {0}")]
    Lost(#[from] io::Error),
    /// The peer broke the channel's rules.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// An answer could not be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A host's stream and the channel over it.
pub(crate) struct Link<S> {
    stream: S,
    channel: Channel,
    buffer: Vec<u8>,
    write: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// A link whose host has `write` to take an answer.
    pub(crate) fn new(stream: S, channel: Channel, write: Duration) -> Self {
        Self { stream, channel, buffer: vec![0; READ_BYTES], write }
    }

    /// Allow messages of this length from the host, bytes.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.channel.set_limit(limit);
    }

    /// Whether a message has begun that is not whole yet.
    pub(crate) fn is_partial(&self) -> bool {
        self.channel.is_partial()
    }

    /// The next whole message among the bytes that were read, if there is one.
    pub(crate) fn pop(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        Ok(self.channel.pop()?)
    }

    /// Wait for bytes and keep them; false at the end of the stream. Cancel-safe.
    pub(crate) async fn read(&mut self) -> io::Result<bool> {
        let read = self.stream.read(&mut self.buffer).await?;
        self.channel.push(self.buffer.get(..read).unwrap_or_default());
        Ok(read > 0)
    }

    /// Wait for a whole message.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            if let Some(message) = self.pop()? {
                return Ok(message);
            }
            if !self.read().await? {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Send a reply. One that does not fit becomes a failure that says so.
    pub(crate) async fn reply(
        &mut self,
        request_id: u32,
        outcome: Result<Answer, Failure>,
    ) -> Result<(), LinkError> {
        // Texts are cut to what the peer will take.
        let clip = |text: String| clip(&text, limits::TEXT_BYTES).to_owned();
        let reply = Reply { request_id, outcome: outcome.map_err(|failure| failure.map_texts(clip)) };
        let message = match codec::encode(&reply, limits::REPLY_BYTES) {
            Err(error @ CodecError::TooLong { .. }) => {
                let failure = Failure::Failed(format!("the answer does not fit: {error}"));
                codec::encode(&Reply { request_id, outcome: Err(failure) }, limits::REPLY_BYTES)?
            }
            message => message?,
        };
        let mut sealed = Vec::new();
        self.channel.seal(&message, &mut sealed)?;
        let write = async {
            self.stream.write_all(&sealed).await?;
            self.stream.flush().await
        };
        Ok(timeout(self.write, write).await.map_err(|_| LinkError::Late("taking an answer"))??)
    }

    /// Say that nothing more comes.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
