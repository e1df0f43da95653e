//! The light agent on the board: says what the board is, measures candidates in fresh worker processes, and holds the
//! student that was shipped to it.

pub mod allocator;
pub mod cancel;
pub mod worker_command;

pub use cancel::{Cancel, Canceller};
pub use worker_command::WorkerCommand;
