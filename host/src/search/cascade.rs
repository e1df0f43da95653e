//! The evaluation cascade (ARCHITECTURE.md#two-journeys, "One reward"): shape -> fit to the limits -> surgery -> static costs ->
//! cache -> board -> violations -> training only if worth it -> reward with its parts. Every candidate of one batch is judged at
//! one common rung.
//!
//! Within a batch nothing that one candidate tells changes another: what the board says is learned from when the batch is
//! done, in the order of asking. So a seed repeats however fast the answers come, and a replay makes the same choices. A fault
//! leaves no trace here: no score, no cache entry, no record.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::answer::{Fault, Measured, Outcome, Rung, Trained};
use super::base::Base;
use super::cache::Cache;
use super::constraint::{Limits, Metric, Resources, violation};
use super::cost_model::CostModel;
use super::digits::{nine, tidy};
use super::evaluator::{self, Board, Evaluator, Gate, Start, Task};
use super::fit::{Costs, fit, is_off};
use super::genome::{BaseId, Genome, Shape};
use super::job::{Job, StartingWeights};
use super::random;
use super::record::{Purpose, Step, Trial, TrialOutcome, Tried};
use super::reward::Scoring;
use super::searcher::Proposal;
use super::unknowns::Unknowns;
use crate::network::Network;
use crate::network::surgery::Surgery;

/// Times that a shape is fitted again after the board's word.
const REFITS: usize = 2;
/// One to measure and train, one more where the measurement was missing for a known training; and one for each refit.
const MOST_QUESTIONS: usize = 2 + REFITS;
/// Where something is to be made small a candidate aims at one of these shares of what the teacher or a limit has of it, in
/// turn.
const AIMS: [f64; 9] = [0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.03, 0.02];

/// Where a batch stands in the search.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) number: usize,
    pub(super) purpose: Purpose,
    pub(super) searcher: &'a str,
    pub(super) epsilon: f64,
    pub(super) rung: Rung,
    /// Index of its first trial.
    pub(super) first: u64,
}

/// A judged candidate: its record (without its index, which the journal gives) and, if it exists, how to train it.
#[derive(Clone)]
pub(super) struct Judged {
    pub(super) trial: Trial,
    pub(super) job: Option<Job>,
}

/// A batch's outcome.
pub(super) struct Batch {
    /// One for each proposal, in order.
    pub(super) judged: Vec<Judged>,
    /// Structures that were measured on the way and left.
    pub(super) tried: Vec<Tried>,
}

/// Scores candidates, and remembers.
pub(super) struct Cascade {
    pub(super) scoring: Scoring,
    /// In base units.
    pub(super) limits: Limits,
    pub(super) cache: Cache,
    /// What this run of the search could not be told.
    pub(super) unknowns: Unknowns,
    pub(super) costs: CostModel,
    /// Structures that the model of costs has learned from.
    pub(super) learned: HashSet<String>,
    pub(super) bases: HashMap<BaseId, Rc<Base>>,
    pub(super) seed: u64,
    /// Identity of a measurement apart from the student.
    pub(super) board_key: String,
    /// What came too late, by batch and place in it.
    pub(super) late: HashSet<(usize, usize)>,
}

/// A candidate on its way.
struct Candidate {
    /// Place in its batch.
    rollout: usize,
    /// What may still be fitted anew.
    shape: Option<Shape>,
    refits: usize,
    correction: f64,
    /// What limits it is fitted to.
    aim: Limits,
    genome: Genome,
    binding: Option<Metric>,
    resources: Resources,
    job: Job,
    /// Questions put to the evaluator for it.
    asked: usize,
    measure_s: f64,
    train_s: f64,
    /// What the board said on the way, in order; the last is of the final structure.
    heard: Vec<(Network, Tried)>,
    /// Set when the way ends.
    outcome: Option<TrialOutcome>,
}

/// Why a proposal is no candidate.
struct NoCandidate {
    genome: Genome,
    step: Step,
    reason: String,
    resources: Option<Resources>,
    binding: Option<Metric>,
}

impl Cascade {
    /// Whether the limits, or the goal, need the board's word.
    pub(super) fn needs_the_board(&self) -> bool {
        let goal = self.scoring.goal.map_or_else(Limits::default, |goal| Limits(vec![(goal, 1.0)]));
        self.limits.need_the_board() || goal.need_the_board()
    }

    /// Judges a batch.
    ///
    /// # Errors
    /// The evaluator's faults, as they are.
    pub(super) fn judge(
        &mut self,
        evaluator: &mut dyn Evaluator,
        proposals: &[Proposal],
        plan: Plan<'_>,
    ) -> Result<Batch, Fault> {
        let mut candidates: Vec<Result<Candidate, Box<NoCandidate>>> = proposals
            .iter()
            .enumerate()
            .map(|(rollout, proposal)| self.start(proposal, rollout, plan))
            .collect();
        // A second candidate of the same structure waits for the first one's answers: one structure, one measurement.
        loop {
            let mut wave: Vec<(&mut Candidate, Task)> = Vec::new();
            let mut digests = HashSet::new();
            for candidate in candidates.iter_mut().flatten() {
                if candidate.outcome.is_some() || digests.contains(&candidate.job.digest) {
                    continue;
                }
                if let Some(task) = self.next_step(candidate, plan) {
                    digests.insert(candidate.job.digest.clone());
                    wave.push((candidate, task));
                }
            }
            if wave.is_empty() {
                break;
            }
            if wave.iter().any(|(candidate, _)| candidate.asked >= MOST_QUESTIONS) {
                return Err(Fault::Training(
                    "an admitted candidate came back without a training result".into(),
                ));
            }
            self.ask(evaluator, wave, plan)?;
        }
        let mut tried = Vec::new();
        for candidate in candidates.iter_mut().flatten() {
            for (network, one) in std::mem::take(&mut candidate.heard) {
                if self.learned.insert(one.digest.clone()) {
                    self.costs.learn(&network, one.measured);
                }
                if one.digest != candidate.job.digest {
                    tried.push(one);
                }
            }
        }
        let judged =
            candidates.into_iter().enumerate().map(|(rollout, one)| self.score(one, rollout, plan)).collect();
        Ok(Batch { judged, tried })
    }

    /// Fit, surgery, static costs.
    fn start(
        &self,
        proposal: &Proposal,
        rollout: usize,
        plan: Plan<'_>,
    ) -> Result<Candidate, Box<NoCandidate>> {
        let aim = self.aim(plan.first + rollout as u64);
        let (shape, genome, binding) = match proposal {
            Proposal::Exact(genome) => (None, genome.clone(), None),
            Proposal::Fitted(shape) => {
                let (genome, binding) = self.fitted(shape, &aim, 1.0)?;
                (Some(shape.clone()), genome, binding)
            }
        };
        let (resources, job) = self.job(&genome, plan.rung).map_err(|reason| {
            let genome = genome.clone();
            Box::new(NoCandidate { genome, step: Step::Surgery, reason, resources: None, binding: None })
        })?;
        Ok(Candidate {
            rollout,
            shape,
            refits: 0,
            correction: 1.0,
            aim,
            genome,
            binding,
            resources,
            job,
            asked: 0,
            measure_s: 0.0,
            train_s: 0.0,
            heard: Vec::new(),
            outcome: None,
        })
    }

    /// What a candidate is fitted to: the limits, and where something is to be made small a share of that, each candidate
    /// another one.
    fn aim(&self, index: u64) -> Limits {
        let mut aim = self.limits.clone();
        if let Some(goal) = self.scoring.goal {
            let share = AIMS[(index % AIMS.len() as u64) as usize];
            let whole = aim.0.iter().find(|(metric, _)| *metric == goal).map(|(_, bound)| *bound);
            let whole = whole.or_else(|| self.scoring.teacher.bound_value(goal)).unwrap_or(f64::MAX);
            aim.0.retain(|(metric, _)| *metric != goal);
            aim.0.push((goal, share * whole));
        }
        aim
    }

    /// The network that a shape would come to, as far as costs are known by now.
    pub(super) fn network_of(&self, shape: &Shape, index: u64) -> Option<Network> {
        let (genome, _) = self.fitted(shape, &self.aim(index), 1.0).ok()?;
        self.bases.get(&genome.base)?.network_of(&genome).ok()
    }

    fn fitted(
        &self,
        shape: &Shape,
        aim: &Limits,
        correction: f64,
    ) -> Result<(Genome, Option<Metric>), Box<NoCandidate>> {
        let none = |genome: Genome, step, reason: String| NoCandidate {
            genome,
            step,
            reason,
            resources: None,
            binding: None,
        };
        let bare =
            || Genome { base: shape.base.clone(), removed: shape.removed.clone(), ..Genome::default() };
        let Some(base) = self.bases.get(&shape.base) else {
            return Err(Box::new(none(bare(), Step::Surgery, "there is no such base network".into())));
        };
        let board = aim.need_the_board().then_some(&self.costs);
        match fit(base, shape, Costs { limits: aim, board, correction }) {
            Ok(fitted) if fitted.beyond > 0.0 => {
                let metric = fitted.binding.map_or_else(String::new, |metric| metric.to_string());
                let reason = format!(
                    "its narrowest form is {:.0} % beyond the limit on {metric}",
                    100.0 * fitted.beyond
                );
                Err(Box::new(NoCandidate {
                    binding: fitted.binding,
                    ..none(fitted.genome, Step::Fit, reason)
                }))
            }
            Ok(fitted) => Ok((fitted.genome, fitted.binding)),
            Err(reason) => Err(Box::new(none(bare(), Step::Surgery, reason))),
        }
    }

    fn job(&self, genome: &Genome, rung: Rung) -> Result<(Resources, Job), String> {
        let base = self.bases.get(&genome.base).ok_or("there is no such base network")?;
        let Surgery { network, inheritance } = base.student(genome)?;
        let digest = network.digest();
        let inherited = || StartingWeights::Inherited { source: base.weights.clone(), inheritance };
        let (start, origin) = match &genome.base {
            _ if !self.scoring.preset.inherits() => (StartingWeights::Fresh, "fresh"),
            BaseId::Teacher => (inherited(), "teacher"),
            BaseId::Student(lineage) => (inherited(), lineage.as_str()),
        };
        let lineage = lineage(&network, &digest, origin);
        let seed = random::seed_for(self.seed, &lineage);
        let resources = Resources::of(&network);
        Ok((resources, Job { digest, lineage, network, start, rung, seed }))
    }

    /// Goes as far as known answers lead: to the end, or to a question for the evaluator.
    fn next_step(&self, candidate: &mut Candidate, plan: Plan<'_>) -> Option<Task> {
        while candidate.outcome.is_none() && candidate.resources.measured.is_none() {
            match self.cache.measured(&candidate.job.digest) {
                Some(Outcome::Done(measured)) => self.hear(candidate, *measured, plan),
                Some(Outcome::Infeasible(reason)) => {
                    let reason = reason.clone();
                    candidate.outcome = Some(TrialOutcome::Infeasible { step: Step::Measure, reason });
                }
                Some(Outcome::Unknown(reason)) => {
                    let reason = reason.clone();
                    candidate.outcome = Some(TrialOutcome::Unknown { step: Step::Measure, reason });
                }
                None => break,
            }
        }
        if candidate.outcome.is_some() {
            return None;
        }
        if !self.is_worth_training(&candidate.resources, plan.epsilon) {
            candidate.outcome = Some(TrialOutcome::Skipped);
            return None;
        }
        let board = match candidate.resources.measured {
            Some(measured) => Board::Known(measured),
            None if self.needs_the_board() => Board::Asked,
            None => Board::Spared,
        };
        if board != Board::Asked
            && let Some(trained) = self.cache.trained(&candidate.job.lineage, candidate.job.rung)
        {
            candidate.outcome = Some(outcome_of(trained));
            return None;
        }
        if self.late.contains(&(plan.number, candidate.rollout)) {
            candidate.outcome = Some(TrialOutcome::Late);
            return None;
        }
        Some(self.task(candidate, board, plan))
    }

    fn task(&self, candidate: &Candidate, board: Board, plan: Plan<'_>) -> Task {
        let Job { digest, lineage, start, rung, seed, .. } = &candidate.job;
        let base = self.bases.get(&candidate.genome.base).map(|base| base.digest.clone());
        let may_refit = candidate.shape.is_some() && candidate.refits < REFITS;
        Task {
            ticket: 0,
            genome: candidate.genome.clone(),
            base: base.unwrap_or_default(),
            digest: digest.clone(),
            lineage: lineage.clone(),
            start: match start {
                StartingWeights::Inherited { .. } => Start::Inherited,
                StartingWeights::Fresh => Start::Fresh,
            },
            rung: *rung,
            seed: *seed,
            board,
            board_key: self.board_key.clone(),
            gate: Gate {
                scoring: self.scoring.clone(),
                limits: self.limits.clone(),
                epsilon: plan.epsilon,
                costs: candidate.resources,
                aim: may_refit.then(|| candidate.aim.clone()),
                trained: self.cache.trained(lineage, *rung).is_some(),
            },
        }
    }

    /// Takes the board's word on a candidate; one that is beyond its limits or far within is fitted anew, with what the word
    /// says of this shape.
    fn hear(&self, candidate: &mut Candidate, measured: Measured, plan: Plan<'_>) {
        let said = Tried { digest: candidate.job.digest.clone(), measured };
        candidate.heard.push((candidate.job.network.clone(), said));
        candidate.resources.measured = Some(measured);
        if !wants_refit(candidate, &candidate.resources) {
            return;
        }
        let Some(shape) = candidate.shape.clone() else { return };
        candidate.refits += 1;
        let guess = self.costs.guess(&candidate.job.network).latency_upper_ns.max(1) as f64;
        let correction = measured.latency_upper_ns as f64 / guess;
        let Ok((genome, binding)) = self.fitted(&shape, &candidate.aim, correction) else { return };
        if genome == candidate.genome {
            return;
        }
        if let Ok((resources, job)) = self.job(&genome, plan.rung) {
            candidate.correction = correction;
            (candidate.genome, candidate.binding) = (genome, binding);
            (candidate.resources, candidate.job) = (resources, job);
        }
    }

    fn is_worth_training(&self, resources: &Resources, epsilon: f64) -> bool {
        let parts = self.scoring.parts(&self.limits, resources, None);
        self.scoring.worth_training(&parts, epsilon)
    }

    /// Asks the evaluator, and keeps its answers once all of them are there.
    fn ask(
        &mut self,
        evaluator: &mut dyn Evaluator,
        wave: Vec<(&mut Candidate, Task)>,
        plan: Plan<'_>,
    ) -> Result<(), Fault> {
        let (candidates, mut tasks): (Vec<&mut Candidate>, Vec<Task>) = wave.into_iter().unzip();
        tasks.iter_mut().enumerate().for_each(|(ticket, task)| task.ticket = ticket);
        let answers = evaluator::ask(evaluator, tasks)?;
        // All answers are looked at before any is kept: a fault leaves nothing half done.
        for answer in &answers {
            let measured = answer.measured.as_ref().and_then(Outcome::done);
            if let Some(measured) = measured.filter(|measured| !(0.0..1.0).contains(&measured.noise)) {
                return Err(Fault::Board(format!("noise: expected 0 to 1, got {}", measured.noise)));
            }
        }
        for (candidate, answer) in candidates.into_iter().zip(answers) {
            candidate.asked += 1;
            candidate.measure_s += answer.measure_s;
            self.unknowns.add(&answer);
            if answer.late {
                self.late.insert((plan.number, candidate.rollout));
            }
            if let Some(measured) = answer.measured {
                let measured = match measured {
                    Outcome::Done(measured) => Outcome::Done(tidy(measured)),
                    other @ (Outcome::Infeasible(_) | Outcome::Unknown(_)) => other,
                };
                self.cache.put_measured(&candidate.job.digest, measured);
            }
            if let Some(trained) = answer.trained {
                candidate.train_s += trained.done().map_or(0.0, |trained| trained.seconds);
                self.cache.put_trained(&candidate.job.lineage, candidate.job.rung, checked(trained));
            }
        }
        Ok(())
    }

    fn score(
        &self,
        candidate: Result<Candidate, Box<NoCandidate>>,
        rollout: usize,
        plan: Plan<'_>,
    ) -> Judged {
        let (genome, binding, resources, outcome, job, times, asked) = match candidate {
            Ok(it) => {
                let outcome = it.outcome.unwrap_or(TrialOutcome::Skipped);
                let times = (it.measure_s, it.train_s);
                (it.genome, it.binding, Some(it.resources), outcome, Some(it.job), times, it.asked)
            }
            Err(none) => {
                let NoCandidate { genome, step, reason, resources, binding } = *none;
                let outcome = TrialOutcome::Infeasible { step, reason };
                (genome, binding, resources, outcome, None, (0.0, 0.0), 0)
            }
        };
        let parts = match (&outcome, &resources) {
            (TrialOutcome::Unknown { .. } | TrialOutcome::Late, _) => None,
            (TrialOutcome::Infeasible { .. }, _) | (_, None) => Some(Scoring::infeasible()),
            (TrialOutcome::Trained { accuracy, agreement, .. }, Some(resources)) => {
                let figure = self.scoring.figure(*accuracy, *agreement);
                Some(self.scoring.parts(&self.limits, resources, Some(figure)))
            }
            (TrialOutcome::Skipped, Some(resources)) => {
                Some(self.scoring.parts(&self.limits, resources, None))
            }
        };
        let judged = matches!(outcome, TrialOutcome::Trained { .. } | TrialOutcome::Skipped);
        let violation = resources.map_or(1.0, |resources| violation(&self.limits.excess(&resources)));
        let told = resources.is_some_and(|it| it.measured.is_some() || !self.needs_the_board());
        let identity = |of: fn(&Job) -> &String| job.as_ref().map_or_else(String::new, |job| of(job).clone());
        let trial = Trial {
            index: 0,
            batch: plan.number,
            purpose: plan.purpose,
            searcher: plan.searcher.to_owned(),
            rollout,
            genome,
            binding,
            digest: identity(|job| &job.digest),
            lineage: identity(|job| &job.lineage),
            resources,
            rung: plan.rung,
            reward: parts.map(|parts| self.scoring.score(&parts, plan.epsilon)),
            violation,
            feasible: told && violation == 0.0 && judged,
            outcome,
            known: asked == 0,
            measure_s: times.0,
            train_s: times.1,
        };
        Judged { trial, job }
    }
}

/// Whether what the board said asks for another fit.
fn wants_refit(candidate: &Candidate, resources: &Resources) -> bool {
    candidate.shape.is_some() && candidate.refits < REFITS && is_off(&candidate.aim, resources)
}

/// A share that is none is the student's own doing: its logits left the numbers.
fn checked(trained: Outcome<Trained>) -> Outcome<Trained> {
    match trained {
        Outcome::Done(trained)
            if (0.0..=1.0).contains(&trained.accuracy)
                && (0.0..=1.0).contains(&trained.agreement)
                && trained.nll.is_finite() =>
        {
            let (accuracy, agreement, nll) =
                (nine(trained.accuracy), nine(trained.agreement), nine(trained.nll));
            Outcome::Done(Trained { accuracy, agreement, nll, ..trained })
        }
        Outcome::Done(trained) => Outcome::Infeasible(format!(
            "its figures are no shares: accuracy {}, agreement {}, negative log-likelihood {}",
            trained.accuracy, trained.agreement, trained.nll
        )),
        other @ (Outcome::Infeasible(_) | Outcome::Unknown(_)) => other,
    }
}

fn outcome_of(trained: &Outcome<Trained>) -> TrialOutcome {
    match trained {
        Outcome::Done(Trained { accuracy, agreement, nll, fresh_tensors, .. }) => TrialOutcome::Trained {
            accuracy: *accuracy,
            agreement: *agreement,
            nll: *nll,
            fresh_tensors: fresh_tensors.clone(),
        },
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
