//! The presets, all that they differ in: `paper` as published, and `edge`, our better one (docs/method.md#what-edge-does). Their
//! formulas of the reward are `reward`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::Rung;
use super::constraint::Metric;
use super::effort::{Budget, Rungs};
use super::reinforce::{Baseline, Learning};

/// Students that a search names for the choice.
pub const FINALISTS: usize = 5;

/// Which method is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// As published: R = Rc * Ra, relaxation by updates.
    Paper,
    /// Our better one (docs/method.md#what-edge-does).
    Edge,
}

impl Preset {
    /// As on the command line.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "paper" => Some(Self::Paper),
            "edge" => Some(Self::Edge),
            _ => None,
        }
    }

    /// What a search may spend, unless told otherwise.
    pub(super) fn budget(self) -> Budget {
        match self {
            // About 100 updates per stage (docs/method.md#reinforce).
            Self::Paper => Budget::Candidates(2 * 100 * self.rollouts()),
            Self::Edge => Budget::Time(Duration::from_mins(20)),
        }
    }

    /// Candidates per policy update.
    pub(super) fn rollouts(self) -> usize {
        match self {
            Self::Paper => 5,
            Self::Edge => 8,
        }
    }

    /// How long candidates are trained.
    pub(super) fn rungs(self) -> Rungs {
        match self {
            Self::Paper => PAPER_RUNGS,
            Self::Edge => EDGE_RUNGS,
        }
    }

    /// What channel counts are multiples of, where no profile says so.
    pub(super) fn channel_multiple(self) -> usize {
        match self {
            Self::Paper => 1,
            Self::Edge => 8,
        }
    }

    /// What is made small, of what the user asked for; `limited`: whether there is a limit on costs.
    pub(super) fn goal(self, asked: Option<Metric>, limited: bool) -> Option<Metric> {
        match self {
            Self::Paper => None,
            Self::Edge if limited => asked,
            Self::Edge => asked.or(Some(Metric::Params)),
        }
    }

    /// Accuracy that a student may lose where something is made small and nothing is said of it, a share.
    pub fn accuracy_loss(self, asked: Option<Metric>, limited: bool) -> Option<f64> {
        match self {
            Self::Paper => None,
            Self::Edge => self.goal(asked, limited).map(|_| 0.01),
        }
    }

    /// Whether the simple students come first, for searchers to start around.
    pub(super) fn begins_simple(self) -> bool {
        self == Self::Edge
    }

    /// Whether candidates inherit weights; else theirs are drawn.
    pub(super) fn inherits(self) -> bool {
        self == Self::Edge
    }

    /// Whether a board's profile decides the channel multiple.
    pub fn minds_the_board(self) -> bool {
        self == Self::Edge
    }
}

/// Rungs of `paper`: all candidates are trained alike.
const PAPER_RUNGS: Rungs =
    Rungs { explore: Rung::Epochs(5), promote: None, choose: None, promote_share: 0.0, choose_share: 0.0 };

/// Rungs of `edge`: no training for proposals, some hundred steps for the promising, more for the best. A look after less than
/// some 400 steps ranks worse than one without any (docs/method.md#evaluation-cascade).
const EDGE_RUNGS: Rungs = Rungs {
    explore: Rung::Inherited,
    promote: Some(Rung::Steps(400)),
    choose: Some(Rung::Steps(1200)),
    promote_share: 0.6,
    choose_share: 0.2,
};

/// Learning of the published removal policy.
pub(super) const PAPER_REMOVAL: Learning = Learning {
    learning_rate: 0.003,
    baseline: Baseline::MovingAverage,
    entropy_weight: 0.0,
    gradient_limit: 5.0,
};

/// Learning of the published shrinkage policy.
pub(super) const PAPER_SHRINKAGE: Learning = Learning { learning_rate: 0.01, ..PAPER_REMOVAL };

/// Learning of `edge`'s removal policy: longer steps than the published ones, which are for 100 updates, and an entropy bonus
/// that keeps the policy from settling on its first good batch.
pub(super) const EDGE_REMOVAL: Learning = Learning {
    learning_rate: 0.01,
    baseline: Baseline::LeaveOneOut,
    entropy_weight: 0.03,
    gradient_limit: 5.0,
};

/// Learning of `edge`'s shrinkage policy.
pub(super) const EDGE_SHRINKAGE: Learning = Learning { learning_rate: 0.03, ..EDGE_REMOVAL };
