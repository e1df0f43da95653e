//! Two threads move bytes between a port and a line: one waits for the wire, the other for the line.

use crate::port::Port;
use n2n_protocol::line::Line;
use serialport::SerialPort;
use std::io::{self, Read as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Bytes read at once: what a terminal's buffer holds.
const READ_BYTES: usize = 4096;

/// Longest wait of the writing thread, when the line wants nothing.
const IDLE: Duration = Duration::from_mins(1);

/// For a connection to be closed in order before its port is let go.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// A line that threads and streams share.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    start: Instant,
}

/// What is behind the lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) line: Line,
    /// Who wants to know when the line has changed.
    pub(crate) wakers: Vec<Waker>,
    /// The threads shall end.
    pub(crate) stop: bool,
    /// Why the port cannot be used any more.
    failure: Option<io::Error>,
}

impl Shared {
    /// `line` is told the time since now.
    pub(crate) fn new(line: Line) -> Arc<Self> {
        let inner = Inner { line, wakers: Vec::new(), stop: false, failure: None };
        Arc::new(Self { inner: Mutex::new(inner), changed: Condvar::new(), start: Instant::now() })
    }

    /// Time as the line has it.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Look, without changing anything that others wait for.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics half-way; if something did, the line's own checks still hold.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Change something, and tell everybody.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let outcome = change(&mut inner);
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        outcome
    }

    /// Try something now; if it cannot be done yet, `waker` is called when something has changed.
    pub(crate) fn poll<T>(&self, waker: &Waker, attempt: impl FnOnce(&mut Inner) -> Poll<T>) -> Poll<T> {
        let mut inner = self.lock();
        let outcome = attempt(&mut inner);
        if outcome.is_ready() {
            drop(inner);
            self.change(|_| ());
        } else if !inner.wakers.iter().any(|known| known.will_wake(waker)) {
            inner.wakers.push(waker.clone());
        }
        outcome
    }

    /// Wait for a change, at most until `until`.
    pub(crate) fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, until: Instant) -> MutexGuard<'a, Inner> {
        let left = until.saturating_duration_since(Instant::now());
        self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wait until `done` or `until`; whether it is done.
    pub(crate) fn wait_until(&self, until: Instant, done: impl Fn(&Inner) -> bool) -> bool {
        let mut inner = self.lock();
        while !done(&inner) && Instant::now() < until {
            inner = self.wait(inner, until);
        }
        done(&inner)
    }

    /// Serve a port until it fails or we shall stop; the failure, if that was why. `heard` is called after the wire has
    /// brought something.
    pub(crate) fn pump(&self, port: Port, heard: impl FnMut() + Send) -> Option<io::Error> {
        let Port { reader, writer } = port;
        std::thread::scope(|scope| {
            let reading = std::thread::Builder::new().name("serial-read".to_owned());
            match reading.spawn_scoped(scope, || self.read(reader, heard)) {
                Ok(_) => self.write(writer),
                Err(error) => self.fail(error),
            }
        });
        let failure = self.lock().failure.take();
        if failure.is_some() {
            self.change(|inner| inner.line.lose());
        }
        failure
    }

    fn is_over(inner: &Inner) -> bool {
        inner.stop || inner.failure.is_some()
    }

    fn fail(&self, error: io::Error) {
        self.change(|inner| {
            inner.failure.get_or_insert(error);
        });
    }

    fn read(&self, mut port: Box<dyn SerialPort>, mut heard: impl FnMut()) {
        let mut buffer = [0; READ_BYTES];
        while !Self::is_over(&self.lock()) {
            match port.read(&mut buffer) {
                Ok(0) => return self.fail(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    let now = self.now();
                    let bytes = buffer.get(..read).unwrap_or_default();
                    self.change(|inner| inner.line.push(bytes, now));
                    heard();
                }
                Err(error) if is_wait(&error) => {}
                Err(error) => return self.fail(error),
            }
        }
    }

    fn write(&self, mut port: Box<dyn SerialPort>) {
        let mut wire = Vec::new();
        loop {
            wire.clear();
            let mut inner = self.lock();
            if Self::is_over(&inner) {
                return;
            }
            let before = inner.line.phase();
            inner.line.transmit(self.now(), &mut wire);
            if inner.line.phase() != before {
                drop(inner);
                self.change(|_| ());
            } else if wire.is_empty() {
                let idle = inner.line.wake_at().map_or(IDLE, |at| at.saturating_sub(self.now()));
                drop(self.wait(inner, Instant::now() + idle));
                continue;
            } else {
                drop(inner);
            }
            if let Err(error) = self.write_all(&mut *port, &wire) {
                return self.fail(error);
            }
        }
    }

    /// A line that takes nothing blocks here; the peer's silence ends the connection, and we look whether to stop.
    fn write_all(&self, port: &mut dyn SerialPort, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !Self::is_over(&self.lock()) {
            match port.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
