//! The checked settings of one search and what the two presets put into them. Read nowhere else, changed never.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::constraint::{Limit, Metric};
use super::error::SearchError;
use super::kinds::StageKind;
use super::laboratory::Rung;
use super::reinforce::{Baseline, Learning};
use super::reward::Preset;

/// More rollouts than this per update is a typing error, not a search.
const MOST_ROLLOUTS: usize = 256;
/// The bias of 10,000 steps is no prior; board profiles know multiples up to 64.
const LARGEST_MULTIPLE: usize = 256;

/// What the search may spend, over both stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Wall-clock time.
    Time(Duration),
    /// Proposed candidates; repeated ones count.
    Candidates(usize),
}

/// How the budget is divided; only ratios count, and 0 switches a searcher off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The policies.
    pub reinforce: f64,
    /// Random search.
    pub random: f64,
    /// Uniform width.
    pub uniform: f64,
}

/// At each stage's end its best candidates are trained longer, to choose among them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promotion {
    /// How much longer.
    pub rung: Rung,
    /// How many.
    pub count: usize,
    /// Share of the stage's time that is kept for it.
    pub share: f64,
}

/// Everything that decides which candidates a search proposes, apart from the answers of the laboratory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Which method.
    pub preset: Preset,
    /// Of every random choice.
    pub seed: u64,
    /// As the user wrote them.
    pub limits: Vec<Limit>,
    /// What to make small when there are no limits; parameters if this is `None` too.
    pub goal: Option<Metric>,
    /// What may be spent.
    pub budget: Budget,
    /// What a resumed search was given beyond `budget`, one after the other; each is spent when all before is.
    #[serde(skip)]
    pub extensions: Vec<Budget>,
    /// Candidates per policy update.
    pub rollouts: usize,
    /// Who gets how much of the budget.
    pub shares: Shares,
    /// The common rung of the removal stage.
    pub removal_rung: Rung,
    /// The common rung of the shrinkage stage.
    pub shrinkage_rung: Rung,
    /// The rung above.
    pub promotion: Option<Promotion>,
    /// Channel counts are rounded to multiples of this: the board's preference.
    pub channel_multiple: usize,
    /// Identity of a measurement apart from the student (board, engine, threads, clock state); never mixed.
    pub board_key: String,
    /// How many students the result names.
    pub finalists: usize,
}

impl Settings {
    /// The preset with its own numbers; the caller then sets limits, budget and rungs.
    pub fn new(preset: Preset, seed: u64) -> Self {
        let rollouts = 5;
        let budget = match preset {
            // About 100 updates per stage (docs/method.md#reinforce).
            Preset::Paper => Budget::Candidates(2 * 100 * rollouts),
            Preset::Edge => Budget::Time(Duration::from_mins(20)),
        };
        let (removal_rung, shrinkage_rung) = match preset {
            Preset::Paper => (Rung::Epochs(5), Rung::Epochs(5)),
            Preset::Edge => (Rung::Steps(100), Rung::Steps(50)),
        };
        Self {
            preset,
            seed,
            limits: Vec::new(),
            goal: None,
            budget,
            extensions: Vec::new(),
            rollouts,
            shares: Shares { reinforce: 1.0, random: 0.0, uniform: 0.0 },
            removal_rung,
            shrinkage_rung,
            promotion: None,
            channel_multiple: if preset == Preset::Paper { 1 } else { 8 },
            board_key: String::new(),
            finalists: 5,
        }
    }

    /// The common rung of a stage.
    pub fn rung(&self, stage: StageKind) -> Rung {
        match stage {
            StageKind::Removal => self.removal_rung,
            StageKind::Shrinkage => self.shrinkage_rung,
        }
    }

    /// How that stage's policy learns. Adam's steps are the paper's for its 100 updates; `edge` has 10 to 40, and takes
    /// longer ones with an entropy bonus that keeps the policy from settling on its first good batch.
    pub(super) fn learning(&self, stage: StageKind) -> Learning {
        match (self.preset, stage) {
            (Preset::Paper, StageKind::Removal) => PAPER_REMOVAL,
            (Preset::Paper, StageKind::Shrinkage) => Learning { learning_rate: 0.01, ..PAPER_REMOVAL },
            (Preset::Edge, StageKind::Removal) => EDGE_REMOVAL,
            (Preset::Edge, StageKind::Shrinkage) => EDGE_SHRINKAGE,
        }
    }

    /// The starting logit of "keep", or of factors from 0.7 up (docs/method.md#action-space; e^2 to 1). The paper starts uniform.
    pub(super) fn prior(&self) -> f64 {
        match self.preset {
            Preset::Paper => 0.0,
            Preset::Edge => 2.0,
        }
    }

    /// Refuses what no search can be run with.
    pub(super) fn check(&self) -> Result<(), SearchError> {
        let shares = [self.shares.reinforce, self.shares.random, self.shares.uniform];
        let empty = match self.budget {
            Budget::Time(time) => time.is_zero(),
            Budget::Candidates(count) => count == 0,
        };
        let wrong = |what: &str, expected: &str, got: String| {
            Err(SearchError::Settings(format!("{what}: expected {expected}, got {got}")))
        };
        if !(1..=MOST_ROLLOUTS).contains(&self.rollouts) {
            return wrong("rollouts", &format!("1 to {MOST_ROLLOUTS}"), self.rollouts.to_string());
        }
        if !(1..=LARGEST_MULTIPLE).contains(&self.channel_multiple) {
            return wrong(
                "channel multiple",
                &format!("1 to {LARGEST_MULTIPLE}"),
                self.channel_multiple.to_string(),
            );
        }
        if shares.iter().any(|share| !share.is_finite() || *share < 0.0) || shares.iter().sum::<f64>() <= 0.0
        {
            return wrong("shares of the searchers", "numbers from 0 up, one above 0", format!("{shares:?}"));
        }
        if empty {
            return wrong("budget", "more than nothing", format!("{:?}", self.budget));
        }
        if self.finalists == 0 {
            return wrong("finalists", "at least 1", "0".into());
        }
        match self.promotion {
            Some(Promotion { share, .. }) if !(0.0..0.9).contains(&share) => {
                wrong("share of the promotion", "0 to 0.9", share.to_string())
            }
            _ => Ok(()),
        }
    }
}

const PAPER_REMOVAL: Learning = Learning {
    learning_rate: 0.003,
    baseline: Baseline::MovingAverage,
    entropy_weight: 0.0,
    gradient_limit: 5.0,
};

/// Learning of `edge`'s removal policy.
pub(super) const EDGE_REMOVAL: Learning = Learning {
    learning_rate: 0.01,
    baseline: Baseline::LeaveOneOut,
    entropy_weight: 0.03,
    gradient_limit: 5.0,
};

/// Learning of `edge`'s shrinkage policy.
pub(super) const EDGE_SHRINKAGE: Learning = Learning { learning_rate: 0.03, ..EDGE_REMOVAL };
