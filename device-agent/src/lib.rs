//! The light agent on the board: says what the board is, measures candidates in fresh worker processes, and holds the
//! student that was shipped to it.
//!
//! ```text
//! cli ─► server ─► reception ─► session ─► handler ─► services ─► measure ─► worker (a process of its own) ─► engine
//!        accepts   strangers    one host   the seam   the verbs   store      slots      probe
//! ```
//! `key` and `parent` say whom to trust, `places` who has one and `room` holds them, `tally` counts who was turned away,
//! `audit` keeps what holders of keys did, `transport` how bytes come, `queue` whose turn it is at the board,
//! `ownership` whose data it is.

pub mod advice;
pub mod allocator;
pub mod audit;
pub mod cancel;
pub mod cli;
pub mod configuration;
pub mod data_folder;
pub mod deadlines;
pub mod doctor;
pub mod engine;
pub mod find_engines;
pub mod handler;
pub mod infer;
pub mod key;
pub mod log_tail;
pub mod measure;
pub mod ownership;
pub mod parent;
pub mod places;
pub mod prepare;
pub mod probe;
pub mod queue;
pub mod room;
pub mod scratch;
pub mod server;
pub mod services;
pub mod session;
pub mod slots;
pub mod statistics;
pub mod store;
pub mod tally;
pub mod transport;
pub mod watchdog;
pub mod weightless;
pub mod worker;
pub mod worker_command;

mod blocking;
mod board_memory;
mod descriptors;
mod disturbance;
mod kept_turn;
mod link;
mod medium;
mod outside;
mod plan_check;
mod reception;
mod sampling;
#[cfg(test)]
mod test_models;
mod worker_job;
mod worker_limits;
mod worker_process;

pub use cancel::{Cancel, Canceller};
pub use worker_command::WorkerCommand;
