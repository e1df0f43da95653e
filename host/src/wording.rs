//! Facts as words, the same in tables and in the report: where a number comes from, how it was measured, what a search may
//! spend. Pure; tables are `view`'s.
//!
//! A number from `--board local` was measured on the machine that also trains; every such line says so.

use crate::measurement::{Conditions, Measurement};
use crate::search::Budget;
use crate::units;

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

/// What a number has to be read with.
pub(crate) fn circumstances(place: &str, it: &Measurement) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("measured on", place.to_owned()),
        ("engine", format!("{} {}, {}", it.engine.name, it.engine.version, threads(it))),
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

fn threads(it: &Measurement) -> String {
    let cores: Vec<String> = it.affinity.iter().map(ToString::to_string).collect();
    let pinned =
        if cores.is_empty() { "not pinned".into() } else { format!("pinned to core {}", cores.join(", ")) };
    format!("{} thread{}, {pinned}", it.threads, if it.threads == 1 { "" } else { "s" })
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
