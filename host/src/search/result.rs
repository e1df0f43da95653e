//! What a search found: its finalists in order. The choice among them, on other images, is the caller's.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::cascade::Cascade;
use super::constraint::{Excess, Limits, Metric, Resources};
use super::counts::{Counter, Counts};
use super::job::Job;
use super::record::{Trial, TrialOutcome};
use super::settings::Settings;
use super::simple::{SIMPLE, UNIFORM};
use super::teacher::Policies;

/// Accuracy that a student may yet gain from its last look in the search to the end of its training, a share.
const STILL_TO_GAIN: f64 = 0.01;
/// Misses that are named.
const NEAREST: usize = 3;

/// A student worth training for long.
#[derive(Clone, Debug)]
pub struct Finalist {
    /// How it was found, measured and scored; its rung is the highest it was trained at.
    pub trial: Trial,
    /// Its structure and starting weights; trained weights are the evaluator's, by lineage and rung.
    pub job: Job,
    /// Reward under the limits, without relaxation.
    pub reward: f64,
}

/// A candidate that breaks a limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearMiss {
    /// Who proposed it.
    pub found_by: String,
    /// Its parameters.
    pub params: u64,
    /// On the search's half of the validation split, 0 to 1, if it was looked at.
    pub accuracy: Option<f64>,
    /// The limits that it breaks, each with the share that it is beyond.
    pub breaks: Vec<Excess>,
    /// Accuracy that it loses beyond what it may, a share.
    #[serde(default)]
    pub lost: Option<f64>,
}

impl NearMiss {
    /// Of a student with these costs; `None` if it breaks nothing.
    pub fn new(
        found_by: &str,
        accuracy: Option<f64>,
        limits: &Limits,
        resources: &Resources,
    ) -> Option<Self> {
        let mut breaks = limits.excess(resources);
        breaks.retain(|excess| excess.relative > 0.0);
        let (found_by, params) = (found_by.to_owned(), resources.params);
        (!breaks.is_empty()).then_some(Self { found_by, params, accuracy, breaks, lost: None })
    }

    /// Of a student that loses too much accuracy by so much.
    pub fn of_accuracy(trial: &Trial, lost: f64) -> Self {
        let (found_by, accuracy) = (trial.searcher.clone(), trial.accuracy());
        let params = trial.resources.map_or(0, |resources| resources.params);
        Self { found_by, params, accuracy, breaks: Vec::new(), lost: Some(lost) }
    }

    /// By how much it is beyond the limit that it breaks most.
    pub fn by(&self) -> f64 {
        self.breaks.iter().map(|excess| excess.relative).fold(self.lost.unwrap_or(0.0), f64::max)
    }
}

impl Finalist {
    /// Whether it is uniform width.
    pub fn is_uniform(&self) -> bool {
        self.trial.searcher == UNIFORM
    }

    /// Whether it is another simple student.
    pub fn is_simple(&self) -> bool {
        self.trial.searcher.starts_with(SIMPLE) && !self.is_uniform()
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// The best students, those that meet the limits first, best first; uniform width and the best simple student among them.
    /// Empty when nothing was worth training.
    pub finalists: Vec<Finalist>,
    /// The candidates that miss the limits by least, nearest first: what there is to say when none meets them.
    pub nearest: Vec<NearMiss>,
    /// The limits in base units.
    pub limits: Limits,
    /// How many candidates came how far.
    pub counts: Counts,
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
    // A candidate is fitted once; what is trained again is its genome as it is.
    let binding: HashMap<&str, Metric> =
        trials.iter().filter_map(|trial| Some((trial.lineage.as_str(), trial.binding?))).collect();
    let mut finalists: Vec<(Finalist, f64)> = Vec::new();
    for trial in trials {
        let (Some(job), Some(reward)) = (jobs.get(&trial.lineage), hard_reward(trial, cascade)) else {
            continue;
        };
        let job = Job { rung: trial.rung, ..job.clone() };
        let expected = quality(trial).unwrap_or(reward);
        let binding = binding.get(trial.lineage.as_str()).copied();
        finalists.push((Finalist { trial: Trial { binding, ..trial.clone() }, job, reward }, expected));
    }
    // Figures compare within a rung only, so those that were trained longer stand before the others; ties go to the faster.
    let latency =
        |finalist: &Finalist| finalist.trial.resources.and_then(|resources| resources.value(Metric::Latency));
    let by_goal = cascade.scoring.goal.is_some();
    let loss = settings.accuracy_loss.filter(|_| by_goal);
    finalists.sort_by(|(a, expected_a), (b, expected_b)| {
        let by_worth = if let Some(loss) = loss {
            let (a, b) = (Loss::of(a, cascade, loss), Loss::of(b, cascade, loss));
            a.total_cmp(&b)
        } else if by_goal || a.job.rung != b.job.rung {
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
    // What the caller compares with is there in any case.
    let best_simple = finalists.iter().position(Finalist::is_simple);
    let uniform = finalists.iter().position(Finalist::is_uniform);
    let mut compared: Vec<usize> = [best_simple, uniform].into_iter().flatten().collect();
    compared
        .retain(|place| *place >= settings.finalists.saturating_sub(2) && finalists[*place].trial.feasible);
    compared.sort_unstable();
    let compared: Vec<Finalist> = compared.into_iter().rev().map(|place| finalists.remove(place)).collect();
    finalists.truncate(settings.finalists.saturating_sub(compared.len()));
    finalists.extend(compared.into_iter().rev());
    let limits = cascade.limits.clone();
    let nearest = nearest(trials, &limits);
    SearchResult { finalists, nearest, limits, counts: Counter::of(trials), policies }
}

/// A finalist where accuracy may be lost and something else is to be made small.
struct Loss {
    /// Whether it may yet keep the limit on accuracy, by its last look.
    keeps: bool,
    accuracy: f64,
    goal: f64,
}

impl Loss {
    fn of(finalist: &Finalist, cascade: &Cascade, loss: f64) -> Self {
        let accuracy = finalist.trial.accuracy().unwrap_or(0.0);
        let (scoring, resources) = (&cascade.scoring, finalist.trial.resources);
        let goal = scoring.goal.zip(resources).and_then(|(goal, resources)| resources.bound_value(goal));
        let keeps = accuracy >= scoring.teacher_accuracy - loss - STILL_TO_GAIN;
        Self { keeps, accuracy, goal: goal.unwrap_or(f64::MAX) }
    }

    /// Those that keep it first, the smallest before others; then the most accurate.
    fn total_cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_worth = if self.keeps && other.keeps {
            self.goal.total_cmp(&other.goal)
        } else {
            other.accuracy.total_cmp(&self.accuracy)
        };
        other.keeps.cmp(&self.keeps).then(by_worth)
    }
}

/// The few that miss by least, each structure once.
fn nearest(trials: &[Trial], limits: &Limits) -> Vec<NearMiss> {
    let mut seen = HashSet::new();
    let known = trials.iter().filter(|trial| !matches!(trial.outcome, TrialOutcome::Unknown { .. }));
    let mut nearest: Vec<NearMiss> = known
        .filter_map(|trial| {
            let miss = NearMiss::new(&trial.searcher, trial.accuracy(), limits, trial.resources.as_ref()?)?;
            seen.insert(trial.digest.as_str()).then_some(miss)
        })
        .collect();
    nearest.sort_by(|a, b| a.by().total_cmp(&b.by()));
    nearest.truncate(NEAREST);
    nearest
}

/// The reward of a candidate that was looked at, without relaxation.
fn hard_reward(trial: &Trial, cascade: &Cascade) -> Option<f64> {
    let parts = &trial.reward.as_ref()?.parts;
    trial.accuracy()?;
    Some(cascade.scoring.score(parts, 0.0).total)
}
