//! The network graph: a description without weights, and pure functions over it.
//!
//! | file | what |
//! |---|---|
//! | `node`, `graph`, `error` | one operation; the network, checked; why a list of nodes is no network |
//! | `layer` | operations and their hyper-parameters |
//! | `shape` | shape inference |
//! | `parameter` | which tensors a layer owns |
//! | `cost` | params, MACs, bytes |
//! | `group` | channels that must be cut together |
//! | `unit` | what one keep/remove bit applies to |
//! | `block` | residual blocks, found by the graph's form |
//! | `surgery/` | layer removal, layer shrinkage, and which teacher slices a student inherits |
//! | `fold` | batch norm into convolutions: the structure that ships |
//! | `builder` | a network, layer by layer |
//! | `zoo` | VGG and ResNet |
//!
//! Nothing here reads a file, draws a random number or prints.

// A new kind of layer, activation or tensor must be thought about wherever one is told from another.
#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

#[cfg(test)]
pub(crate) mod arbitrary;
mod block;
pub mod builder;
pub mod cost;
mod error;
pub mod fold;
mod graph;
pub mod group;
pub mod layer;
mod node;
pub mod parameter;
pub mod shape;
pub mod surgery;
pub mod unit;
pub mod zoo;

pub use cost::Cost;
pub use error::NetworkError;
pub use graph::Network;
pub use group::{Group, Member, Side};
pub use layer::Layer;
pub use node::{Node, NodeId};
pub use parameter::{Parameter, Role};
pub use shape::Shape;
pub use surgery::{Infeasible, Inheritance, Source, Surgery, may_remove};
pub use unit::{Unit, UnitKind};
pub use zoo::Architecture;
