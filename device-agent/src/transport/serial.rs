//! A serial device: what a listener is for TCP. The line below it is the protocol's, the port and its threads are shared
//! with the host; here it meets the sessions' way of reading and writing.

use n2n_serial::{Listener, Settings, Stream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Connections that wait for the server. There is one at a time, and hosts that give up leave others behind.
const WAITING: usize = 4;

/// A device that is served.
#[derive(Debug)]
pub struct SerialListener {
    settings: Settings,
    connections: mpsc::Receiver<Stream>,
    _line: Listener,
}

impl SerialListener {
    /// Serve a device, whether it is there already or not.
    ///
    /// # Errors
    /// The system's, when it has no thread for it.
    pub fn bind(settings: Settings) -> io::Result<Self> {
        let (arrived, connections) = mpsc::channel(WAITING);
        // What does not fit is dropped, and closed by that.
        let line = n2n_serial::listen(settings.clone(), move |stream| drop(arrived.try_send(stream)))?;
        Ok(Self { settings, connections, _line: line })
    }

    /// The next connection. Cancel-safe.
    pub async fn accept(&mut self) -> SerialStream {
        match self.connections.recv().await {
            Some(stream) => SerialStream(stream),
            // The line's thread ends with this listener only.
            None => std::future::pending().await,
        }
    }

    /// Which device, and how fast.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A connection over a serial device.
#[derive(Debug)]
pub struct SerialStream(Stream);

impl AsyncRead for SerialStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let read = self.0.poll_read(context.waker(), buffer.initialize_unfilled());
        read.map_ok(|read| buffer.advance(read))
    }
}

impl AsyncWrite for SerialStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(context.waker(), bytes)
    }

    /// What the line has taken, it delivers or loses the connection.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        self.0.close();
        Poll::Ready(Ok(()))
    }
}
