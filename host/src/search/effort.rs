//! What a search may spend, and how much of it each look at a candidate is worth.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::Rung;

/// What the search may spend, over all its batches.
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
