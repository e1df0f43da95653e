//! Whether the board disturbed a process: watched while samples are taken, from another core, and judged afterwards.
//!
//! Judged by conditions only. A process is never void because it looks slow: that would throw away exactly the samples
//! that a student would rather not have.

use crate::{probe, worker_limits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
const POLL: Duration = Duration::from_millis(100);
/// Bits 0-3 of a Raspberry Pi: under-voltage, frequency capped, throttled, soft temperature limit; now.
const THROTTLED_NOW: u32 = 0x0000_000F;
/// Bits 16-19: the same, at any time since boot.
const THROTTLED_SINCE_BOOT: u32 = 0x000F_0000;
/// The lowest frequency must be at least this part of the highest. A Pi's smallest step down is to 67 %; a desktop's
/// turbo wanders by some per cent all the time.
const FREQUENCY_FLOOR_PERCENT: u64 = 85;

/// What was seen in one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Frequencies of the measured cores, kHz.
    pub(crate) frequencies_khz: Vec<u32>,
    /// Throttle bits of all looks, or-ed; `None` where the board has none.
    pub(crate) throttle_bits: Option<u32>,
}

impl Seen {
    fn look(&mut self, cores: &[u16]) {
        self.frequencies_khz.extend(probe::core_frequencies_khz(cores));
        if let Some(bits) = probe::throttle_bits() {
            self.throttle_bits = Some(self.throttle_bits.unwrap_or(0) | bits);
        }
    }
}

/// Why the process does not count; `None` when it does. `bits_before` were read before it began: a sticky bit that was
/// set already says nothing.
pub(crate) fn judge(seen: &Seen, bits_before: Option<u32>) -> Option<String> {
    let bits = seen.throttle_bits.unwrap_or(0);
    let news = bits & !bits_before.unwrap_or(bits) & THROTTLED_SINCE_BOOT;
    if bits & THROTTLED_NOW != 0 || news != 0 {
        return Some(format!("the board throttled while it was measured (bits {bits:#x})"));
    }
    let lowest = seen.frequencies_khz.iter().min()?;
    let highest = seen.frequencies_khz.iter().max()?;
    (u64::from(*lowest) * 100 < u64::from(*highest) * FREQUENCY_FLOOR_PERCENT)
        .then(|| format!("the frequency dropped from {highest} to {lowest} kHz while it was measured"))
}

/// A thread that looks ten times a second until it is told to stop.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Watch {
    /// Start looking at these cores, from the others if there are any.
    pub(crate) fn start(cores: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, cores) = (Arc::clone(&stop), cores.to_vec());
        let watch = move || {
            let others: Vec<u16> =
                worker_limits::allowed_cores().into_iter().filter(|core| !cores.contains(core)).collect();
            if !others.is_empty() {
                // Without the right to choose, looking from a shared core costs some microseconds of ten times a second.
                let _ = worker_limits::pin_this_thread(&others);
            }
            let mut seen = Seen::default();
            while !told.load(Ordering::Acquire) {
                seen.look(&cores);
                std::thread::park_timeout(POLL);
            }
            seen
        };
        Self { stop, thread: std::thread::Builder::new().name("condition-watch".into()).spawn(watch).ok() }
    }

    /// Stop looking, and what was seen.
    pub(crate) fn finish(mut self) -> Seen {
        self.end().unwrap_or_default()
    }

    fn end(&mut self) -> Option<Seen> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take()?;
        thread.thread().unpark();
        thread.join().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frequencies_khz: &[u32], throttle_bits: Option<u32>) -> Seen {
        Seen { frequencies_khz: frequencies_khz.to_vec(), throttle_bits }
    }

    #[test]
    fn only_conditions_void_a_process() {
        assert_eq!(judge(&Seen::default(), None), None, "unknown is not throttled");
        assert_eq!(judge(&seen(&[1_500_000, 1_450_000], Some(0)), Some(0)), None);
        let dropped = judge(&seen(&[1_500_000, 1_000_000], None), None).unwrap();
        assert!(dropped.contains("1500000 to 1000000 kHz"), "{dropped}");
    }

    #[test]
    fn sticky_bits_count_only_when_they_are_new() {
        assert!(judge(&seen(&[], Some(0x4)), Some(0)).unwrap().contains("0x4"));
        assert!(judge(&seen(&[], Some(0x4_0000)), Some(0)).is_some());
        assert_eq!(judge(&seen(&[], Some(0x5_0000)), Some(0x5_0000)), None);
        assert_eq!(judge(&seen(&[], Some(0x5_0000)), None), None);
    }

    #[test]
    fn the_watch_stops_at_once() {
        let watch = Watch::start(&[0]);
        std::thread::sleep(Duration::from_millis(10));
        let begun = std::time::Instant::now();
        watch.finish();
        assert!(begun.elapsed() < POLL);
    }
}
