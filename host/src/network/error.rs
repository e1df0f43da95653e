//! Why a list of nodes is no network: the first thing that is wrong, by node.

use super::node::NodeId;

/// Why a list of nodes is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No nodes, a first node that is no input, or a second input.
    #[error("a network starts with exactly one input node")]
    Input,
    /// Two nodes share a name.
    #[error("two nodes are named `{0}`")]
    Name(String),
    /// An operand is missing, in excess or not an earlier node.
    #[error("node `{node}` ({kind}): expected {expected} earlier operands, got {got:?}")]
    Operands {
        /// The node.
        node: String,
        /// Its kind.
        kind: &'static str,
        /// Arity.
        expected: usize,
        /// The operands given.
        got: Vec<NodeId>,
    },
    /// A layer and its operand disagree.
    #[error("node `{node}` ({kind}): expected {expected}, got {got}")]
    Shape {
        /// The node.
        node: String,
        /// Its kind.
        kind: &'static str,
        /// What the layer needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A node that nothing reads and that is not the last.
    #[error("nothing reads the output of node `{0}`")]
    Dangling(String),
    /// The last node does not give a vector.
    #[error("the network must end in a vector of logits, got {0}")]
    Output(String),
}
