//! Freed memory stays with the process while it trains.
#![allow(unsafe_code)] // A setting of the C allocator, which has no safe binding.

use std::ffi::{c_int, c_long};

/// `mi_option_purge_delay` of mimalloc's `mimalloc.h`, the same in versions 2 and 3.
const PURGE_DELAY: c_int = 15;
/// Never.
const NEVER: c_long = -1;

/// From now on the allocator gives nothing back to the system.
///
/// By default it gives back what was not used for some milliseconds, about a training step, and the next step pays for
/// zeroed pages: 3 to 8 % of its time (ResNet-18 of widths 8 and 64, VGG-13 of quarter width). Without effect where
/// mimalloc is not the allocator.
pub(in crate::training) fn keep() {
    // SAFETY: the call stores two aligned words; a thread that allocates meanwhile reads the old ones or the new.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, NEVER) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a setting is not part of the crate's interface, so its name is asked for by the environment.
    #[test]
    fn the_setting_is_the_one_that_the_environment_calls_purge_delay() {
        const DELAY: &str = "MIMALLOC_PURGE_DELAY";
        // SAFETY: reads one word.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        if std::env::var_os(DELAY).is_some() {
            assert_eq!(delay(), 77);
            keep();
            assert_eq!(delay(), NEVER);
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["training::kernels::memory", "--test-threads=1"])
            .env(DELAY, "77")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
