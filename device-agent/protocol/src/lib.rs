//! What host and agent say to each other.
//!
//! ```text
//! messages   THE table of requests and replies          limits   how large anything may be
//! board      what a board is and does                    model    what a file is and how it is run
//! plan       what is asked to be run                     measurement  what came of it
//! deployment bundles and slots                           golden   the right answer, and its check
//! failure    why there is no answer                      blob     bytes with a largest length
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

mod blob;
mod board;
mod bounded;
mod bundle;
#[cfg(feature = "noise")]
pub mod channel;
pub mod codec;
mod deployment;
mod digest;
mod failure;
pub mod generator;
pub mod golden;
#[cfg(feature = "noise")]
pub mod handshake;
#[cfg(feature = "noise")]
pub mod key;
pub mod limits;
pub mod line;
mod measurement;
pub mod messages;
mod model;
mod plan;
pub mod text;
pub mod version;

pub use blob::Bytes;
pub use board::*;
pub use deployment::*;
pub use digest::{Digest, DigestError};
pub use failure::*;
pub use golden::Golden;
pub use measurement::*;
pub use messages::*;
pub use model::*;
pub use plan::*;
pub use version::{SCHEMA_HASH, VERSION};
