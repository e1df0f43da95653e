//! The checked settings of one search and what the two presets put into them. Read nowhere else, changed never.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::Rung;
use super::constraint::{Limit, Metric};
use super::error::SearchError;
use super::reinforce::{Baseline, Learning};
use super::reward::Preset;

/// More rollouts than this per update is a typing error, not a search.
const MOST_ROLLOUTS: usize = 256;
/// The bias of 10,000 steps is no prior; board profiles know multiples up to 64.
const LARGEST_MULTIPLE: usize = 256;

/// Candidates judged both without training and trained that a verdict on the untrained rung needs.
pub(super) const PAIRS: usize = 8;

/// Students in one batch of long looks: enough for the hands, few enough to stop in time.
pub(super) const LONG_BATCH: usize = 2;

/// What the search may spend, over both stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Wall-clock time.
    Time(Duration),
    /// Proposed candidates; repeated ones count.
    Candidates(usize),
}

/// How long candidates are trained before they are looked at, from rung to rung; and which part of the time goes where.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rungs {
    /// Each proposal's.
    pub explore: Rung,
    /// Of the most promising, which are trained while the search goes on; `None`: nothing is.
    pub promote: Option<Rung>,
    /// Of the best of those at the end, to choose among them; `None`: nothing is trained again.
    pub choose: Option<Rung>,
    /// Share of the time between proposals and promotions that promotions get.
    pub promote_share: f64,
    /// Share of the whole time that is kept for the choice at the end.
    pub choose_share: f64,
}

/// Passes over the training images beyond which a look in the search tells nothing more: of a promotion, of the choice.
const MOST_PASSES: [u32; 2] = [8, 24];

impl Rungs {
    /// The same for a training set of so many batches: a few hundred images are seen often enough in fewer steps.
    #[must_use]
    pub fn for_batches(self, batches: usize) -> Self {
        let batches = u32::try_from(batches.max(1)).unwrap_or(u32::MAX);
        let fewer = |rung: Option<Rung>, passes: u32| {
            rung.map(|rung| match rung {
                Rung::Steps(steps) => Rung::Steps(steps.min(batches.saturating_mul(passes))),
                other @ (Rung::Inherited | Rung::Epochs(_)) => other,
            })
        };
        let [promote, choose] = MOST_PASSES;
        Self { promote: fewer(self.promote, promote), choose: fewer(self.choose, choose), ..self }
    }
}

/// Everything that decides which candidates a search proposes, apart from the evaluator's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Which method.
    pub preset: Preset,
    /// Of every random choice.
    pub seed: u64,
    /// As the user wrote them.
    pub limits: Vec<Limit>,
    /// What to make small; without limits parameters if this is `None` too.
    pub goal: Option<Metric>,
    /// Accuracy that a student may lose against the teacher, a share; decided when it is trained to its end. The search then
    /// looks for the smallest that loses no more, or with a limit and no goal for the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_loss: Option<f64>,
    /// What may be spent.
    pub budget: Budget,
    /// What a resumed search was given beyond `budget`, one after the other; each is spent when all before is.
    #[serde(skip)]
    pub extensions: Vec<Budget>,
    /// Candidates per policy update.
    pub rollouts: usize,
    /// Who gets how much of the budget, by the names of `registry`; only ratios count, 0 switches a searcher off, and none at all
    /// are the preset's own.
    pub searchers: Vec<(String, f64)>,
    /// How long candidates are trained.
    pub rungs: Rungs,
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
        let rollouts = match preset {
            Preset::Paper => 5,
            Preset::Edge => 8,
        };
        let budget = match preset {
            // About 100 updates per stage (docs/method.md#reinforce).
            Preset::Paper => Budget::Candidates(2 * 100 * rollouts),
            Preset::Edge => Budget::Time(Duration::from_mins(20)),
        };
        let rungs = match preset {
            Preset::Paper => Rungs {
                explore: Rung::Epochs(5),
                promote: None,
                choose: None,
                promote_share: 0.0,
                choose_share: 0.0,
            },
            Preset::Edge => EDGE_RUNGS,
        };
        Self {
            preset,
            seed,
            limits: Vec::new(),
            goal: None,
            accuracy_loss: None,
            budget,
            extensions: Vec::new(),
            rollouts,
            searchers: Vec::new(),
            rungs,
            channel_multiple: if preset == Preset::Paper { 1 } else { 8 },
            board_key: String::new(),
            finalists: 5,
        }
    }

    /// Refuses what no search can be run with.
    pub(super) fn check(&self) -> Result<(), SearchError> {
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
        let shares = || self.searchers.iter().map(|(_, share)| *share);
        let nobody = !self.searchers.is_empty() && shares().sum::<f64>() <= 0.0;
        if shares().any(|share| !share.is_finite() || share < 0.0) || nobody {
            let got = format!("{:?}", self.searchers);
            return wrong("shares of the searchers", "numbers from 0 up, one above 0", got);
        }
        if empty {
            return wrong("budget", "more than nothing", format!("{:?}", self.budget));
        }
        if self.finalists == 0 {
            return wrong("finalists", "at least 1", "0".into());
        }
        let Rungs { promote_share, choose_share, .. } = self.rungs;
        for (what, share) in [("share of promotions", promote_share), ("share of the choice", choose_share)] {
            if !(0.0..0.9).contains(&share) {
                return wrong(what, "0 to 0.9", share.to_string());
            }
        }
        Ok(())
    }
}

/// Rungs of `edge`: no training for proposals, some hundred steps for the promising, more for the best. A look after less than
/// some 400 steps ranks worse than one without any (docs/method.md#evaluation-cascade).
pub const EDGE_RUNGS: Rungs = Rungs {
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
