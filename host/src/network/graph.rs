//! Networks: a graph that is checked once, when it is made, and never changed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::NetworkError;
use super::layer::Layer;
use super::node::{Node, NodeId};
use super::shape::{self, Shape};

/// A checked, topologically ordered graph: one image in, one vector of logits (the last node) out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Node>", into = "Vec<Node>")]
pub struct Network {
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

impl Network {
    /// Checks names, operands and shapes.
    ///
    /// # Errors
    /// The first thing that is wrong, by node.
    pub fn new(nodes: Vec<Node>) -> Result<Self, NetworkError> {
        let inputs = nodes.iter().filter(|node| node.layer.arity() == 0).count();
        if inputs != 1 || nodes[0].layer.arity() != 0 {
            return Err(NetworkError::Input);
        }
        let mut names = std::collections::HashSet::new();
        let mut read = vec![false; nodes.len()];
        let mut shapes: Vec<Shape> = Vec::with_capacity(nodes.len());
        for (id, node) in nodes.iter().enumerate() {
            if !names.insert(node.name.as_str()) {
                return Err(NetworkError::Name(node.name.clone()));
            }
            if node.inputs.len() != node.layer.arity() || node.inputs.iter().any(|&input| input >= id) {
                return Err(NetworkError::Operands {
                    node: node.name.clone(),
                    kind: node.layer.kind(),
                    expected: node.layer.arity(),
                    got: node.inputs.clone(),
                });
            }
            node.inputs.iter().for_each(|&input| read[input] = true);
            let operands: Vec<Shape> = node.inputs.iter().map(|&input| shapes[input]).collect();
            shapes.push(shape::infer(&node.name, &node.layer, &operands)?);
        }
        if let Some(idle) = (0..nodes.len() - 1).find(|&id| !read[id]) {
            return Err(NetworkError::Dangling(nodes[idle].name.clone()));
        }
        match shapes.last() {
            Some(Shape::Vector { .. }) => Ok(Self { nodes, shapes }),
            Some(other) => Err(NetworkError::Output(other.to_string())),
            None => Err(NetworkError::Input),
        }
    }

    /// The operations, in execution order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Output shape of each node.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Shape of the image.
    pub fn input_shape(&self) -> Shape {
        self.shapes[0]
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.shapes[self.shapes.len() - 1].channels()
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Readers of each node's output.
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut readers = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for &input in &node.inputs {
                readers[input].push(id);
            }
        }
        readers
    }

    /// Identity of the structure (names do not count): lower-case hex SHA-256. Latency depends on nothing else.
    pub fn digest(&self) -> String {
        let bare: Vec<(&Layer, &[NodeId])> =
            self.nodes.iter().map(|node| (&node.layer, node.inputs.as_slice())).collect();
        let text = serde_json::to_vec(&bare).unwrap_or_default();
        hex::encode(Sha256::digest(text))
    }
}

impl TryFrom<Vec<Node>> for Network {
    type Error = NetworkError;
    fn try_from(nodes: Vec<Node>) -> Result<Self, Self::Error> {
        Self::new(nodes)
    }
}

impl From<Network> for Vec<Node> {
    fn from(network: Network) -> Self {
        network.nodes
    }
}
