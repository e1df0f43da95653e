//! A network that is slow: what goes in at one side comes out at the other after a while, in both directions.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Bytes carried at once.
const PIECE: usize = 64 << 10;

/// A piece on its way, and when it arrives; no bytes are the end of the stream.
type Piece = (Instant, Vec<u8>);

/// Relays connections to `target`, each way `delay` late; the address to connect to. It lives as long as the process.
///
/// # Errors
/// The system has no port for it.
pub fn start(target: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for host in listener.incoming().flatten() {
            // A host's first words come right behind the connection itself, as in a network.
            let arrives = Instant::now() + delay;
            std::thread::spawn(move || {
                let _ = host.set_nodelay(true);
                let Ok(host_writes) = host.try_clone() else { return };
                let pieces = collect(host, delay);
                std::thread::sleep(arrives.saturating_duration_since(Instant::now()));
                let Ok(agent) = TcpStream::connect(target) else { return };
                let _ = agent.set_nodelay(true);
                let Ok(agent_writes) = agent.try_clone() else { return };
                let answers = collect(agent, delay);
                std::thread::spawn(move || deliver(host_writes, &answers));
                deliver(agent_writes, &pieces);
            });
        }
    });
    Ok(address)
}

/// What comes in, stamped with the time of its arrival at the other side.
fn collect(mut from: TcpStream, delay: Duration) -> Receiver<Piece> {
    let (sender, pieces) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            // A reset arrives as an end does: later, and once.
            let read = from.read(&mut buffer).unwrap_or(0);
            let piece = buffer.get(..read).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, piece)).is_err() || read == 0 {
                return;
            }
        }
    });
    pieces
}

/// Hands pieces on when they arrive; the end of the stream too.
fn deliver(mut to: TcpStream, pieces: &Receiver<Piece>) {
    while let Ok((due, piece)) = pieces.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
