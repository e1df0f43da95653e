//! Coupled channel groups: channels that must be cut together for the graph to stay legal (DepGraph's idea).
//!
//! Union-find over the channel axis of every node's output. Adds tie their operands; batch norm, activation, pooling and
//! depthwise convolution follow theirs; flatten maps a channel to a block of `height * width` features.

use super::layer::{Conv, Layer};
use super::{Network, NodeId, Parameter, Role, Shape};

/// How a node takes part in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its output channels are the group's: a convolution or linear layer, cut along axis 0.
    Output,
    /// It reads the group's channels: a convolution or linear layer, its weight cut along axis 1.
    Input,
    /// Channel by channel: batch norm or depthwise convolution, cut along axis 0.
    Through,
}

/// One node that owns tensors which the group cuts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its part.
    pub side: Side,
    /// Consecutive tensor indices that belong to one channel; above 1 only behind a flatten.
    pub block: usize,
}

/// Channels that are kept or removed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name of `first`.
    pub name: String,
    /// How many channels.
    pub channels: usize,
    /// False for the image's channels, the logits, and channels tied to either or to a grouped convolution.
    pub shrinkable: bool,
    /// Convolutions and linear layers whose outputs are cut, ascending.
    pub producers: Vec<NodeId>,
    /// Every node whose tensors are cut, ascending by node.
    pub members: Vec<Member>,
    /// The first producer in execution order, where the one decision for the group is taken; the image for its own.
    pub first: NodeId,
}

impl Member {
    /// The tensors of `network` that this member cuts, with the axis.
    pub fn cuts(&self, network: &Network) -> Vec<(Parameter, usize)> {
        let parameters = network.nodes()[self.node].parameters();
        match self.side {
            Side::Output | Side::Through => parameters.into_iter().map(|parameter| (parameter, 0)).collect(),
            Side::Input => parameters
                .into_iter()
                .filter(|parameter| parameter.role == Role::Weight)
                .map(|parameter| (parameter, 1))
                .collect(),
        }
    }

    /// The tensor indices of the kept channels.
    pub fn indices(&self, kept: &[usize]) -> Vec<usize> {
        kept.iter().flat_map(|&channel| channel * self.block..(channel + 1) * self.block).collect()
    }
}

impl Network {
    /// All groups, by `first`. Every channel axis of the graph belongs to exactly one.
    pub fn groups(&self) -> Vec<Group> {
        let axes = Axes::of(self);
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of_root = vec![usize::MAX; self.nodes().len()];
        for id in 0..self.nodes().len() {
            let root = axes.root(id);
            if group_of_root[root] == usize::MAX {
                group_of_root[root] = groups.len();
                groups.push(Group {
                    name: String::new(),
                    channels: self.shapes()[id].channels() / axes.block[id],
                    shrinkable: !axes.fixed[root],
                    producers: Vec::new(),
                    members: Vec::new(),
                    first: id,
                });
            }
            let mut join = |axis: NodeId, side: Side| {
                let group = &mut groups[group_of_root[axes.root(axis)]];
                group.members.push(Member { node: id, side, block: axes.block[axis] });
                if side == Side::Output {
                    group.producers.push(id);
                }
            };
            let inputs = &self.nodes()[id].inputs;
            match &self.nodes()[id].layer {
                Layer::BatchNorm(_) => join(id, Side::Through),
                Layer::Conv(conv) if is_depthwise(conv) => join(id, Side::Through),
                // The input axis of a grouped weight is not the operand's: nothing of it is ever cut.
                Layer::Conv(conv) if conv.groups > 1 => join(id, Side::Output),
                Layer::Conv(_) | Layer::Linear(_) => {
                    join(inputs[0], Side::Input);
                    join(id, Side::Output);
                }
                // They take their operand's axis as it is.
                Layer::Input(_)
                | Layer::Activation(_)
                | Layer::MaxPool(_)
                | Layer::AveragePool(_)
                | Layer::GlobalAveragePool
                | Layer::Flatten
                | Layer::Add
                | Layer::Dropout(_)
                | Layer::Softmax => {}
            }
        }
        for group in &mut groups {
            group.first = group.producers.first().copied().unwrap_or(group.first);
            group.name.clone_from(&self.nodes()[group.first].name);
        }
        groups.sort_by_key(|group| group.first);
        groups
    }
}

/// One filter per channel: its output follows its input.
pub(super) fn is_depthwise(conv: &Conv) -> bool {
    conv.groups > 1 && conv.groups == conv.in_channels && conv.in_channels == conv.out_channels
}

/// Union-find over node outputs.
struct Axes {
    /// Towards the root; a root is its own.
    towards: Vec<NodeId>,
    /// By root: may never be cut.
    fixed: Vec<bool>,
    /// By node: consecutive output elements per channel.
    block: Vec<usize>,
}

impl Axes {
    fn of(network: &Network) -> Self {
        let count = network.nodes().len();
        let mut axes =
            Self { towards: (0..count).collect(), fixed: vec![false; count], block: vec![1; count] };
        for (id, node) in network.nodes().iter().enumerate() {
            match &node.layer {
                Layer::Input(_) => axes.fix(id),
                Layer::Conv(conv) if is_depthwise(conv) => axes.tie(id, node.inputs[0]),
                Layer::Conv(conv) if conv.groups > 1 => {
                    axes.fix(id);
                    axes.fix(node.inputs[0]);
                }
                Layer::Conv(_) | Layer::Linear(_) => {}
                Layer::Flatten => {
                    axes.block[id] = match network.shapes()[node.inputs[0]] {
                        Shape::Map { height, width, .. } => height * width,
                        Shape::Vector { .. } => axes.block[node.inputs[0]],
                    };
                    axes.tie(id, node.inputs[0]);
                }
                Layer::Add => {
                    let [left, right] = [node.inputs[0], node.inputs[1]];
                    axes.block[id] = axes.block[left];
                    axes.tie(id, left);
                    axes.tie(id, right);
                    if axes.block[left] != axes.block[right] {
                        axes.fix(id);
                    }
                }
                // Softmax mixes its elements: without some of them the others change.
                Layer::Softmax => {
                    axes.block[id] = axes.block[node.inputs[0]];
                    axes.tie(id, node.inputs[0]);
                    axes.fix(id);
                }
                Layer::BatchNorm(_)
                | Layer::Activation(_)
                | Layer::MaxPool(_)
                | Layer::AveragePool(_)
                | Layer::GlobalAveragePool
                | Layer::Dropout(_) => {
                    axes.block[id] = axes.block[node.inputs[0]];
                    axes.tie(id, node.inputs[0]);
                }
            }
        }
        axes.fix(count - 1);
        axes
    }

    fn root(&self, mut id: NodeId) -> NodeId {
        while self.towards[id] != id {
            id = self.towards[id];
        }
        id
    }

    fn tie(&mut self, one: NodeId, other: NodeId) {
        let (one, other) = (self.root(one), self.root(other));
        let (low, high) = (one.min(other), one.max(other));
        self.towards[high] = low;
        self.fixed[low] |= self.fixed[high];
    }

    fn fix(&mut self, id: NodeId) {
        let root = self.root(id);
        self.fixed[root] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};

    #[test]
    fn a_residual_stage_is_one_group() {
        let image = Input { channels: 3, height: 32, width: 32 };
        let network = build(Architecture::Resnet18, image, 10, 1.0).unwrap();
        let groups = network.groups();
        let names = |group: &Group| -> Vec<&str> {
            group.producers.iter().map(|&id| network.nodes()[id].name.as_str()).collect()
        };
        let stem = groups.iter().find(|group| group.name == "conv1").unwrap();
        assert_eq!(names(stem), ["conv1", "layer1.0.conv2", "layer1.1.conv2"]);
        assert_eq!((stem.channels, stem.shrinkable), (64, true));
        let second = groups.iter().find(|group| group.name == "layer2.0.conv2").unwrap();
        assert_eq!(names(second), ["layer2.0.conv2", "layer2.0.shortcut.conv", "layer2.1.conv2"]);
        // Image, stem, 8 first convolutions, 3 further stages, logits.
        assert_eq!(groups.len(), 14);
        let fixed: Vec<&str> = groups.iter().filter(|g| !g.shrinkable).map(|g| g.name.as_str()).collect();
        assert_eq!(fixed, ["input", "fc"]);
    }

    #[test]
    fn flatten_maps_a_channel_to_a_block_of_features() {
        let image = Input { channels: 3, height: 64, width: 64 };
        let network = build(Architecture::Vgg11, image, 10, 0.125).unwrap();
        let last = network.groups().into_iter().find(|group| group.name == "conv5_2").unwrap();
        let reader = last.members.last().unwrap();
        assert_eq!((last.channels, reader.side, reader.block), (64, Side::Input, 4));
        assert_eq!(reader.indices(&[0, 2]), [0, 1, 2, 3, 8, 9, 10, 11]);
    }

    #[test]
    fn depthwise_follows_its_input_and_grouped_convolutions_fix_theirs() {
        let mut b = Builder::new(Input { channels: 3, height: 8, width: 8 }).unwrap();
        let point = |out_channels| ConvChoice { out_channels, kernel: 1, stride: 1, padding: 0, bias: false };
        let a = b.conv("a", 0, point(8)).unwrap();
        let dw = b.depthwise("dw", a, 1).unwrap();
        let c = b.conv("c", dw, point(8)).unwrap();
        let grouped = Conv {
            in_channels: 8,
            out_channels: 16,
            kernel: 1,
            stride: 1,
            padding: 0,
            groups: 4,
            bias: false,
        };
        let g = b.push("g", Layer::Conv(grouped), &[c]).unwrap();
        let pool = b.push("pool", Layer::GlobalAveragePool, &[g]).unwrap();
        b.linear("fc", pool, 4).unwrap();
        let groups = b.finish().unwrap().groups();
        let seen: Vec<_> = groups.iter().map(|g| (g.name.as_str(), g.shrinkable, g.members.len())).collect();
        assert_eq!(
            seen,
            [("input", false, 1), ("a", true, 3), ("c", false, 1), ("g", false, 2), ("fc", false, 1)]
        );
    }

    #[test]
    fn what_a_softmax_or_two_kinds_of_features_mix_stays_whole() {
        let mut b = Builder::new(Input { channels: 2, height: 2, width: 2 }).unwrap();
        let conv = ConvChoice { out_channels: 3, kernel: 1, stride: 1, padding: 0, bias: false };
        let conv = b.conv("conv", 0, conv).unwrap();
        let flat = b.push("flat", Layer::Flatten, &[conv]).unwrap();
        let a = b.linear("a", flat, 12).unwrap();
        // Channel c of `flat` is features 4c..4c+4, of `a` feature c: no one list of channels cuts both.
        let add = b.push("add", Layer::Add, &[a, flat]).unwrap();
        let hidden = b.linear("hidden", add, 5).unwrap();
        let attention = b.push("attention", Layer::Softmax, &[hidden]).unwrap();
        b.linear("fc", attention, 2).unwrap();
        let groups = b.finish().unwrap().groups();
        assert!(groups.iter().all(|group| !group.shrinkable), "{groups:?}");
    }
}
