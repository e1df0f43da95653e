//! The table of tensors that each layer owns: the one place that names them and gives their shapes.

use super::layer::Layer;
use super::{Network, Node};

/// What a tensor is to its layer; decides initial value, weight decay and file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Kernel of a convolution or matrix of a linear layer.
    Weight,
    /// Additive term of a convolution or linear layer.
    Bias,
    /// Batch-norm scale.
    Scale,
    /// Batch-norm shift.
    Shift,
    /// Batch-norm running mean; not trained by gradient.
    RunningMean,
    /// Batch-norm running variance; not trained by gradient.
    RunningVariance,
}

impl Role {
    /// Suffix of the tensor's name, the one PyTorch uses.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Weight | Self::Scale => "weight",
            Self::Bias | Self::Shift => "bias",
            Self::RunningMean => "running_mean",
            Self::RunningVariance => "running_var",
        }
    }

    /// Whether gradient descent changes it; statistics are not counted as parameters either.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVariance)
    }
}

/// One tensor of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `node.suffix`, for example `layer1.0.conv1.weight`.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// Values that one output element sums over (He initialisation); 1 for vectors.
    pub fan_in: usize,
}

impl Node {
    /// The tensors of this node, in their fixed order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let one = |role: Role, dims: Vec<usize>, fan_in| Parameter {
            name: format!("{}.{}", self.name, role.suffix()),
            role,
            dims,
            fan_in,
        };
        match &self.layer {
            Layer::Conv(conv) => {
                let inputs = conv.in_channels / conv.groups;
                let mut all = vec![one(
                    Role::Weight,
                    vec![conv.out_channels, inputs, conv.kernel, conv.kernel],
                    inputs * conv.kernel * conv.kernel,
                )];
                if conv.bias {
                    all.push(one(Role::Bias, vec![conv.out_channels], 1));
                }
                all
            }
            Layer::Linear(linear) => {
                let mut all = vec![one(
                    Role::Weight,
                    vec![linear.out_features, linear.in_features],
                    linear.in_features,
                )];
                if linear.bias {
                    all.push(one(Role::Bias, vec![linear.out_features], 1));
                }
                all
            }
            Layer::BatchNorm(norm) => [Role::Scale, Role::Shift, Role::RunningMean, Role::RunningVariance]
                .map(|role| one(role, vec![norm.channels], 1))
                .into(),
            Layer::Input(_)
            | Layer::Activation(_)
            | Layer::MaxPool(_)
            | Layer::AveragePool(_)
            | Layer::GlobalAveragePool
            | Layer::Flatten
            | Layer::Add
            | Layer::Dropout(_)
            | Layer::Softmax => Vec::new(),
        }
    }
}

impl Network {
    /// All tensors, in node order.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes().iter().flat_map(Node::parameters).collect()
    }
}
