//! The checked settings of one search. Changed never; what a preset puts into them is `preset`'s.

use serde::{Deserialize, Serialize};

use super::constraint::{Limit, Metric};
use super::effort::{Budget, Rungs};
use super::error::SearchError;
use super::preset::{FINALISTS, Preset};

/// More rollouts than this per update is a typing error, not a search.
const MOST_ROLLOUTS: usize = 256;
/// The bias of 10,000 steps is no prior; board profiles know multiples up to 64.
const LARGEST_MULTIPLE: usize = 256;

/// Candidates judged both without training and trained that a verdict on the untrained rung needs.
pub(super) const PAIRS: usize = 8;

/// Students in one batch of long looks: enough for the hands, few enough to stop in time.
pub(super) const LONG_BATCH: usize = 2;

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
        Self {
            preset,
            seed,
            limits: Vec::new(),
            goal: None,
            accuracy_loss: None,
            budget: preset.budget(),
            extensions: Vec::new(),
            rollouts: preset.rollouts(),
            searchers: Vec::new(),
            rungs: preset.rungs(),
            channel_multiple: preset.channel_multiple(),
            board_key: String::new(),
            finalists: FINALISTS,
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
