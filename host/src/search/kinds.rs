//! The names of stages, searchers and bases, as settings, records and events use them.

use serde::{Deserialize, Serialize};

/// The two stages (docs/method.md#published-method).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Layer removal.
    Removal,
    /// Layer shrinkage.
    Shrinkage,
}

/// Who proposed a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearcherKind {
    /// The policies.
    Reinforce,
    /// Random search.
    Random,
    /// One width factor for the whole teacher.
    Uniform,
}

impl std::fmt::Display for SearcherKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reinforce => "reinforce",
            Self::Random => "random",
            Self::Uniform => "uniform width",
        })
    }
}

/// Which network the actions were applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseKind {
    /// The teacher.
    Teacher,
    /// The removal stage's best student.
    Winner,
}
