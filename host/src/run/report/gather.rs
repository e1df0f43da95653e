//! From the journal's records and the summary to what the page shows. Pure: reads no file, decides nothing.

use std::collections::BTreeMap;

use super::contents::{Candidate, Contents, Limit, Side, Stage, Update, Usage};
use super::layers::side_by_side;
use crate::run::summary::{self, Summary};
use crate::search::constraint::{Metric, Resources};
use crate::search::record::{Started, TrialOutcome};
use crate::search::{Record, SearcherKind, StageKind, Trial};
use crate::usage::SLOT;
use crate::wording;

/// Everything that is known about a run, finished or not.
pub(super) fn contents(name: &str, records: &[Record], summary: Option<&Summary>) -> Contents {
    let started = records.iter().find_map(|record| match record {
        Record::Started(started) => Some(started.as_ref()),
        _ => None,
    });
    let trials: Vec<&Trial> = records
        .iter()
        .filter_map(|record| match record {
            Record::Trial(trial) => Some(trial.as_ref()),
            _ => None,
        })
        .collect();
    // Promotions were trained longer: they belong to no batch, and their accuracies compare with no batch's.
    let batched: Vec<&Trial> = trials.iter().copied().filter(|trial| trial.update.is_some()).collect();
    let student = summary.and_then(|summary| summary.student.as_ref());
    Contents {
        name: name.into(),
        facts: facts(started, summary),
        limits: limits(started, summary),
        teacher: teacher(started, summary),
        student: student.map(|student| side(&student.side)),
        accuracy_difference: student.map(|student| {
            let (low, high) = student.difference.interval();
            (student.difference.estimate(), low, high)
        }),
        classes: summary.map_or_else(Vec::new, |summary| {
            wording::by_class(&summary.teacher.classes, student.map(|it| it.side.classes.as_slice()))
        }),
        worst_loss: summary
            .and_then(|summary| student?.worst_loss(&summary.teacher))
            .map(wording::worst_loss),
        usage: student.and_then(usage),
        chance: started.map_or(0.0, |started| started.chance),
        candidates: batched.iter().filter_map(|trial| candidate(trial)).collect(),
        set_aside: set_aside(&batched),
        stages: [StageKind::Removal, StageKind::Shrinkage].map(|kind| stage(kind, &batched)).into(),
        layers: summary.map_or_else(Vec::new, |summary| {
            side_by_side(&summary.teacher.network, student.map(|student| &student.side.network))
        }),
        conditions: conditions(summary),
        times: times(&trials, summary),
    }
}

fn usage(student: &summary::Student) -> Option<Usage> {
    let usage = student.usage.as_ref()?;
    let file = student.side.file.display().to_string();
    let named = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![named("file", file.clone())];
    if student.shipped {
        facts.push(named("on the board", format!("{SLOT} in the agent's data folder")));
    }
    facts.extend(usage.facts().into_iter().map(|(name, value)| named(name, value)));
    let programs = vec![
        named("Python (pip install onnxruntime pillow)", usage.python(&file)),
        named("Rust (cargo add tract-onnx image)", usage.rust(&file)),
    ];
    Some(Usage { facts, programs })
}

fn stage_name(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Removal => "removal",
        StageKind::Shrinkage => "shrinkage",
    }
}

/// The searcher's name in words and in the style sheet.
fn searcher_name(kind: SearcherKind) -> &'static str {
    match kind {
        SearcherKind::Reinforce => "reinforce",
        SearcherKind::Random => "random",
        SearcherKind::Uniform => "uniform",
    }
}

fn candidate(trial: &Trial) -> Option<Candidate> {
    let resources = trial.resources.as_ref()?;
    Some(Candidate {
        searcher: searcher_name(trial.searcher).into(),
        stage: stage_name(trial.stage).into(),
        accuracy: trial.accuracy(),
        latency_ns: resources.measured.map(|measured| measured.latency_ns as f64),
        params: resources.params,
    })
}

fn set_aside(trials: &[&Trial]) -> Vec<(String, usize)> {
    let count =
        |wanted: fn(&TrialOutcome) -> bool| trials.iter().filter(|trial| wanted(&trial.outcome)).count();
    let skipped = count(|outcome| matches!(outcome, TrialOutcome::Skipped));
    let infeasible = count(|outcome| matches!(outcome, TrialOutcome::Infeasible { .. }));
    let unknown = count(|outcome| matches!(outcome, TrialOutcome::Unknown { .. }));
    let all = [
        ("were too far over a limit to be trained", skipped),
        ("could not be students at all", infeasible),
        ("could not be judged by the board or the trainer, and counted for nothing", unknown),
    ];
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(reason, count)| (reason.into(), count)).collect()
}

/// The policy's learning curve: the other searchers do not learn.
fn stage(kind: StageKind, trials: &[&Trial]) -> Stage {
    let mut batches: BTreeMap<usize, Vec<&Trial>> = BTreeMap::new();
    for trial in
        trials.iter().filter(|trial| trial.stage == kind && trial.searcher == SearcherKind::Reinforce)
    {
        if let Some(update) = trial.update {
            batches.entry(update).or_default().push(trial);
        }
    }
    let updates = batches.into_iter().map(|(update, batch)| {
        let mean = |part: fn(&Trial) -> Option<f64>| {
            let known: Vec<f64> = batch.iter().filter_map(|trial| part(trial)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Update {
            number: update + 1,
            rewards: batch.iter().filter_map(|trial| Some(trial.reward.as_ref()?.total)).collect(),
            quality: mean(|trial| trial.reward.as_ref()?.parts.quality),
            compression: mean(|trial| trial.reward.as_ref()?.parts.compression),
            penalty: mean(|trial| Some(-trial.reward.as_ref()?.penalty)),
        }
    });
    Stage { name: stage_name(kind).into(), updates: updates.collect() }
}

fn side(side: &summary::Side) -> Side {
    Side {
        test_accuracy: Some(side.test.fraction()),
        validation_accuracy: Some(side.validation.fraction()),
        params: side.params,
        macs: side.macs,
        latency_ns: side.measured.latency_ns,
        latency_interval_ns: side.measurement.latency.ends_ns(),
        model_memory_bytes: Some(side.measured.model_memory_bytes),
        file_bytes: Some(side.measured.file_bytes),
    }
}

/// From the summary; of an unfinished run what the journal's first line knows.
fn teacher(started: Option<&Started>, summary: Option<&Summary>) -> Side {
    let searched = started.map(|started| started.teacher_accuracy);
    if let Some(summary) = summary {
        let known = side(&summary.teacher);
        // The candidates' accuracies are of the search's half of the validation images: so must the teacher's be.
        return Side { validation_accuracy: searched.or(known.validation_accuracy), ..known };
    }
    let Some(started) = started else { return Side::default() };
    let measured = started.teacher.measured;
    Side {
        validation_accuracy: searched,
        params: started.teacher.params,
        macs: started.teacher.macs,
        latency_ns: measured.map_or(0, |measured| measured.latency_ns),
        latency_interval_ns: measured.map(|measured| (measured.latency_lower_ns, measured.latency_upper_ns)),
        model_memory_bytes: measured.map(|measured| measured.model_memory_bytes),
        file_bytes: measured.map(|measured| measured.file_bytes),
        ..Side::default()
    }
}

fn limits(started: Option<&Started>, summary: Option<&Summary>) -> Vec<Limit> {
    let rows = summary.map(|summary| &summary.limits).or(started.map(|started| &started.limits.0));
    let student = summary.and_then(|summary| summary.student.as_ref()).map(|student| Resources {
        measured: Some(student.side.measured),
        ..Resources::of(&student.side.network)
    });
    let row = |&(metric, bound): &(Metric, f64)| {
        let value = student.and_then(|student| student.bound_value(metric));
        Limit {
            metric: metric.name().into(),
            bound: metric.show(bound),
            latency_ns: (metric == Metric::Latency).then_some(bound),
            student: value.map(|value| metric.show(value)),
            kept: value.map(|value| value <= bound),
        }
    };
    rows.map_or_else(Vec::new, |rows| rows.iter().map(row).collect())
}

fn facts(started: Option<&Started>, summary: Option<&Summary>) -> Vec<(String, String)> {
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(summary) = summary {
        facts.push(("data", summary.dataset.clone()));
        let place = wording::measured_on(&summary.board, summary.this_machine);
        facts.push(("board", format!("{place}: {}", summary.board_model)));
        facts.push(("teacher", summary.teacher.file.display().to_string()));
        if let Some(student) = &summary.student {
            facts
                .push(("student", format!("{}, found by {}", student.side.file.display(), student.searcher)));
            let shipped = match (&student.not_shipped, student.shipped) {
                (Some(reason), _) => format!("no, because {reason}"),
                (None, true) => "in the board's active slot".into(),
                (None, false) => "no".into(),
            };
            facts.push(("shipped", shipped));
        }
    }
    if let Some(started) = started {
        let settings = &started.settings;
        facts.push(("preset", format!("{:?}", settings.preset).to_lowercase()));
        facts.push(("budget", wording::budget(settings.budget)));
        facts.push(("seed", settings.seed.to_string()));
        let limits: Vec<String> = settings.limits.iter().map(ToString::to_string).collect();
        facts.push(("limits", if limits.is_empty() { "none".into() } else { limits.join(", ") }));
        facts.push(("rollouts per update", settings.rollouts.to_string()));
        facts.push(("training per candidate", {
            format!("removal {}, shrinkage {}", settings.removal_rung, settings.shrinkage_rung)
        }));
        facts.push(("widths are multiples of", settings.channel_multiple.to_string()));
        facts.push(("measurement identity", settings.board_key.clone()));
        facts.push(("teacher's structure", started.teacher_digest.clone()));
    }
    facts.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// Teacher's beside student's; a fact that only one of them has keeps its row.
fn conditions(summary: Option<&Summary>) -> Vec<(String, String, String)> {
    let Some(summary) = summary else { return Vec::new() };
    let place = wording::measured_on(&summary.board, summary.this_machine);
    let teacher = wording::circumstances(&place, &summary.teacher.measurement);
    let student = summary.student.as_ref();
    let student = student.map_or_else(Vec::new, |it| wording::circumstances(&place, &it.side.measurement));
    let mut names: Vec<&str> = teacher.iter().map(|(name, _)| *name).collect();
    names
        .extend(student.iter().map(|(name, _)| *name).filter(|name| !teacher.iter().any(|it| it.0 == *name)));
    let value = |facts: &[(&'static str, String)], name: &str| {
        facts.iter().find(|it| it.0 == name).map_or_else(|| "-".into(), |it| it.1.clone())
    };
    names.into_iter().map(|name| (name.into(), value(&teacher, name), value(&student, name))).collect()
}

/// By step of the job, of an unfinished run by what candidates took; steps that came twice are one.
fn times(trials: &[&Trial], summary: Option<&Summary>) -> Vec<(String, f64)> {
    let sum = |part: fn(&Trial) -> f64| trials.iter().map(|trial| part(trial)).sum::<f64>();
    let Some(summary) = summary else {
        return vec![
            ("candidates on the board".into(), sum(|it| it.measure_s)),
            ("training candidates".into(), sum(|it| it.train_s)),
        ];
    };
    let mut times: Vec<(String, f64)> = Vec::new();
    for (step, seconds) in &summary.seconds {
        match times.iter_mut().find(|it| it.0 == *step) {
            Some(known) => known.1 += seconds,
            None => times.push((step.clone(), *seconds)),
        }
    }
    times
}
