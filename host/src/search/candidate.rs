//! The ladder (ARCHITECTURE.md#two-journeys, "One reward"): actions -> surgery -> static costs -> cache -> board ->
//! violations -> training only if worth it -> reward with its parts. Every candidate of one batch is judged at one common rung.
//!
//! A fault on the way leaves no trace here: no score, no cache entry, no record.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::constraint::{Limits, Resources, violation};
use super::kinds::{BaseKind, SearcherKind, StageKind};
use super::laboratory::{Fault, Job, Laboratory, Measured, Outcome, Rung, StartingWeights, Task, Trained};
use super::random;
use super::record::{Actions, Step, Trial, TrialOutcome};
use super::reward::{Preset, Scoring};
use super::unknowns::Unknowns;
use crate::model_io::Weights;
use crate::network::surgery::{self, Surgery, rounded_width};
use crate::network::{Group, Network};
use crate::training::inheritance::{importance, keep_largest};

/// One to measure and train, one more where the measurement was missing for a known training.
const MOST_QUESTIONS: u32 = 2;

/// What actions apply to: a network with weights to inherit.
pub(super) struct Base {
    pub(super) kind: BaseKind,
    pub(super) network: Network,
    pub(super) weights: Arc<Weights>,
    groups: Vec<Group>,
    importance: Vec<Vec<f32>>,
    channel_multiple: usize,
}

impl Base {
    pub(super) fn new(
        kind: BaseKind,
        network: Network,
        weights: Arc<Weights>,
        channel_multiple: usize,
    ) -> Self {
        let groups = network.groups();
        let importance = importance(&network, &groups, &weights);
        Self { kind, network, weights, groups, importance, channel_multiple }
    }

    /// One decision each, in execution order.
    pub(super) fn shrinkable(&self) -> Vec<Group> {
        self.groups.iter().filter(|group| group.shrinkable).cloned().collect()
    }

    /// The student, or why there is none.
    pub(super) fn apply(&self, actions: &Actions) -> Result<Surgery, String> {
        let done = match actions {
            Actions::Removal(keep) => surgery::remove(&self.network, keep),
            Actions::Shrinkage(factors) => {
                let mut factors = factors.iter();
                let kept = self.groups.iter().zip(&self.importance).map(|(group, importance)| {
                    let factor = if group.shrinkable { factors.next().copied().unwrap_or(1.0) } else { 1.0 };
                    keep_largest(importance, rounded_width(group.channels, factor, self.channel_multiple))
                });
                surgery::shrink(&self.network, &kept.collect::<Vec<_>>())
            }
        };
        done.map_err(|infeasible| infeasible.to_string())
    }
}

/// What a searcher wants to know the worth of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) base: BaseKind,
    pub(super) actions: Actions,
}

/// Where a batch stands in the search.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) stage: StageKind,
    pub(super) searcher: SearcherKind,
    pub(super) update: Option<usize>,
    pub(super) elapsed_ns: u64,
    /// This stage's limits; the user's are the ladder's own.
    pub(super) limits: &'a Limits,
    pub(super) epsilon: f64,
    pub(super) rung: Rung,
}

/// A judged candidate: its record (without its index, which the journal gives) and, if it exists, how to train it.
#[derive(Clone)]
pub(super) struct Judged {
    pub(super) trial: Trial,
    pub(super) job: Option<Job>,
}

/// Scores candidates, and remembers.
pub(super) struct Ladder {
    pub(super) scoring: Scoring,
    /// The user's.
    pub(super) limits: Limits,
    pub(super) cache: Cache,
    /// What this run of the search could not be told.
    pub(super) unknowns: Unknowns,
    pub(super) seed: u64,
}

/// A candidate on its way up.
struct Climber {
    resources: Resources,
    job: Job,
    /// Questions put to the laboratory for it.
    asked: u32,
    measure_s: f64,
    train_s: f64,
    /// Set when the way ends.
    outcome: Option<TrialOutcome>,
}

impl Ladder {
    /// Judges a batch.
    ///
    /// # Errors
    /// The laboratory's faults, as they are.
    pub(super) fn judge(
        &mut self,
        lab: &mut dyn Laboratory,
        bases: &[Base],
        proposals: &[Proposal],
        batch: Batch<'_>,
    ) -> Result<Vec<Judged>, Fault> {
        let mut climbers: Vec<Result<Climber, String>> =
            proposals.iter().map(|proposal| self.start(bases, proposal, batch.rung)).collect();
        // A second candidate of the same structure waits for the first one's answers: one structure, one measurement.
        loop {
            let mut wave: Vec<(&mut Climber, Task)> = Vec::new();
            let mut digests = HashSet::new();
            for climber in climbers.iter_mut().flatten() {
                if climber.outcome.is_none() && digests.insert(climber.job.digest.clone()) {
                    if let Some(task) = self.next_step(climber, batch) {
                        wave.push((climber, task));
                    } else {
                        digests.remove(&climber.job.digest);
                    }
                }
            }
            if wave.is_empty() {
                break;
            }
            if wave.iter().any(|(climber, _)| climber.asked >= MOST_QUESTIONS) {
                return Err(Fault::Training(
                    "an admitted candidate came back without a training result".into(),
                ));
            }
            self.climb(lab, wave, batch)?;
        }
        let judged = proposals.iter().zip(climbers).enumerate();
        Ok(judged
            .map(|(rollout, (proposal, climber))| self.score(proposal, rollout, climber, batch))
            .collect())
    }

    /// Surgery and static costs.
    fn start(&self, bases: &[Base], proposal: &Proposal, rung: Rung) -> Result<Climber, String> {
        let base =
            bases.iter().find(|base| base.kind == proposal.base).ok_or("there is no such base network")?;
        let Surgery { network, inheritance } = base.apply(&proposal.actions)?;
        let digest = network.digest();
        let (start, origin) = match self.scoring.preset {
            Preset::Paper => (StartingWeights::Fresh, "fresh"),
            Preset::Edge => {
                let origin = match base.kind {
                    BaseKind::Teacher => "teacher",
                    BaseKind::Winner => "winner",
                };
                (StartingWeights::Inherited { source: base.weights.clone(), inheritance }, origin)
            }
        };
        let lineage = lineage(&network, &digest, origin);
        let seed = random::seed_for(self.seed, &lineage);
        let resources = Resources::of(&network);
        let job = Job { digest, lineage, network, start, rung, seed };
        Ok(Climber { resources, job, asked: 0, measure_s: 0.0, train_s: 0.0, outcome: None })
    }

    /// Goes as far as known answers lead: either to the end, or to a question for the laboratory.
    fn next_step(&self, climber: &mut Climber, batch: Batch<'_>) -> Option<Task> {
        let worth = |resources: &Resources| {
            let parts = self.scoring.parts(batch.limits, resources, None);
            self.scoring.worth_training(&parts, batch.epsilon)
        };
        match self.cache.measured(&climber.job.digest) {
            Some(Outcome::Done(measured)) => climber.resources.measured = Some(*measured),
            Some(Outcome::Infeasible(reason)) => {
                climber.outcome =
                    Some(TrialOutcome::Infeasible { step: Step::Measure, reason: reason.clone() });
                return None;
            }
            Some(Outcome::Unknown(reason)) => {
                climber.outcome = Some(TrialOutcome::Unknown { step: Step::Measure, reason: reason.clone() });
                return None;
            }
            None => {}
        }
        if !worth(&climber.resources) {
            climber.outcome = Some(TrialOutcome::Skipped);
            return None;
        }
        if climber.resources.measured.is_some()
            && let Some(trained) = self.cache.trained(&climber.job.lineage, climber.job.rung)
        {
            climber.outcome = Some(outcome_of(trained));
            return None;
        }
        Some(Task { job: climber.job.clone(), measured: climber.resources.measured })
    }

    /// Asks the laboratory, and keeps its answers once all of them are there.
    fn climb(
        &mut self,
        lab: &mut dyn Laboratory,
        wave: Vec<(&mut Climber, Task)>,
        batch: Batch<'_>,
    ) -> Result<(), Fault> {
        let (climbers, tasks): (Vec<&mut Climber>, Vec<Task>) = wave.into_iter().unzip();
        let statics: Vec<Resources> = climbers.iter().map(|climber| climber.resources).collect();
        let trained_before: Vec<bool> =
            tasks.iter().map(|task| self.cache.trained(&task.job.lineage, task.job.rung).is_some()).collect();
        let scoring = &self.scoring;
        let admit = |index: usize, measured: &Measured| {
            let resources = Resources { measured: Some(tidy(*measured)), ..statics[index] };
            let parts = scoring.parts(batch.limits, &resources, None);
            !trained_before[index] && scoring.worth_training(&parts, batch.epsilon)
        };
        let answers = lab.evaluate(&tasks, &admit)?;
        if answers.len() != tasks.len() {
            return Err(Fault::Training(format!("expected {} answers, got {}", tasks.len(), answers.len())));
        }
        // All answers are looked at before any is kept: a fault leaves nothing half done.
        for answer in &answers {
            if let Some(measured) =
                answer.measured.done().filter(|measured| !(0.0..1.0).contains(&measured.noise))
            {
                return Err(Fault::Board(format!("noise: expected 0 to 1, got {}", measured.noise)));
            }
        }
        for (climber, answer) in climbers.into_iter().zip(answers) {
            climber.asked += 1;
            climber.measure_s += answer.measure_s;
            self.unknowns.add(&answer);
            let measured = match answer.measured {
                Outcome::Done(measured) => Outcome::Done(tidy(measured)),
                other @ (Outcome::Infeasible(_) | Outcome::Unknown(_)) => other,
            };
            self.cache.put_measured(&climber.job.digest, measured);
            if let Some(trained) = answer.trained {
                climber.train_s += trained.done().map_or(0.0, |trained| trained.seconds);
                self.cache.put_trained(&climber.job.lineage, climber.job.rung, checked(trained));
            }
        }
        Ok(())
    }

    fn score(
        &self,
        proposal: &Proposal,
        rollout: usize,
        climber: Result<Climber, String>,
        batch: Batch<'_>,
    ) -> Judged {
        let (outcome, climber) = match climber {
            Ok(mut climber) => (climber.outcome.take().unwrap_or(TrialOutcome::Skipped), Some(climber)),
            Err(reason) => (TrialOutcome::Infeasible { step: Step::Surgery, reason }, None),
        };
        let resources = climber.as_ref().map(|climber| climber.resources);
        let parts = match (&outcome, &resources) {
            (TrialOutcome::Unknown { .. }, _) => None,
            (TrialOutcome::Infeasible { .. }, _) | (_, None) => Some(Scoring::infeasible()),
            (TrialOutcome::Trained { accuracy, .. }, Some(resources)) => {
                Some(self.scoring.parts(batch.limits, resources, Some(*accuracy)))
            }
            (TrialOutcome::Skipped, Some(resources)) => {
                Some(self.scoring.parts(batch.limits, resources, None))
            }
        };
        let judged = !matches!(outcome, TrialOutcome::Infeasible { .. } | TrialOutcome::Unknown { .. });
        let violation = resources.map_or(1.0, |resources| violation(&self.limits.excess(&resources)));
        let measured = resources.is_some_and(|resources| resources.measured.is_some());
        let trial = Trial {
            index: 0,
            stage: batch.stage,
            searcher: batch.searcher,
            update: batch.update,
            rollout,
            elapsed_ns: batch.elapsed_ns,
            base: proposal.base,
            actions: proposal.actions.clone(),
            digest: climber.as_ref().map_or_else(String::new, |climber| climber.job.digest.clone()),
            lineage: climber.as_ref().map_or_else(String::new, |climber| climber.job.lineage.clone()),
            resources,
            rung: batch.rung,
            reward: parts.map(|parts| self.scoring.score(&parts, batch.epsilon)),
            violation,
            feasible: measured && violation == 0.0 && judged,
            outcome,
            known: climber.as_ref().is_none_or(|climber| climber.asked == 0),
            measure_s: climber.as_ref().map_or(0.0, |climber| climber.measure_s),
            train_s: climber.as_ref().map_or(0.0, |climber| climber.train_s),
        };
        Judged { trial, job: climber.map(|climber| climber.job) }
    }
}

/// An accuracy that is no share is the student's own doing: its logits left the numbers.
fn checked(trained: Outcome<Trained>) -> Outcome<Trained> {
    match trained {
        Outcome::Done(trained) if (0.0..=1.0).contains(&trained.accuracy) => {
            Outcome::Done(Trained { accuracy: nine_digits(trained.accuracy), ..trained })
        }
        Outcome::Done(trained) => {
            Outcome::Infeasible(format!("accuracy: expected 0 to 1, got {}", trained.accuracy))
        }
        other @ (Outcome::Infeasible(_) | Outcome::Unknown(_)) => other,
    }
}

fn outcome_of(trained: &Outcome<Trained>) -> TrialOutcome {
    match trained {
        Outcome::Done(trained) => {
            TrialOutcome::Trained { accuracy: trained.accuracy, fresh_tensors: trained.fresh_tensors.clone() }
        }
        Outcome::Infeasible(reason) => TrialOutcome::Infeasible { step: Step::Train, reason: reason.clone() },
        Outcome::Unknown(reason) => TrialOutcome::Unknown { step: Step::Train, reason: reason.clone() },
    }
}

/// What accuracy depends on: the structure; and, unless weights are fresh, which layers were kept (node names survive
/// surgery) and whose weights they were. Removing either of two equal layers gives one structure but two lineages.
fn lineage(network: &Network, digest: &str, origin: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(digest.as_bytes());
    hash.update(origin.as_bytes());
    if origin != "fresh" {
        for node in network.nodes() {
            hash.update(node.name.as_bytes());
            hash.update([0]);
        }
    }
    hex::encode(hash.finalize())
}

/// Answers are kept to nine digits: such numbers survive the journal's text exactly, so a replay computes the very same
/// rewards. Nothing that we measure is known better.
pub(super) fn nine_digits(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

pub(super) fn tidy(measured: Measured) -> Measured {
    Measured { noise: nine_digits(measured.noise), ..measured }
}

/// The smallest student that surgery can make of `teacher`: all units removed that may be, then the narrowest widths.
/// A limit that even this one breaks is impossible.
pub fn smallest(teacher: &Network, channel_multiple: usize) -> Network {
    let units = teacher.units();
    let mut keep: Vec<bool> = Vec::with_capacity(units.len());
    for _ in &units {
        keep.push(!crate::network::may_remove(teacher, &units, &keep));
    }
    let short = surgery::remove(teacher, &keep).map_or_else(|_| teacher.clone(), |surgery| surgery.network);
    let narrow = |group: &Group| {
        let least = if group.shrinkable {
            rounded_width(group.channels, 0.0, channel_multiple)
        } else {
            group.channels
        };
        (0..least).collect::<Vec<_>>()
    };
    let kept: Vec<Vec<usize>> = short.groups().iter().map(narrow).collect();
    surgery::shrink(&short, &kept).map_or(short, |surgery| surgery.network)
}
