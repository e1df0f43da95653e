//! From the journal's records and the summary to what the page shows. Pure: reads no file, decides nothing.

use std::collections::BTreeMap;

use super::contents::{Candidate, Contents, Limit, Side, Stage, Update, Usage};
use super::layers::side_by_side;
use crate::run::summary::{self, Summary};
use crate::search::constraint::{Metric, Resources};
use crate::search::record::{Purpose, Started, TrialOutcome};
use crate::search::simple::SIMPLE;
use crate::search::{Counter, Record, Trial};
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
    // Of one candidate the look after the longest training.
    let mut longest: BTreeMap<&str, &Trial> = BTreeMap::new();
    for trial in trials.iter().copied().filter(|trial| trial.accuracy().is_some()) {
        let known = longest.entry(trial.lineage.as_str()).or_insert(trial);
        if trial.rung > known.rung {
            *known = trial;
        }
    }
    let student = summary.and_then(|summary| summary.student.as_ref());
    Contents {
        name: name.into(),
        facts: facts(started, &trials, summary),
        limits: limits(started, summary),
        engine: summary.map(|summary| wording::engine_of(&summary.teacher.measurement)),
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
        candidates: longest
            .values()
            .filter(|trial| trial.was_trained())
            .filter_map(|trial| candidate(trial))
            .collect(),
        set_aside: set_aside(&trials),
        stages: stages(&trials),
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

/// The searcher's name as the style sheet has it: simple students are one kind, whatever their names.
fn searcher_name(name: &str) -> &str {
    if name.starts_with(SIMPLE) { SIMPLE } else { name }
}

fn candidate(trial: &Trial) -> Option<Candidate> {
    let resources = trial.resources.as_ref()?;
    Some(Candidate {
        searcher: searcher_name(&trial.searcher).into(),
        stage: trial.rung.to_string(),
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
    let late = count(|outcome| matches!(outcome, TrialOutcome::Late));
    let unknown = count(|outcome| matches!(outcome, TrialOutcome::Unknown { .. }));
    let all = [
        ("were too far over a limit to be trained", skipped),
        ("could not be students at all", infeasible),
        ("were given up when the budget ended", late),
        ("could not be judged by the board or the trainer, and counted for nothing", unknown),
    ];
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(reason, count)| (reason.into(), count)).collect()
}

/// Learning curves: one for each searcher, since only its own batches are of one kind.
fn stages(trials: &[&Trial]) -> Vec<Stage> {
    let mut searchers: Vec<&str> = Vec::new();
    for trial in trials.iter().filter(|trial| trial.purpose == Purpose::Explore) {
        if !searchers.contains(&trial.searcher.as_str()) {
            searchers.push(&trial.searcher);
        }
    }
    searchers.into_iter().map(|searcher| stage(searcher, trials)).collect()
}

fn stage(searcher: &str, trials: &[&Trial]) -> Stage {
    let mut batches: BTreeMap<usize, Vec<&Trial>> = BTreeMap::new();
    for trial in trials.iter().filter(|it| it.searcher == searcher && it.purpose == Purpose::Explore) {
        batches.entry(trial.batch).or_default().push(trial);
    }
    let updates = batches.into_values().enumerate().map(|(place, batch)| {
        let mean = |part: fn(&Trial) -> Option<f64>| {
            let known: Vec<f64> = batch.iter().filter_map(|trial| part(trial)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Update {
            number: place + 1,
            rewards: batch.iter().filter_map(|trial| Some(trial.reward.as_ref()?.total)).collect(),
            quality: mean(|trial| trial.reward.as_ref()?.parts.quality),
            compression: mean(|trial| trial.reward.as_ref()?.parts.compression),
            penalty: mean(|trial| Some(-trial.reward.as_ref()?.penalty)),
        }
    });
    Stage { name: searcher.into(), updates: updates.collect() }
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

fn facts(started: Option<&Started>, trials: &[&Trial], summary: Option<&Summary>) -> Vec<(String, String)> {
    let mut facts: Vec<(&str, String)> = Vec::new();
    if let Some(summary) = summary {
        facts.push(("data", summary.dataset.clone()));
        let place = wording::measured_on(&summary.board, summary.this_machine);
        facts.push(("board", format!("{place}: {}", summary.board_model)));
        facts.push(("teacher", summary.teacher.file.display().to_string()));
        if let Some(student) = &summary.student {
            facts
                .push(("student", format!("{}, found by {}", student.side.file.display(), student.found_by)));
            for baseline in [&summary.uniform, &summary.simple].into_iter().flatten() {
                facts.push(("the search added", baseline.words()));
            }
            let shipped = match (&student.not_shipped, student.shipped) {
                (Some(reason), _) => format!("no, because {reason}"),
                (None, true) => "in the board's active slot".into(),
                (None, false) => "no".into(),
            };
            facts.push(("shipped", shipped));
        }
    }
    if let Some(summary) = summary {
        facts.extend(summary.nearest.iter().map(|miss| ("near miss", wording::near_miss(miss))));
    }
    if !trials.is_empty() {
        facts.push(("candidates", Counter::of(trials.iter().copied()).to_string()));
    }
    if let Some(started) = started {
        let settings = &started.settings;
        facts.push(("preset", format!("{:?}", settings.preset).to_lowercase()));
        facts.push(("budget", wording::budget(settings.budget)));
        facts.push(("seed", settings.seed.to_string()));
        let limits: Vec<String> = settings.limits.iter().map(ToString::to_string).collect();
        facts.push(("limits", if limits.is_empty() { "none".into() } else { limits.join(", ") }));
        facts.push(("candidates per batch", settings.rollouts.to_string()));
        facts.push(("looks at candidates", {
            let rungs = [Some(settings.rungs.explore), settings.rungs.promote, settings.rungs.choose];
            rungs.into_iter().flatten().map(|rung| rung.to_string()).collect::<Vec<_>>().join(", then ")
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
