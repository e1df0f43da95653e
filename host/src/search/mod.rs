//! The search.
pub mod policy;
pub mod random;
pub mod reinforce;
pub mod removal_policy;
pub mod shrinkage_policy;
use reinforce::{Baseline, Learning};
/// As published.
pub const PAPER_REMOVAL_LEARNING: Learning = Learning { learning_rate: 0.003, baseline: Baseline::MovingAverage, entropy_weight: 0.0, gradient_limit: 5.0 };
/// For 10 to 40 updates.
pub const EDGE_REMOVAL_LEARNING: Learning = Learning { learning_rate: 0.01, baseline: Baseline::LeaveOneOut, entropy_weight: 0.03, gradient_limit: 5.0 };
/// As published.
pub const PAPER_SHRINKAGE_LEARNING: Learning = Learning { learning_rate: 0.01, ..PAPER_REMOVAL_LEARNING };
/// For 10 to 40 updates.
pub const EDGE_SHRINKAGE_LEARNING: Learning = Learning { learning_rate: 0.03, ..EDGE_REMOVAL_LEARNING };
pub mod state;
