//! A byte string with a largest length: copied as one piece, refused before it costs memory.

use crate::bounded::{bytes, write_bytes};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use postcard_schema::Schema;
use postcard_schema::schema::NamedType;
use serde::{Deserialize, Serialize};

/// At most `N` bytes. On the wire a length and the bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes<const N: usize>(
    #[serde(serialize_with = "write_bytes", deserialize_with = "bytes::<N, _>")] pub Vec<u8>,
);

impl<const N: usize> Schema for Bytes<N> {
    const SCHEMA: &'static NamedType = Vec::<u8>::SCHEMA;
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> From<Vec<u8>> for Bytes<N> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    /// The length alone: the bytes of a model say nothing to a reader of a log.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}
