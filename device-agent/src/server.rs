//! Accepts connections and gives each its reception and its session. The listener and the wish to stop come from outside,
//! so that tests bring their own; who has a place is `places`' business.

use crate::deadlines::Deadlines;
use crate::handler::Handler;
use crate::key::watch::Keys;
use crate::link::LinkError;
use crate::reception::{Away, Reception};
use crate::room::{Room, StrangerPlace};
use crate::session::{End, Session};
use crate::tally::{self, Tally, Turned};
use crate::transport::doors::{Arrived, Doors, Stream};
use crate::transport::tcp;
use crate::watchdog::Watchdog;
use crate::{Cancel, descriptors};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

/// Most connections that have not greeted yet; fewer where the system gives fewer descriptors. Each holds a socket and a
/// task of some hundred bytes for [`Deadlines::handshake`] at most. A host with a round trip of 400 ms needs 0.8 s for its
/// handshake: so many places are a second at 512 newcomers a second that open as a host does, from its own address.
pub const STRANGERS: usize = 512;

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
    reception: Reception,
    handler: Handler,
    deadlines: Deadlines,
    tally: Tally,
}

impl Server {
    /// A server with the usual deadlines, and as many places as this process has descriptors for. Strangers are counted
    /// in `tally`.
    pub fn new(keys: Keys, handler: Handler, tally: Tally) -> Self {
        let places = descriptors::for_strangers(STRANGERS);
        Self::with(keys, handler, tally, Deadlines::default(), places)
    }

    /// A server with its own deadlines and number of strangers' places.
    pub fn with(keys: Keys, handler: Handler, tally: Tally, deadlines: Deadlines, strangers: usize) -> Self {
        let room = Room::new(strangers, SESSIONS, deadlines.quiet);
        Self { reception: Reception::new(keys, room), handler, deadlines, tally }
    }

    /// Serve until `stop` is ready; every session has ended when this returns.
    pub async fn serve(self, doors: impl Into<Doors>, stop: impl Future<Output = ()>) {
        let mut doors = doors.into();
        let on_line = doors.serial.as_ref().map(|door| self.deadlines.on_line(door.settings().baud));
        let server = Arc::new(self);
        let (stopping, stopped) = Cancel::pair();
        let mut connections = JoinSet::new();
        let mut minutes = interval(tally::EVERY);
        let mut watchdog = Watchdog::ready();
        tokio::pin!(stop);
        loop {
            // Take what has ended out of the set, or it would grow for ever.
            while connections.try_join_next().is_some() {}
            let arrived = tokio::select! {
                arrived = doors.next() => arrived,
                _ = minutes.tick() => {
                    server.tally.due(Instant::now()).iter().for_each(say);
                    continue;
                }
                () = watchdog.sign_of_life() => continue,
                () = &mut stop => break,
            };
            let Arrived { stream, peer, address } = match arrived {
                Ok(arrived) => arrived,
                Err(error) => {
                    server.turned(Turned::NotAccepted, &error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = server.reception.room.admit(address) else {
                server.turned(Turned::Crowded, &peer);
                continue;
            };
            let (server, stopped, on_line) = (Arc::clone(&server), stopped.clone(), on_line.clone());
            connections.spawn(async move {
                match stream {
                    Stream::Tcp(stream) => {
                        if let Err(error) = tcp::prepare(&stream) {
                            tracing::debug!(%peer, %error, "connection options");
                        }
                        server.attend(stream, &peer, &server.deadlines, place, &stopped).await;
                    }
                    Stream::Serial(stream) => {
                        let deadlines = on_line.as_ref().unwrap_or(&server.deadlines);
                        server.attend(stream, &peer, deadlines, place, &stopped).await;
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
        server.tally.due(Instant::now() + tally::EVERY).iter().for_each(say);
    }

    /// One connection from its first byte to its end. `stranger` is its place until it has greeted.
    async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        peer: &str,
        deadlines: &Deadlines,
        stranger: StrangerPlace,
        stopped: &Cancel,
    ) {
        let lost = stranger.lost();
        let received = tokio::select! {
            received = self.reception.receive(stream, peer, deadlines, &stranger) => received,
            () = lost.cancelled() => Err(Away::Stranger(Turned::DrivenOut)),
            () = stopped.cancelled() => return,
        };
        drop(stranger);
        let greeted = match received {
            Ok(greeted) => greeted,
            Err(Away::Stranger(turned)) => return self.turned(turned, peer),
            Err(Away::Host) => return,
        };
        let (client, key) = (greeted.client.clone(), greeted.key.name.clone());
        let session = Session::new(greeted, self.reception.keys.clone(), &self.handler, deadlines);
        match session.run(stopped).await {
            Ok(End::Left | End::Stopped) => tracing::debug!(%peer, %key, %client, "left"),
            Ok(End::PlaceLost) => {
                tracing::info!(%peer, %key, %client, "was silent, and left for another host");
            }
            Ok(End::KeyRemoved) => {
                tracing::info!(%peer, %key, %client, "its key is gone, and so is its session");
            }
            // A peer that is killed is everyday life; one that breaks the rules is not.
            Err(LinkError::Lost(error)) => tracing::info!(%peer, %key, %client, %error, "lost"),
            Err(error) => tracing::warn!(%peer, %key, %client, %error, "sent away"),
        }
    }

    fn turned(&self, turned: Turned, peer: &str) {
        self.tally.note(turned, peer, Instant::now()).iter().for_each(say);
    }
}

fn say(line: &String) {
    tracing::warn!("{line}");
}
