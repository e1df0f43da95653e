//! Which candidates are trained next, and which longest; and whether looks without training choose better than chance.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::answer::Rung;
use super::genome::Genome;
use super::record::{Trial, TrialOutcome};
use super::reward::Parts;
use super::search::Search;
use super::settings::{LONG_BATCH, PAIRS};
use super::surrogate::rank_correlation;

/// Rank correlation below which looks without training choose no better than chance.
const LEAST_CORRELATION: f64 = 0.2;
/// Students that are trained longest in a round whose budget is one of candidates.
const LONG_LOOKS: usize = 4;

impl Search<'_> {
    /// Candidates that keep the limits and were not looked at at this rung, the most promising first.
    fn not_at(&self, rung: Rung, worth: impl Fn(&Trial) -> Option<f64>) -> Vec<&Trial> {
        let done: HashSet<&str> = self
            .trials
            .iter()
            .filter(|trial| trial.rung == rung && trial.outcome != TrialOutcome::Late)
            .map(|trial| trial.lineage.as_str())
            .collect();
        let mut seen = BTreeSet::new();
        let mut all: Vec<(&Trial, f64)> = self
            .trials
            .iter()
            .filter(|trial| trial.feasible && !done.contains(trial.lineage.as_str()))
            .filter_map(|trial| Some((trial, worth(trial)?)))
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.retain(|(trial, _)| seen.insert(trial.lineage.as_str()));
        all.into_iter().map(|(trial, _)| trial).collect()
    }

    /// What a candidate is worth training longer for: its expected quality; where something is to be made small the reward that
    /// this quality would have.
    fn worth(&self, trial: &Trial) -> Option<f64> {
        let quality = self.surrogate.quality_of(trial)?;
        let scoring = &self.cascade.scoring;
        if scoring.goal.is_none() {
            return Some(quality);
        }
        let parts = Parts { quality: Some(quality), ..trial.reward.as_ref()?.parts.clone() };
        Some(scoring.score(&parts, 0.0).total)
    }

    /// What is trained next.
    pub(super) fn promising(&self, count: usize) -> Vec<Genome> {
        let Some(rung) = self.settings.rungs.promote.filter(|rung| *rung != self.explore) else {
            return Vec::new();
        };
        let worth = |trial: &Trial| (trial.rung == self.explore).then(|| self.worth(trial)).flatten();
        self.not_at(rung, worth).into_iter().take(count).map(|trial| trial.genome.clone()).collect()
    }

    /// What is trained longest next: the most promising of those that were trained, whoever found them. Uniform width and the
    /// best simple student need no such look to reach the finale, where all are retrained alike.
    pub(super) fn choice(&self) -> Vec<Genome> {
        let Some(rung) = self.settings.rungs.choose else { return Vec::new() };
        let trained = self.settings.rungs.promote.unwrap_or(self.explore);
        let is_trained = |trial: &Trial| trial.rung == trained || (trial.rung != rung && trial.was_trained());
        let worth = |trial: &Trial| is_trained(trial).then(|| self.worth(trial)).flatten();
        let open = self.not_at(rung, worth);
        let chosen = self.this_round().iter().filter(|trial| trial.rung == rung).count();
        // Without a time some are enough.
        if !self.spending.is_by_time() && chosen >= LONG_LOOKS {
            return Vec::new();
        }
        open.into_iter().take(LONG_BATCH).map(|trial| trial.genome.clone()).collect()
    }

    /// The trials since the budget at hand was given.
    pub(super) fn this_round(&self) -> &[Trial] {
        &self.trials[self.round_from..]
    }

    /// Whether looks without training choose better than chance; if not, proposals are trained from now on.
    pub(super) fn judge_the_rung(&mut self) {
        let Some(promote) = self.settings.rungs.promote.filter(|_| self.explore == Rung::Inherited) else {
            return;
        };
        let pairs = self.pairs(promote);
        let correlation = rank_correlation(&pairs).filter(|_| pairs.len() >= PAIRS);
        if correlation.is_some_and(|correlation| correlation < LEAST_CORRELATION) {
            self.explore = promote;
        }
    }

    /// Qualities of the same candidates without training and at another rung.
    pub(super) fn pairs(&self, rung: Rung) -> Vec<(f64, f64)> {
        let at = |rung: Rung| {
            let looks = self.trials.iter().filter(move |trial| trial.rung == rung);
            looks
                .filter_map(|trial| Some((trial.lineage.as_str(), trial.quality()?)))
                .collect::<HashMap<_, _>>()
        };
        let (untrained, trained) = (at(Rung::Inherited), at(rung));
        let mut both: Vec<(&str, f64, f64)> = trained
            .into_iter()
            .filter_map(|(lineage, quality)| Some((lineage, *untrained.get(lineage)?, quality)))
            .collect();
        both.sort_by(|a, b| a.0.cmp(b.0));
        both.into_iter().map(|(_, untrained, trained)| (untrained, trained)).collect()
    }
}
