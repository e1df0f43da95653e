//! Whether the board is still as fast as when the search began: arithmetic on the times of a reference model.
//!
//! docs/measurement.md#drift. Pure: the gauge does the timing.

use crate::search::answer::Measured;

/// Probes between two looks at the reference model: two updates.
const EVERY: u32 = 10;
/// The reference has drifted when it is off by more than this many times the noise between processes.
const NOISES: f64 = 4.0;

/// The times of one model that is timed again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drift {
    /// When the search began: what its relative limits refer to.
    anchor_ns: u64,
    /// As it was last seen to be.
    latency_ns: u64,
    /// Probes since the last look.
    probes: u32,
}

impl Drift {
    /// `latency_ns` was just measured; `anchor_ns` is what the model took when the search's limits were resolved.
    pub(super) fn since(anchor_ns: u64, latency_ns: u64) -> Self {
        Self { anchor_ns, latency_ns, probes: 0 }
    }

    /// Counts a probe of something else.
    pub(super) fn probed(&mut self) {
        self.probes += 1;
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&self) -> bool {
        self.probes >= EVERY
    }

    /// Looks: the relative change if it is beyond the noise; what the board has become is then what it is compared with.
    pub(super) fn look(&mut self, now_ns: u64, noise: f64) -> Option<f64> {
        self.probes = 0;
        let change = now_ns as f64 / self.latency_ns.max(1) as f64 - 1.0;
        let drifted = change.abs() > NOISES * noise;
        if drifted {
            self.latency_ns = now_ns;
        }
        drifted.then_some(change)
    }

    /// A latency measured now, as it would have been when the search began.
    pub(super) fn anchored(&self, measured: Measured) -> Measured {
        let scale = self.anchor_ns as f64 / self.latency_ns.max(1) as f64;
        let scaled = |ns: u64| (ns as f64 * scale) as u64;
        Measured {
            latency_ns: scaled(measured.latency_ns),
            latency_upper_ns: scaled(measured.latency_upper_ns),
            latency_lower_ns: scaled(measured.latency_lower_ns),
            ..measured
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: f64 = 0.01;

    fn candidate(latency_ns: u64) -> Measured {
        Measured {
            latency_ns,
            latency_upper_ns: latency_ns + 10,
            latency_lower_ns: latency_ns - 10,
            model_memory_bytes: 5,
            file_bytes: 6,
            noise: NOISE,
        }
    }

    #[test]
    fn a_board_that_becomes_slower_moves_no_ratio() {
        let mut drift = Drift::since(500_000, 500_000);
        assert_eq!(drift.anchored(candidate(200_000)), candidate(200_000));
        // Teacher and candidate both take 1.6 times as long from now on.
        assert_eq!(drift.look(800_000, NOISE).map(|change| (change * 100.0).round()), Some(60.0));
        let now = drift.anchored(candidate(320_000));
        assert_eq!(now.latency_ns, 200_000);
        assert_eq!((now.latency_upper_ns, now.latency_lower_ns), (200_006, 199_993));
        assert_eq!((now.model_memory_bytes, now.file_bytes), (5, 6));
        // And back: the comparison is with what the board was last, the scale with what it was first.
        assert!(drift.look(500_000, NOISE).is_some_and(|change| change < 0.0));
        assert_eq!(drift.anchored(candidate(200_000)).latency_ns, 200_000);
    }

    #[test]
    fn what_is_within_the_noise_changes_nothing() {
        let mut drift = Drift::since(500_000, 500_000);
        assert_eq!(drift.look(519_000, NOISE), None);
        assert_eq!(drift, Drift::since(500_000, 500_000));
        assert!(drift.look(521_000, NOISE).is_some());
    }

    #[test]
    fn a_resumed_search_keeps_the_first_anchor() {
        let drift = Drift::since(500_000, 1_000_000);
        assert_eq!(drift.anchored(candidate(400_000)).latency_ns, 200_000);
    }

    #[test]
    fn a_look_is_due_after_two_updates_of_probes() {
        let mut drift = Drift::since(1, 1);
        for _ in 0..EVERY {
            assert!(!drift.is_due());
            drift.probed();
        }
        assert!(drift.is_due());
        drift.look(1, NOISE);
        assert!(!drift.is_due());
    }
}
