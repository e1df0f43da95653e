//! Where connections come from: the network, a serial device, or both.

use super::serial::{SerialListener, SerialStream};
use crate::places::strangers::Address;
use std::io;
use tokio::net::{TcpListener, TcpStream};

/// The listeners of one agent.
#[derive(Debug, Default)]
pub struct Doors {
    /// The network.
    pub tcp: Option<TcpListener>,
    /// A serial device.
    pub serial: Option<SerialListener>,
}

impl From<TcpListener> for Doors {
    fn from(listener: TcpListener) -> Self {
        Self { tcp: Some(listener), serial: None }
    }
}

impl Doors {
    /// The next connection. Cancel-safe.
    ///
    /// # Errors
    /// The system's, when it has none to give.
    pub(crate) async fn next(&mut self) -> io::Result<Arrived> {
        let Self { tcp, serial } = self;
        let network = async {
            match tcp {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let line = async {
            match serial {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = network => accepted.map(|(stream, peer)| Arrived {
                stream: Stream::Tcp(stream),
                peer: peer.to_string(),
                address: peer.into(),
            }),
            stream = line => Ok(Arrived {
                stream: Stream::Serial(stream),
                peer: "serial".to_owned(),
                address: Address::Line,
            }),
        }
    }
}

/// A connection, and who is at its other end.
pub(crate) struct Arrived {
    /// Its bytes.
    pub(crate) stream: Stream,
    /// Address and port, or `serial`.
    pub(crate) peer: String,
    /// What its share is counted by.
    pub(crate) address: Address,
}

/// Bytes of one of the doors.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Serial(SerialStream),
}
