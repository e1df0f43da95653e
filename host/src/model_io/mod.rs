//! Model files: named weights, ONNX in and out, safetensors, and a slow reference forward pass.

pub mod reference;
pub mod weights;

pub use weights::{Array, Weights, WeightsError};
