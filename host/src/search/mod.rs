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
//! | `searchers`, `crew` | REINFORCE, random, uniform width behind one interface, and who takes part |
//! | `candidate`, `cache` | the ladder from actions to a reward |
//! | `unknowns` | how many candidates of unknown worth a search goes on with |
//! | `stage` | one stage within its budget |
//! | `record`, `begin`, `tape`, `replay` | what is journaled, and going on from it |
//! | `result` | the finalists |
//!
//! Nothing here touches a file, a socket, a clock or the terminal: they come in as [`Laboratory`], a journal function and
//! an observer. A fault of the world is never scored and never reaches a policy.
//!
//! To add a searcher: one type in `searchers`, one [`SearcherKind`], one share in [`Settings`], one line in `crew::of`.

mod begin;
pub mod cache;
mod candidate;
pub mod constraint;
mod crew;
pub mod laboratory;
pub mod policy;
pub mod random;
pub mod record;
pub mod reinforce;
pub mod removal_policy;
pub mod replay;
mod result;
pub mod reward;
mod searchers;
pub mod settings;
pub mod shrinkage_policy;
mod stage;
pub mod state;
mod tape;
#[cfg(test)]
mod tests;
mod unknowns;

use std::sync::Arc;

pub use candidate::smallest;
pub use constraint::{Bound, Limit, LimitError, Limits, Metric, Resources};
pub use laboratory::{Fault, Job, Laboratory, Measured, Outcome, Rung, StartingWeights, Trained};
pub use record::{Record, SearcherKind, StageKind, Trial};
pub use result::{Finalist, SearchResult};
pub use reward::Preset;
pub use settings::{Budget, Promotion, Settings, Shares};
pub use tape::{Journal, Observer};

use cache::Cache;
use candidate::{Base, Judged, Ladder};
use policy::PolicyError;
use record::{BaseKind, Started, Stopped};
use reward::Scoring;
use stage::{Remaining, Stage};
use state::Scale;
use tape::Tape;
use unknowns::Unknowns;

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
        /// Share of the stage's budget that is spent, or (but in the last stage) left to the next one.
        spent: f64,
    },
    /// One of the stage's best is trained again at the higher rung.
    Promotion {
        /// The stage.
        stage: StageKind,
        /// Which, from 0.
        number: usize,
        /// Share of the stage's budget that is spent, where it is one of time.
        spent: Option<f64>,
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
    /// So many candidates are of unknown worth that the candidates are not the cause; the journal is whole, and the search
    /// can be resumed.
    #[error("the worth of {count} of {asked} candidates is unknown: {reasons}")]
    Unknown {
        /// Candidates that could not be judged since the search was started or resumed.
        count: usize,
        /// Candidates that were asked about since then.
        asked: usize,
        /// The most frequent reasons, with how often each came.
        reasons: String,
    },
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
    let started = begin::begin(settings, teacher, start, lab, &mut tape, recorded)?;
    let outcome = both_stages(settings, teacher, start, &started, lab, &mut tape, recorded);
    if let Err(stopped @ (SearchError::Fault(_) | SearchError::Unknown { .. })) = &outcome {
        let elapsed_ns = u64::try_from(lab.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The cause itself is what the caller must hear of, not that it could not be written down.
        let _ = tape.note(&Record::Fault(Stopped { reason: stopped.to_string(), elapsed_ns }));
    }
    outcome
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
    let mut ladder = Ladder {
        scoring,
        limits: limits.clone(),
        cache: Cache::from_records(recorded),
        unknowns: Unknowns::default(),
        seed: settings.seed,
    };
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
        searchers: crew::of(
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
        searchers: crew::of(
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
    Ok(result::gather(settings, &ladder, limits, removal_winner, removal, shrinkage))
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
