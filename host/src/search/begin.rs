//! The first line of a journal: written by a new search, compared by a resumed one. Decides nothing else.

use sha2::{Digest as _, Sha256};

use super::constraint::Limits;
use super::digits;
use super::error::SearchError;
use super::evaluator::Evaluator;
use super::record::{Record, Resumed, SCHEMA, Started};
use super::settings::Settings;
use super::tape::Tape;
use super::teacher::{Policies, Teacher};

/// The first line: written, or compared with the recorded one, whose resolved limits then stay in force.
pub(super) fn begin(
    settings: &Settings,
    teacher: &Teacher,
    start: &Policies,
    evaluator: &dyn Evaluator,
    tape: &mut Tape<'_>,
    recorded: &[Record],
) -> Result<Started, SearchError> {
    let resources = teacher.resources();
    let hash = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| hex::encode(Sha256::digest(bytes)));
    let shrinkable = teacher.network.groups().into_iter().filter(|group| group.shrinkable);
    let started = Started {
        schema: SCHEMA,
        settings: settings.clone(),
        teacher_digest: teacher.network.digest(),
        teacher_accuracy: digits::nine(teacher.accuracy),
        chance: digits::nine(teacher.chance),
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
        Record::Batch(_)
        | Record::Measured(_)
        | Record::Trial(_)
        | Record::Update(_)
        | Record::Finished(_)
        | Record::Fault(_)
        | Record::Resumed(_) => None,
    });
    match earlier {
        None => {
            tape.note(&Record::Started(Box::new(started.clone())))?;
            Ok(started)
        }
        Some(earlier) => {
            compare(&earlier, &started)?;
            let elapsed_ns = u64::try_from(evaluator.elapsed().as_nanos()).unwrap_or(u64::MAX);
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
