//! Boards, measurements and slots as text for people. Pure: values in, text out.
//!
//! A number from `--board local` was measured on the machine that also trains; every such line says so.

use std::time::Duration;

use n2n_protocol::{Board, SlotContent, SlotStatus, Status};

use crate::measurement::Measurement;
use crate::usage::Usage;
use crate::wording::{circumstances, conditions};
use crate::{ui, units, wording};

/// The result of `n2n measure`; `verified` says who else ran the model.
pub(crate) fn measurement(
    model: &str,
    place: &str,
    disturbances: &[String],
    verified: &str,
    it: &Measurement,
) -> String {
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
            units::latency_with_interval(latency.median_ns, latency.ends_ns()),
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
    let verified = [("answer", verified.to_owned())];
    text += &ui::facts(warnings.chain(circumstances(place, it)).chain(verified));
    text
}

/// How a program uses a student; `place` says where the file is, `model` is its path for a program there.
pub(crate) fn usage(it: &Usage, place: &str, model: &str) -> String {
    let facts = ui::facts(std::iter::once(("file", place.to_owned())).chain(it.facts()));
    let (python, rust) = (it.python(model), it.rust(model));
    format!(
        "{facts}\nin Python (pip install onnxruntime pillow)\n\n{python}\nin Rust (cargo add tract-onnx image)\n\n{rust}"
    )
}

/// The result of `n2n board probe`.
pub(crate) fn board(name: &str, this_machine: bool, board: &Board) -> String {
    let mut facts = vec![
        ("board", if this_machine { format!("{name} (this machine)") } else { name.to_owned() }),
        ("host name", board.name.clone()),
        ("model", board.model.clone()),
        ("system", format!("{}, {}", board.system, board.architecture)),
        ("cores", board.cores.to_string()),
        ("memory", units::bytes(board.memory_bytes)),
        ("engines", wording::engines(&board.engines)),
        ("fingerprint", board.fingerprint.to_string()),
    ];
    facts.push(conditions("now", &(&board.conditions).into()));
    ui::facts(facts)
}

/// The result of `n2n status`.
pub(crate) fn status(place: &str, it: &Status) -> String {
    let slots = match (&it.slots, it.owner) {
        (Some(slots), _) => self::slots(place, slots),
        (None, owner) => {
            let process = owner.map_or_else(String::new, |id| format!(", process {id},"));
            format!("on {place}\nanother agent{process} owns the slots; this one only measures")
        }
    };
    let disk = format!(
        "{} free, of which uploads leave {}",
        units::bytes(it.disk.free_bytes),
        units::bytes(it.disk.reserve_bytes)
    );
    let mut facts = vec![("disk", disk)];
    for (place, turn) in it.queue.iter().enumerate() {
        let since = units::duration(Duration::from_secs(turn.since_s.into()));
        let name = if place == 0 { "at the board" } else { "waits" };
        facts.push((name, format!("{}: {}, for {since}", turn.client, turn.verb)));
    }
    if it.strangers > 0 {
        facts.push(("strangers", format!("{} connections without a key were turned away", it.strangers)));
    }
    facts.push(("agent", format!("started {} ago", units::duration(Duration::from_secs(it.uptime_s)))));
    format!("{slots}\n\n{}", ui::facts(facts))
}

/// The slots, and what the board found by itself: the result of `n2n ship` and `n2n rollback`.
pub(crate) fn slots(place: &str, it: &SlotStatus) -> String {
    let row = |slot: &str, content: &Option<SlotContent>, note: &dyn Fn(&SlotContent) -> String| match content
    {
        Some(content) => [
            slot.to_owned(),
            wording::checked(&content.name).0.to_owned(),
            units::bytes(content.bytes),
            content.model.to_string().chars().take(DIGEST_DIGITS).collect(),
            timestamp(content.staged_at),
            note(content),
        ],
        None => [slot.to_owned(), "-".into(), String::new(), String::new(), String::new(), String::new()],
    };
    let verified = |content: &SlotContent, note: &str| {
        let mut note = note.to_owned();
        if content.verified_at == 0 {
            note += ", not verified since the agent started";
        }
        if !wording::checked(&content.name).1 {
            note = format!("{note}, {}", wording::UNVERIFIED);
        }
        note
    };
    let trial = it.trial.map_or_else(
        || "confirmed".into(),
        |trial| {
            let left = units::duration(Duration::from_secs(trial.seconds_left.into()));
            format!("on trial: confirmed within {left}, or rolled back")
        },
    );
    let rows = [
        row("active", &it.active, &|content| verified(content, &trial)),
        row("way back", &it.way_back, &|content| verified(content, "a roll-back returns here")),
        row("staged", &it.staged, &|content| verified(content, "not active yet")),
    ];
    let mut text =
        format!("on {place}\n{}", ui::table(["", "student", "file", "sha256", "staged at", ""], rows));
    for notice in &it.notices {
        text.extend(["\n", &timestamp(notice.at), "  ", &notice.text]);
    }
    text
}

/// Digits of a digest that people compare.
const DIGEST_DIGITS: usize = 12;

fn timestamp(unix_s: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_s);
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use n2n_protocol::{Digest, Disk, Notice, Trial, Turn};

    use super::*;
    use crate::measurement::tests::sent;
    use crate::wording::measured_on;

    #[test]
    fn every_measured_line_names_the_machine_and_unknown_stays_unknown() {
        let busy = ["the board is busy".to_owned()];
        let text =
            measurement("zoo:vgg13@0.25", &measured_on("local", true), &busy, "right", &(&sent()).into());
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

    fn content(name: &str, verified_at: u64) -> SlotContent {
        SlotContent {
            id: 1,
            name: name.into(),
            model: Digest([7; 32]),
            bytes: 2048,
            number: 1,
            target: String::new(),
            engine: String::new(),
            threads: 1,
            staged_at: 1_700_000_000,
            verified_at,
        }
    }

    #[test]
    fn slots_show_the_trial_and_what_rollback_returns_to() {
        let status = SlotStatus {
            active: Some(content("b", 5)),
            way_back: Some(content("a", 0)),
            staged: Some(content(&wording::unverified("c"), 5)),
            trial: Some(Trial { id: 1, seconds_left: 61 }),
            notices: vec![Notice { at: 1_700_000_000, text: "student `c` is damaged".into() }],
        };
        let text = slots("pi-lab", &status);
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
        assert!(line("active").contains("on trial: confirmed within 1m 1s, or rolled back"), "{text}");
        assert!(line("active").contains("2023-11-14T22:13:20Z") && line("active").contains("070707070707"));
        let way_back = line("way back");
        assert!(way_back.contains("a roll-back returns here, not verified since"), "{text}");
        let staged = line("staged  ");
        assert!(staged.contains("not active yet, unverified by a second engine"), "{text}");
        assert!(text.ends_with("\n2023-11-14T22:13:20Z  student `c` is damaged"), "{text}");
        insta::assert_snapshot!("slots", text);
    }

    #[test]
    fn a_measurement_is_shown_as_it_was_read() {
        let shown =
            measurement("zoo:vgg13@0.25", &measured_on("pi-lab", false), &[], "right", &(&sent()).into());
        insta::assert_snapshot!("measurement", shown);
    }

    #[test]
    fn a_board_is_shown_as_it_was_read() {
        let it = Board {
            name: "pi".into(),
            model: "Raspberry Pi 4 Model B Rev 1.4".into(),
            class: "raspberry-pi-4b".into(),
            architecture: "aarch64".into(),
            system: "Linux 6.12, Debian 13".into(),
            cores: 4,
            memory_bytes: 4 << 30,
            fingerprint: Digest([3; 32]),
            engines: vec![n2n_protocol::EngineId { name: "tract".into(), version: "0.23.9".into() }],
            conditions: n2n_protocol::Conditions {
                frequencies_khz: vec![600_000, 1_500_000],
                governor: Some("ondemand".into()),
                temperatures: vec![("cpu-thermal".into(), 48_200)],
                load_milli: Some(120),
                throttle_bits: Some(0x50000),
                power_mode: None,
            },
        };
        insta::assert_snapshot!("board", board("pi-lab", false, &it));
    }

    #[test]
    fn a_status_names_whoever_has_the_board_and_its_slots() {
        let turn = |client: &str| Turn { client: client.into(), verb: "measure".into(), since_s: 3 };
        let status = Status {
            slots: None,
            owner: Some(4711),
            queue: vec![turn("anna"), turn("ben")],
            disk: Disk { free_bytes: 3 << 30, reserve_bytes: 8 << 20 },
            strangers: 12,
            uptime_s: 3600,
        };
        let text = super::status("pi-lab", &status);
        for part in
            ["process 4711, owns the slots", "anna: measure", "ben: measure", "3.00 GiB free", "12 conn"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
