//! How many candidates a search proposed, ranked, trained and promoted: one way of counting for terminal, JSON and report.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::answer::Rung;
use super::record::{Purpose, Trial, TrialOutcome};

/// Candidates by how far they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Proposals of searchers, and the simple students; repeated ones count.
    pub proposed: usize,
    /// Different candidates that were looked at without training.
    pub ranked: usize,
    /// Different candidates that were trained.
    pub trained: usize,
    /// Trainings of candidates that had been looked at before, for longer.
    pub promoted: usize,
    /// Proposals that were too far beyond a limit to be looked at.
    pub skipped: usize,
    /// Proposals that could not be students.
    pub infeasible: usize,
    /// Candidates that the world could not tell the worth of.
    pub unknown: usize,
    /// Candidates that were given up when the budget ended.
    pub late: usize,
}

/// Counts trials as they come.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    counts: Counts,
    /// At which rung simple students were looked at first.
    simple: Option<Rung>,
    ranked: HashSet<String>,
    trained: HashSet<String>,
}

impl Counter {
    /// Of all these.
    pub fn of<'a>(trials: impl IntoIterator<Item = &'a Trial>) -> Counts {
        let mut counter = Self::default();
        trials.into_iter().for_each(|trial| counter.see(trial));
        counter.counts
    }

    /// One more.
    pub fn see(&mut self, trial: &Trial) {
        let counts = &mut self.counts;
        let again = match trial.purpose {
            Purpose::Explore => false,
            // Simple students are looked at first, then the best of them trained.
            Purpose::Simple => *self.simple.get_or_insert(trial.rung) != trial.rung,
            Purpose::Promote | Purpose::Choose => true,
        };
        *(if again { &mut counts.promoted } else { &mut counts.proposed }) += 1;
        match &trial.outcome {
            TrialOutcome::Trained { .. } if trial.rung == Rung::Inherited => {
                self.ranked.insert(trial.lineage.clone());
            }
            TrialOutcome::Trained { .. } => {
                self.trained.insert(trial.lineage.clone());
            }
            TrialOutcome::Late => counts.late += 1,
            TrialOutcome::Skipped => counts.skipped += 1,
            TrialOutcome::Infeasible { .. } => counts.infeasible += 1,
            TrialOutcome::Unknown { .. } => counts.unknown += 1,
        }
        (counts.ranked, counts.trained) = (self.ranked.len(), self.trained.len());
    }

    /// So far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} proposed, {} ranked, {} trained", self.proposed, self.ranked, self.trained)?;
        let rest = [
            (self.promoted, "promoted"),
            (self.skipped, "too far beyond a limit"),
            (self.infeasible, "infeasible"),
            (self.unknown, "of unknown worth"),
            (self.late, "given up at the end of the budget"),
        ];
        for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}
