//! One connection of a line.

use crate::pump::{Inner, LINGER, Shared};
use n2n_protocol::line::{End, Phase};
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Instant;

/// One connection. Dropped, it is closed.
pub struct Stream {
    shared: Arc<Shared>,
    connection: u32,
    /// The thread of the line, if the line is this connection's only.
    owned: Option<JoinHandle<()>>,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, connection: u32, owned: Option<JoinHandle<()>>) -> Self {
        Self { shared, connection, owned }
    }

    /// Some bytes; none at the end of the stream. If there are none yet, `waker` is called when it is worth another try.
    ///
    /// # Errors
    /// The connection ended otherwise than by a close.
    pub fn poll_read(&self, waker: &Waker, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.shared.poll(waker, |inner| self.read_now(inner, buffer))
    }

    /// Take some bytes. If there is no room yet, `waker` is called when it is worth another try.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn poll_write(&self, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.poll(waker, |inner| self.write_now(inner, bytes))
    }

    /// Some bytes, or `None` if there are none at `until`.
    ///
    /// # Errors
    /// The connection has ended: closed ones with [`io::ErrorKind::UnexpectedEof`].
    pub fn read(&self, buffer: &mut [u8], until: Instant) -> io::Result<Option<usize>> {
        match self.block(until, |inner| self.read_now(inner, buffer)) {
            Some(Ok(0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed it")),
            Some(read) => read.map(Some),
            None => Ok(None),
        }
    }

    /// Take some bytes, or `None` if there is no room at `until`.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn write(&self, bytes: &[u8], until: Instant) -> io::Result<Option<usize>> {
        self.block(until, |inner| self.write_now(inner, bytes)).transpose()
    }

    /// Close, after what was written has been delivered.
    pub fn close(&self) {
        let now = self.shared.now();
        self.shared.change(|inner| {
            if inner.line.connection() == Some(self.connection) {
                inner.line.close(now);
            }
        });
    }

    fn block<T>(&self, until: Instant, mut attempt: impl FnMut(&mut Inner) -> Poll<T>) -> Option<T> {
        let mut inner = self.shared.lock();
        loop {
            if let Poll::Ready(done) = attempt(&mut inner) {
                drop(inner);
                self.shared.change(|_| ());
                return Some(done);
            }
            if Instant::now() >= until {
                return None;
            }
            inner = self.shared.wait(inner, until);
        }
    }

    fn read_now(&self, inner: &mut Inner, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if inner.line.connection() != Some(self.connection) {
            return Poll::Ready(Ok(0));
        }
        match (inner.line.read(buffer), inner.line.phase()) {
            (0, Phase::Ended(End::Closed)) => Poll::Ready(Ok(0)),
            (0, Phase::Ended(end)) => Poll::Ready(Err(ended(end))),
            (0, _) => Poll::Pending,
            (read, _) => Poll::Ready(Ok(read)),
        }
    }

    fn write_now(&self, inner: &mut Inner, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let end = match inner.line.phase() {
            _ if inner.line.connection() != Some(self.connection) => End::Closed,
            Phase::Ended(end) => end,
            _ => {
                return match inner.line.write(bytes) {
                    0 if !bytes.is_empty() => Poll::Pending,
                    written => Poll::Ready(Ok(written)),
                };
            }
        };
        Poll::Ready(Err(ended(end)))
    }
}

fn ended(end: End) -> io::Error {
    let kind = match end {
        End::Closed | End::Gone => io::ErrorKind::BrokenPipe,
        End::Unanswered | End::Silent | End::Stuck => io::ErrorKind::TimedOut,
        End::Version(_) => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, end)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
        let Some(thread) = self.owned.take() else { return };
        let closed = |inner: &Inner| matches!(inner.line.phase(), Phase::Ended(_));
        self.shared.wait_until(Instant::now() + LINGER, closed);
        self.shared.change(|inner| inner.stop = true);
        // The device must be free for the next one when this returns.
        let _ = thread.join();
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(formatter, "Stream({:08x})", self.connection)
    }
}
