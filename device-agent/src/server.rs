//! Accepts connections and gives each its session; bounds how many there are.
//!
//! The listener and the wish to stop come from outside, so that tests bring their own.

use crate::Cancel;
use crate::handler::Handler;
use crate::session::{Deadlines, Session, SessionError, shake_hands};
use crate::transport::tcp;
use n2n_protocol::key::Key;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
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
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let server = Arc::new(self);
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let sessions = Arc::new(Semaphore::new(SESSIONS));
        let (stopping, stopped) = Cancel::pair();
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            // Take what has ended out of the set, or it would grow for ever.
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            let (stream, peer) = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&strangers).try_acquire_owned() else {
                tracing::warn!(%peer, "too many connections without a key; closed");
                continue;
            };
            let (server, sessions, stopped) = (Arc::clone(&server), Arc::clone(&sessions), stopped.clone());
            connections.spawn(async move {
                let Some(session) = server.admit(stream, peer, &sessions).await else { return };
                drop(place);
                server.attend(session, peer, &stopped).await;
            });
        }
        drop(listener);
        stopping.cancel();
        if timeout(STOP_GRACE, async { while connections.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("some connections did not end in time and are dropped");
        }
    }

    /// Handshake; `None` for strangers and when there are enough sessions.
    async fn admit(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        sessions: &Arc<Semaphore>,
    ) -> Option<Admitted> {
        if let Err(error) = tcp::prepare(&stream) {
            tracing::warn!(%peer, %error, "connection options");
        }
        let channel = match shake_hands(&mut stream, &self.key, &self.deadlines).await {
            Ok(channel) => channel,
            Err(error) => {
                tracing::warn!(%peer, %error, "turned away");
                return None;
            }
        };
        let Ok(place) = Arc::clone(sessions).try_acquire_owned() else {
            tracing::warn!(%peer, "too many sessions; closed");
            return None;
        };
        Some(Admitted { stream, channel, _place: place })
    }

    async fn attend(&self, admitted: Admitted, peer: SocketAddr, stopped: &Cancel) {
        let Admitted { stream, channel, _place } = admitted;
        let agent = env!("CARGO_PKG_VERSION");
        let session = Session::new(stream, channel, &self.handler, &self.deadlines, agent);
        match session.run(stopped).await {
            Ok(()) => tracing::debug!(%peer, "left"),
            // A peer that is killed is everyday life; one that breaks the rules is not.
            Err(SessionError::Link(error)) => tracing::info!(%peer, %error, "lost"),
            Err(error) => tracing::warn!(%peer, %error, "sent away"),
        }
    }
}

/// A connection whose peer has the key, and its place among the sessions.
struct Admitted {
    stream: TcpStream,
    channel: n2n_protocol::channel::Channel,
    _place: tokio::sync::OwnedSemaphorePermit,
}
