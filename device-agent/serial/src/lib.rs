//! A serial port as an ordered stream of bytes: the port and its threads around the protocol's line, for both ends.
//!
//! ```text
//! port     opens a device            pump     two threads a port: bytes in, bytes out
//! dial     a host's end, at once     listen   an agent's end, for ever: waits for the device, for hosts, for the next one
//! stream   one connection: blocking with a deadline, or polled
//! ```
//! It must not know what the bytes mean. Host and agent share it, and nothing else but the protocol.

mod dial;
mod listen;
mod port;
mod pump;
mod stream;

pub use dial::{DialError, dial};
pub use listen::{Listener, listen};
pub use n2n_protocol::line::{DEFAULT_BAUD, MAX_BAUD, MIN_BAUD};
pub use port::Settings;
pub use stream::Stream;
