//! The host's end of the wire: which board is meant, the link to it, and the calls.
//!
//! ```text
//! address   what a user writes: local, tcp://…, serial://…, or a name     home   where n2n keeps things of the user
//! book      names, addresses and keys of boards                           error, diagnostic  why a call has no answer
//! endpoint  address + key = something to connect to
//! patience  deadlines
//! client    the calls, with deadlines ─► exchange (one request until its answer) ─► link (Noise over TCP or a serial line) ─► local (an agent as a child process)
//! ```
//! A local board is spoken to exactly like a distant one. Nothing here scores a candidate: an error that is the link's
//! stays apart from one that is the student's.

mod address;
mod book;
mod client;
mod diagnostic;
mod endpoint;
mod error;
mod exchange;
mod home;
mod link;
mod local;
mod patience;

pub use address::{Address, AddressError, DEFAULT_PORT};
pub use book::{Book, BookError, Entry};
pub use client::Client;
pub use endpoint::Endpoint;
pub use error::{BoardError, Hurdle};
pub use home::Home;
pub use local::LocalProgram;
pub use n2n_protocol::key::{Key, KeyError};
pub use n2n_serial::Settings as SerialSettings;
pub use patience::Patience;
