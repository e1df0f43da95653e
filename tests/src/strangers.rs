//! Attackers without a key: they hold an agent's places, drip, repeat what they recorded, and send junk.

use n2n_protocol::handshake::{FRAME_BYTES, Initiator, Prologue, opening};
use n2n_protocol::key::Key;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at all connections of a crowd.
const LOOK: Duration = Duration::from_millis(5);

/// Between two bytes of one that drips.
const DRIP: Duration = Duration::from_millis(500);

/// For a connection to be made: an agent that is overrun makes attackers wait too.
const CONNECT: Duration = Duration::from_secs(1);

/// Bytes of a challenge's frame, which a repeating attacker awaits before it goes on.
const CHALLENGE_BYTES: usize = 18;

/// What an attacker does with a connection.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Nothing.
    Idle,
    /// An opening, a byte every half second.
    Drip(Vec<u8>),
    /// A whole opening, the same each time, and then nothing.
    Opening(Vec<u8>),
    /// An opening, and then the recorded first message of another connection.
    Replay {
        /// The opening that was recorded.
        opening: Vec<u8>,
        /// The first message that was recorded.
        first: Vec<u8>,
    },
    /// The recorded first message of a host of protocol 1, and then nothing.
    OldReplay(Vec<u8>),
    /// Fifty bytes of another protocol; closed by the attacker at once.
    Junk,
}

impl Manner {
    /// An opening as somebody makes it who has seen which key a host uses, and does not have it.
    ///
    /// # Errors
    /// No random numbers from the system.
    pub fn forged_opening(key: &Key) -> io::Result<Vec<u8>> {
        let mut opening = opening(key).map_err(io::Error::other)?;
        // One bit of the proof, which comes after the 24 bytes that it proves.
        opening[24] ^= 1;
        Ok(opening.to_vec())
    }

    /// What somebody on the way recorded of a genuine connection with `key`, to be repeated.
    ///
    /// # Errors
    /// No random numbers from the system.
    pub fn replay(key: &Key) -> io::Result<Self> {
        let opening = opening(key).map_err(io::Error::other)?;
        let challenge = n2n_protocol::handshake::challenge().map_err(io::Error::other)?;
        let prologue = Prologue::new(&opening, &challenge).map_err(io::Error::other)?;
        let (_, first) = Initiator::begin(key, &prologue).map_err(io::Error::other)?;
        Ok(Self::Replay { opening: opening.to_vec(), first })
    }

    /// The same of a connection of protocol 1.
    ///
    /// # Errors
    /// No random numbers from the system.
    pub fn old_replay(key: &Key) -> io::Result<Self> {
        let (_, first) = Initiator::begin(key, &Prologue::old()).map_err(io::Error::other)?;
        Ok(Self::OldReplay(first))
    }

    /// What is sent at once.
    fn first_words(&self) -> &[u8] {
        match self {
            Self::Idle | Self::Drip(_) => &[],
            Self::Opening(opening) | Self::Replay { opening, .. } => opening,
            Self::OldReplay(first) => first,
            Self::Junk => b"GET / HTTP/1.1\r\nHost: board.local\r\nAccept: */*\r\n\r\n",
        }
    }
}

/// A crowd at work; it leaves when dropped.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    worker: Option<JoinHandle<()>>,
}

impl Crowd {
    /// So many connections from one address, each renewed when it is closed, at most `rate` new ones a second.
    pub fn attack(target: SocketAddr, from: IpAddr, manner: Manner, connections: usize, rate: u32) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&made));
        let worker = std::thread::spawn(move || {
            let mut crowd: Vec<Option<Connection>> = (0..connections).map(|_| None).collect();
            let began = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                for place in &mut crowd {
                    if place.as_mut().is_some_and(|connection| connection.go_on(&manner)) {
                        continue;
                    }
                    *place = None;
                    let allowed = began.elapsed().as_secs_f64() * f64::from(rate);
                    if (count.load(Ordering::Relaxed) as f64) < allowed {
                        // The count is of tries: a refused one took the agent's time as well.
                        count.fetch_add(1, Ordering::Relaxed);
                        *place = Connection::make(target, from, &manner).ok();
                    }
                }
                std::thread::sleep(LOOK);
            }
        });
        Self { stop, made, worker: Some(worker) }
    }

    /// Connections made so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

struct Connection {
    stream: TcpStream,
    sent: usize,
    heard: usize,
    since: Instant,
}

impl Connection {
    fn make(target: SocketAddr, from: IpAddr, manner: &Manner) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
        socket.connect_timeout(&SockAddr::from(target), CONNECT)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        stream.write_all(manner.first_words())?;
        Ok(Self { stream, sent: 0, heard: 0, since: Instant::now() })
    }

    /// Go on as the manner has it; false when the connection is over.
    fn go_on(&mut self, manner: &Manner) -> bool {
        let mut buffer = [0; 64];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(read) => self.heard += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        match manner {
            Manner::Idle | Manner::Opening(_) | Manner::OldReplay(_) => true,
            Manner::Junk => false,
            Manner::Drip(opening) => {
                let due = (self.since.elapsed().as_millis() / DRIP.as_millis()) as usize;
                let next = opening.get(self.sent..=self.sent).filter(|_| self.sent < due.min(FRAME_BYTES));
                self.sent += usize::from(next.is_some());
                next.is_none_or(|byte| self.stream.write_all(byte).is_ok())
            }
            Manner::Replay { first, .. } => {
                let ready = self.heard >= CHALLENGE_BYTES && self.sent == 0;
                self.sent += usize::from(ready);
                !ready || self.stream.write_all(first).is_ok()
            }
        }
    }
}

/// What an agent's process uses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Open files and sockets.
    pub descriptors: usize,
    /// Processor time since its start.
    pub processor: Duration,
}

/// What a process uses, by its entry in /proc.
///
/// # Errors
/// There is no such process.
pub fn usage(process: u32) -> io::Result<Usage> {
    let folder = std::path::PathBuf::from(format!("/proc/{process}"));
    let status = std::fs::read_to_string(folder.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    // The times stand behind the name, which is in brackets and may hold blanks; ticks are hundredths of a second.
    let stat = std::fs::read_to_string(folder.join("stat"))?;
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Ok(Usage {
        resident_bytes: kibibytes << 10,
        descriptors: std::fs::read_dir(folder.join("fd"))?.count(),
        processor: Duration::from_millis(10 * ticks),
    })
}
