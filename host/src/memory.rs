//! How much memory this process may still take, as far as the system says.

use std::fs::read_to_string;

use rustix::process::{Resource, getrlimit};

/// Where nothing is known, bytes: what the smallest machine that trains has.
const UNKNOWN: u64 = 2 << 30;

/// Limits that `ulimit -d` and `-v` set, and what counts against them.
const LIMITS: [(Resource, &str); 2] = [(Resource::Data, "VmData:"), (Resource::As, "VmSize:")];

/// Bytes: what is available on the machine, and what `ulimit` leaves beside what is taken already.
pub(crate) fn free_memory() -> u64 {
    let available = read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let own = read_to_string("/proc/self/status").unwrap_or_default();
    let left = LIMITS.map(|(limit, taken)| {
        Some(getrlimit(limit).current?.saturating_sub(field(&own, taken).unwrap_or(0)))
    });
    left.into_iter().chain([available]).flatten().min().unwrap_or(UNKNOWN)
}

/// A field of the system's tables, bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_no_longer_free() {
        assert_eq!(field("VmPeak:\t  9 kB\nVmData:\t  512 kB\n", "VmData:"), Some(512 << 10));
        assert_eq!(field("VmPeak: 9 kB", "VmData:"), None);
        let own = read_to_string("/proc/self/status").unwrap();
        assert!(
            LIMITS.iter().all(|(_, taken)| field(&own, taken).is_some_and(|bytes| bytes > 1 << 20)),
            "{own}"
        );
        assert!(free_memory() > 1 << 20);
    }
}
