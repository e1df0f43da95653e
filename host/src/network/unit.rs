//! Units: what one keep/remove bit of the removal policy applies to. Which removals are allowed is `surgery::mask`'s.

use super::block::{self, Block};
use super::layer::Pool;
use super::{Network, NodeId};

/// What a unit is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// A convolution with the batch norm, activation and dropout that follow it.
    Conv,
    /// A residual block with the activation after its add.
    Residual,
    /// A max or average pool.
    Pool,
}

/// One removable piece of a network, with the facts that the policy's state is made of (docs/method.md#policies).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Name of the convolution or pool; of a block, its add's name without `.add`.
    pub name: String,
    /// What it is.
    pub kind: UnitKind,
    /// Its nodes, ascending.
    pub nodes: Vec<NodeId>,
    /// Window of the (block's first) convolution or of the pool, pixels.
    pub kernel: usize,
    /// Step from the unit's input to its output, pixels.
    pub stride: usize,
    /// Padding of the (block's first) convolution or of the pool, pixels.
    pub padding: usize,
    /// Channels read.
    pub in_channels: usize,
    /// Channels written.
    pub out_channels: usize,
    /// A skip connection starts here: at a block's input, or at another unit's output.
    pub skip_start: bool,
    /// A skip connection ends here: in a block's add, or in an add that reads another unit's output.
    pub skip_end: bool,
}

/// A unit with what surgery needs to bypass it.
pub(super) struct Part {
    pub(super) unit: Unit,
    /// For [`UnitKind::Residual`].
    pub(super) block: Option<Block>,
    /// The value that readers get instead when the unit goes.
    pub(super) input: NodeId,
    /// The node whose readers must be rewired.
    pub(super) output: NodeId,
}

impl Network {
    /// Units in execution order. Linear layers, global pools and adds outside of recognised blocks belong to none.
    pub fn units(&self) -> Vec<Unit> {
        parts(self).into_iter().map(|part| part.unit).collect()
    }
}

/// Units in execution order, ready for surgery.
pub(super) fn parts(network: &Network) -> Vec<Part> {
    let consumers = network.consumers();
    let blocks = block::find(network, &consumers);
    let nodes = network.nodes();
    let mut in_block = vec![false; nodes.len()];
    let mut parts: Vec<Part> = Vec::new();
    for block in blocks {
        block.nodes().into_iter().for_each(|id| in_block[id] = true);
        parts.push(block_part(network, block));
    }
    let forks: Vec<NodeId> = parts.iter().map(|part| part.input).collect();
    for (id, node) in nodes.iter().enumerate().filter(|&(id, _)| !in_block[id]) {
        let Some(Pool { kernel, stride, padding }) = node.layer.window() else { continue };
        let kind = if node.layer.convolution().is_some() { UnitKind::Conv } else { UnitKind::Pool };
        let tail = block::tail_of(network, &consumers, id, |layer| {
            kind == UnitKind::Conv && layer.nature().element_wise
        });
        let output = tail.last().copied().unwrap_or(id);
        parts.push(Part {
            unit: Unit {
                name: node.name.clone(),
                kind,
                kernel,
                stride,
                padding,
                in_channels: network.shapes()[node.inputs[0]].channels(),
                out_channels: network.shapes()[id].channels(),
                skip_start: forks.contains(&output),
                skip_end: consumers[output]
                    .iter()
                    .any(|&reader| nodes[reader].layer.nature().sum && !in_block[reader]),
                nodes: std::iter::once(id).chain(tail).collect(),
            },
            block: None,
            input: node.inputs[0],
            output,
        });
    }
    parts.sort_by_key(|part| part.unit.nodes[0]);
    parts
}

fn block_part(network: &Network, block: Block) -> Part {
    let nodes = network.nodes();
    let name = &nodes[block.add].name;
    let (kernel, padding) = block
        .main
        .iter()
        .find_map(|&id| nodes[id].layer.convolution())
        .map_or((1, 0), |conv| (conv.kernel, conv.padding));
    Part {
        unit: Unit {
            name: name.strip_suffix(".add").unwrap_or(name).to_owned(),
            kind: UnitKind::Residual,
            nodes: block.nodes(),
            kernel,
            stride: block.stride(network),
            padding,
            in_channels: network.shapes()[block.fork].channels(),
            out_channels: network.shapes()[block.add].channels(),
            skip_start: true,
            skip_end: true,
        },
        input: block.fork,
        output: block.output(),
        block: Some(block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};

    const CIFAR: Input = Input { channels: 3, height: 32, width: 32 };

    #[test]
    fn vgg_units_are_its_convolutions_and_pools_in_order() {
        let network = build(Architecture::Vgg11, CIFAR, 10, 0.1).unwrap();
        let names: Vec<String> = network.units().into_iter().map(|unit| unit.name).collect();
        let expected =
            "conv1_1 pool1 conv2_1 pool2 conv3_1 conv3_2 pool3 conv4_1 conv4_2 pool4 conv5_1 conv5_2 pool5";
        assert_eq!(names.join(" "), expected);
        assert_eq!(network.units()[0].nodes.len(), 3);
    }

    #[test]
    fn resnet_facts_are_those_of_the_block() {
        let network = build(Architecture::Resnet18, CIFAR, 10, 1.0).unwrap();
        let units = network.units();
        assert_eq!(units.len(), 9);
        let down = units.iter().find(|unit| unit.name == "layer2.0").unwrap();
        assert_eq!((down.kind, down.kernel, down.stride, down.padding), (UnitKind::Residual, 3, 2, 1));
        assert_eq!((down.in_channels, down.out_channels, down.nodes.len()), (64, 128, 9));
        assert!(units[0].skip_start && !units[0].skip_end, "the stem feeds a skip");
    }
}
