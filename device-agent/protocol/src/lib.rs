//! What host and agent say to each other.
//!
//! `no_std` + `alloc`: the same crate will run in a microcontroller's firmware.
#![no_std]

extern crate alloc;

pub mod messages;

pub use messages::*;

/// First bytes of the digest of the message table; see `messages`.
pub const SCHEMA_HASH: [u8; 8] = [0; 8];
