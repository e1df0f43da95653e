//! The bounds that a worker sets itself before it touches a model: memory, cores, to be the first that the kernel ends
//! when memory runs out, and not to outlive its agent.
//!
//! RLIMIT_DATA and never RLIMIT_AS: runtimes reserve gigabytes of address space that they never touch. It must be called
//! in the worker only; the agent stays unbounded.

use crate::worker_job::WorkerBounds;
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io::{self, Read};

/// The allocator commits memory as it is used, not a gigabyte at once, or the limit would hit before the model is read.
/// The agent sets this when it starts a worker.
pub(crate) const WORKER_ENVIRONMENT: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// What makes the kernel choose this process first when memory runs out. Raising it needs no right; the agent's own is
/// lowered by its service manager, and this process would inherit that.
const FIRST_TO_GO: &str = "1000";

/// Stack of the thread that waits for the agent's end; it only reads.
const WATCHER_STACK_BYTES: usize = 64 << 10;

/// Die when `pipe` ends: its other end is held by the agent, which closes it by dying, even by kill -9.
///
/// A pipe and not PR_SET_PDEATHSIG, because that signal comes when the *thread* that started the worker ends.
pub(crate) fn die_with_the_agent(mut pipe: impl Read + Send + 'static) -> io::Result<()> {
    let watch = move || {
        let mut byte = [0];
        // The agent says nothing after the job: any return means that it is gone.
        let _ = pipe.read(&mut byte);
        let _ = kill_process(getpid(), Signal::KILL);
    };
    std::thread::Builder::new().name("agent-watch".into()).stack_size(WATCHER_STACK_BYTES).spawn(watch)?;
    Ok(())
}

/// Apply the bounds to this process.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn apply(bounds: &WorkerBounds) -> Result<(), String> {
    // A crash of a model must not fill a board's flash with a core file.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| format!("cannot forbid core files: {error}"))?;

    // Where /proc cannot be written to, the kernel chooses by size, which is mostly this process too.
    let _ = fs::write("/proc/self/oom_score_adj", FIRST_TO_GO);

    let limit = status_bytes("VmData:").unwrap_or(0).saturating_add(bounds.memory_bytes);
    let data = Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::Data, data)
        .map_err(|error| format!("cannot limit memory to {} bytes: {error}", bounds.memory_bytes))?;

    if !bounds.cores.is_empty() {
        pin_this_thread(&bounds.cores)
            .map_err(|error| format!("cannot run on cores {:?}: {error}", bounds.cores))?;
    }
    Ok(())
}

/// Let the calling thread run on these cores only.
pub(crate) fn pin_this_thread(cores: &[u16]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        if usize::from(core) < CpuSet::MAX_CPU {
            set.set(usize::from(core));
        }
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Cores that this process may run on; empty where unknown.
pub(crate) fn allowed_cores() -> Vec<u16> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).map(|core| core as u16).collect()
}

/// One core a thread: the fastest of those allowed, of equals the last, since the first serve interrupts. Empty when
/// there are too few.
pub(crate) fn choose_cores(allowed: &[u16], max_khz: impl Fn(u16) -> Option<u32>, threads: u16) -> Vec<u16> {
    let mut ranked: Vec<u16> = allowed.to_vec();
    ranked.sort_by_key(|&core| (max_khz(core).unwrap_or(0), core));
    let wanted = usize::from(threads);
    if ranked.len() < wanted { Vec::new() } else { ranked.split_off(ranked.len() - wanted) }
}

/// Largest resident memory of this process so far (VmHWM), bytes.
pub(crate) fn peak_rss() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// A field of /proc/self/status, bytes.
fn status_bytes(field: &str) -> Option<u64> {
    parse_status(&fs::read_to_string("/proc/self/status").ok()?, field)
}

fn parse_status(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_and_last_core_is_chosen() {
        let little_big = |core| Some(if core < 4 { 1_500_000 } else { 2_200_000 });
        assert_eq!(choose_cores(&[0, 1, 2, 3, 4, 5], little_big, 1), [5]);
        assert_eq!(choose_cores(&[0, 1, 2, 3, 4, 5], little_big, 3), [3, 4, 5]);
        assert_eq!(choose_cores(&[0, 1], |_| None, 1), [1]);
        assert_eq!(choose_cores(&[0], |_| None, 2), Vec::<u16>::new());
    }

    #[test]
    fn status_fields_are_bytes() {
        let status = "VmPeak:\t  100 kB\nVmHWM:\t   12 kB\nThreads:\t1\n";
        assert_eq!(parse_status(status, "VmHWM:"), Some(12 << 10));
        assert_eq!(parse_status(status, "Threads:"), None);
        assert_eq!(parse_status(status, "VmData:"), None);
        assert!(peak_rss().unwrap() > 1 << 20);
        assert!(!allowed_cores().is_empty());
    }
}
