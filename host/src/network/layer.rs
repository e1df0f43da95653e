//! What a node of the graph computes: its hyper-parameters, never its weights.
//!
//! To add an operation: one variant here. The compiler then names every `match` that needs an arm, since no file of this
//! program tells layers apart in another way (a test sees to it): shapes, costs, tensors, channel groups, surgery, the
//! policies' state, the reference forward pass, the trainer's plan, the ONNX writer and reader.

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

/// Facts about a kind of layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Values that it reads.
    pub operands: usize,
    /// Each value of the result comes from the one at its own place: a unit takes such a layer along, and a stride that is
    /// owed passes through it.
    pub element_wise: bool,
    /// Engines write the result over the operand if nothing else reads that.
    pub in_place: bool,
    /// Does nothing in a finished model.
    pub training_only: bool,
    /// Adds its operands up: where a residual block ends.
    pub sum: bool,
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

    /// The facts that shapes, surgery, costs and files go by: one row a kind.
    pub fn nature(&self) -> Nature {
        let plain = Nature { operands: 1, ..Nature::default() };
        let element_wise = Nature { element_wise: true, in_place: true, ..plain };
        match self {
            Self::Input(_) => Nature { operands: 0, ..plain },
            Self::Conv(_)
            | Self::MaxPool(_)
            | Self::AveragePool(_)
            | Self::GlobalAveragePool
            | Self::Linear(_)
            | Self::Softmax => plain,
            Self::BatchNorm(_) | Self::Activation(_) => element_wise,
            Self::Dropout(_) => Nature { training_only: true, ..element_wise },
            Self::Flatten => Nature { in_place: true, ..plain },
            Self::Add => Nature { operands: 2, sum: true, ..plain },
        }
    }

    /// How many inputs the operation takes.
    pub fn arity(&self) -> usize {
        self.nature().operands
    }

    /// The window that slides over a map.
    pub fn window(&self) -> Option<Pool> {
        match *self {
            Self::Conv(Conv { kernel, stride, padding, .. }) => Some(Pool { kernel, stride, padding }),
            Self::MaxPool(pool) | Self::AveragePool(pool) => Some(pool),
            Self::Input(_)
            | Self::BatchNorm(_)
            | Self::Activation(_)
            | Self::GlobalAveragePool
            | Self::Flatten
            | Self::Linear(_)
            | Self::Add
            | Self::Dropout(_)
            | Self::Softmax => None,
        }
    }

    /// Its hyper-parameters, if it is a convolution.
    pub fn convolution(&self) -> Option<&Conv> {
        match self {
            Self::Conv(conv) => Some(conv),
            Self::Input(_)
            | Self::BatchNorm(_)
            | Self::Activation(_)
            | Self::MaxPool(_)
            | Self::AveragePool(_)
            | Self::GlobalAveragePool
            | Self::Flatten
            | Self::Linear(_)
            | Self::Add
            | Self::Dropout(_)
            | Self::Softmax => None,
        }
    }

    /// Its hyper-parameters to change, if it is a convolution.
    pub fn convolution_mut(&mut self) -> Option<&mut Conv> {
        if let Self::Conv(conv) = self { Some(conv) } else { None }
    }

    /// Its hyper-parameters, if it is a batch normalisation.
    pub fn batch_norm(&self) -> Option<&BatchNorm> {
        if let Self::BatchNorm(norm) = self { Some(norm) } else { None }
    }

    /// Its function, if it is an activation.
    pub fn activation(&self) -> Option<Activation> {
        if let Self::Activation(activation) = self { Some(*activation) } else { None }
    }
}
