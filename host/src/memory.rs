//! How much memory this process may still take, as far as the system says.

use rustix::process::{Resource, getrlimit};

/// Where nothing is known, bytes: what the smallest machine that trains has.
const UNKNOWN: u64 = 2 << 30;

/// Bytes: what is available, and what `ulimit` leaves.
pub(crate) fn free_memory() -> u64 {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    let limits = [Resource::Data, Resource::As].map(|resource| getrlimit(resource).current);
    limits.into_iter().chain([available]).flatten().min().unwrap_or(UNKNOWN)
}
