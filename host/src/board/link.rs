//! Bytes to and from an agent: TCP and the Noise channel, blocking, and never for longer than told.

use super::patience::Patience;
use n2n_protocol::channel::{Channel, ChannelError, HANDSHAKE_FRAME_BYTES, Initiator};
use n2n_protocol::key::Key;
use n2n_protocol::limits;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Bytes read at once: a record.
const READ_BYTES: usize = 64 << 10;

/// Shortest wait that is passed to the system, where zero would mean "for ever".
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

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
}

/// An open link.
pub(super) struct Link {
    stream: TcpStream,
    channel: Channel,
    buffer: Vec<u8>,
    send_wait: Duration,
}

impl Link {
    /// Connect and shake hands.
    pub(super) fn open(host: &str, port: u16, key: &Key, patience: &Patience) -> Result<Self, LinkError> {
        let mut stream = connect(host, port, patience)?;
        stream.set_nodelay(true)?;
        let deadline = Instant::now() + patience.handshake;
        let (initiator, frame) = Initiator::begin(key)?;
        write(&mut stream, &frame, deadline, "the handshake")?;
        let mut answer = [0; HANDSHAKE_FRAME_BYTES];
        let (length, body) = answer.split_at_mut(2);
        read_exact(&mut stream, length, deadline)?;
        if let [high, low] = *length {
            Initiator::check_length([high, low])?;
        }
        read_exact(&mut stream, body, deadline)?;
        let channel = initiator.finish(&answer, limits::REPLY_BYTES)?;
        Ok(Self { stream, channel, buffer: vec![0; READ_BYTES], send_wait: patience.send })
    }

    /// Send one message.
    pub(super) fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let mut sealed = Vec::with_capacity(message.len() + 64);
        self.channel.seal(message, &mut sealed)?;
        write(&mut self.stream, &sealed, Instant::now() + self.send_wait, "sending a request")
    }

    /// The next message, or `None` if none is whole at `until`.
    pub(super) fn receive(&mut self, until: Instant) -> Result<Option<Vec<u8>>, LinkError> {
        loop {
            if let Some(message) = self.channel.pop()? {
                return Ok(Some(message));
            }
            match read(&mut self.stream, &mut self.buffer, until)? {
                None => return Ok(None),
                Some(read) => self.channel.push(self.buffer.get(..read).unwrap_or_default()),
            }
        }
    }
}

fn connect(host: &str, port: u16, patience: &Patience) -> Result<TcpStream, LinkError> {
    let mut last = LinkError::Name(host.to_owned());
    for address in resolve(host, port, patience.resolve)? {
        match TcpStream::connect_timeout(&address, patience.connect) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = LinkError::Connect { address: address.to_string(), error },
        }
    }
    Err(last)
}

fn resolve(host: &str, port: u16, longest: Duration) -> Result<Vec<SocketAddr>, LinkError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (found, answer) = mpsc::sync_channel(1);
    let name = (host.to_owned(), port);
    // The thread of a resolver that never answers is left behind; there is no way to stop it.
    std::thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let _ = found.send(name.to_socket_addrs().map(Vec::from_iter));
    })?;
    match answer.recv_timeout(longest) {
        Ok(addresses) => addresses.map_err(|_| LinkError::Name(host.to_owned())),
        Err(_) => Err(LinkError::Late("looking up the board's name")),
    }
}

fn write(
    stream: &mut TcpStream,
    mut bytes: &[u8],
    deadline: Instant,
    what: &'static str,
) -> Result<(), LinkError> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::Late(what));
        }
        stream.set_write_timeout(Some(left.max(SHORTEST_WAIT)))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Some bytes, or `None` at `until`. A stream that has ended is an error.
fn read(stream: &mut TcpStream, buffer: &mut [u8], until: Instant) -> Result<Option<usize>, LinkError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(SHORTEST_WAIT)))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent closed it").into()),
            Ok(read) => return Ok(Some(read)),
            Err(error) if is_wait(&error) => {
                if Instant::now() >= until {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> Result<(), LinkError> {
    while !buffer.is_empty() {
        let read = read(stream, buffer, deadline)?.ok_or(LinkError::Late("the handshake"))?;
        buffer = buffer.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
