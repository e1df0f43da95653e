//! ONNX files of other programs, sent to a board as they are: measured and shipped without knowing their layers.
//!
//! | file | what |
//! |---|---|
//! | `load` | the whole way: file to bytes that an engine can load |
//! | `recognise` | what a file is that is no ONNX |
//! | `external` | weights that lie in other files, put in |
//! | `sizes` | one input, batch 1, no open size left |
//! | `error` | why not, and what to do |
//!
//! The graph stays as it was written; importing one as a network is not here.

mod error;
mod external;
mod load;
mod recognise;
mod sizes;
#[cfg(test)]
mod tests;

pub use error::ForeignError;
pub use load::{Whole, is_ours, load};
pub(super) use recognise::recognise;
