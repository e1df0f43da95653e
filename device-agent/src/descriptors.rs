//! File descriptors of this process: strangers may use up what is to spare, and never what sessions, workers and files
//! need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the agent itself needs, descriptors: its sessions, a worker's pipes, the files of store, slots and logs.
const RESERVED: u64 = 64;

/// What is asked for where the system's hard limit allows it: many systems begin with 1,024, some boards with less.
const WISHED: u64 = 2048;

/// Fewest places for strangers, however few descriptors there are.
const FEWEST: u64 = 4;

/// How many strangers this process can hold, at most `most`. Raises the soft limit on descriptors first.
pub(crate) fn for_strangers(most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    // None is "unlimited".
    let (current, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let wished = WISHED.min(hard);
    let raised = Rlimit { current: Some(wished), maximum: limit.maximum };
    let current =
        if current < wished && setrlimit(Resource::Nofile, raised).is_ok() { wished } else { current };
    places(current, most)
}

fn places(descriptors: u64, most: usize) -> usize {
    let spare = descriptors.saturating_sub(RESERVED).max(FEWEST);
    usize::try_from(spare).unwrap_or(usize::MAX).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_what_is_to_spare() {
        assert_eq!(places(u64::MAX, 512), 512);
        assert_eq!(places(1024, 512), 512);
        assert_eq!(places(256, 512), 192);
        assert_eq!(places(40, 512), 4);
    }
}
