//! Surgery: network + actions -> smaller network, or the typed reason why not. Pure, and without weights: which teacher
//! slices a student takes is written down as an [`Inheritance`] and applied by `training::inheritance`.
//!
//! | file | action |
//! |---|---|
//! | `removal`, `mask` | stage 1: keep or remove each unit; which removals are allowed |
//! | `shrinkage` | stage 2: keep some channels of each group |
//! | `inheritance` | what both say about weights |
//!
//! Node names survive, so a tensor is found again in the teacher under its own name.

pub mod inheritance;
mod mask;
pub mod removal;
pub mod shrinkage;

use super::{Network, NetworkError, Shape};

pub use inheritance::{Inheritance, Source};
pub use mask::may_remove;
pub use removal::remove;
pub use shrinkage::{rounded_width, shrink};

/// A student's structure and where its tensors come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Surgery {
    /// The student.
    pub network: Network,
    /// For each of its tensors.
    pub inheritance: Inheritance,
}

/// Why actions give no student. Actions that do not fit the network (`KeepFlags`, `ChannelLists`, `Channels`, `Unshrinkable`)
/// are the caller's mistake; all others are the candidate's and are scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Infeasible {
    /// Not one keep flag per unit.
    #[error("expected {expected} keep flags, one per unit, got {got}")]
    KeepFlags {
        /// Units.
        expected: usize,
        /// Flags.
        got: usize,
    },
    /// Not one list of kept channels per group.
    #[error("expected {expected} lists of kept channels, one per group, got {got}")]
    ChannelLists {
        /// Groups.
        expected: usize,
        /// Lists.
        got: usize,
    },
    /// Nothing would be left that sees the image.
    #[error("no convolution is left")]
    NoConvolution,
    /// The last block of a stage that changes the shape.
    #[error("after `{unit}` is gone, `{reader}` cannot take over its change of shape from {from} to {to}")]
    ShapeChange {
        /// The removed block.
        unit: String,
        /// What reads its output.
        reader: String,
        /// Before the block.
        from: String,
        /// After it.
        to: String,
    },
    /// A removed convolution's stride.
    #[error("`{reader}` cannot take over the stride {stride} of a removed layer")]
    Stride {
        /// What reads the removed layer's output.
        reader: String,
        /// The step that is lost, pixels.
        stride: usize,
    },
    /// A grouped convolution cannot follow a new number of input channels.
    #[error("`{node}` is a grouped convolution of {expected} channels and cannot read {got}")]
    Grouped {
        /// The convolution.
        node: String,
        /// Channels that it reads.
        expected: usize,
        /// Channels that are left.
        got: usize,
    },
    /// Both branches of an add came down to the same value.
    #[error("both operands of `{0}` would be the same value")]
    SameOperands(String),
    /// The number of classes must not change.
    #[error("expected {expected} logits, got {got}")]
    Logits {
        /// The teacher's.
        expected: usize,
        /// The student's.
        got: usize,
    },
    /// A student must never cost more than its teacher.
    #[error("{resource} would rise from {before} to {after}")]
    Costlier {
        /// `MACs` or `parameters`.
        resource: &'static str,
        /// Without the removal.
        before: u64,
        /// With it.
        after: u64,
    },
    /// A list of kept channels that is empty, unsorted or out of range.
    #[error("group `{group}`: expected ascending channels below {channels}, at least one, got {got:?}")]
    Channels {
        /// The group.
        group: String,
        /// Its channels.
        channels: usize,
        /// The list.
        got: Vec<usize>,
    },
    /// The image's channels, the logits and what is tied to them.
    #[error("group `{group}` cannot be shrunk: expected all {channels} channels, got {got}")]
    Unshrinkable {
        /// The group.
        group: String,
        /// Its channels.
        channels: usize,
        /// Channels kept.
        got: usize,
    },
    /// What is left is no network.
    #[error(transparent)]
    Graph(#[from] NetworkError),
}

/// `from` and `to` of [`Infeasible::ShapeChange`].
fn shape_change(unit: &str, reader: &str, from: Shape, to: Shape) -> Infeasible {
    Infeasible::ShapeChange {
        unit: unit.to_owned(),
        reader: reader.to_owned(),
        from: from.to_string(),
        to: to.to_string(),
    }
}
