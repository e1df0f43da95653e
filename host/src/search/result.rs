//! What a search found: its finalists in order. The choice among them, on other images, is the caller's.

use std::collections::HashSet;

use super::candidate::{Judged, Ladder};
use super::constraint::{Limits, Metric};
use super::laboratory::Job;
use super::record::Trial;
use super::settings::Settings;
use super::stage::{self, StageResult};
use super::teacher::Policies;

/// A student worth training for long.
#[derive(Clone, Debug)]
pub struct Finalist {
    /// How it was found, measured and scored; its rung is the highest it was trained at.
    pub trial: Trial,
    /// Its structure and starting weights; trained weights are the laboratory's, by lineage and rung.
    pub job: Job,
    /// Reward under the user's limits, without relaxation.
    pub reward: f64,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// The best students, those that meet the limits first, best first. Empty when nothing was worth training.
    pub finalists: Vec<Finalist>,
    /// Smallest violation of the user's limits among all measured candidates, for the message when none meets them.
    pub least_violation: Option<f64>,
    /// The limits in base units.
    pub limits: Limits,
    /// The removal stage's student, from which the shrinkage stage started; `None` for the teacher itself.
    pub removal_winner: Option<Trial>,
    /// Candidates judged, promotions included.
    pub candidates: usize,
    /// As learned.
    pub policies: Policies,
}

/// Puts the students of both stages in order.
pub(super) fn gather(
    settings: &Settings,
    ladder: &Ladder,
    limits: Limits,
    removal_winner: Option<Trial>,
    removal: StageResult,
    shrinkage: StageResult,
) -> SearchResult {
    let policies = Policies { removal: removal.policy, shrinkage: shrinkage.policy };
    let judged: Vec<Judged> = removal.judged.into_iter().chain(shrinkage.judged).collect();
    let candidates = judged.len();
    let measured = judged
        .iter()
        .map(|one| &one.trial)
        .filter(|trial| trial.resources.is_some_and(|resources| resources.measured.is_some()));
    let least_violation = measured.map(|trial| trial.violation).min_by(f64::total_cmp);
    let mut finalists: Vec<Finalist> = Vec::new();
    for one in judged {
        let reward = stage::hard_reward(&one, ladder, &limits);
        if let (Some(reward), Judged { trial, job: Some(job) }) = (reward, one) {
            finalists.push(Finalist { trial, job, reward });
        }
    }
    // Accuracies compare within a rung only, so promoted students stand before the others; ties go to the faster one.
    let latency =
        |finalist: &Finalist| finalist.trial.resources.and_then(|resources| resources.value(Metric::Latency));
    finalists.sort_by(|a, b| {
        let promoted = |finalist: &Finalist| finalist.trial.update.is_none();
        (b.trial.feasible.cmp(&a.trial.feasible))
            .then(promoted(b).cmp(&promoted(a)))
            .then(b.reward.total_cmp(&a.reward))
            .then(latency(a).unwrap_or(f64::MAX).total_cmp(&latency(b).unwrap_or(f64::MAX)))
    });
    let mut lineages = HashSet::new();
    finalists.retain(|finalist| lineages.insert(finalist.job.lineage.clone()));
    finalists.truncate(settings.finalists);
    SearchResult { finalists, least_violation, limits, removal_winner, candidates, policies }
}
