//! How large anything in a model file may be, and the checks that say so before memory is spent on it.

use super::error::{ReadError, wrong};

/// Everything in a file but the numbers of its tensors, bytes. Parsing can take some hundred times that much memory; the
/// largest network of the zoo needs 40 KB.
pub(super) const MAX_STRUCTURE_BYTES: u64 = 2 << 20;
/// Operators: ten times ResNet-152.
pub(super) const MAX_NODES: usize = 5_000;
/// Any dimension, stride, padding or count in a file: their products stay far inside 64 bits.
pub(super) const MAX_DIM: usize = 1 << 20;
/// Rows and columns of the image, and all padding of a network together: maps grow by nothing else.
pub(super) const MAX_EDGE: usize = 1 << 14;

/// # Errors
/// [`ReadError::TooLarge`], which names `what`.
pub(super) fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), ReadError> {
    if got <= limit {
        Ok(())
    } else {
        Err(ReadError::TooLarge { what, limit: limit as u64, got: got as u64 })
    }
}

/// A number of the file as a size.
///
/// # Errors
/// It is negative or larger than [`MAX_DIM`].
pub(super) fn bounded(value: i64, place: &impl Fn() -> String) -> Result<usize, ReadError> {
    match usize::try_from(value) {
        Ok(value) if value <= MAX_DIM => Ok(value),
        _ => Err(wrong(place(), format!("a number from 0 to {MAX_DIM}"), value.to_string())),
    }
}
