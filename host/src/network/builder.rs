//! Building a network layer by layer: each call reads the channels of its operand, so that a zoo model, a test or an
//! importer states only what is its own choice.

use super::layer::{Activation, BatchNorm, Conv, Dropout, Input, Layer, Linear, Pool};
use super::{Network, NetworkError, Node, NodeId, Shape, shape};

/// PyTorch's default, which every published CIFAR model uses.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Nodes so far, with their shapes.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

/// The choices of a dense convolution; its input channels come from the operand.
#[derive(Clone, Copy, Debug)]
pub struct ConvChoice {
    /// Channels written.
    pub out_channels: usize,
    /// Edge of the window, pixels.
    pub kernel: usize,
    /// Step, pixels.
    pub stride: usize,
    /// Zeros on each side, pixels.
    pub padding: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Builder {
    /// The image, as node 0.
    ///
    /// # Errors
    /// An image of no or too many pixels.
    pub fn new(input: Input) -> Result<Self, NetworkError> {
        let mut builder = Self { nodes: Vec::new(), shapes: Vec::new() };
        builder.push("input", Layer::Input(input), &[])?;
        Ok(builder)
    }

    /// Adds any layer.
    ///
    /// # Errors
    /// Operands that do not exist or do not fit.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        layer: Layer,
        inputs: &[NodeId],
    ) -> Result<NodeId, NetworkError> {
        let name = name.into();
        let operands: Vec<Shape> =
            inputs.iter().filter_map(|&input| self.shapes.get(input).copied()).collect();
        if operands.len() != layer.arity() || inputs.len() != layer.arity() {
            return Err(NetworkError::Operands {
                node: name,
                kind: layer.kind(),
                expected: layer.arity(),
                got: inputs.to_vec(),
            });
        }
        self.shapes.push(shape::infer(&name, &layer, &operands)?);
        self.nodes.push(Node { name, layer, inputs: inputs.to_vec() });
        Ok(self.nodes.len() - 1)
    }

    /// A dense convolution of `from`.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn conv(
        &mut self,
        name: impl Into<String>,
        from: NodeId,
        choice: ConvChoice,
    ) -> Result<NodeId, NetworkError> {
        let ConvChoice { out_channels, kernel, stride, padding, bias } = choice;
        let in_channels = self.channels(from);
        self.push(
            name,
            Layer::Conv(Conv { in_channels, out_channels, kernel, stride, padding, groups: 1, bias }),
            &[from],
        )
    }

    /// A depthwise 3x3 convolution of `from`, without bias.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn depthwise(
        &mut self,
        name: impl Into<String>,
        from: NodeId,
        stride: usize,
    ) -> Result<NodeId, NetworkError> {
        let channels = self.channels(from);
        let conv = Conv {
            in_channels: channels,
            out_channels: channels,
            kernel: 3,
            stride,
            padding: 1,
            groups: channels,
            bias: false,
        };
        self.push(name, Layer::Conv(conv), &[from])
    }

    /// Batch normalisation of `from`.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn batch_norm(&mut self, name: impl Into<String>, from: NodeId) -> Result<NodeId, NetworkError> {
        let norm = BatchNorm { channels: self.channels(from), epsilon: BATCH_NORM_EPSILON };
        self.push(name, Layer::BatchNorm(norm), &[from])
    }

    /// `max(0, x)`.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn relu(&mut self, name: impl Into<String>, from: NodeId) -> Result<NodeId, NetworkError> {
        self.push(name, Layer::Activation(Activation::Relu), &[from])
    }

    /// Maximum over windows of `kernel` without overlap or padding.
    ///
    /// # Errors
    /// As [`Builder::push`]; among them a map narrower than the window.
    pub fn max_pool(
        &mut self,
        name: impl Into<String>,
        from: NodeId,
        kernel: usize,
    ) -> Result<NodeId, NetworkError> {
        self.push(name, Layer::MaxPool(Pool { kernel, stride: kernel, padding: 0 }), &[from])
    }

    /// Dropout of `from`.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn dropout(
        &mut self,
        name: impl Into<String>,
        from: NodeId,
        probability: f64,
    ) -> Result<NodeId, NetworkError> {
        self.push(name, Layer::Dropout(Dropout { probability }), &[from])
    }

    /// A linear layer with bias; reads a vector.
    ///
    /// # Errors
    /// As [`Builder::push`].
    pub fn linear(
        &mut self,
        name: impl Into<String>,
        from: NodeId,
        out_features: usize,
    ) -> Result<NodeId, NetworkError> {
        let linear = Linear { in_features: self.channels(from), out_features, bias: true };
        self.push(name, Layer::Linear(linear), &[from])
    }

    /// Output shape of a node that was added.
    pub fn shape(&self, id: NodeId) -> Option<Shape> {
        self.shapes.get(id).copied()
    }

    /// The checked graph.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn finish(self) -> Result<Network, NetworkError> {
        Network::new(self.nodes)
    }

    /// 0 for a node that does not exist: `push` then names it.
    fn channels(&self, id: NodeId) -> usize {
        self.shape(id).map_or(0, Shape::channels)
    }
}
