//! The end of `compress` and `quickstart`: a summary as a table or as the documented JSON object.

use std::time::Duration;

use serde::Serialize;

use super::Context;
use super::compressed::{self, Compressed};
use super::json::{Engine, Interval, SCHEMA};
use super::ship::slot_paths;
use super::used::Used;
use crate::compress::Forecast;
use crate::exit::{Code, Failure};
use crate::run::summary::{Baseline, Side, Student, Summary};
use crate::search::{Budget, Metric, NearMiss, Resources, Settings};
use crate::usage::Usage;
use crate::{ui, units, view, wording};

/// Prints the result; no student is exit code 3, one that the board does not run is 5.
pub(super) fn show(summary: &Summary, context: &Context) -> Result<Code, Failure> {
    context.ui.result(&object(summary), || text(summary))?;
    let (trials, run) = (summary.candidates, summary.run.display());
    if let Some(student) = &summary.student {
        let Some(reason) = &student.not_shipped else { return Ok(Code::Done) };
        let file = student.side.file.display();
        return Err(Failure::new(
            Code::NotShipped,
            anyhow::anyhow!("{file} does not run on the board: {reason}"),
        )
        .hint(format!("the student is kept; ship it again with: n2n ship {run} --board {}", summary.board)));
    }
    Err(Failure::new(
        Code::NoStudent,
        anyhow::anyhow!("{run}: none of {trials} candidates keeps the limits when measured carefully"),
    )
    .hint(match summary.nearest.first() {
        Some(miss) => format!(
            "the nearest is {}; raise that limit, or give the search a larger --budget",
            wording::near_miss(miss)
        ),
        None => "raise a limit, or give the search a larger --budget".into(),
    }))
}

/// What the budget buys.
#[derive(Serialize)]
struct DryRun {
    schema: u32,
    teacher_validation_accuracy: f64,
    teacher_latency_ns: u64,
    engine: Engine,
    threads: u16,
    candidates: usize,
    trained: usize,
    seconds_per_measurement: f64,
    seconds_per_training: f64,
    seconds_per_candidate: f64,
    budget_candidates: usize,
    budget_s: f64,
}

/// Prints what a dry run found.
pub(super) fn forecast(it: &Forecast, settings: &Settings, context: &Context) -> Result<Code, Failure> {
    let (candidates, time) = match settings.budget {
        Budget::Time(time) => (it.candidates_in(time), time),
        Budget::Candidates(count) => (count, it.time_of(count)),
    };
    let object = DryRun {
        schema: SCHEMA,
        teacher_validation_accuracy: it.teacher_accuracy,
        teacher_latency_ns: it.teacher.latency_ns,
        engine: Engine { name: it.engine.name.clone(), version: it.engine.version.clone() },
        threads: it.threads,
        candidates: it.candidates,
        trained: it.trained,
        seconds_per_measurement: it.measuring.as_secs_f64(),
        seconds_per_training: it.training.as_secs_f64(),
        seconds_per_candidate: it.candidate.as_secs_f64(),
        budget_candidates: candidates,
        budget_s: time.as_secs_f64(),
    };
    context.ui.result(&object, || forecast_text(it, settings, candidates, time))?;
    Ok(Code::Done)
}

fn forecast_text(it: &Forecast, settings: &Settings, candidates: usize, time: Duration) -> String {
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    ui::facts([
        ("teacher", {
            let accuracy = units::percent(it.teacher_accuracy);
            let engine = wording::engine(&it.engine.name, &it.engine.version, it.threads);
            format!("{accuracy} on validation, {} with {engine}", units::latency(it.teacher.latency_ns))
        }),
        ("tried", format!("{} candidates, {} measured, {} trained", it.candidates, it.measured, it.trained)),
        ("one measurement", seconds(it.measuring)),
        ("one training", seconds(it.training)),
        ("one candidate", format!("{} on average", seconds(it.candidate))),
        ("budget", {
            let updates = candidates / settings.rollouts.max(1);
            format!("{candidates} candidates ({updates} batches) in {}", units::duration(time))
        }),
    ])
}

fn object(summary: &Summary) -> Compressed {
    Compressed {
        schema: SCHEMA,
        run: summary.run.display().to_string(),
        board: summary.board.clone(),
        limits: summary
            .limits
            .iter()
            .map(|&(metric, bound)| compressed::Limit { metric: metric.name(), bound })
            .collect(),
        teacher: side(&summary.teacher),
        student: summary.student.as_ref().map(|student| compressed::Student {
            side: side(&student.side),
            found_by: student.found_by.clone(),
            binding: student.binding.map(Metric::name),
        }),
        uniform: summary.uniform.as_ref().map(baseline),
        simple: summary.simple.as_ref().map(baseline),
        nearest: summary.nearest.iter().map(miss).collect(),
        worst_loss: summary
            .student
            .as_ref()
            .and_then(|it| it.worst_loss(&summary.teacher))
            .map(|(class, teacher, student)| compressed::Loss { class: class.into(), teacher, student }),
        candidates: summary.candidates,
        counts: summary.counts,
        shipped: summary.student.as_ref().is_some_and(|student| student.shipped),
        not_shipped: summary.student.as_ref().and_then(|student| student.not_shipped.clone()),
        usage: used(summary).map(|(usage, _, path)| Used::new(usage, &path)),
        wall_s: summary.wall_s,
    }
}

fn baseline(it: &Baseline) -> compressed::Baseline {
    let (low, high) = it.added.interval();
    compressed::Baseline {
        found_by: it.found_by.clone(),
        params: it.params,
        macs: it.macs,
        latency_ns: it.latency_ns,
        selection_accuracy: it.validation.fraction(),
        added: compressed::Difference { estimate: it.added.estimate(), low, high },
    }
}

fn miss(it: &NearMiss) -> compressed::Miss {
    compressed::Miss {
        found_by: it.found_by.clone(),
        params: it.params,
        accuracy: it.accuracy,
        beyond: it
            .breaks
            .iter()
            .map(|excess| (excess.metric.name(), excess.relative))
            .chain(it.lost.map(|lost| ("accuracy", lost)))
            .collect(),
    }
}

fn side(side: &Side) -> compressed::Side {
    let ends = side.measurement.latency.ends_ns();
    compressed::Side {
        test_accuracy: side.test.fraction(),
        classes: side
            .classes
            .iter()
            .map(|it| compressed::Class {
                name: it.class.clone(),
                images: it.accuracy.total,
                test_accuracy: (it.accuracy.total > 0).then(|| it.accuracy.fraction()),
            })
            .collect(),
        params: side.params,
        macs: side.macs,
        engine: Engine {
            name: side.measurement.engine.name.clone(),
            version: side.measurement.engine.version.clone(),
        },
        threads: side.measurement.threads,
        latency_ns: Interval {
            median: side.measured.latency_ns,
            low: ends.map(|ends| ends.0),
            high: ends.map(|ends| ends.1),
        },
        model_memory_bytes: Some(side.measured.model_memory_bytes),
        file: side.file.display().to_string(),
    }
}

fn text(summary: &Summary) -> String {
    let place = wording::measured_on(&summary.board, summary.this_machine);
    let mut text = table(&place, &summary.teacher, summary.student.as_ref());
    text.push_str("\n\n");
    if !summary.teacher.classes.is_empty() {
        let student = summary.student.as_ref();
        let rows = wording::by_class(&summary.teacher.classes, student.map(|it| it.side.classes.as_slice()));
        text += &ui::table(["test accuracy by class (images)", "teacher", "student", "points"], rows);
        text.push_str("\n\n");
    }
    let mut facts = Vec::new();
    if let Some(loss) = summary.student.as_ref().and_then(|it| it.worst_loss(&summary.teacher)) {
        facts.push(("worst loss", wording::worst_loss(loss)));
    }
    for &(metric, bound) in &summary.limits {
        let value = summary.student.as_ref().and_then(|student| resources(&student.side).bound_value(metric));
        let kept = value.map_or_else(String::new, |value| {
            let verdict = if value <= bound { "kept" } else { "broken" };
            let binding = summary.student.as_ref().and_then(|student| student.binding);
            let binds = if binding == Some(metric) { "; this limit binds" } else { "" };
            format!(", student {}: {verdict}{binds}", metric.show(value))
        });
        facts.push(("limit", format!("{metric} <= {}{kept}", metric.show(bound))));
    }
    facts.push(("measured on", format!("{place}: {}", summary.board_model)));
    if let Some(student) = &summary.student {
        facts.push(("student", format!("{}, found by {}", student.side.file.display(), student.found_by)));
        if let Some(loss) = &student.accuracy_loss {
            facts.push(("limit", format!("accuracy: {}", loss.words())));
        }
        for baseline in [&summary.uniform, &summary.simple].into_iter().flatten() {
            facts.push(("the search added", baseline.words()));
        }
        let shipped = match (&student.not_shipped, student.shipped) {
            (Some(reason), _) => format!("no, because {reason}"),
            (None, true) => format!("in the active slot of {place}"),
            (None, false) => "no".into(),
        };
        facts.push(("shipped", shipped));
        if let Some(agreement) = student.board_agreement {
            let (same, all) = (agreement.correct, agreement.total);
            facts.push(("board and host agree", format!("on {same} of {all} images")));
        }
    }
    let time = units::duration(Duration::from_secs_f64(summary.wall_s.max(0.0)));
    for miss in &summary.nearest {
        facts.push(("near miss", wording::near_miss(miss)));
    }
    let counts = summary.counts.map_or_else(|| summary.candidates.to_string(), |counts| counts.to_string());
    facts.push(("candidates", format!("{counts}, in {time}")));
    facts.push(("report", format!("n2n report {}", summary.run.display())));
    text += &ui::facts(facts);
    if let Some((usage, shown, path)) = used(summary) {
        text.push_str("\n\n");
        text += &view::usage(usage, &shown, &path);
    }
    text
}

/// How a program uses the student; where that is, for people and for the program.
fn used(summary: &Summary) -> Option<(&Usage, String, String)> {
    let student = summary.student.as_ref()?;
    let file = student.side.file.display().to_string();
    let (shown, path) = if student.shipped { slot_paths(summary.this_machine) } else { (file.clone(), file) };
    Some((student.usage.as_ref()?, shown, path))
}

/// What limits bind.
fn resources(side: &Side) -> Resources {
    Resources { measured: Some(side.measured), ..Resources::of(&side.network) }
}

fn table(place: &str, teacher: &Side, student: Option<&Student>) -> String {
    let row = |name: &str, value: &dyn Fn(&Side) -> String, change: &dyn Fn(&Side) -> String| {
        let student = student.map(|student| &student.side);
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        [name.to_owned(), value(teacher), cell(student.map(value)), cell(student.map(change))]
    };
    let smaller =
        |value: fn(&Side) -> u64| move |it: &Side| units::ratio(value(teacher) as f64, value(it) as f64);
    let difference = |_: &Side| {
        student.map_or_else(String::new, |student| {
            let (low, high) = student.difference.interval();
            let middle = units::points(student.difference.estimate());
            format!("{middle} points [{}, {}]", units::points(low), units::points(high))
        })
    };
    let latency = |side: &Side| {
        units::latency_with_interval(side.measured.latency_ns, side.measurement.latency.ends_ns())
    };
    ui::table(
        ["", "teacher", "student", "change"],
        [
            row("test accuracy", &|side| units::percent(side.test.fraction()), &difference),
            row("parameters", &|side| units::count(side.params), &smaller(|side| side.params)),
            row("MACs", &|side| units::count(side.macs), &smaller(|side| side.macs)),
            row("engine", &|side| wording::engine_of(&side.measurement), &|_| String::new()),
            row(&format!("latency on {place}"), &latency, &smaller(|side| side.measured.latency_ns)),
            row(
                &format!("model memory on {place}"),
                &|side| units::bytes(side.measured.model_memory_bytes),
                &smaller(|side| side.measured.model_memory_bytes),
            ),
            row(
                "file",
                &|side| units::bytes(side.measured.file_bytes),
                &smaller(|side| side.measured.file_bytes),
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::training::{Accuracy, ClassAccuracy};

    /// A run that was recorded with its numbers, of a board with a name.
    fn recorded() -> Summary {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/run-schema-1");
        Summary { board: "pi-lab".into(), this_machine: false, ..Summary::load(&run).unwrap().unwrap() }
    }

    /// The same, with a class that was lost.
    fn by_class() -> Summary {
        let class = |class: &str, correct, total| ClassAccuracy {
            class: class.into(),
            accuracy: Accuracy { correct, total },
        };
        let mut summary = recorded();
        summary.teacher.classes = vec![class("ok", 90, 90), class("dent", 30, 30), class("none", 0, 0)];
        if let Some(student) = &mut summary.student {
            student.side.classes = vec![class("ok", 90, 90), class("dent", 23, 30), class("none", 0, 0)];
        }
        summary
    }

    #[test]
    fn a_result_is_shown_as_it_was_read() {
        insta::assert_snapshot!("result", text(&recorded()));
        insta::assert_snapshot!("result_by_class", text(&by_class()));
        let without = Summary { student: None, ..recorded() };
        insta::assert_snapshot!("result_without_a_student", text(&without));
        insta::assert_snapshot!(
            "result_as_json",
            serde_json::to_string_pretty(&object(&recorded())).unwrap()
        );
    }

    #[test]
    fn a_dry_run_is_shown_as_it_was_read() {
        let it = Forecast {
            engine: crate::measurement::Engine { name: "tract".into(), version: "0.23.9".into() },
            threads: 1,
            teacher: recorded().teacher.measured,
            teacher_accuracy: 0.705,
            candidates: 10,
            measured: 8,
            trained: 7,
            measuring: Duration::from_millis(70),
            training: Duration::from_millis(640),
            candidate: Duration::from_millis(520),
        };
        let settings = Settings::new(crate::search::Preset::Edge, 1);
        insta::assert_snapshot!("dry_run", forecast_text(&it, &settings, it.candidates_in(TWENTY), TWENTY));
    }

    const TWENTY: Duration = Duration::from_mins(20);
}
