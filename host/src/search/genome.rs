//! What a candidate is: which units and which widths of a base network are left. Plain data, by name: it can be written down,
//! sent, and applied to the base again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The network that a genome applies to, whose weights the candidate inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseId {
    /// The teacher.
    #[default]
    Teacher,
    /// A judged candidate, by its lineage.
    Student(String),
}

/// One candidate: the base without these units, its groups of channels cut to these widths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Genome {
    /// What it is made from.
    pub base: BaseId,
    /// Names of the base's units that are taken out.
    pub removed: BTreeSet<String>,
    /// Channels of the base's groups, by the group's name; a group that is not named keeps its width.
    pub widths: BTreeMap<String, usize>,
}

/// A candidate before its common scale is found: widths relative to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// What it is made from.
    pub base: BaseId,
    /// Names of the base's units that are taken out.
    pub removed: BTreeSet<String>,
    /// Width factors of the base's shrinkable groups, by the group's name; 1 for a group that is not named. Only their ratios
    /// count.
    pub factors: BTreeMap<String, f64>,
}

impl Shape {
    /// The factor of a group.
    pub fn factor(&self, group: &str) -> f64 {
        self.factors.get(group).copied().unwrap_or(1.0)
    }
}
