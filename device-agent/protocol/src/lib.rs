//! What host and agent say to each other.
//!
//! ```text
//! messages   THE table of requests and replies          limits   how large anything may be
//! codec      one message <-> bytes (postcard)           bounded  list lengths, checked before they cost memory
//! handshake  how a connection begins, both roles        channel  bytes <-> Noise records, after that
//! key        the secret that a host and a board share   text     texts of a peer, safe to print
//! version    who understands whom, schema hash          digest   names of blobs
//! generator  weights and inputs out of a seed           bundle   the bytes that a signature covers
//! line       a serial line as an ordered stream of bytes, below the channel
//! ```
//!
//! `no_std` + `alloc`, no I/O, no clock: the same crate will run in a microcontroller's firmware. Handshake, channel and
//! key alone need feature `noise`.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bounded;
mod bundle;
#[cfg(feature = "noise")]
pub mod channel;
pub mod codec;
mod digest;
pub mod generator;
#[cfg(feature = "noise")]
pub mod handshake;
#[cfg(feature = "noise")]
pub mod key;
pub mod limits;
pub mod line;
pub mod messages;
pub mod text;
pub mod version;

pub use digest::DigestError;
pub use messages::*;
pub use version::{SCHEMA_HASH, VERSION};
