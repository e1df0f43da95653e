//! Boards, measurements and slots as text for people. Pure: values in, text out.
//!
//! A number from `--board local` was measured on the machine that also trains; every such line says so.

use n2n_protocol::{Board, Conditions, Measurement, SlotContent, SlotStatus};

use crate::search::Budget;
use crate::{ui, units};

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

/// The result of `n2n measure`.
pub(crate) fn measurement(model: &str, place: &str, disturbances: &[String], it: &Measurement) -> String {
    let latency = &it.latency;
    let interval = latency.interval.as_ref();
    let precision = match interval {
        Some(interval) => format!(
            "{:.1} % interval, ranks {} to {} of {} processes",
            f64::from(interval.coverage_ppm) / 1e4,
            interval.low_rank,
            interval.high_rank,
            it.samples_ns.len()
        ),
        None => format!("{} processes: too few for an interval", it.samples_ns.len()),
    };
    let samples: usize = it.samples_ns.iter().map(Vec::len).sum();
    let memory = &it.memory;
    let plain = |name: &str, value: String, note: &str| [name.into(), value, place.into(), note.into()];
    let bytes =
        |name: &str, value: Option<u64>, note: &str| plain(name, units::bytes_or_unknown(value), note);
    let rows = [
        plain(
            "latency, median",
            units::latency_with_interval(latency.median_ns, interval.map(|it| (it.low_ns, it.high_ns))),
            &precision,
        ),
        plain("latency, fastest", units::latency(latency.min_ns), ""),
        plain("latency, p90", units::latency(latency.p90_ns), ""),
        plain(
            "latency, p99",
            latency.p99_ns.map_or_else(|| "unknown".into(), units::latency),
            &format!("{samples} samples{}", if latency.p99_ns.is_none() { "; 500 are needed" } else { "" }),
        ),
        bytes("model memory", memory.model_memory, "VmHWM less the engine baseline"),
        bytes(
            "peak heap",
            memory.peak_heap,
            "exact, by the worker's allocator; a limit on model_memory binds this",
        ),
        bytes("steady heap", memory.steady_heap, "after loading and first inferences"),
        bytes("peak resident", memory.peak_rss, "VmHWM of a fresh worker"),
        bytes("engine baseline", memory.engine_baseline, "VmHWM without a model"),
        plain("file", units::bytes(memory.file_bytes), ""),
    ];
    let mut text = format!("{model}\n");
    text += &ui::table(["", "value", "measured on", ""], rows);
    text.push('\n');
    let warnings = disturbances.iter().map(|sign| ("WARNING", sign.clone()));
    text += &ui::facts(warnings.chain(circumstances(place, it)));
    text
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
fn conditions(when: &'static str, it: &Conditions) -> (&'static str, String) {
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

/// The result of `n2n board probe`.
pub(crate) fn board(name: &str, this_machine: bool, board: &Board) -> String {
    let engines: Vec<String> = board.engines.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    let mut facts = vec![
        ("board", if this_machine { format!("{name} (this machine)") } else { name.to_owned() }),
        ("host name", board.name.clone()),
        ("model", board.model.clone()),
        ("system", format!("{}, {}", board.system, board.architecture)),
        ("cores", board.cores.to_string()),
        ("memory", units::bytes(board.memory_bytes)),
        ("engines", engines.join(", ")),
        ("fingerprint", board.fingerprint.to_string()),
    ];
    facts.push(conditions("now", &board.conditions));
    ui::facts(facts)
}

/// The result of `n2n status`, `ship` and `rollback`.
pub(crate) fn slots(place: &str, it: &SlotStatus) -> String {
    let row = |slot: &str, content: &Option<SlotContent>, note: &str| match content {
        Some(content) => [
            slot.to_owned(),
            content.name.clone(),
            units::bytes(content.bytes),
            content.model.to_string().chars().take(DIGEST_DIGITS).collect(),
            timestamp(content.staged_at),
            note.to_owned(),
        ],
        None => [slot.to_owned(), "-".into(), String::new(), String::new(), String::new(), String::new()],
    };
    let trial = if it.trial.is_some() { "on trial" } else { "confirmed" };
    let rows = [
        row("active", &it.active, trial),
        row("staged", &it.staged, "verified"),
        row("way back", &it.way_back, "roll-back returns here"),
    ];
    format!("on {place}\n{}", ui::table(["slot", "name", "file", "sha256", "staged", ""], rows))
}

/// Digits of a digest that people compare.
const DIGEST_DIGITS: usize = 12;

fn timestamp(unix_s: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_s);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use n2n_protocol::{Digest, EngineId, Interval, Latency, Memory, Trial};

    use super::*;

    pub(crate) fn measured() -> Measurement {
        Measurement {
            model: Digest([1; 32]),
            engine: EngineId { name: "tract".into(), version: "0.23.9".into() },
            threads: 1,
            batch: 1,
            pace_us: 0,
            affinity: vec![1],
            board: Digest([2; 32]),
            agent: "0.1.0".into(),
            samples_ns: vec![vec![1_000_000; 20]; 8],
            inferences_per_sample: 1,
            warmup: vec![10; 8],
            load_ms: vec![1; 8],
            latency: Latency {
                median_ns: 1_000_000,
                interval: Some(Interval {
                    low_ns: 990_000,
                    high_ns: 1_020_000,
                    low_rank: 1,
                    high_rank: 8,
                    coverage_ppm: 992_188,
                }),
                min_ns: 950_000,
                p90_ns: 1_100_000,
                p99_ns: None,
            },
            memory: Memory { peak_heap: Some(3 << 20), file_bytes: 4096, ..Memory::default() },
            golden_difference: Some(2e-7),
            before: Conditions { load_milli: Some(420), ..Conditions::default() },
            after: Conditions::default(),
            voided: 0,
            budget_ended: true,
        }
    }

    #[test]
    fn every_measured_line_names_the_machine_and_unknown_stays_unknown() {
        let busy = ["the board is busy".to_owned()];
        let text = measurement("zoo:vgg13@0.25", &measured_on("local", true), &busy, &measured());
        assert!(text.contains("WARNING") && text.contains("the board is busy"), "{text}");
        for line in text
            .lines()
            .filter(|line| line.contains("latency,") || line.contains("heap") || line.contains("file"))
        {
            assert!(line.contains("this machine"), "{line}");
        }
        assert!(
            text.contains("1.00 ms [0.99, 1.02]")
                && text.contains("99.2 % interval, ranks 1 to 8 of 8 processes")
        );
        let resident = text.lines().find(|line| line.contains("peak resident")).unwrap();
        assert!(resident.contains("unknown"), "{resident}");
        assert!(
            text.contains("160 samples; 500 are needed") && text.contains("governor unknown, load 0.42"),
            "{text}"
        );
        assert!(text.contains("time ended before"), "{text}");
    }

    #[test]
    fn slots_show_the_trial_and_what_rollback_returns_to() {
        let content = |name: &str| {
            Some(SlotContent {
                id: 1,
                name: name.into(),
                model: Digest([7; 32]),
                bytes: 2048,
                number: 1,
                target: String::new(),
                engine: String::new(),
                threads: 1,
                staged_at: 1_700_000_000,
                verified_at: 0,
            })
        };
        let status = SlotStatus {
            active: content("b"),
            way_back: content("a"),
            trial: Some(Trial { id: 1, seconds_left: 60 }),
            ..SlotStatus::default()
        };
        let text = slots("pi-lab", &status);
        assert!(
            text.contains("on trial")
                && text.contains("2023-11-14T22:13:20Z")
                && text.contains("070707070707")
        );
        assert!(text.lines().any(|line| line.contains("way back") && line.contains("roll-back")), "{text}");
    }
}
