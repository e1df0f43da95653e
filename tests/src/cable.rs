//! A serial cable out of two pseudo-terminals and what lies between them: it can damage bytes, and be pulled out.

use serialport::{SerialPort, TTYPort};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Bytes carried at once: as few as a UART's buffer hold, so that both directions take turns.
const PIECE: usize = 256;

/// A cable with a device file at each end, in a folder of its own.
#[derive(Debug)]
pub struct Cable {
    host: PathBuf,
    agent: PathBuf,
    state: Arc<State>,
    plugged: Option<Plugged>,
}

#[derive(Debug, Default)]
struct State {
    damaged_of_million: AtomicU32,
    carried: AtomicU64,
}

/// Both pseudo-terminals and the threads between them.
#[derive(Debug)]
struct Plugged {
    pulled: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Held open: a terminal that nobody holds hangs up.
    _ends: [TTYPort; 2],
}

impl Cable {
    /// A cable that is plugged in; its device files are links in `folder`.
    ///
    /// # Errors
    /// The system has no pseudo-terminals.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let (host, agent) = (folder.join("ttyHOST"), folder.join("ttyAGENT"));
        let mut cable = Self { host, agent, state: Arc::default(), plugged: None };
        cable.plug_in()?;
        Ok(cable)
    }

    /// The host's device file.
    pub fn host(&self) -> &Path {
        &self.host
    }

    /// The agent's device file.
    pub fn agent(&self) -> &Path {
        &self.agent
    }

    /// From now on so many bytes of a million come out as another one, in both directions.
    pub fn damage(&self, of_million: u32) {
        self.state.damaged_of_million.store(of_million, Ordering::Relaxed);
    }

    /// Bytes carried so far, both directions.
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::Relaxed)
    }

    /// Pull it out: both devices vanish.
    pub fn pull_out(&mut self) {
        let Some(Plugged { pulled, threads, .. }) = self.plugged.take() else { return };
        pulled.store(true, Ordering::Relaxed);
        for thread in threads {
            let _ = thread.join();
        }
        for link in [&self.host, &self.agent] {
            let _ = std::fs::remove_file(link);
        }
    }

    /// Plug it in (again): new devices at the old places.
    ///
    /// # Errors
    /// The system has no pseudo-terminals.
    pub fn plug_in(&mut self) -> io::Result<()> {
        self.pull_out();
        let (host, host_end) = TTYPort::pair()?;
        let (agent, agent_end) = TTYPort::pair()?;
        let pulled = Arc::new(AtomicBool::new(false));
        let carry = |from: &TTYPort, to: &TTYPort, seed| -> io::Result<JoinHandle<()>> {
            let (from, to) = (from.try_clone_native()?, to.try_clone_native()?);
            let (state, pulled) = (Arc::clone(&self.state), Arc::clone(&pulled));
            Ok(std::thread::spawn(move || carry(from, to, &state, &pulled, seed)))
        };
        let threads = vec![carry(&host, &agent, 1)?, carry(&agent, &host, 2)?];
        for (link, end) in [(&self.host, &host_end), (&self.agent, &agent_end)] {
            std::os::unix::fs::symlink(end.name().unwrap_or_default(), link)?;
        }
        self.plugged = Some(Plugged { pulled, threads, _ends: [host_end, agent_end] });
        Ok(())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.pull_out();
    }
}

/// One direction, until it is pulled out. Bytes for which nobody has room are lost, as in a UART.
fn carry(mut from: TTYPort, mut to: TTYPort, state: &State, pulled: &AtomicBool, mut seed: u64) {
    let mut roll = move || {
        // Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    let mut buffer = [0; PIECE];
    while !pulled.load(Ordering::Relaxed) {
        // Nothing within the port's own short wait is no news.
        let Ok(read) = from.read(&mut buffer) else { continue };
        let piece = buffer.get_mut(..read).unwrap_or_default();
        let damaged = state.damaged_of_million.load(Ordering::Relaxed);
        for byte in &mut *piece {
            if roll() % 1_000_000 < damaged {
                *byte = roll() as u8;
            }
        }
        state.carried.fetch_add(read as u64, Ordering::Relaxed);
        let _ = to.write_all(piece);
    }
}
