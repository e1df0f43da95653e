//! TCP: a listener, and the options that make a vanished peer noticeable.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Silence after which the kernel begins to ask whether the peer still lives.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// Pause between two such questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Unanswered questions that end a connection: a board is free again 25 s after its client lost power.
const KEEPALIVE_RETRIES: u32 = 3;

/// Unacknowledged data ends a connection after this: without it the kernel would retry for a quarter of an hour.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);

/// A listener at an address; port 0 takes any free one.
///
/// # Errors
/// The system's, with the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("listening at {address}: {error}")))
}

/// Set the options of an accepted connection: answers leave at once, dead peers are noticed.
///
/// # Errors
/// The system's.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}
