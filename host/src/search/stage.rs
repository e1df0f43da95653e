//! One stage: batches of candidates from its searchers until its part of the budget is spent, then promotion and the
//! choice of its best student. What time the last stage has left then, its searchers having settled early, goes into more
//! promotions.
//!
//! The budget's clock is read once per batch, and that reading is journaled with it: a replay makes the same choices.

use std::collections::{BTreeMap, HashSet};

use super::candidate::{Base, Batch, Judged, Ladder, Proposal};
use super::constraint::{Limits, epsilon_by_share, epsilon_by_updates};
use super::crew::Crew;
use super::error::SearchError;
use super::event::Event;
use super::kinds::{SearcherKind, StageKind};
use super::laboratory::{Fault, Laboratory};
use super::record::{Record, StageFinished, TrialOutcome, Update};
use super::reward::Preset;
use super::searchers::Searcher;
use super::settings::{Budget, Settings};
use super::tape::Tape;

/// A batch that told nothing new costs no time; counting it as this share of the stage bounds a policy that has settled,
/// and lets the relaxation harden.
const STALE_SHARE: f64 = 0.02;
/// Promotion looks at every candidate as if the limits were this far relaxed; the choice is then made without relaxation.
const PROMOTION_EPSILON: f64 = 1.0;

/// What is left of the budget, and how many stages (this one included) share it. What a stage leaves over, the next one has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining {
    /// The whole budget.
    pub(super) budget: Budget,
    /// The clock's first reading of the search; `None` in the first stage.
    pub(super) begun_ns: Option<u64>,
    /// Candidates proposed so far.
    pub(super) proposed: usize,
    /// Stages to come, with this one.
    pub(super) stages: usize,
}

/// What a stage may spend.
#[derive(Clone, Copy, Debug)]
enum Allowance {
    /// Nanoseconds from its first reading on.
    Time { start_ns: u64, length_ns: u64 },
    /// Candidates.
    Candidates(usize),
}

impl Allowance {
    /// Share of a time that is spent by this reading.
    fn spent(&self, now_ns: u64) -> Option<f64> {
        match *self {
            Self::Time { start_ns, length_ns } => {
                Some(now_ns.saturating_sub(start_ns) as f64 / length_ns.max(1) as f64)
            }
            Self::Candidates(_) => None,
        }
    }
}

impl Remaining {
    /// This stage's part, by its first reading of the clock.
    fn allowance(&self, start_ns: u64) -> Allowance {
        let stages = self.stages.max(1);
        match self.budget {
            Budget::Time(time) => {
                let total = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let used = start_ns.saturating_sub(self.begun_ns.unwrap_or(start_ns));
                Allowance::Time { start_ns, length_ns: total.saturating_sub(used) / stages as u64 }
            }
            Budget::Candidates(count) => Allowance::Candidates(count.saturating_sub(self.proposed) / stages),
        }
    }
}

/// A stage to run.
pub(super) struct Stage<'a> {
    pub(super) kind: StageKind,
    pub(super) settings: &'a Settings,
    pub(super) limits: Limits,
    pub(super) bases: &'a [Base],
    /// Who searches.
    pub(super) searchers: Crew,
    pub(super) remaining: Remaining,
}

/// What came of it.
pub(super) struct StageResult {
    /// All candidates, promotions included.
    pub(super) judged: Vec<Judged>,
    /// Index of the best into `judged`; `None` when nothing beats the base.
    pub(super) winner: Option<usize>,
    /// REINFORCE's policy, if it took part.
    pub(super) policy: Option<Vec<u8>>,
    /// The clock's first reading in this stage.
    pub(super) start_ns: u64,
    /// Proposals, without promotions.
    pub(super) proposed: usize,
}

/// Runs a stage. `base_reward` is what doing nothing earns.
pub(super) fn run(
    mut stage: Stage<'_>,
    ladder: &mut Ladder,
    lab: &mut dyn Laboratory,
    tape: &mut Tape<'_>,
    base_reward: f64,
) -> Result<StageResult, SearchError> {
    let settings = stage.settings;
    tape.observe(&Event::Stage(stage.kind));
    let rung = settings.rung(stage.kind);
    let mut judged: Vec<Judged> = Vec::new();
    let mut spending = vec![0.0_f64; stage.searchers.len()];
    let mut exhausted = vec![false; stage.searchers.len()];
    let mut batches: BTreeMap<SearcherKind, usize> = BTreeMap::new();
    let (mut stale, mut last_cost, mut last_spent) = (0_usize, 0.0_f64, 0.0_f64);
    let mut last_searcher: Option<usize> = None;
    let reserved = settings.promotion.map_or(0.0, |promotion| promotion.share);
    let start_ns = tape.clock(lab);
    let allowance = stage.remaining.allowance(start_ns);
    let is_last = stage.remaining.stages == 1;
    let mut now_ns = start_ns;
    let end_ns = loop {
        let used = match allowance {
            Allowance::Time { .. } => allowance.spent(now_ns).map_or(1.0, |spent| spent / (1.0 - reserved)),
            Allowance::Candidates(count) => judged.len() as f64 / count.max(1) as f64,
        };
        let spent = used + stale as f64 * STALE_SHARE;
        if let Some(last) = last_searcher {
            last_cost = spent - last_spent;
            spending[last] += last_cost;
        }
        last_spent = spent;
        // Stop half a batch early or late, whichever is nearer.
        let half_batch = if matches!(allowance, Allowance::Time { .. }) { last_cost / 2.0 } else { 0.0 };
        if spent + half_batch >= 1.0 {
            break now_ns;
        }
        if tape.is_live() && lab.cancelled() {
            return Err(Fault::Cancelled.into());
        }
        let count = match allowance {
            Allowance::Candidates(count) => settings.rollouts.min(count.saturating_sub(judged.len())),
            Allowance::Time { .. } => settings.rollouts,
        };
        let Some((chosen, proposals)) = propose(&mut stage.searchers, &spending, &mut exhausted, count)?
        else {
            break now_ns;
        };
        last_searcher = Some(chosen);
        let searcher = &mut stage.searchers[chosen].0;
        let update = *batches.entry(searcher.kind()).and_modify(|count| *count += 1).or_insert(0);
        let epsilon = match settings.preset {
            _ if !searcher.learns_from_violations() => 0.0,
            Preset::Paper => epsilon_by_updates(update),
            Preset::Edge => epsilon_by_share(spent),
        };
        let batch = Batch {
            stage: stage.kind,
            searcher: searcher.kind(),
            update: Some(update),
            elapsed_ns: now_ns,
            limits: &stage.limits,
            epsilon,
            rung,
        };
        tape.observe(&Event::Batch {
            stage: stage.kind,
            searcher: searcher.kind(),
            update,
            candidates: proposals.len(),
            // The last stage's searchers may settle long before its time is over.
            spent: allowance.spent(now_ns).filter(|_| is_last).unwrap_or(spent),
        });
        let mut results = ladder.judge(lab, stage.bases, &proposals, batch)?;
        for result in &mut results {
            tape.put_trial(&mut result.trial)?;
        }
        let trials: Vec<_> = results.iter().map(|result| result.trial.clone()).collect();
        let learned = searcher.learn(&trials)?;
        stale += usize::from(trials.iter().all(|trial| trial.known));
        let rewards: Vec<f64> =
            trials.iter().filter_map(|trial| trial.reward.as_ref()).map(|reward| reward.total).collect();
        let mean_reward = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
        tape.put(&Record::Update(Update {
            stage: stage.kind,
            searcher: searcher.kind(),
            update,
            elapsed_ns: now_ns,
            spent,
            epsilon,
            trials: trials.len(),
            mean_reward,
            learned,
        }))?;
        judged.append(&mut results);
        ladder.unknowns.check()?;
        now_ns = tape.clock(lab);
    };
    let proposed = judged.len();
    let end_ns = promote(&stage, ladder, lab, tape, &mut judged, end_ns, allowance)?;
    let winner = winner(&judged, ladder, &stage.limits, base_reward);
    let count =
        |wanted: fn(&TrialOutcome) -> bool| judged.iter().filter(|one| wanted(&one.trial.outcome)).count();
    let groups = winner.and_then(|index| judged[index].job.as_ref()).map(|job| {
        job.network.groups().into_iter().filter(|group| group.shrinkable).map(|group| group.name).collect()
    });
    tape.put(&Record::Stage(StageFinished {
        stage: stage.kind,
        elapsed_ns: end_ns,
        updates: batches.values().map(|count| count + 1).sum(),
        trials: proposed,
        infeasible: count(|outcome| matches!(outcome, TrialOutcome::Infeasible { .. })),
        skipped: count(|outcome| matches!(outcome, TrialOutcome::Skipped)),
        unknown: count(|outcome| matches!(outcome, TrialOutcome::Unknown { .. })),
        winner: winner.map(|index| judged[index].trial.lineage.clone()),
        groups: groups.unwrap_or_default(),
    }))?;
    let policy = stage.searchers.iter().find_map(|(searcher, _)| searcher.policy()).transpose()?;
    Ok(StageResult { judged, winner, policy, start_ns, proposed })
}

/// The searcher that is furthest behind its share, and what it proposes.
fn propose(
    searchers: &mut [(Box<dyn Searcher>, f64)],
    spending: &[f64],
    exhausted: &mut [bool],
    count: usize,
) -> Result<Option<(usize, Vec<Proposal>)>, SearchError> {
    loop {
        let due = |&index: &usize| spending[index] / searchers[index].1;
        let open = (0..searchers.len()).filter(|&index| !exhausted[index] && searchers[index].1 > 0.0);
        let Some(index) = open.min_by(|a, b| due(a).total_cmp(&due(b))) else { return Ok(None) };
        let proposals = searchers[index].0.propose(count)?;
        if !proposals.is_empty() {
            return Ok(Some((index, proposals)));
        }
        exhausted[index] = true;
    }
}

/// Trains the stage's best again at the higher rung, one by one, so that an interruption costs one of them: as many as the
/// settings say, and in the last stage more while its time lasts. The clock's last reading.
fn promote(
    stage: &Stage<'_>,
    ladder: &mut Ladder,
    lab: &mut dyn Laboratory,
    tape: &mut Tape<'_>,
    judged: &mut Vec<Judged>,
    begin_ns: u64,
    allowance: Allowance,
) -> Result<u64, SearchError> {
    let Some(promotion) = stage.settings.promotion else { return Ok(begin_ns) };
    let mut lineages = HashSet::new();
    let mut order = ranked(judged, ladder, &stage.limits);
    order.retain(|&index| lineages.insert(judged[index].trial.lineage.clone()));
    let mut now_ns = begin_ns;
    for (rollout, index) in order.into_iter().enumerate() {
        if rollout >= promotion.count {
            let before_ns = now_ns;
            now_ns = tape.clock(lab);
            // The first reading is for all so far, each later one for one: what the next one will take.
            let done = if rollout == promotion.count { rollout.max(1) as u64 } else { 1 };
            let half_ns = now_ns.saturating_sub(before_ns) / done / 2;
            let lasts = allowance.spent(now_ns.saturating_add(half_ns)).is_some_and(|spent| spent < 1.0);
            if stage.remaining.stages > 1 || !lasts {
                break;
            }
        }
        tape.observe(&Event::Promotion {
            stage: stage.kind,
            number: rollout,
            spent: allowance.spent(now_ns),
        });
        if tape.is_live() && lab.cancelled() {
            return Err(Fault::Cancelled.into());
        }
        let trial = &judged[index].trial;
        let batch = Batch {
            stage: stage.kind,
            searcher: trial.searcher,
            update: None,
            elapsed_ns: now_ns,
            limits: &stage.limits,
            epsilon: PROMOTION_EPSILON,
            rung: promotion.rung,
        };
        let proposal = Proposal { base: trial.base, actions: trial.actions.clone() };
        for mut result in ladder.judge(lab, stage.bases, &[proposal], batch)? {
            result.trial.rollout = rollout;
            tape.put_trial(&mut result.trial)?;
            judged.push(result);
        }
        ladder.unknowns.check()?;
    }
    Ok(now_ns)
}

/// Trained candidates by their reward without relaxation, best first; equal ones in the order they were found.
fn ranked(judged: &[Judged], ladder: &Ladder, limits: &Limits) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = judged
        .iter()
        .enumerate()
        .filter_map(|(index, one)| hard_reward(one, ladder, limits).map(|reward| (index, reward)))
        .collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.into_iter().map(|(index, _)| index).collect()
}

/// The reward of a trained candidate without relaxation.
pub(super) fn hard_reward(judged: &Judged, ladder: &Ladder, limits: &Limits) -> Option<f64> {
    let accuracy = judged.trial.accuracy()?;
    let resources = judged.trial.resources?;
    let parts = ladder.scoring.parts(limits, &resources, Some(accuracy));
    Some(ladder.scoring.score(&parts, 0.0).total)
}

/// The best candidate at the highest rung that any was promoted to, if it beats doing nothing.
fn winner(judged: &[Judged], ladder: &Ladder, limits: &Limits, base_reward: f64) -> Option<usize> {
    let promoted = |index: &usize| judged[*index].trial.update.is_none();
    let order = ranked(judged, ladder, limits);
    let best = order.iter().find(|index| promoted(index)).or(order.first()).copied()?;
    hard_reward(&judged[best], ladder, limits).filter(|reward| *reward > base_reward).map(|_| best)
}
