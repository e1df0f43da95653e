//! Opening a device.

use n2n_protocol::line::{MAX_BAUD, MIN_BAUD};
use serialport::SerialPort;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Longest that a thread stays in the system before it looks whether it is still wanted. Twice five wakeups in a second
/// do not disturb a measurement.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// Which device, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The device file.
    pub device: PathBuf,
    /// Bits in a second; both ends have to be set to the same.
    pub baud: u32,
}

/// Both halves of a port.
pub(crate) struct Port {
    pub(crate) reader: Box<dyn SerialPort>,
    pub(crate) writer: Box<dyn SerialPort>,
}

impl Settings {
    /// Eight bits, no parity, no flow control, for nobody but us.
    pub(crate) fn open(&self) -> io::Result<Port> {
        if !(MIN_BAUD..=MAX_BAUD).contains(&self.baud) {
            let reason = format!("{} baud; {MIN_BAUD} to {MAX_BAUD} expected", self.baud);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let port = serialport::new(self.device.to_string_lossy(), self.baud).timeout(LOOK).open()?;
        // What others left in the system's buffers is not for us; frames of theirs would only be skipped.
        port.clear(serialport::ClearBuffer::All)?;
        Ok(Port { reader: port.try_clone()?, writer: port })
    }
}
