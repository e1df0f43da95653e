//! A host's end: one connection to whoever waits at the other end of the device.

use crate::port::Settings;
use crate::pump::{Inner, Shared};
use crate::stream::Stream;
use n2n_protocol::line::{End, Line, Phase, Timing};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The device cannot be used.
    #[error("{device}: {error}")]
    Device {
        /// The device.
        device: String,
        /// The system's reason.
        error: io::Error,
    },
    /// No agent answers, or one of another version.
    #[error("{device} at {baud} baud: {end}")]
    NoAgent {
        /// The device.
        device: String,
        /// Bits in a second.
        baud: u32,
        /// What happened.
        end: End,
    },
}

/// Open the device and find the agent at its other end, by `until` at the latest.
///
/// # Errors
/// [`DialError`].
pub fn dial(settings: &Settings, until: Instant) -> Result<Stream, DialError> {
    let device = settings.device.display().to_string();
    let broken = |error| DialError::Device { device: device.clone(), error };
    let port = settings.open().map_err(broken)?;
    let connection = getrandom::u32().map_err(|error| broken(io::Error::other(error.to_string())))?;
    let line = Line::dial(Timing::of_baud(settings.baud), connection, Duration::ZERO);
    let shared = Shared::new(line);
    let pump = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("serial-line".to_owned()).spawn(move || {
        if let Some(error) = pump.pump(port, || ()) {
            tracing::warn!(%error, "the serial device failed");
        }
    });
    let stream = Stream::new(Arc::clone(&shared), connection, Some(thread.map_err(broken)?));
    shared.wait_until(until, |inner: &Inner| inner.line.phase() != Phase::Opening);
    let end = match shared.lock().line.phase() {
        Phase::Open => return Ok(stream),
        Phase::Ended(end) => end,
        Phase::Opening | Phase::Waiting => End::Unanswered,
    };
    Err(DialError::NoAgent { device, baud: settings.baud, end })
}
