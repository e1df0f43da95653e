//! Accepts connections and gives each its session; bounds how many there are.
//!
//! The listener and the wish to stop come from outside, so that tests bring their own.

use crate::Cancel;
use crate::handler::Handler;
use crate::session::{Deadlines, Session, SessionError, shake_hands};
use crate::transport::serial::{SerialListener, SerialStream};
use crate::transport::tcp;
use crate::watchdog::Watchdog;
use n2n_protocol::channel::Channel;
use n2n_protocol::key::Key;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections that have not shown the key yet. Each holds a socket and a hundred bytes for
/// [`Deadlines::handshake`] at most; a stranger too many is closed unread.
pub const STRANGERS: usize = 32;

/// Connections with the key: a search, someone who looks at the status, and room. Each can hold one message, so this
/// times the largest request bounds the memory that peers can take.
pub const SESSIONS: usize = 8;

/// Pause after a failed accept: it fails again at once when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For sessions to cancel what runs and leave, when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(8);

/// What every connection needs.
#[derive(Debug)]
pub struct Server {
    /// Who may speak to this board.
    pub key: Key,
    /// The agent's inside.
    pub handler: Handler,
    /// How long to wait for what.
    pub deadlines: Deadlines,
}

impl Server {
    /// A server with the usual deadlines.
    pub fn new(key: Key, handler: Handler) -> Self {
        Self { key, handler, deadlines: Deadlines::default() }
    }

    /// Serve until `stop` is ready; every session has ended when this returns.
    pub async fn serve(self, doors: impl Into<Doors>, stop: impl Future<Output = ()>) {
        let mut doors = doors.into();
        let on_line = doors.serial.as_ref().map(|door| self.deadlines.on_line(door.settings().baud));
        let server = Arc::new(self);
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let sessions = Arc::new(Semaphore::new(SESSIONS));
        let (stopping, stopped) = Cancel::pair();
        let mut connections = JoinSet::new();
        let mut watchdog = Watchdog::ready();
        tokio::pin!(stop);
        loop {
            // Take what has ended out of the set, or it would grow for ever.
            while connections.try_join_next().is_some() {}
            let arrived = tokio::select! {
                arrived = doors.next() => arrived,
                () = watchdog.sign_of_life() => continue,
                () = &mut stop => break,
            };
            let Some(Arrived { stream, peer }) = arrived else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else {
                tracing::warn!(%peer, "too many connections without a key; closed");
                continue;
            };
            let (server, sessions, stopped) = (Arc::clone(&server), Arc::clone(&sessions), stopped.clone());
            let on_line = on_line.clone();
            connections.spawn(async move {
                match stream {
                    Stream::Tcp(stream) => {
                        if let Err(error) = tcp::prepare(&stream) {
                            tracing::warn!(%peer, %error, "connection options");
                        }
                        server.attend(stream, &peer, &server.deadlines, place, &sessions, &stopped).await;
                    }
                    Stream::Serial(stream) => {
                        let deadlines = on_line.as_ref().unwrap_or(&server.deadlines);
                        server.attend(stream, &peer, deadlines, place, &sessions, &stopped).await;
                    }
                }
            });
        }
        watchdog.stopping();
        // No more connections; but a serial line has to live until its last session has said its last word.
        drop(doors.tcp.take());
        stopping.cancel();
        if timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("some connections did not end in time and are dropped");
        }
    }

    /// One connection from the handshake to its end. `stranger` is its place until it has shown the key.
    async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        peer: &str,
        deadlines: &Deadlines,
        stranger: OwnedSemaphorePermit,
        sessions: &Arc<Semaphore>,
        stopped: &Cancel,
    ) {
        let channel: Channel = match shake_hands(&mut stream, &self.key, deadlines).await {
            Ok(channel) => channel,
            Err(error) => {
                tracing::warn!(%peer, %error, "turned away");
                return;
            }
        };
        let Ok(_place) = Arc::clone(sessions).try_acquire_owned() else {
            tracing::warn!(%peer, "too many sessions; closed");
            return;
        };
        drop(stranger);
        let session = Session::new(stream, channel, &self.handler, deadlines, env!("CARGO_PKG_VERSION"));
        match session.run(stopped).await {
            Ok(()) => tracing::debug!(%peer, "left"),
            // A peer that is killed is everyday life; one that breaks the rules is not.
            Err(SessionError::Link(error)) => tracing::info!(%peer, %error, "lost"),
            Err(error) => tracing::warn!(%peer, %error, "sent away"),
        }
    }
}

/// Where connections come from.
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
    /// The next connection; `None` if the system had none to give. Cancel-safe.
    async fn next(&mut self) -> Option<Arrived> {
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
        let (stream, peer) = tokio::select! {
            accepted = network => match accepted {
                Ok((stream, peer)) => (Stream::Tcp(stream), peer.to_string()),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    return None;
                }
            },
            stream = line => (Stream::Serial(stream), "serial".to_owned()),
        };
        Some(Arrived { stream, peer })
    }
}

/// A connection, and who is at its other end.
struct Arrived {
    stream: Stream,
    peer: String,
}

enum Stream {
    Tcp(TcpStream),
    Serial(SerialStream),
}
