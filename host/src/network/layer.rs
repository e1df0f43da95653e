//! What a node of the graph computes: its hyper-parameters, never its weights.
//!
//! To add an operation: one variant here, one arm in `shape.rs`, `cost.rs` and `parameter.rs`, one in the trainer's
//! `build` and one in the ONNX writer; the compiler names every place.

use serde::{Deserialize, Serialize};

/// The operation of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Layer {
    /// The image; always node 0, exactly once.
    Input(Input),
    /// 2-D convolution, square kernel, symmetric zero padding.
    Conv(Conv),
    /// Batch normalisation over the channels of a map.
    BatchNorm(BatchNorm),
    /// Element-wise non-linearity.
    Activation(Activation),
    /// Maximum over a window.
    MaxPool(Pool),
    /// Mean over a window; padding does not count in the mean.
    AveragePool(Pool),
    /// Mean over the whole map: `[C, H, W] -> [C]`.
    GlobalAveragePool,
    /// `[C, H, W] -> [C*H*W]`, channel-major.
    Flatten,
    /// `y = W x + b`.
    Linear(Linear),
    /// Sum of two maps of one shape.
    Add,
    /// Zeroes elements while training; the identity otherwise.
    Dropout(Dropout),
    /// Probabilities from logits; inference only.
    Softmax,
}

/// Image geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input {
    /// Colour planes.
    pub channels: usize,
    /// Rows, pixels.
    pub height: usize,
    /// Columns, pixels.
    pub width: usize,
}

/// Hyper-parameters of a convolution. Weight tensor: `[out_channels, in_channels / groups, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conv {
    /// Channels read.
    pub in_channels: usize,
    /// Channels written.
    pub out_channels: usize,
    /// Edge of the square window, pixels.
    pub kernel: usize,
    /// Step in both directions, pixels.
    pub stride: usize,
    /// Zero rows and columns added on each side.
    pub padding: usize,
    /// Independent channel groups; `in_channels` for depthwise.
    pub groups: usize,
    /// Whether a bias `[out_channels]` is added.
    pub bias: bool,
}

/// Batch normalisation. Tensors, all `[channels]`: weight, bias, running_mean, running_var.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNorm {
    /// Channels of the map.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Element-wise non-linearities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// `max(0, x)`.
    Relu,
    /// `min(6, max(0, x))`.
    Relu6,
}

/// Window of a pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pool {
    /// Edge of the square window, pixels.
    pub kernel: usize,
    /// Step, pixels.
    pub stride: usize,
    /// Padding on each side, pixels; smaller than the kernel.
    pub padding: usize,
}

/// Hyper-parameters of a linear layer. Weight tensor: `[out_features, in_features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Linear {
    /// Length of the vector read.
    pub in_features: usize,
    /// Length of the vector written.
    pub out_features: usize,
    /// Whether a bias `[out_features]` is added.
    pub bias: bool,
}

/// Dropout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// Share of elements zeroed, in `[0, 1)`.
    pub probability: f64,
}

impl Layer {
    /// The name that users meet in tables and errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Conv(_) => "conv",
            Self::BatchNorm(_) => "batch norm",
            Self::Activation(Activation::Relu) => "relu",
            Self::Activation(Activation::Relu6) => "relu6",
            Self::MaxPool(_) => "max pool",
            Self::AveragePool(_) => "average pool",
            Self::GlobalAveragePool => "global average pool",
            Self::Flatten => "flatten",
            Self::Linear(_) => "linear",
            Self::Add => "add",
            Self::Dropout(_) => "dropout",
            Self::Softmax => "softmax",
        }
    }

    /// How many inputs the operation takes.
    pub fn arity(&self) -> usize {
        match self {
            Self::Input(_) => 0,
            Self::Add => 2,
            _ => 1,
        }
    }
}
