//! The network as a list of steps: what to run, over which values, with which variables; fused where one pass will do.
//!
//! Pure: no tensor, no device. A batch norm or an addition takes the activation that alone reads it into its own step; a
//! convolution knows the batch norm that alone reads it, so that evaluation can fold the two.

use crate::network::layer::{Activation, Conv, Pool};
use crate::network::{Layer, Network};

use super::{TrainingError, mismatch};

/// One step of the forward pass.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) operation: Operation,
    /// Values read, by node id.
    pub(super) inputs: Vec<usize>,
    /// Value written, by node id.
    pub(super) output: usize,
}

/// What a step computes; numbers are indices of variables and of batch-norm statistics.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Convolution { conv: Conv, weight: usize, bias: Option<usize>, norm_step: Option<usize> },
    BatchNorm { norm: NormStep, activation: Option<Activation> },
    Activation(Activation),
    Add(Option<Activation>),
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAverage,
    Flatten { is_map: bool },
    Linear { weight: usize, bias: Option<usize> },
    Dropout(f64),
}

/// A batch norm's places.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormStep {
    pub(super) scale: usize,
    pub(super) shift: usize,
    pub(super) statistics: usize,
    pub(super) epsilon: f64,
}

/// All steps, in order.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Node whose value the logits are.
    pub(super) logits: usize,
    /// For each node id, the last step that reads its value.
    pub(super) last_read: Vec<usize>,
}

impl Plan {
    /// Plans `network`. Variables are numbered as its trained parameters come, statistics as its batch norms come.
    ///
    /// # Errors
    /// A softmax that is not the last layer.
    pub(super) fn new(network: &Network) -> Result<Self, TrainingError> {
        let nodes = network.nodes();
        let consumers = network.consumers();
        let only_reader = |id: usize| match consumers[id].as_slice() {
            &[reader] => Some(reader),
            _ => None,
        };
        let fused_activation = |id: usize| {
            let reader = only_reader(id)?;
            nodes[reader].layer.activation().map(|activation| (reader, activation))
        };
        let (mut steps, mut variables, mut norms) = (Vec::new(), 0, 0);
        let mut taken = vec![false; nodes.len()];
        let mut logits = nodes.len() - 1;
        for (id, node) in nodes.iter().enumerate() {
            if taken[id] {
                continue;
            }
            let mut output = id;
            let mut variable = || {
                variables += 1;
                variables - 1
            };
            let mut fuse = || {
                fused_activation(id).map(|(reader, activation)| {
                    (taken[reader], output) = (true, reader);
                    activation
                })
            };
            let operation = match &node.layer {
                Layer::Input(_) => continue,
                Layer::Softmax if id == nodes.len() - 1 => {
                    logits = node.inputs[0];
                    continue;
                }
                Layer::Softmax => {
                    return Err(mismatch(
                        "softmax",
                        "the last layer",
                        format!("`{}` before others", node.name),
                    ));
                }
                Layer::Conv(conv) => {
                    let weight = variable();
                    Operation::Convolution {
                        conv: *conv,
                        weight,
                        bias: conv.bias.then(variable),
                        norm_step: None,
                    }
                }
                Layer::BatchNorm(norm) => {
                    norms += 1;
                    let norm = NormStep {
                        scale: variable(),
                        shift: variable(),
                        statistics: norms - 1,
                        epsilon: norm.epsilon,
                    };
                    Operation::BatchNorm { norm, activation: fuse() }
                }
                Layer::Activation(activation) => Operation::Activation(*activation),
                Layer::Add => Operation::Add(fuse()),
                Layer::MaxPool(pool) => Operation::MaxPool(*pool),
                Layer::AveragePool(pool) => Operation::AveragePool(*pool),
                Layer::GlobalAveragePool => Operation::GlobalAverage,
                Layer::Flatten => Operation::Flatten {
                    is_map: matches!(network.shapes()[node.inputs[0]], crate::network::Shape::Map { .. }),
                },
                Layer::Linear(linear) => {
                    let weight = variable();
                    Operation::Linear { weight, bias: linear.bias.then(variable) }
                }
                Layer::Dropout(dropout) => Operation::Dropout(dropout.probability),
            };
            steps.push(Step { operation, inputs: node.inputs.clone(), output });
        }
        for index in 0..steps.len() {
            let (output, reader) = (steps[index].output, only_reader(steps[index].output));
            let norm = (index + 1..steps.len()).find(|&later| {
                reader.is_some()
                    && steps[later].inputs == [output]
                    && matches!(steps[later].operation, Operation::BatchNorm { .. })
            });
            if let Operation::Convolution { norm_step, .. } = &mut steps[index].operation {
                *norm_step = norm;
            }
        }
        let mut last_read = vec![0; nodes.len()];
        for (index, step) in steps.iter().enumerate() {
            step.inputs.iter().for_each(|&input| last_read[input] = index);
        }
        last_read[logits] = usize::MAX;
        Ok(Self { steps, logits, last_read })
    }
}
