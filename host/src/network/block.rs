//! Residual blocks, found from the graph's form alone, so that an imported network needs no naming convention.
//!
//! A block starts at a fork (a value with several readers) and ends in an add whose two operands are plain chains from
//! that same fork. Blocks within blocks are not recognised from outside: their outer add then belongs to no unit.

use super::layer::Layer;
use super::{Network, NodeId};

/// One residual block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The value that both branches start from; not part of the block.
    pub(super) fork: NodeId,
    /// The branch that computes, in execution order; holds at least one convolution.
    pub(super) main: Vec<NodeId>,
    /// The other branch; empty for an identity skip.
    pub(super) shortcut: Vec<NodeId>,
    /// Where they meet.
    pub(super) add: NodeId,
    /// Activation and dropout that follow the add.
    pub(super) tail: Vec<NodeId>,
}

impl Block {
    /// The block's last node.
    pub(super) fn output(&self) -> NodeId {
        self.tail.last().copied().unwrap_or(self.add)
    }

    /// All nodes, ascending.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let mut all: Vec<NodeId> =
            self.main.iter().chain(&self.shortcut).chain([&self.add]).chain(&self.tail).copied().collect();
        all.sort_unstable();
        all
    }

    /// Whether what comes out has another shape than what went in.
    pub(super) fn changes_shape(&self, network: &Network) -> bool {
        network.shapes()[self.fork] != network.shapes()[self.add]
    }

    /// Product of the main branch's strides.
    pub(super) fn stride(&self, network: &Network) -> usize {
        self.main.iter().fold(1, |product, &id| product.saturating_mul(stride_of(&network.nodes()[id].layer)))
    }

    /// The convolution that would take over a stride: the first of the widest kernels, as published blocks place it.
    pub(super) fn carrier(&self, network: &Network) -> NodeId {
        let kernel = |id: NodeId| network.nodes()[id].layer.convolution().map_or(0, |conv| conv.kernel);
        self.main
            .iter()
            .copied()
            .fold(self.main[0], |best, id| if kernel(id) > kernel(best) { id } else { best })
    }
}

/// Step of a windowed layer; 1 for all others.
pub(super) fn stride_of(layer: &Layer) -> usize {
    layer.window().map_or(1, |window| window.stride)
}

/// All blocks, by their add.
pub(super) fn find(network: &Network, consumers: &[Vec<NodeId>]) -> Vec<Block> {
    let nodes = network.nodes();
    let convs = |path: &[NodeId]| path.iter().filter(|&&id| nodes[id].layer.convolution().is_some()).count();
    let mut blocks = Vec::new();
    for (add, node) in nodes.iter().enumerate().filter(|(_, node)| node.layer.nature().sum) {
        let (left_fork, left) = chain_to(network, consumers, node.inputs[0]);
        let (right_fork, right) = chain_to(network, consumers, node.inputs[1]);
        // With as many convolutions on both sides (a 1x1 pair, say), the shorter branch is the shortcut.
        let weight = |path: &[NodeId]| (convs(path), path.len());
        let (main, shortcut) = if weight(&left) >= weight(&right) { (left, right) } else { (right, left) };
        if left_fork == right_fork && convs(&main) > 0 {
            let tail = tail_of(network, consumers, add, |layer| {
                layer.nature().element_wise && layer.batch_norm().is_none()
            });
            blocks.push(Block { fork: left_fork, main, shortcut, add, tail });
        }
    }
    blocks
}

/// The nodes after `from` that alone read their operand and that `follows` accepts.
pub(super) fn tail_of(
    network: &Network,
    consumers: &[Vec<NodeId>],
    from: NodeId,
    follows: impl Fn(&Layer) -> bool,
) -> Vec<NodeId> {
    let mut tail = Vec::new();
    let mut last = from;
    while let [reader] = consumers[last][..]
        && follows(&network.nodes()[reader].layer)
    {
        tail.push(reader);
        last = reader;
    }
    tail
}

/// Walks up from `from` through nodes with one operand and one reader: where that ends, and the nodes passed, in
/// execution order.
fn chain_to(network: &Network, consumers: &[Vec<NodeId>], from: NodeId) -> (NodeId, Vec<NodeId>) {
    let mut path = Vec::new();
    let mut id = from;
    while let [input] = network.nodes()[id].inputs[..]
        && consumers[id].len() == 1
    {
        path.push(id);
        id = input;
    }
    path.reverse();
    (id, path)
}
