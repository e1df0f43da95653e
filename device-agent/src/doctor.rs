//! `n2n-agent doctor`: what this board has for its agent and what it lacks, and what mends it. It changes nothing.

use crate::find_engines::Found;
use crate::{board_memory, probe};
use n2n_protocol::Conditions;
use std::fmt::Write;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// What was found on a board.
#[derive(Clone, Debug, PartialEq)]
struct Findings {
    engines: Vec<String>,
    /// Why an engine is not used.
    engine_problem: Option<String>,
    cores: u16,
    memory_bytes: u64,
    /// What a worker that asks for everything would get.
    worker: board_memory::Allowance,
    memory_cgroup: Option<bool>,
    conditions: Conditions,
}

/// Look at this board; the text for its owner.
pub fn report(found: &Found) -> String {
    let board = probe::board();
    words(&Findings {
        engines: found.engines.ids().iter().map(|id| format!("{} {}", id.name, id.version)).collect(),
        engine_problem: found.problem.clone(),
        cores: board.cores,
        memory_bytes: board.memory_bytes,
        worker: board_memory::allowance(u64::MAX),
        memory_cgroup: board_memory::has_memory_cgroup(),
        conditions: board.conditions,
    })
}

/// One line a finding, and an indented one with what to do about it.
fn words(it: &Findings) -> String {
    let mut text = String::new();
    let mut line = |what: &str, found: String, mend: Option<&str>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:<18}{found}");
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:<18}-> {mend}", "");
        }
    };
    line("engines", it.engines.join(", "), it.engine_problem.as_deref());
    let spare = format!("a worker may take {} of {} MiB now", it.worker.bytes / MIB, it.memory_bytes / MIB);
    let others = "other programs have the rest now: stop them before you measure large models";
    line("memory", spare, it.worker.scarce.then_some(others));
    match it.memory_cgroup {
        Some(true) => line("memory cgroup", "there; the service's MemoryMax holds".into(), None),
        Some(false) => line(
            "memory cgroup",
            "MISSING: the kernel ignores the service's MemoryMax; the agent bounds its workers itself".into(),
            Some(
                "on a Raspberry Pi add `cgroup_enable=memory` to the line in /boot/firmware/cmdline.txt and start it again",
            ),
        ),
        None => line("memory cgroup", "unknown".into(), None),
    }
    if let Some(load) = it.conditions.load_milli {
        let busy = load >= u32::from(it.cores) * 1000;
        let found = format!("{:.1} on {} cores", f64::from(load) / 1e3, it.cores);
        line(
            "load",
            found,
            busy.then_some("numbers measured now are not to be trusted: stop what else runs"),
        );
    }
    let governor = it.conditions.governor.clone();
    let steady = governor.as_ref().is_none_or(|governor| governor == "performance");
    let keep = "`cpupower frequency-set -g performance` keeps the clock in one place while you measure";
    line("governor", governor.unwrap_or_else(|| "unknown".into()), (!steady).then_some(keep));
    if let Some(bits) = it.conditions.throttle_bits {
        let cooler = "it throttles, or has since it started: a better power supply or a cooler";
        line("throttle bits", format!("{bits:#x}"), (bits != 0).then_some(cooler));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engines;

    fn board() -> Findings {
        Findings {
            engines: vec!["tract 1".into()],
            engine_problem: None,
            cores: 4,
            memory_bytes: 1024 * MIB,
            worker: board_memory::Allowance { bytes: 896 * MIB, scarce: false },
            memory_cgroup: Some(true),
            conditions: Conditions {
                governor: Some("performance".into()),
                load_milli: Some(500),
                throttle_bits: Some(0),
                ..Conditions::default()
            },
        }
    }

    #[test]
    fn a_board_in_order_needs_nothing() {
        let text = words(&board());
        assert!(text.contains("896 of 1024 MiB") && text.contains("tract 1"), "{text}");
        assert!(!text.contains("->"), "{text}");
    }

    #[test]
    fn what_is_missing_comes_with_what_mends_it() {
        let mut it = board();
        it.engine_problem = Some("ONNX Runtime at /a.so is not used".into());
        it.memory_cgroup = Some(false);
        it.worker.scarce = true;
        it.conditions.governor = Some("ondemand".into());
        it.conditions.load_milli = Some(9_000);
        it.conditions.throttle_bits = Some(0x5);
        let text = words(&it);
        assert!(text.contains("MISSING") && text.contains("cgroup_enable=memory"), "{text}");
        assert_eq!(text.matches("->").count(), 6, "{text}");
    }

    #[test]
    fn this_machine_is_looked_at() {
        let text = report(&Found { engines: Engines::default(), problem: None });
        assert!(text.lines().count() >= 4 && text.contains("tract"), "{text}");
    }
}
