//! Warm-up and timed inferences, given a clock and something to time.
//!
//! Pure but for the closures it is given, so that its rules are tested with a clock that tests turn by hand. It must
//! not drop a sample or judge one.

use crate::statistics::median_of;

/// Fewest untimed inferences.
const MIN_WARMUP: u32 = 10;
/// Inferences in each of the two neighbouring windows whose medians are compared.
const WINDOW: usize = 5;
/// Two window medians nearer than this part of the older one have stopped drifting: 2 %, the width that a measurement
/// aims at by default.
const DRIFT_DIVISOR: u64 = 50;
/// A sample must be this many times the clock's resolution, or several inferences make one sample.
const RESOLUTIONS_PER_SAMPLE: u64 = 50;
/// Most inferences in one sample: an empty model cannot make it absurd.
const MAX_INFERENCES_PER_SAMPLE: u64 = 10_000;
/// Readings of the clock for its resolution.
const CLOCK_READINGS: usize = 200;

/// What the warm-up showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Warmup {
    /// Untimed inferences.
    pub(crate) inferences: u32,
    /// Median of the last window, ns.
    pub(crate) last_ns: u64,
    /// The last inference alone, ns.
    pub(crate) newest_ns: u64,
}

/// Something to time, a clock, and the rhythm of its inferences.
pub(crate) struct Bench<'a, E> {
    /// One inference.
    pub(crate) run: &'a mut dyn FnMut() -> Result<(), E>,
    /// The clock, ns.
    pub(crate) now_ns: &'a mut dyn FnMut() -> u64,
    /// Sleep until the clock shows this, ns.
    pub(crate) sleep_until_ns: &'a mut dyn FnMut(u64),
    /// From the beginning of one inference to the beginning of the next, ns; 0 for one after the other.
    pub(crate) pace_ns: u64,
    /// When the next inference is due on the clock, ns.
    pub(crate) due_ns: u64,
}

impl<E> Bench<'_, E> {
    /// Sleep until the next inference is due; false, without sleeping, when that is beyond `deadline_ns`.
    fn wait(&mut self, deadline_ns: u64) -> bool {
        if self.pace_ns == 0 {
            return true;
        }
        if self.due_ns > deadline_ns {
            return false;
        }
        (self.sleep_until_ns)(self.due_ns);
        true
    }

    /// So many inferences as one: how long they took, and when they ended, ns.
    fn time(&mut self, inferences: u32) -> Result<(u64, u64), E> {
        let start = (self.now_ns)();
        // From the beginning that really was: one that came late moves those after it, as a queue of pictures would.
        self.due_ns = start.saturating_add(self.pace_ns);
        for _ in 0..inferences {
            (self.run)()?;
        }
        let end = (self.now_ns)();
        Ok((end - start, end))
    }

    /// Run until the rolling median stops drifting, at least ten times, or until `deadline_ns` on the clock has passed; at
    /// least once. In the rhythm of the samples: a processor that sleeps in between is another one.
    pub(crate) fn warm_up(&mut self, deadline_ns: u64) -> Result<Warmup, E> {
        let mut recent: Vec<u64> = Vec::with_capacity(2 * WINDOW);
        let mut inferences = 0_u32;
        loop {
            if !self.wait(deadline_ns) && inferences > 0 {
                break;
            }
            let (ns, end) = self.time(1)?;
            inferences += 1;
            if recent.len() == 2 * WINDOW {
                recent.remove(0);
            }
            recent.push(ns);
            let steady = inferences >= MIN_WARMUP && {
                let (older, newer) = (median_of(&recent[..WINDOW]), median_of(&recent[WINDOW..]));
                older.abs_diff(newer) <= older / DRIFT_DIVISOR
            };
            if steady || end >= deadline_ns {
                break;
            }
        }
        let newest = &recent[recent.len().saturating_sub(WINDOW)..];
        let newest_ns = newest.last().copied().unwrap_or(0);
        Ok(Warmup { inferences, last_ns: median_of(newest), newest_ns })
    }

    /// Take `count` samples, each the mean of `per_sample` inferences in ns; at least one, fewer than `count` only when
    /// `deadline_ns` on the clock has passed. Pauses are in no sample; with a pace, each inference is one of its own.
    pub(crate) fn sample(&mut self, count: u32, per_sample: u32, deadline_ns: u64) -> Result<Vec<u64>, E> {
        let per_sample = if self.pace_ns == 0 { per_sample.max(1) } else { 1 };
        let mut samples = Vec::with_capacity(count as usize);
        while samples.len() < count as usize {
            if !self.wait(deadline_ns) && !samples.is_empty() {
                break;
            }
            let (ns, end) = self.time(per_sample)?;
            samples.push((ns + u64::from(per_sample / 2)) / u64::from(per_sample));
            if end >= deadline_ns {
                break;
            }
        }
        Ok(samples)
    }
}

/// Smallest step of the clock that was seen, ns, at least 1.
pub(crate) fn clock_resolution_ns(now_ns: &mut dyn FnMut() -> u64) -> u64 {
    let mut smallest = u64::MAX;
    let mut last = now_ns();
    for _ in 0..CLOCK_READINGS {
        let now = now_ns();
        if now > last {
            smallest = smallest.min(now - last);
        }
        last = now;
    }
    if smallest == u64::MAX { 1 } else { smallest }
}

/// How many inferences make one sample, so that the clock can tell it.
pub(crate) fn inferences_per_sample(inference_ns: u64, resolution_ns: u64) -> u32 {
    let wanted_ns = resolution_ns.saturating_mul(RESOLUTIONS_PER_SAMPLE);
    wanted_ns.div_ceil(inference_ns.max(1)).clamp(1, MAX_INFERENCES_PER_SAMPLE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    /// A clock that tests turn, and inferences that turn it: they take the given times, the last one for ever.
    fn on_bench<T>(times: &[u64], pace_ns: u64, work: impl FnOnce(&mut Bench<'_, Infallible>) -> T) -> T {
        let clock = Cell::new(0);
        let mut times = times.iter();
        let mut time = 0;
        let mut bench = Bench {
            run: &mut || {
                time = *times.next().unwrap_or(&time);
                clock.set(clock.get() + time);
                Ok(())
            },
            now_ns: &mut || clock.get(),
            sleep_until_ns: &mut |until| clock.set(clock.get().max(until)),
            pace_ns,
            due_ns: 0,
        };
        work(&mut bench)
    }

    fn warm_up_on(times: &[u64], deadline_ns: u64) -> Warmup {
        on_bench(times, 0, |bench| bench.warm_up(deadline_ns).unwrap())
    }

    #[test]
    fn a_steady_model_warms_up_with_ten() {
        assert_eq!(warm_up_on(&[100], u64::MAX), Warmup { inferences: 10, last_ns: 100, newest_ns: 100 });
    }

    #[test]
    fn drift_prolongs_the_warm_up_until_it_ends() {
        let falling: Vec<u64> = (0..40).map(|k| 1000 - 20 * k).collect();
        let warmup = warm_up_on(&falling, u64::MAX);
        assert!((40..50).contains(&warmup.inferences), "{warmup:?}");
        assert_eq!((warmup.last_ns, warmup.newest_ns), (220, 220));
    }

    #[test]
    fn endless_drift_is_bounded_in_time() {
        let rising: Vec<u64> = (1..1000).map(|k| k * k).collect();
        let warmup = warm_up_on(&rising, 10_000);
        assert_eq!(warmup.inferences, 31);
        assert_eq!(warm_up_on(&[1_000_000], 10).inferences, 1);
    }

    #[test]
    fn short_inferences_are_timed_together() {
        assert_eq!(inferences_per_sample(1_000_000, 20), 1);
        assert_eq!(inferences_per_sample(1_000, 20), 1);
        assert_eq!(inferences_per_sample(999, 20), 2);
        assert_eq!(inferences_per_sample(0, u64::MAX), 10_000);
        let mut ticks = 0;
        assert_eq!(
            clock_resolution_ns(&mut || {
                ticks += 1;
                ticks / 3 * 30
            }),
            30
        );
        assert_eq!(clock_resolution_ns(&mut || 5), 1);
    }

    #[test]
    fn every_sample_is_kept_and_the_deadline_ends_them() {
        let rising: Vec<u64> = (1..=8).map(|k| 10 * k).collect();
        let samples = on_bench(&rising, 0, |bench| bench.sample(4, 2, u64::MAX).unwrap());
        assert_eq!(samples, [15, 35, 55, 75]);
        let cut = on_bench(&[90], 0, |bench| bench.sample(4, 1, 0).unwrap());
        assert_eq!(cut, [90], "at least one");
        let mut failing = Bench {
            run: &mut || Err("boom"),
            now_ns: &mut || 0,
            sleep_until_ns: &mut |_| {},
            pace_ns: 0,
            due_ns: 0,
        };
        assert_eq!(failing.sample(4, 1, 0), Err("boom"));
    }

    #[test]
    fn pauses_keep_the_pace_and_are_in_no_sample() {
        on_bench(&[30, 10, 250, 20, 10], 100, |bench| {
            assert_eq!(bench.sample(5, 7, u64::MAX).unwrap(), [30, 10, 250, 20, 10]);
            // Begun at 0, 100, 200; the third ends at 450 and the next begins at once.
            assert_eq!((bench.now_ns)(), 450 + 100 + 10);
        });
        let cut = on_bench(&[10], 100, |bench| bench.sample(5, 1, 250).unwrap());
        assert_eq!(cut.len(), 3, "what is due after the deadline is not waited for");
        let one = on_bench(&[10], 1000, |bench| {
            bench.due_ns = 1000;
            bench.sample(5, 1, 250).unwrap()
        });
        assert_eq!(one, [10], "at least one");
        assert_eq!(on_bench(&[10], 100, |bench| bench.warm_up(450).unwrap().inferences), 5);
    }
}
