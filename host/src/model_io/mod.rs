//! Model files: named weights, ONNX in and out, safetensors, and a slow reference forward pass.
//!
//! | module | what it holds |
//! |---|---|
//! | `weights` | tensors by name, checked against a network |
//! | `fold` | batch norm into convolutions: the numbers |
//! | `filled` | weights out of a seed, as a board makes them |
//! | `onnx` | the model file: written and read back |
//! | `foreign` | ONNX files of other programs, sent as they are |
//! | `safetensors` | weights alone |
//! | `reference` | a forward pass to compare everything with |
//! | `atomic_file` | the one way to write a file that matters |

// A new kind of layer, activation or tensor must be thought about wherever one is told from another.
#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

pub mod atomic_file;
mod filled;
pub mod fold;
pub mod foreign;
pub mod onnx;
pub mod reference;
pub mod safetensors;
pub mod weights;

pub use filled::filled;
pub use weights::{Array, Weights, WeightsError};

/// Little-endian bytes, as ONNX and safetensors keep numbers.
pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The numbers of little-endian bytes; a last incomplete one is dropped, so callers check the length.
pub(crate) fn values_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}
