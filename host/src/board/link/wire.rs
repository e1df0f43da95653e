//! Ordered bytes to and from an agent: a network connection or a serial line, with a deadline on every wait.

use super::super::patience::Patience;
use super::fault::LinkError;
use n2n_serial::Settings;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Shortest wait that is passed to the system, where zero would mean "for ever".
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What carries the bytes.
pub(in super::super) enum Wire {
    Tcp(TcpStream),
    Serial(n2n_serial::Stream),
}

impl Wire {
    /// Connect by TCP.
    pub(in super::super) fn connect(host: &str, port: u16, patience: &Patience) -> Result<Self, LinkError> {
        let stream = connect(host, port, patience)?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Open a serial device, and find the agent at its other end.
    pub(in super::super) fn dial(settings: &Settings, patience: &Patience) -> Result<Self, LinkError> {
        Ok(Self::Serial(n2n_serial::dial(settings, Instant::now() + patience.connect)?))
    }

    /// Send all of it.
    pub(super) fn write(
        &mut self,
        mut bytes: &[u8],
        deadline: Instant,
        what: &'static str,
    ) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Tcp(stream) => write_some(stream, bytes, deadline)?,
                Self::Serial(stream) => stream.write(bytes, deadline)?,
            };
            match written {
                None => return Err(LinkError::Late(what)),
                Some(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Some(written) => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Some bytes, or `None` at `until`. A wire that has ended is an error.
    pub(super) fn read(&mut self, buffer: &mut [u8], until: Instant) -> Result<Option<usize>, LinkError> {
        match self {
            Self::Tcp(stream) => read_some(stream, buffer, until),
            Self::Serial(stream) => Ok(stream.read(buffer, until)?),
        }
    }
}

/// Some bytes, or `None` if none could be sent by the deadline.
fn write_some(stream: &mut TcpStream, bytes: &[u8], deadline: Instant) -> Result<Option<usize>, LinkError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        stream.set_write_timeout(Some(left.max(SHORTEST_WAIT)))?;
        match stream.write(bytes) {
            Ok(written) => return Ok(Some(written)),
            Err(error) if is_wait(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_some(stream: &mut TcpStream, buffer: &mut [u8], until: Instant) -> Result<Option<usize>, LinkError> {
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

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
