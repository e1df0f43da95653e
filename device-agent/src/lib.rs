//! The light agent on the board: says what the board is, measures candidates in fresh worker processes, and holds the
//! student that was shipped to it.

pub mod allocator;
pub mod cancel;
pub mod engine;
pub mod golden;
pub mod measure;
pub mod probe;
pub mod slots;
pub mod statistics;
pub mod store;
pub mod weightless;
pub mod worker;
pub mod worker_command;

mod disturbance;
mod sampling;
#[cfg(test)]
mod test_models;
mod worker_job;
mod worker_limits;
mod worker_process;

pub use cancel::{Cancel, Canceller};
pub use worker_command::WorkerCommand;
