//! One operation of a graph: its name, what it computes, where its operands come from.

use serde::{Deserialize, Serialize};

use super::layer::Layer;

/// Index of a node in [`Network::nodes`](super::Network::nodes); inputs always have smaller ids than their readers.
pub type NodeId = usize;

/// One operation of the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique within the network; tensors are named after it, and surgery keeps it.
    pub name: String,
    /// What it computes.
    pub layer: Layer,
    /// Where its operands come from, in operand order.
    pub inputs: Vec<NodeId>,
}
