//! Lists, texts and byte strings with a largest length, for `#[serde(deserialize_with)]` in the message table.
//!
//! Without these a peer could turn one byte (an empty inner list) into 24 bytes of memory. A byte inside a text costs a
//! byte of message, so texts that stand inside a bounded list need no bound of their own.

use crate::golden::is_tolerance;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serializer};

/// At most `N` elements.
pub(crate) fn list<'de, const N: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    List { most: N, element: PhantomData }.deserialize(deserializer)
}

/// At most `N` lists of at most `M` elements each.
pub(crate) fn lists<'de, const N: usize, const M: usize, T, D>(
    deserializer: D,
) -> Result<Vec<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    List { most: N, element: List { most: M, element: PhantomData } }.deserialize(deserializer)
}

/// At most `N` bytes of UTF-8.
pub(crate) fn text<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_str(Text::<N>)
}

/// At most `N` bytes, copied as one piece.
pub(crate) fn bytes<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_bytes(Bytes::<N>)
}

/// The counterpart of [`bytes`]: the same bytes on the wire as the derived form, without a call for each.
pub(crate) fn write_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// A number, neither infinite nor NaN.
pub(crate) fn finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let value = f32::deserialize(deserializer)?;
    if value.is_finite() { Ok(value) } else { Err(D::Error::custom("a number that is not finite")) }
}

/// A tolerance that means something.
pub(crate) fn tolerance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let value = f32::deserialize(deserializer)?;
    if is_tolerance(value) { Ok(value) } else { Err(D::Error::custom("a tolerance out of bounds")) }
}

#[derive(Clone)]
struct List<E> {
    most: usize,
    element: E,
}

impl<'de, E: DeserializeSeed<'de> + Clone> DeserializeSeed<'de> for List<E> {
    type Value = Vec<E::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: DeserializeSeed<'de> + Clone> Visitor<'de> for List<E> {
    type Value = Vec<E::Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "at most {} elements", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let announced = sequence.size_hint().unwrap_or(0);
        if announced > self.most {
            return Err(A::Error::invalid_length(announced, &self));
        }
        // An element takes at least a byte of message, so this list cannot come to more than the message announced;
        // memory still follows the elements that really came, not the announcement.
        let mut list = Vec::with_capacity(announced.min(FIRST_ELEMENTS));
        while let Some(element) = sequence.next_element_seed(self.element.clone())? {
            if list.len() == self.most {
                return Err(A::Error::invalid_length(self.most + 1, &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}

/// Elements to make room for before the first one has come: the samples of a usual process.
const FIRST_ELEMENTS: usize = 512;

struct Text<const N: usize>;

impl<const N: usize> Visitor<'_> for Text<N> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "at most {N} bytes of text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        if text.len() > N { Err(E::invalid_length(text.len(), &self)) } else { Ok(String::from(text)) }
    }
}

struct Bytes<const N: usize>;

impl<const N: usize> Visitor<'_> for Bytes<N> {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "at most {N} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        if bytes.len() > N { Err(E::invalid_length(bytes.len(), &self)) } else { Ok(Vec::from(bytes)) }
    }
}
