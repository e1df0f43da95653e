//! The search: simple students first, then searchers in turns by their shares, the most promising trained in between, and the
//! best of those trained longer at the end.
//!
//! The budget's clock is read once per batch, and that reading is journaled with it: a replay makes the same choices.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::answer::{Fault, Rung};
use super::base::Base;
use super::cache::Cache;
use super::cascade::{Cascade, Judged, Plan};
use super::cost_model::CostModel;
use super::effort::Budget;
use super::error::SearchError;
use super::evaluator::Evaluator;
use super::event::Event;
use super::genome::{BaseId, Genome, Shape};
use super::job::{Job, StartingWeights};
use super::record::{Batch, Finished, Purpose, Record, Started, Stopped, Trial, TrialOutcome, Update};
use super::result::{self, SearchResult};
use super::reward::Scoring;
use super::searcher::{Asked, Known, Proposal, Searcher, Setup};
use super::settings::{LONG_BATCH, PAIRS, Settings};
use super::spending::Spending;
use super::state::Scale;
use super::surrogate::{Surrogate, rank_correlation};
use super::tape::{Journal, Observer, Tape};
use super::teacher::{Policies, Teacher};
use super::unknowns::Unknowns;
use super::{begin, registry};
use crate::model_io::Weights;
use crate::training::inheritance;

/// Batches one after the other that tell a searcher nothing new: it has settled.
const SETTLED: usize = 4;
/// Candidates that are trained in one batch: few, so that what they tell chooses the next ones.
const PROMOTED: usize = 4;
/// With a budget of candidates: so many are proposed for each that is trained.
const PROPOSED_FOR_ONE: usize = 4;
/// Who judged again, in batches of promotions.
const PROMOTION: &str = "promotion";

/// Searches. `recorded` holds the whole lines of an interrupted journal, or nothing; lines that are in it are not written
/// again.
///
/// # Errors
/// [`SearchError::Fault`] pauses: call again with what was journaled.
pub fn search(
    settings: &Settings,
    teacher: &Teacher,
    start: &Policies,
    evaluator: &mut dyn Evaluator,
    journal: &mut Journal<'_>,
    recorded: &[Record],
    observer: &mut Observer<'_>,
) -> Result<SearchResult, SearchError> {
    settings.check()?;
    let mut tape = Tape::new(recorded, journal, observer);
    let started = begin::begin(settings, teacher, start, evaluator, &mut tape, recorded)?;
    let outcome = Search::new(settings, teacher, start, &started, recorded)
        .and_then(|mut search| search.run(evaluator, &mut tape));
    if let Err(stopped @ (SearchError::Fault(_) | SearchError::Unknown { .. })) = &outcome {
        let elapsed_ns = u64::try_from(evaluator.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The cause itself is what the caller must hear of, not that it could not be written down.
        let _ = tape.note(&Record::Fault(Stopped { reason: stopped.to_string(), elapsed_ns }));
    }
    outcome
}

/// A searcher with its share.
pub(super) struct Seat {
    pub(super) name: &'static str,
    pub(super) searcher: Box<dyn Searcher>,
    pub(super) share: f64,
    /// What it has spent, in the unit of the budget.
    pub(super) spent: f64,
    /// Batches in a row that told nothing new.
    pub(super) stale: usize,
    pub(super) open: bool,
}

/// What is done next.
enum Next {
    /// A seat's proposals.
    Explore(usize, Asked),
    /// Genomes to be trained.
    Promote(Vec<Genome>),
    /// Genomes to be trained longer.
    Choose(Vec<Genome>),
    /// Nothing; why, for people.
    End(String),
}

/// A search at work.
pub(super) struct Search<'a> {
    pub(super) settings: &'a Settings,
    pub(super) cascade: Cascade,
    pub(super) base: Rc<Base>,
    pub(super) seats: Vec<Seat>,
    pub(super) trials: Vec<Trial>,
    /// The last job of each lineage.
    pub(super) jobs: HashMap<String, Job>,
    pub(super) simple: Vec<(Shape, f64)>,
    pub(super) surrogate: Surrogate,
    /// The rung of proposals; the promotion's own once looks without training have proved useless.
    pub(super) explore: Rung,
    pub(super) batches: usize,
    pub(super) spending: Spending,
    pub(super) choosing: bool,
    /// The first trial of this round.
    pub(super) round_from: usize,
}

impl<'a> Search<'a> {
    fn new(
        settings: &'a Settings,
        teacher: &Teacher,
        start: &Policies,
        started: &Started,
        recorded: &[Record],
    ) -> Result<Self, SearchError> {
        let scoring = Scoring {
            preset: settings.preset,
            teacher_accuracy: started.teacher_accuracy,
            chance: started.chance,
            teacher: started.teacher,
            goal: settings.preset.goal(settings.goal, !settings.limits.is_empty()),
        };
        let base = Rc::new(Base::new(
            BaseId::Teacher,
            teacher.network.clone(),
            teacher.weights.clone(),
            settings.channel_multiple,
        ));
        let measured = started.teacher.measured.unwrap_or(teacher.measured);
        let limits = started.limits.clone();
        let setup = Setup {
            settings,
            base: Rc::clone(&base),
            limits: &limits,
            scale: Scale::of(&teacher.network),
            start,
        };
        let mut seats = Vec::new();
        for (entry, share) in taking_part(settings)? {
            let searcher = (entry.build)(&setup)?;
            seats.push(Seat { name: entry.name, searcher, share, spent: 0.0, stale: 0, open: true });
        }
        let cascade = Cascade {
            scoring,
            limits: limits.clone(),
            cache: Cache::from_records(recorded),
            unknowns: Unknowns::default(),
            costs: CostModel::new(&teacher.network, measured),
            learned: HashSet::new(),
            bases: HashMap::from([(BaseId::Teacher, Rc::clone(&base))]),
            seed: settings.seed,
            board_key: settings.board_key.clone(),
            late: late(recorded),
        };
        Ok(Self {
            settings,
            cascade,
            surrogate: Surrogate::new(&teacher.network),
            base,
            seats,
            trials: Vec::new(),
            jobs: HashMap::new(),
            simple: Vec::new(),
            explore: settings.rungs.explore,
            batches: 0,
            spending: Spending::new(settings.budget),
            choosing: false,
            round_from: 0,
        })
    }

    fn run(
        &mut self,
        evaluator: &mut dyn Evaluator,
        tape: &mut Tape<'_>,
    ) -> Result<SearchResult, SearchError> {
        self.spending.start_ns = tape.clock(evaluator);
        evaluator.take(&self.base)?;
        if self.settings.preset.begins_simple() {
            self.simple_students(evaluator, tape)?;
        }
        let mut end = self.round(evaluator, tape)?;
        for &budget in &self.settings.extensions {
            self.note_the_end(tape, &end)?;
            self.begin_anew(budget, end.1);
            end = self.round(evaluator, tape)?;
        }
        self.note_the_end(tape, &end)?;
        self.result()
    }

    /// A further budget for everybody, from this reading of the clock on: what ran before keeps its schedule.
    fn begin_anew(&mut self, budget: Budget, now_ns: u64) {
        self.spending.begin_anew(budget, now_ns);
        self.choosing = false;
        self.round_from = self.trials.len();
        for seat in &mut self.seats {
            (seat.open, seat.stale, seat.spent) = (true, 0, 0.0);
        }
    }

    /// Batches until the budget is spent: why it ended, for people, and the clock's last reading.
    fn round(
        &mut self,
        evaluator: &mut dyn Evaluator,
        tape: &mut Tape<'_>,
    ) -> Result<(String, u64), SearchError> {
        loop {
            let now_ns = self.settle(evaluator, tape);
            if tape.is_live() && evaluator.cancelled() {
                return Err(Fault::Cancelled.into());
            }
            self.rebase(evaluator, now_ns)?;
            match self.next(now_ns)? {
                Next::Explore(seat, asked) => self.explore(evaluator, tape, now_ns, seat, &asked)?,
                Next::Promote(genomes) => {
                    let rung = self.settings.rungs.promote.unwrap_or(self.explore);
                    self.again(evaluator, tape, now_ns, &genomes, Purpose::Promote, rung)?;
                    self.judge_the_rung();
                }
                Next::Choose(genomes) => {
                    let rung = self.settings.rungs.choose.unwrap_or(self.explore);
                    self.again(evaluator, tape, now_ns, &genomes, Purpose::Choose, rung)?;
                }
                Next::End(reason) => return Ok((reason, now_ns)),
            }
        }
    }

    /// What comes next.
    fn next(&mut self, now_ns: u64) -> Result<Next, SearchError> {
        let spent = self.spending.spent(now_ns);
        let by_time = self.spending.is_by_time();
        let (promote, reserve) = (self.settings.rungs.promote_share, self.settings.rungs.choose_share);
        let reserve = if by_time && self.settings.rungs.choose.is_some() { reserve } else { 0.0 };
        // Stop half a batch early or late, whichever is nearer.
        let half = self.spending.half_of_last();
        if !self.choosing && spent + half < 1.0 - reserve {
            let promotions_are_due = if by_time {
                self.spending.promoting_share() < promote
            } else {
                let is_promotion = |trial: &&Trial| trial.purpose == Purpose::Promote;
                self.this_round().iter().filter(is_promotion).count() * PROPOSED_FOR_ONE
                    < self.spending.proposed
            };
            let rung = self.settings.rungs.promote.unwrap_or(self.explore);
            // As many as there is time for.
            let lasts = |count: &usize| spent + self.spending.half(rung, *count) < 1.0 - reserve;
            let count = (1..=PROMOTED.min(self.settings.rollouts)).rev().find(lasts).unwrap_or(0);
            if promotions_are_due {
                let genomes = self.promising(count);
                if !genomes.is_empty() {
                    return Ok(Next::Promote(genomes));
                }
            }
            if let Some((seat, asked)) = self.ask(spent)? {
                return Ok(Next::Explore(seat, asked));
            }
            let genomes = self.promising(count);
            if !genomes.is_empty() {
                return Ok(Next::Promote(genomes));
            }
        }
        self.choosing = true;
        let rung = self.settings.rungs.choose.unwrap_or(self.explore);
        if by_time && spent + self.spending.half(rung, LONG_BATCH) >= 1.0 {
            return Ok(Next::End("the budget is spent".into()));
        }
        let genomes = self.choice();
        if genomes.is_empty() {
            let open = self.seats.iter().any(|seat| seat.open);
            let why = if open { "the budget is spent" } else { "no searcher finds anything new" };
            return Ok(Next::End(why.into()));
        }
        Ok(Next::Choose(genomes))
    }

    /// The open seat that is furthest behind its share, and what it asks.
    fn ask(&mut self, spent: f64) -> Result<Option<(usize, Asked)>, SearchError> {
        let left = match self.spending.budget {
            Budget::Candidates(count) => count.saturating_sub(self.spending.proposed),
            Budget::Time(_) => self.settings.rollouts,
        };
        let count = self.settings.rollouts.min(left);
        loop {
            let open = (0..self.seats.len()).filter(|&index| self.seats[index].open);
            let due = |&index: &usize| self.seats[index].spent / self.seats[index].share;
            let Some(index) = open.min_by(|a, b| due(a).total_cmp(&due(b))) else { return Ok(None) };
            let fitted = |shape: &Shape| self.cascade.network_of(shape, self.trials.len() as u64);
            let known = Known {
                spent,
                trials: &self.trials,
                simple: &self.simple,
                surrogate: &self.surrogate,
                fitted: &fitted,
            };
            let asked = self.seats[index].searcher.ask(count, &known)?;
            if !asked.proposals.is_empty() {
                return Ok(Some((index, asked)));
            }
            self.seats[index].open = false;
        }
    }

    fn explore(
        &mut self,
        evaluator: &mut dyn Evaluator,
        tape: &mut Tape<'_>,
        now_ns: u64,
        seat: usize,
        asked: &Asked,
    ) -> Result<(), SearchError> {
        let plan = self.plan(Purpose::Explore, self.seats[seat].name, asked.epsilon, self.explore);
        let judged = self.batch(evaluator, tape, now_ns, &asked.proposals, plan, None)?;
        let trials: Vec<Trial> = judged.into_iter().map(|one| one.trial).collect();
        self.spending.proposed += trials.len();
        let is_stale = trials.iter().all(|trial| trial.known);
        let learned = self.seats[seat].searcher.tell(&trials)?;
        let rewards: Vec<f64> =
            trials.iter().filter_map(|trial| trial.reward.as_ref()).map(|reward| reward.total).collect();
        tape.put(&Record::Update(Update {
            batch: plan.number,
            searcher: plan.searcher.to_owned(),
            epsilon: plan.epsilon,
            trials: trials.len(),
            mean_reward: rewards.iter().sum::<f64>() / rewards.len().max(1) as f64,
            learned,
        }))?;
        self.spending.batch_was_of(seat);
        let by_time = self.spending.is_by_time();
        let seat = &mut self.seats[seat];
        if !by_time {
            seat.spent += trials.len() as f64;
        }
        seat.stale = if is_stale { seat.stale + 1 } else { 0 };
        if seat.stale >= SETTLED {
            seat.open = false;
        }
        Ok(())
    }

    /// Judges genomes again, at another rung.
    fn again(
        &mut self,
        evaluator: &mut dyn Evaluator,
        tape: &mut Tape<'_>,
        now_ns: u64,
        genomes: &[Genome],
        purpose: Purpose,
        rung: Rung,
    ) -> Result<(), SearchError> {
        let proposals: Vec<Proposal> = genomes.iter().cloned().map(Proposal::Exact).collect();
        let names: Vec<String> = genomes.iter().map(|genome| self.finder_of(genome)).collect();
        // A proposal that its limits let through once is within them now.
        let plan = self.plan(purpose, PROMOTION, 0.0, rung);
        self.batch(evaluator, tape, now_ns, &proposals, plan, Some(&names))?;
        self.refit();
        Ok(())
    }

    /// Who found a genome first.
    fn finder_of(&self, genome: &Genome) -> String {
        let first = self.trials.iter().find(|trial| trial.genome == *genome);
        first.map_or_else(|| PROMOTION.to_owned(), |trial| trial.searcher.clone())
    }

    pub(super) fn plan(
        &self,
        purpose: Purpose,
        searcher: &'static str,
        epsilon: f64,
        rung: Rung,
    ) -> Plan<'static> {
        let first = self.trials.len() as u64;
        Plan { number: self.batches, purpose, searcher, epsilon, rung, first }
    }

    /// Judges, journals and remembers one batch. `finders`: names to put in the place of the batch's own.
    pub(super) fn batch(
        &mut self,
        evaluator: &mut dyn Evaluator,
        tape: &mut Tape<'_>,
        now_ns: u64,
        proposals: &[Proposal],
        plan: Plan<'_>,
        finders: Option<&[String]>,
    ) -> Result<Vec<Judged>, SearchError> {
        self.batches += 1;
        let batch = Batch {
            number: plan.number,
            purpose: plan.purpose,
            searcher: plan.searcher.to_owned(),
            elapsed_ns: now_ns,
            spent: self.spending.spent(now_ns).min(1.0),
            rung: plan.rung,
            candidates: proposals.len(),
        };
        tape.put(&Record::Batch(batch.clone()))?;
        tape.observe(&Event::Batch(batch));
        evaluator.give_up_at(self.spending.deadline());
        let done = self.cascade.judge(evaluator, proposals, plan)?;
        for tried in done.tried {
            tape.put(&Record::Measured(tried))?;
        }
        let mut judged = done.judged;
        for (index, one) in judged.iter_mut().enumerate() {
            if let Some(finder) = finders.and_then(|finders| finders.get(index)) {
                one.trial.searcher.clone_from(finder);
            }
            tape.put_trial(&mut one.trial)?;
            if let Some(job) = &one.job {
                self.surrogate.see(&one.trial, &job.network);
                self.jobs.insert(one.trial.lineage.clone(), job.clone());
            }
            self.trials.push(one.trial.clone());
        }
        self.cascade.unknowns.check()?;
        let trained = judged.iter().filter(|one| one.trial.was_trained() && !one.trial.known).count();
        self.spending.batch((plan.purpose, plan.rung), now_ns, trained);
        Ok(judged)
    }

    /// Reads the clock and accounts for the last batch by that reading, which the next line of the journal will hold: so a
    /// replay counts alike.
    pub(super) fn settle(&mut self, evaluator: &dyn Evaluator, tape: &Tape<'_>) -> u64 {
        if self.batches == 0 {
            // The first line of the journal holds the reading that the search began with.
            return self.spending.start_ns;
        }
        let now_ns = tape.clock(evaluator);
        if let Some((seat, took_ns)) = self.spending.settle(now_ns).filter(|_| self.spending.is_by_time()) {
            self.seats[seat].spent += took_ns;
        }
        now_ns
    }

    /// Where a searcher wants to go on from a judged candidate, it gets that as its base.
    fn rebase(&mut self, evaluator: &mut dyn Evaluator, now_ns: u64) -> Result<(), SearchError> {
        let spent = self.spending.spent(now_ns);
        for seat in 0..self.seats.len() {
            let next = self.seats[seat].searcher.next_base(spent);
            if let Some(base) = next.map(|lineage| self.base_of(&lineage, evaluator)).transpose()?.flatten() {
                evaluator.take(&base)?;
                self.cascade.bases.insert(base.id.clone(), Rc::clone(&base));
                self.seats[seat].searcher.rebase(base)?;
            }
        }
        Ok(())
    }

    pub(super) fn refit(&mut self) {
        let trained = self.settings.rungs.promote.unwrap_or(self.explore);
        let ranks = self.explore == Rung::Inherited;
        self.surrogate.fit(trained, ranks);
    }

    /// A judged candidate as what genomes apply to.
    fn base_of(&self, lineage: &str, evaluator: &mut dyn Evaluator) -> Result<Option<Rc<Base>>, Fault> {
        let Some(job) = self.jobs.get(lineage) else { return Ok(None) };
        let weights = weights_of(job, evaluator)?;
        let id = BaseId::Student(lineage.to_owned());
        Ok(Some(Rc::new(Base::new(id, job.network.clone(), weights, self.settings.channel_multiple))))
    }

    fn note_the_end(&self, tape: &mut Tape<'_>, (reason, now_ns): &(String, u64)) -> Result<(), SearchError> {
        let count =
            |wanted: fn(&TrialOutcome) -> bool| self.trials.iter().filter(|one| wanted(&one.outcome)).count();
        let pairs = self.settings.rungs.promote.map(|rung| self.pairs(rung)).unwrap_or_default();
        tape.put(&Record::Finished(Finished {
            elapsed_ns: *now_ns,
            batches: self.batches,
            trials: self.trials.len(),
            infeasible: count(|outcome| matches!(outcome, TrialOutcome::Infeasible { .. })),
            skipped: count(|outcome| matches!(outcome, TrialOutcome::Skipped)),
            unknown: count(|outcome| matches!(outcome, TrialOutcome::Unknown { .. })),
            untrained_correlation: rank_correlation(&pairs)
                .filter(|_| pairs.len() >= PAIRS)
                .map(super::digits::nine),
            reason: reason.clone(),
        }))
    }

    fn result(&self) -> Result<SearchResult, SearchError> {
        let mut policies = Policies::default();
        for seat in &self.seats {
            let own = seat.searcher.policies()?;
            policies.removal = policies.removal.or(own.removal);
            policies.shrinkage = policies.shrinkage.or(own.shrinkage);
        }
        let order = |trial: &Trial| self.surrogate.quality_of(trial);
        Ok(result::gather(self.settings, &self.cascade, &self.trials, &self.jobs, &order, policies))
    }
}

/// What came too late in the recorded part of a search.
fn late(recorded: &[Record]) -> HashSet<(usize, usize)> {
    let mut late = HashSet::new();
    for record in recorded {
        if let Record::Trial(trial) = record
            && trial.outcome == TrialOutcome::Late
        {
            late.insert((trial.batch, trial.rollout));
        }
    }
    late
}

/// Who has a share.
fn taking_part(settings: &Settings) -> Result<Vec<(&'static registry::Entry, f64)>, SearchError> {
    if settings.searchers.is_empty() {
        return Ok(registry::of_preset(settings.preset));
    }
    let mut named = Vec::new();
    for (name, share) in settings.searchers.iter().filter(|(_, share)| *share > 0.0) {
        let entry = registry::find(name)
            .ok_or_else(|| SearchError::Settings(format!("searcher `{name}`: there is none")))?;
        named.push((entry, *share));
    }
    Ok(named)
}

/// Weights that candidates of a judged one inherit: its own as trained, so that layers which had nothing to inherit need not
/// be learned again by every candidate. The distiller stays the original teacher.
fn weights_of(job: &Job, evaluator: &mut dyn Evaluator) -> Result<Arc<Weights>, Fault> {
    match (&job.start, job.rung) {
        // `paper` trains every candidate from scratch: nothing is ever inherited.
        (StartingWeights::Fresh, _) => Ok(Arc::new(inheritance::initial_weights(&job.network, job.seed))),
        (StartingWeights::Inherited { source, inheritance: slices }, Rung::Inherited) => {
            Ok(Arc::new(inheritance::inherit(&job.network, slices, source, job.seed).0))
        }
        (StartingWeights::Inherited { .. }, Rung::Steps(_) | Rung::Epochs(_)) => evaluator.weights(job),
    }
}
