//! How much memory a worker may take on this board, whatever a plan asks for.
//!
//! The agent holds this itself: many boards boot without the memory cgroup, so that no service manager can. Two bounds:
//! what the board *has*, less what the agent and the system keep, which is a fact about the board; and what is *free* now,
//! which is not. A student that fails by the second has met somebody else's memory, so that is never its fault.

use std::fs;
use std::path::Path;

use n2n_protocol::FreeMemory;

/// Kept from workers for the agent and the system, bytes: an agent takes some 30 MB, a system without a desktop under 100.
const RESERVE_BYTES: u64 = 128 << 20;
/// On a board where the reserve would take more than this part of all memory, workers get the rest: half.
const RESERVE_DIVISOR: u64 = 2;
/// Kept free beside a running worker, bytes: the kernel begins to kill somewhat before the last page is used.
const HEADROOM_BYTES: u64 = 16 << 20;

/// What this machine has and what is free of it, bytes; `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Readings {
    total: Option<u64>,
    free: Option<u64>,
}

/// What a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Whether it is less than both the plan and the board allow, because others have the memory now.
    pub(crate) scarce: bool,
}

/// What a worker may take now, however much it asks for.
pub(crate) fn most() -> FreeMemory {
    most_of(read(Path::new("/")))
}

fn most_of(readings: Readings) -> FreeMemory {
    let Allowance { bytes, scarce } = allowance_of(u64::MAX, readings);
    FreeMemory { bytes: (bytes < u64::MAX).then_some(bytes), scarce }
}

/// What a worker may take of the `asked` bytes, now.
pub(crate) fn allowance(asked: u64) -> Allowance {
    allowance_of(asked, read(Path::new("/")))
}

fn allowance_of(asked: u64, readings: Readings) -> Allowance {
    let of_the_board = readings
        .total
        .map_or(asked, |total| total.saturating_sub(RESERVE_BYTES.min(total / RESERVE_DIVISOR)).min(asked));
    let free = readings.free.map_or(u64::MAX, |free| free.saturating_sub(HEADROOM_BYTES));
    Allowance { bytes: of_the_board.min(free), scarce: free < of_the_board }
}

/// The smaller of the machine's own figures and those of the control group that this process runs in.
fn read(root: &Path) -> Readings {
    let machine = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let group = group(root).unwrap_or_default();
    let smaller = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    Readings {
        total: smaller(field(&machine, "MemTotal:"), group.total),
        free: smaller(field(&machine, "MemAvailable:"), group.free),
    }
}

/// A field of /proc/meminfo, bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control groups above this process leave it (version 2): the least of all of them.
fn group(root: &Path) -> Option<Readings> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let top = root.join("sys/fs/cgroup");
    let mut least = Readings::default();
    for folder in top.join(path).ancestors().take_while(|folder| folder.starts_with(&top)) {
        let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        // `max` is no number: no limit here.
        let Some(limit) = number("memory.max") else { continue };
        // What the kernel only keeps of files is given up when it is needed.
        let files = fs::read_to_string(folder.join("memory.stat")).ok().and_then(|stat| {
            stat.lines().find_map(|line| line.strip_prefix("file ")?.trim().parse::<u64>().ok())
        });
        let used = number("memory.current").unwrap_or(0).saturating_sub(files.unwrap_or(0));
        let free = limit.saturating_sub(used);
        least.total = Some(least.total.map_or(limit, |total| total.min(limit)));
        least.free = Some(least.free.map_or(free, |before| before.min(free)));
    }
    Some(least)
}

/// Whether the kernel can limit the memory of a service; `None` where that cannot be told.
pub(crate) fn has_memory_cgroup() -> Option<bool> {
    has_memory_cgroup_in(Path::new("/"))
}

fn has_memory_cgroup_in(root: &Path) -> Option<bool> {
    let unified = fs::read_to_string(root.join("sys/fs/cgroup/cgroup.controllers"));
    if let Ok(controllers) = unified {
        return Some(controllers.split_ascii_whitespace().any(|controller| controller == "memory"));
    }
    // Version 1: subsystem, hierarchy, groups, enabled.
    let table = fs::read_to_string(root.join("proc/cgroups")).ok()?;
    let line = table.lines().find(|line| line.starts_with("memory\t"));
    Some(line.is_some_and(|line| line.trim_end().ends_with("\t1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn no_plan_gets_more_than_the_board_can_spare() {
        let zero_2w = Readings { total: Some(416 * MIB), free: Some(300 * MIB) };
        let all = allowance_of(u64::MAX, zero_2w);
        assert_eq!(all, Allowance { bytes: 284 * MIB, scarce: true }, "others have the rest now");
        assert_eq!(most_of(zero_2w), FreeMemory { bytes: Some(284 * MIB), scarce: true });
        assert_eq!(most_of(Readings::default()), FreeMemory { bytes: None, scarce: false });
        let idle = Readings { free: Some(400 * MIB), ..zero_2w };
        assert_eq!(allowance_of(u64::MAX, idle), Allowance { bytes: 288 * MIB, scarce: false });
        assert_eq!(allowance_of(64 * MIB, zero_2w), Allowance { bytes: 64 * MIB, scarce: false });
        let tiny = Readings { total: Some(128 * MIB), free: None };
        assert_eq!(allowance_of(u64::MAX, tiny), Allowance { bytes: 64 * MIB, scarce: false });
        let full = Readings { total: Some(416 * MIB), free: Some(MIB) };
        assert_eq!(allowance_of(MIB, full), Allowance { bytes: 0, scarce: true });
        assert_eq!(allowance_of(7, Readings::default()), Allowance { bytes: 7, scarce: false });
    }

    #[test]
    fn figures_are_those_of_the_machine_or_of_the_group_whichever_are_smaller() {
        let meminfo = ("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n");
        let alone = Readings { total: Some(1000 << 10), free: Some(600 << 10) };
        assert_eq!(read(machine(&[meminfo]).path()), alone);
        let group = machine(&[
            meminfo,
            ("proc/self/cgroup", "0::/system.slice/agent.service\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/agent.service/memory.max", "512000\n"),
            ("sys/fs/cgroup/system.slice/agent.service/memory.current", "412000\n"),
            ("sys/fs/cgroup/system.slice/agent.service/memory.stat", "anon 12000\nfile 400000\n"),
        ]);
        assert_eq!(read(group.path()), Readings { total: Some(512_000), free: Some(500_000) });
        assert_eq!(read(machine(&[]).path()), Readings::default());
        assert!(read(Path::new("/")).total.unwrap() > MIB);
    }

    #[test]
    fn a_kernel_without_the_memory_cgroup_is_told() {
        let with = |files: &[(&str, &str)]| has_memory_cgroup_in(machine(files).path());
        assert_eq!(with(&[("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")]), Some(true));
        assert_eq!(with(&[("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")]), Some(false));
        let first = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t4\t60\t1\n";
        assert_eq!(with(&[("proc/cgroups", &format!("{first}memory\t0\t1\t0\n"))]), Some(false));
        assert_eq!(with(&[("proc/cgroups", &format!("{first}memory\t3\t90\t1\n"))]), Some(true));
        assert_eq!(with(&[]), None);
    }
}
