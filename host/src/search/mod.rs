//! The two-stage search for a student (method.md): layer removal, then layer shrinkage, both scored against the original
//! teacher.
//!
//! | file | what |
//! |---|---|
//! | `settings` | what decides a search, the presets |
//! | `laboratory` | the one seam to boards, trainers, the clock |
//! | `constraint` | limits: reading, resolving, violations, relaxation |
//! | `reward` | `paper` and `edge`, parts kept |
//! | `state` | features of units and groups |
//! | `policy`, `removal_policy`, `shrinkage_policy` | the LSTMs |
//! | `reinforce` | advantages and the gradient step |
//! | `searchers` | REINFORCE, random, uniform width behind one interface |
//! | `candidate`, `cache` | the ladder from actions to a reward |
//! | `stage` | one stage within its budget |
//! | `record`, `tape`, `replay` | what is journaled, and going on from it |
//!
//! Nothing here touches a file, a socket, a clock or the terminal: they come in as [`Laboratory`], a journal function and
//! an observer. A fault of the world is never scored and never reaches a policy.
//!
//! To add a searcher: one type in `searchers`, one [`SearcherKind`], one share in [`Settings`], one line in `searchers_of`.

pub mod cache;
mod candidate;
pub mod constraint;
pub mod laboratory;
pub mod policy;
pub mod random;
pub mod record;
pub mod reinforce;
pub mod removal_policy;
pub mod replay;
pub mod reward;
mod searchers;
pub mod settings;
pub mod shrinkage_policy;
mod stage;
pub mod state;
mod tape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

pub use candidate::smallest;
pub use constraint::{Bound, Limit, LimitError, Limits, Metric, Resources};
pub use laboratory::{Fault, Job, Laboratory, Measured, Outcome, Rung, StartingWeights, Trained};
pub use record::{Record, SearcherKind, StageKind, Trial};
pub use reward::Preset;
pub use settings::{Budget, Promotion, Settings, Shares};
pub use tape::{Journal, Observer};

use cache::Cache;
use candidate::{Base, Judged, Ladder};
use policy::{Policy, PolicyError};
use record::{BaseKind, Resumed, Started, Stopped};
use removal_policy::RemovalPolicy;
use reward::Scoring;
use searchers::{PolicySearcher, RandomSearcher, Searcher, UniformSearcher};
use shrinkage_policy::ShrinkagePolicy;
use stage::{Remaining, Stage, StageResult};
use state::Scale;
use tape::Tape;

use crate::model_io::Weights;
use crate::network::Network;
use crate::training::inheritance;

/// The network to compress, as it was found.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// Structure, batch norm live.
    pub network: Network,
    /// Weights.
    pub weights: Arc<Weights>,
    /// On `validation_search`.
    pub accuracy: f64,
    /// Accuracy of always answering the most frequent class there.
    pub chance: f64,
    /// On the board.
    pub measured: Measured,
}

impl Teacher {
    /// Its costs, measurement included: what relative limits refer to.
    pub fn resources(&self) -> Resources {
        Resources { measured: Some(candidate::tidy(self.measured)), ..Resources::of(&self.network) }
    }
}

/// Policies as safetensors files: where a search starts (policy transfer), and where it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of the removal stage.
    pub removal: Option<Vec<u8>>,
    /// Of the shrinkage stage.
    pub shrinkage: Option<Vec<u8>>,
}

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

/// What an observer may show.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage(StageKind),
    /// A batch begins.
    Batch {
        /// The stage.
        stage: StageKind,
        /// Whose.
        searcher: SearcherKind,
        /// Which.
        update: usize,
        /// How many candidates.
        candidates: usize,
        /// Share of the stage's budget that is spent.
        spent: f64,
    },
    /// A recorded line was met again.
    Replayed(&'a Record),
    /// A line was written.
    Recorded(&'a Record),
}

/// Why a search ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The world's fault; the journal is whole, and the search can be resumed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A limit cannot be resolved.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A policy could not be loaded, or learning broke down.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No search can be run with these.
    #[error("search settings: {0}")]
    Settings(String),
    /// The journal is of another search.
    #[error("cannot resume: {what} differs: expected {recorded} (in the journal), got {given}")]
    Different {
        /// What.
        what: String,
        /// In the journal.
        recorded: String,
        /// Now.
        given: String,
    },
    /// The search does not take the recorded way again.
    #[error(
        "cannot resume: the search proposes {got} where the journal has {expected}; it was written by another version or machine"
    )]
    Diverged {
        /// In the journal.
        expected: String,
        /// Now.
        got: String,
    },
}

/// Searches. `recorded` holds the whole lines of an interrupted journal, or nothing; lines that are in it are not written
/// again.
///
/// # Errors
/// [`SearchError::Fault`] pauses: call again with what was journaled.
pub fn search(
    settings: &Settings,
    teacher: &Teacher,
    start: &Policies,
    lab: &mut dyn Laboratory,
    journal: &mut Journal<'_>,
    recorded: &[Record],
    observer: &mut Observer<'_>,
) -> Result<SearchResult, SearchError> {
    settings.check()?;
    let mut tape = Tape::new(recorded, journal, observer);
    let started = begin(settings, teacher, start, lab, &mut tape, recorded)?;
    let outcome = both_stages(settings, teacher, start, &started, lab, &mut tape, recorded);
    if let Err(SearchError::Fault(fault)) = &outcome {
        let elapsed_ns = u64::try_from(lab.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The fault itself is what the caller must hear of, not that it could not be written down.
        let _ = tape.note(&Record::Fault(Stopped { reason: fault.to_string(), elapsed_ns }));
    }
    outcome
}

/// The first line: written, or compared with the recorded one, whose resolved limits then stay in force.
fn begin(
    settings: &Settings,
    teacher: &Teacher,
    start: &Policies,
    lab: &dyn Laboratory,
    tape: &mut Tape<'_>,
    recorded: &[Record],
) -> Result<Started, SearchError> {
    let resources = teacher.resources();
    let hash = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| hex::encode(Sha256::digest(bytes)));
    let shrinkable = teacher.network.groups().into_iter().filter(|group| group.shrinkable);
    let started = Started {
        schema: record::SCHEMA,
        settings: settings.clone(),
        teacher_digest: teacher.network.digest(),
        teacher_accuracy: candidate::nine_digits(teacher.accuracy),
        chance: candidate::nine_digits(teacher.chance),
        teacher: resources,
        limits: Limits::resolve(&settings.limits, &resources)?,
        units: teacher.network.units().into_iter().map(|unit| unit.name).collect(),
        groups: shrinkable.map(|group| group.name).collect(),
        policies_from: [hash(&start.removal), hash(&start.shrinkage)],
    };
    if !(teacher.accuracy > teacher.chance && teacher.accuracy <= 1.0) {
        let (got, chance) = (teacher.accuracy, teacher.chance);
        return Err(SearchError::Settings(format!(
            "teacher's accuracy: expected above chance ({chance}), got {got}"
        )));
    }
    let earlier = recorded.iter().find_map(|record| match record {
        Record::Started(started) => Some(started.as_ref().clone()),
        _ => None,
    });
    match earlier {
        None => {
            tape.note(&Record::Started(Box::new(started.clone())))?;
            Ok(started)
        }
        Some(earlier) => {
            compare(&earlier, &started)?;
            let elapsed_ns = u64::try_from(lab.elapsed().as_nanos()).unwrap_or(u64::MAX);
            tape.note(&Record::Resumed(Resumed { records: recorded.len(), elapsed_ns }))?;
            // The teacher may measure a little differently today; limits relative to it must not move.
            Ok(earlier)
        }
    }
}

/// Names the first thing in which a resumed search is not the recorded one.
fn compare(recorded: &Started, given: &Started) -> Result<(), SearchError> {
    let differs = |what: &str, recorded: String, given: String| {
        Err(SearchError::Different { what: what.to_owned(), recorded, given })
    };
    if recorded.schema != given.schema {
        return differs("the journal's schema", recorded.schema.to_string(), given.schema.to_string());
    }
    if recorded.teacher_digest != given.teacher_digest {
        return differs("the teacher", recorded.teacher_digest.clone(), given.teacher_digest.clone());
    }
    if recorded.policies_from != given.policies_from {
        let show = |policies: &[Option<String>; 2]| format!("{policies:?}");
        return differs("the starting policy", show(&recorded.policies_from), show(&given.policies_from));
    }
    let table = |started: &Started| serde_json::to_value(&started.settings).unwrap_or_default();
    let (old, new) = (table(recorded), table(given));
    for key in old.as_object().into_iter().flat_map(|table| table.keys()) {
        if old[key] != new[key] {
            return differs(&format!("setting `{key}`"), old[key].to_string(), new[key].to_string());
        }
    }
    Ok(())
}

fn both_stages(
    settings: &Settings,
    teacher: &Teacher,
    start: &Policies,
    started: &Started,
    lab: &mut dyn Laboratory,
    tape: &mut Tape<'_>,
    recorded: &[Record],
) -> Result<SearchResult, SearchError> {
    let goal = match settings.preset {
        Preset::Edge if settings.limits.is_empty() => Some(settings.goal.unwrap_or(Metric::Params)),
        Preset::Edge => settings.goal,
        Preset::Paper => None,
    };
    let scoring = Scoring {
        preset: settings.preset,
        teacher_accuracy: started.teacher_accuracy,
        chance: started.chance,
        teacher: started.teacher,
        goal,
    };
    let limits = started.limits.clone();
    let mut ladder =
        Ladder { scoring, limits: limits.clone(), cache: Cache::from_records(recorded), seed: settings.seed };
    let scale = Scale::of(&teacher.network);
    let base = |kind, network: &Network, weights: Arc<Weights>| {
        Base::new(kind, network.clone(), weights, settings.channel_multiple)
    };
    let nothing_done = |ladder: &Ladder, limits: &Limits| {
        let parts = ladder.scoring.parts(limits, &started.teacher, Some(started.teacher_accuracy));
        ladder.scoring.score(&parts, 0.0).total
    };

    let removal_limits = match settings.preset {
        Preset::Paper => limits.clone(),
        Preset::Edge => limits.halfway(&started.teacher),
    };
    let bases = [base(BaseKind::Teacher, &teacher.network, teacher.weights.clone())];
    let stage = Stage {
        kind: StageKind::Removal,
        settings,
        searchers: searchers_of(
            StageKind::Removal,
            settings,
            start.removal.as_deref(),
            &bases,
            &removal_limits,
            &scale,
        )?,
        bases: &bases,
        remaining: Remaining { budget: settings.budget, begun_ns: None, proposed: 0, stages: 2 },
        limits: removal_limits,
    };
    let base_reward = nothing_done(&ladder, &stage.limits);
    let removal = stage::run(stage, &mut ladder, lab, tape, base_reward)?;

    let winner = removal.winner.map(|index| &removal.judged[index]);
    let [teacher_base] = bases;
    let mut bases = vec![teacher_base];
    if let Some(Judged { job: Some(job), .. }) = winner {
        let weights = weights_of(job, lab)?;
        bases.push(base(BaseKind::Winner, &job.network, weights));
    }
    let stage = Stage {
        kind: StageKind::Shrinkage,
        settings,
        searchers: searchers_of(
            StageKind::Shrinkage,
            settings,
            start.shrinkage.as_deref(),
            &bases,
            &limits,
            &scale,
        )?,
        bases: &bases,
        remaining: Remaining {
            budget: settings.budget,
            begun_ns: Some(removal.start_ns),
            proposed: removal.proposed,
            stages: 1,
        },
        limits: limits.clone(),
    };
    let base_reward = nothing_done(&ladder, &limits);
    let shrinkage = stage::run(stage, &mut ladder, lab, tape, base_reward)?;
    let removal_winner = winner.map(|judged| judged.trial.clone());
    Ok(result(settings, &ladder, limits, removal_winner, removal, shrinkage))
}

/// Weights that the shrinkage stage inherits: the removal student's as trained, so that layers which had nothing to
/// inherit need not be learned again by every candidate. The distiller stays the original teacher.
fn weights_of(job: &Job, lab: &mut dyn Laboratory) -> Result<Arc<Weights>, Fault> {
    match (&job.start, job.rung) {
        // `paper` trains every candidate from scratch: nothing is ever inherited.
        (StartingWeights::Fresh, _) => Ok(Arc::new(inheritance::initial_weights(&job.network, job.seed))),
        (StartingWeights::Inherited { source, inheritance: slices }, Rung::Inherited) => {
            Ok(Arc::new(inheritance::inherit(&job.network, slices, source, job.seed).0))
        }
        _ => lab.weights(job),
    }
}

/// The searchers of a stage that have a share.
fn searchers_of(
    stage: StageKind,
    settings: &Settings,
    policy: Option<&[u8]>,
    bases: &[Base],
    limits: &Limits,
    scale: &Scale,
) -> Result<Vec<(Box<dyn Searcher>, f64)>, SearchError> {
    let rng = |purpose: &str| random::stream(settings.seed, &format!("{stage:?} {purpose}"));
    // The last base is the stage's own; uniform width is a baseline, and takes the teacher.
    let (Some(teacher), Some(base)) = (bases.first(), bases.last()) else { return Ok(Vec::new()) };
    let decisions = || match stage {
        StageKind::Removal => searchers::removal_decisions(&base.network, scale),
        StageKind::Shrinkage => searchers::shrinkage_decisions(base, scale, settings.channel_multiple),
    };
    let read: searchers::Reading = match stage {
        StageKind::Removal => searchers::read_removal,
        StageKind::Shrinkage => searchers::read_shrinkage,
    };
    let mut all: Vec<(Box<dyn Searcher>, f64)> = Vec::new();
    if settings.shares.reinforce > 0.0 {
        let (learning, prior) = (settings.learning(stage), settings.prior());
        let (mut init, rollouts) = (rng("policy"), rng("rollouts"));
        let load = |fresh: &dyn Policy| policy.map_or(Ok(()), |bytes| fresh.parameters().load(bytes));
        let searcher: Box<dyn Searcher> = match stage {
            StageKind::Removal => {
                let policy = RemovalPolicy::new(prior, &mut init)?;
                load(&policy)?;
                Box::new(PolicySearcher::new(policy, learning, decisions(), read, base.kind, rollouts)?)
            }
            StageKind::Shrinkage => {
                let policy = ShrinkagePolicy::new(prior, &mut init)?;
                load(&policy)?;
                Box::new(PolicySearcher::new(policy, learning, decisions(), read, base.kind, rollouts)?)
            }
        };
        all.push((searcher, settings.shares.reinforce));
    }
    if settings.shares.random > 0.0 {
        let (probe, limits) = (
            Base::new(base.kind, base.network.clone(), base.weights.clone(), settings.channel_multiple),
            limits.clone(),
        );
        let fits: searchers::Fits = Box::new(move |actions| {
            probe.apply(actions).is_ok_and(|student| {
                constraint::violation(&limits.excess(&Resources::of(&student.network))) == 0.0
            })
        });
        let searcher = RandomSearcher::new(decisions(), read, base.kind, fits, rng("random"));
        all.push((Box::new(searcher), settings.shares.random));
    }
    if settings.shares.uniform > 0.0 && stage == StageKind::Shrinkage {
        let searcher = UniformSearcher::new(teacher.shrinkable().len(), !limits.is_empty());
        all.push((Box::new(searcher), settings.shares.uniform));
    }
    Ok(all)
}

fn result(
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
    let mut lineages = std::collections::HashSet::new();
    finalists.retain(|finalist| lineages.insert(finalist.job.lineage.clone()));
    finalists.truncate(settings.finalists);
    SearchResult { finalists, least_violation, limits, removal_winner, candidates, policies }
}
