//! Sizes and times that both directions of a line keep to.

use core::time::Duration;

/// Received bytes that wait for the application: two windows.
pub(super) const RECEIVE_BYTES: u16 = 16 << 10;

/// Bytes that wait to be sent or confirmed: two windows, so that the line never waits for the application.
pub(super) const SEND_BYTES: usize = 16 << 10;

/// Bytes that are repeated for this long and not confirmed end a connection, though the peer can be heard.
pub const STUCK: Duration = Duration::from_secs(20);

/// Largest payload, bytes: around it are some 25 bytes, 2.4 %, and one wrong bit costs no more than this.
pub(super) const MAX_FRAME: usize = 1024;

/// Smallest payload, bytes: on a line where one byte in a hundred is wrong, every second such frame comes through.
pub(super) const MIN_FRAME: usize = 32;
