//! Facts as words, the same in tables and in the report: where a number comes from, how it was measured, what a search may
//! spend. Pure; tables are `view`'s.
//!
//! A number from `--board local` was measured on the machine that also trains; every such line says so.

use n2n_protocol::EngineId;

use crate::data::Skipped;
use crate::measurement::{Conditions, Measurement};
use crate::search::{Budget, NearMiss};
use crate::training::{ClassAccuracy, Guessing, Verdict};
use crate::units;

/// Of a model whose answers nobody but the board's own engine has seen.
pub(crate) const UNVERIFIED: &str = "unverified by a second engine";

/// Rows of a table of classes.
const CLASSES_SHOWN: usize = 20;

/// Name in a slot of a student that no second engine has checked: whoever looks at the slots later, from whatever host, must see
/// it too, and a name is what a slot keeps.
pub(crate) fn unverified(name: &str) -> String {
    format!("{name} ({UNVERIFIED})")
}

/// The name in a slot without [`unverified`]'s mark, and whether a second engine has checked the student.
pub(crate) fn checked(name: &str) -> (&str, bool) {
    let marked = name.strip_suffix(')').and_then(|name| name.strip_suffix(UNVERIFIED)?.strip_suffix(" ("));
    (marked.unwrap_or(name), marked.is_none())
}

/// How a board is called beside its numbers.
pub(crate) fn measured_on(board: &str, this_machine: bool) -> String {
    if this_machine { "this machine".into() } else { board.into() }
}

/// What a search may spend, in words.
pub(crate) fn budget(budget: Budget) -> String {
    match budget {
        Budget::Time(time) => units::duration(time),
        Budget::Candidates(count) => format!("{count} candidates"),
    }
}

/// Pictures that were left out because they cannot be read.
pub(crate) fn skipped(Skipped { pictures, of }: Skipped) -> String {
    format!("{pictures} of {of} pictures ({})", units::percent(pictures as f64 / of.max(1) as f64))
}

/// A model's accuracy beside guessing's.
pub(crate) fn guessing(it: &Guessing) -> String {
    let [model, low, high, guess] =
        [it.model, it.interval.0, it.interval.1, it.guess].map(|share| 100.0 * share.clamp(0.0, 1.0));
    format!(
        "right on {model:.1} % [{low:.1}, {high:.1}] of the validation images; guessing gives {guess:.1} %"
    )
}

/// What is to be said against a model; `None` for one that knows its classes.
pub(crate) fn weak(it: &Guessing) -> Option<String> {
    let but = match it.verdict() {
        Verdict::Knows => return None,
        Verdict::Weak => "are these the images that it was trained on, with its normalisation?",
        Verdict::Unsure => "too few images to tell the two apart",
        Verdict::Guesses => "it has learned nothing",
    };
    Some(format!("is {}: {but}", guessing(it)))
}

/// Classes that go by another name, `order[label]` by the teacher's answers.
pub(crate) fn order(order: &[usize], classes: &[String], most: usize) -> String {
    let moved: Vec<String> = order
        .iter()
        .enumerate()
        .filter(|(label, answer)| label != *answer)
        .filter_map(|(label, &answer)| {
            Some(format!("`{}` is what the teacher calls `{}`", classes.get(label)?, classes.get(answer)?))
        })
        .collect();
    units::listed(&moved, most)
}

/// Rows of accuracy by class: class with its images, teacher's, student's, change in points. Of many classes those that lost
/// most, and a last row that says how many more there are.
pub(crate) fn by_class(teacher: &[ClassAccuracy], student: Option<&[ClassAccuracy]>) -> Vec<[String; 4]> {
    let change = |index: usize| {
        let student = student?.get(index)?.accuracy;
        Some(student.fraction() - teacher[index].accuracy.fraction())
    };
    let mut shown: Vec<usize> = (0..teacher.len()).collect();
    if shown.len() > CLASSES_SHOWN {
        let loss = |&index: &usize| change(index).unwrap_or_else(|| teacher[index].accuracy.fraction());
        shown.sort_by(|one, other| loss(one).total_cmp(&loss(other)));
        shown.truncate(CLASSES_SHOWN);
        shown.sort_unstable();
    }
    let share = |it: Option<&ClassAccuracy>| match it {
        Some(it) if it.accuracy.total > 0 => units::percent(it.accuracy.fraction()),
        _ => "-".into(),
    };
    let mut rows: Vec<[String; 4]> = shown
        .iter()
        .map(|&index| {
            let it = &teacher[index];
            [
                format!("{} ({})", it.class, it.accuracy.total),
                share(Some(it)),
                share(student.and_then(|student| student.get(index))),
                change(index).map_or_else(|| "-".into(), units::points),
            ]
        })
        .collect();
    if teacher.len() > rows.len() {
        let why = if student.is_some() { "which lost less" } else { "which are better" };
        let more = format!("{} more, {why}", teacher.len() - rows.len());
        rows.push([more, String::new(), String::new(), String::new()]);
    }
    rows
}

/// Rows of accuracy by class of one model: class with its images, its share of right answers. Of many classes the worst.
pub(crate) fn of_classes(it: &[ClassAccuracy]) -> Vec<[String; 2]> {
    by_class(it, None).into_iter().map(|[class, share, ..]| [class, share]).collect()
}

/// The class that lost most.
pub(crate) fn worst_loss((class, teacher, student): (&str, f64, f64)) -> String {
    format!("class `{class}`, {} to {}", units::percent(teacher), units::percent(student))
}

/// A candidate that breaks limits, and by how much.
pub(crate) fn near_miss(miss: &NearMiss) -> String {
    let breaks = miss.breaks.iter().map(|it| format!("{} by {}", it.metric, units::percent(it.relative)));
    let lost = miss.lost.map(|lost| format!("accuracy by {} points", units::points(lost)));
    let breaks = breaks.chain(lost);
    let accuracy = miss.accuracy.map_or_else(String::new, |it| format!("{}, ", units::percent(it)));
    let (found_by, params) = (&miss.found_by, units::count(miss.params));
    format!("{accuracy}{params} parameters, by {found_by}: beyond {}", breaks.collect::<Vec<_>>().join(", "))
}

/// What a number has to be read with.
pub(crate) fn circumstances(place: &str, it: &Measurement) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("measured on", place.to_owned()),
        ("engine", format!("{}, {}", engine_of(it), pinned(it))),
        ("agent", it.agent.clone()),
    ];
    facts.push(conditions("before", &it.before));
    facts.push(conditions("after", &it.after));
    if let Some(difference) = it.golden_difference {
        facts.push(("answer", format!("differs from the host's by {difference:.1e} of its largest logit")));
    }
    if it.voided > 0 {
        facts.push(("voided", format!("{} processes, repeated because the board throttled", it.voided)));
    }
    if it.budget_ended {
        facts.push(("precision", "time ended before the wished precision was reached".into()));
    }
    facts
}

/// What ran a model: `tract 0.23.9, 1 thread`.
pub(crate) fn engine(name: &str, version: &str, threads: u16) -> String {
    format!("{name} {version}, {threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// What a board has: `onnxruntime 1.20.1, tract 0.23.9`.
pub(crate) fn engines(all: &[EngineId]) -> String {
    all.iter().map(|it| format!("{} {}", it.name, it.version)).collect::<Vec<_>>().join(", ")
}

/// What a number was measured with.
pub(crate) fn engine_of(it: &Measurement) -> String {
    engine(&it.engine.name, &it.engine.version, it.threads)
}

fn pinned(it: &Measurement) -> String {
    let cores: Vec<String> = it.affinity.iter().map(ToString::to_string).collect();
    if cores.is_empty() { "not pinned".into() } else { format!("pinned to core {}", cores.join(", ")) }
}

/// One line about the condition of a board; what is unknown is left out, except the governor.
pub(crate) fn conditions(when: &'static str, it: &Conditions) -> (&'static str, String) {
    let mut parts = vec![match &it.governor {
        Some(governor) => format!("governor {governor}"),
        None => "governor unknown".into(),
    }];
    if let (Some(low), Some(high)) = (it.frequencies_khz.iter().min(), it.frequencies_khz.iter().max()) {
        parts.push(if low == high {
            units::frequency(*low)
        } else {
            format!("{} to {}", units::frequency(*low), units::frequency(*high))
        });
    }
    if let Some((zone, hottest)) = it.temperatures.iter().max_by_key(|(_, temperature)| *temperature) {
        parts.push(format!("{} ({zone})", units::temperature(*hottest)));
    }
    if let Some(load) = it.load_milli {
        parts.push(format!("load {:.2}", f64::from(load) / 1e3));
    }
    if let Some(bits) = it.throttle_bits {
        parts.push(format!("throttle bits {bits:#x}"));
    }
    if let Some(mode) = &it.power_mode {
        parts.push(format!("power mode {mode}"));
    }
    (when, parts.join(", "))
}
