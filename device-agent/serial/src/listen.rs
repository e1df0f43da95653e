//! An agent's end: keeps the device open, and opens it again when it comes back.

use crate::port::Settings;
use crate::pump::{Inner, LINGER, Shared};
use crate::stream::Stream;
use n2n_protocol::line::{Line, Phase, Timing};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pause before a device is opened again, doubled while it does not come back.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause: somebody who plugs a cable in does not wait longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A device that is served. Dropped, it is let go.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Serve a device, there or not yet: `accept` gets every connection. There is one at a time; a new one ends the one before.
///
/// # Errors
/// The system has no thread for it.
pub fn listen(settings: Settings, accept: impl FnMut(Stream) + Send + 'static) -> io::Result<Listener> {
    let shared = Shared::new(Line::listen(Timing::of_baud(settings.baud)));
    let own = Arc::clone(&shared);
    let thread = std::thread::Builder::new()
        .name("serial-line".to_owned())
        .spawn(move || serve(&own, &settings, accept))?;
    Ok(Listener { shared, thread: Some(thread) })
}

fn serve(shared: &Arc<Shared>, settings: &Settings, mut accept: impl FnMut(Stream) + Send) {
    let device = settings.device.display();
    let mut known = None;
    let mut pause = FIRST_PAUSE;
    let mut complained = false;
    while !shared.lock().stop {
        let failure = match settings.open() {
            Ok(port) => {
                tracing::info!(%device, baud = settings.baud, "the serial device is open");
                (pause, complained) = (FIRST_PAUSE, false);
                shared.pump(port, || {
                    let connection = shared.lock().line.connection();
                    if connection != known
                        && let Some(number) = connection
                    {
                        accept(Stream::new(Arc::clone(shared), number, None));
                    }
                    known = connection.or(known);
                })
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
            // Once: a device that is not plugged in is no news every three seconds.
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(%device, %error, "the serial device cannot be used; waiting for it");
            }
            shared.wait_until(Instant::now() + pause, |inner: &Inner| inner.stop);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Sessions that have just ended closed theirs.
        let closed = |inner: &Inner| inner.line.phase() != Phase::Open;
        self.shared.wait_until(Instant::now() + LINGER, closed);
        self.shared.change(|inner| inner.stop = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
