//! What a search found: its finalists in order. The choice among them, on other images, is the caller's.

use std::collections::{HashMap, HashSet};

use super::cascade::Cascade;
use super::constraint::{Limits, Metric};
use super::laboratory::Job;
use super::record::Trial;
use super::settings::Settings;
use super::simple::{self, SIMPLE};
use super::teacher::Policies;

/// Finalists that come before the simple students, which are looked at in any case: a finale of three has room for the best
/// that was found, the best simple student and uniform width.
const FOUND_FIRST: usize = 1;

/// A student worth training for long.
#[derive(Clone, Debug)]
pub struct Finalist {
    /// How it was found, measured and scored; its rung is the highest it was trained at.
    pub trial: Trial,
    /// Its structure and starting weights; trained weights are the laboratory's, by lineage and rung.
    pub job: Job,
    /// Reward under the limits, without relaxation.
    pub reward: f64,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// The best students, those that meet the limits first, best first; uniform width and the best simple student among the
    /// first. Empty when nothing was worth training.
    pub finalists: Vec<Finalist>,
    /// Smallest violation of the limits among all candidates, for the message when none meets them.
    pub least_violation: Option<f64>,
    /// The limits in base units.
    pub limits: Limits,
    /// Candidates judged, promotions included.
    pub candidates: usize,
    /// As learned.
    pub policies: Policies,
}

/// Puts the students in order. `quality`: what is expected of a trial's structure.
pub(super) fn gather(
    settings: &Settings,
    cascade: &Cascade,
    trials: &[Trial],
    jobs: &HashMap<String, Job>,
    quality: &dyn Fn(&Trial) -> Option<f64>,
    policies: Policies,
) -> SearchResult {
    let least_violation = trials
        .iter()
        .filter(|trial| trial.resources.is_some())
        .map(|trial| trial.violation)
        .min_by(f64::total_cmp);
    let mut finalists: Vec<(Finalist, f64)> = Vec::new();
    for trial in trials {
        let (Some(job), Some(reward)) = (jobs.get(&trial.lineage), hard_reward(trial, cascade)) else {
            continue;
        };
        let job = Job { rung: trial.rung, ..job.clone() };
        let expected = quality(trial).unwrap_or(reward);
        finalists.push((Finalist { trial: trial.clone(), job, reward }, expected));
    }
    // Figures compare within a rung only, so those that were trained longer stand before the others; ties go to the faster.
    let latency =
        |finalist: &Finalist| finalist.trial.resources.and_then(|resources| resources.value(Metric::Latency));
    finalists.sort_by(|(a, expected_a), (b, expected_b)| {
        let by_goal = settings.limits.is_empty() || settings.goal.is_some();
        let by_worth = if by_goal || a.job.rung != b.job.rung {
            b.reward.total_cmp(&a.reward)
        } else {
            expected_b.total_cmp(expected_a)
        };
        (b.trial.feasible.cmp(&a.trial.feasible))
            .then(b.trial.rung.cmp(&a.trial.rung))
            .then(by_worth)
            .then(latency(a).unwrap_or(f64::MAX).total_cmp(&latency(b).unwrap_or(f64::MAX)))
    });
    let mut lineages = HashSet::new();
    let mut finalists: Vec<Finalist> = finalists.into_iter().map(|(finalist, _)| finalist).collect();
    finalists.retain(|finalist| lineages.insert(finalist.job.lineage.clone()));
    // What the caller compares with goes behind the best that were found.
    let uniform = finalists.iter().position(|it| it.trial.searcher == simple::UNIFORM);
    bring_forward(&mut finalists, uniform);
    let best_simple = finalists
        .iter()
        .position(|it| it.trial.searcher.starts_with(SIMPLE) && it.trial.searcher != simple::UNIFORM);
    bring_forward(&mut finalists, best_simple);
    finalists.truncate(settings.finalists);
    let limits = cascade.limits.clone();
    SearchResult { finalists, least_violation, limits, candidates: trials.len(), policies }
}

/// Behind the first few, if it stands further back and keeps the limits as they do.
fn bring_forward(finalists: &mut Vec<Finalist>, place: Option<usize>) {
    let Some(place) = place.filter(|place| *place > FOUND_FIRST && finalists[*place].trial.feasible) else {
        return;
    };
    let finalist = finalists.remove(place);
    finalists.insert(FOUND_FIRST, finalist);
}

/// The reward of a candidate that was looked at, without relaxation.
fn hard_reward(trial: &Trial, cascade: &Cascade) -> Option<f64> {
    let parts = &trial.reward.as_ref()?.parts;
    trial.accuracy()?;
    Some(cascade.scoring.score(parts, 0.0).total)
}
