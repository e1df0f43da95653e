//! The search: the removal stage, then the shrinkage stage from the teacher and from the removal stage's best student.
//!
//! Only the order is here; what a stage does is `stage`'s, what a candidate is worth `candidate`'s.

use std::sync::Arc;

use super::cache::Cache;
use super::candidate::{Base, Judged, Ladder};
use super::constraint::{Limits, Metric};
use super::error::SearchError;
use super::kinds::{BaseKind, StageKind};
use super::laboratory::{Fault, Job, Laboratory, Rung, StartingWeights};
use super::record::{Record, Started, Stopped};
use super::result::SearchResult;
use super::reward::{Preset, Scoring};
use super::settings::Settings;
use super::stage::{Remaining, Stage};
use super::state::Scale;
use super::tape::{Journal, Observer, Tape};
use super::teacher::{Policies, Teacher};
use super::unknowns::Unknowns;
use super::{begin, crew, result, stage};
use crate::model_io::Weights;
use crate::network::Network;
use crate::training::inheritance;

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
    let mut shrinkage = stage::run(stage, &mut ladder, lab, tape, base_reward)?;
    // What ran before keeps its schedule; another seed, so that nothing is proposed just as before.
    for (index, &budget) in settings.extensions.iter().enumerate() {
        let seed = settings.seed.wrapping_add(1 + index as u64);
        let more = Settings { seed, ..settings.clone() };
        let policy = shrinkage.policy.as_deref();
        let stage = Stage {
            kind: StageKind::Shrinkage,
            settings: &more,
            searchers: crew::of(StageKind::Shrinkage, &more, policy, &bases, &limits, &scale)?,
            bases: &bases,
            remaining: Remaining { budget, begun_ns: None, proposed: 0, stages: 1 },
            limits: limits.clone(),
        };
        let mut result = stage::run(stage, &mut ladder, lab, tape, base_reward)?;
        shrinkage.judged.append(&mut result.judged);
        shrinkage.policy = result.policy;
    }
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
