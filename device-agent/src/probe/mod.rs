//! What this board is, and in what condition.
//!
//! Everything is read from files that the kernel or the vendor keeps; where one does not exist, the answer is unknown and
//! never 0. It must not change a setting of the board: governors are the user's.

mod conditions;
mod identity;

use n2n_protocol::{Board, Conditions, Digest};
use std::path::Path;
use std::sync::OnceLock;

/// Identity and present condition of this board.
pub fn board() -> Board {
    identity::board(Path::new("/"))
}

/// Key under which measurements of this board are kept.
pub fn fingerprint() -> Digest {
    static FINGERPRINT: OnceLock<Digest> = OnceLock::new();
    *FINGERPRINT.get_or_init(|| board().fingerprint)
}

/// Condition of this board now.
pub fn conditions() -> Conditions {
    conditions::read(Path::new("/"))
}

/// Present frequency of some cores, kHz; empty where unknown.
pub(crate) fn core_frequencies_khz(cores: &[u16]) -> Vec<u32> {
    conditions::core_frequencies_khz(Path::new("/"), cores)
}

/// Highest frequency that a core can have, kHz.
pub(crate) fn max_frequency_khz(core: u16) -> Option<u32> {
    conditions::cpufreq(Path::new("/"), core, "cpuinfo_max_freq")
}

/// Throttle bits of a Raspberry Pi, from the kernel alone: cheap enough to be polled.
pub(crate) fn throttle_bits() -> Option<u32> {
    conditions::throttle_bits(Path::new("/"))
}
