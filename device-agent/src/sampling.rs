//! Warm-up and timed inferences, given a clock and something to time.
//!
//! Pure but for the two closures it is given, so that its rules are tested with a clock that tests turn by hand. It must
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
}

/// Run until the rolling median stops drifting, at least ten times, or until `deadline_ns` on the clock has passed.
pub(crate) fn warm_up<E>(
    run: &mut dyn FnMut() -> Result<(), E>,
    now_ns: &mut dyn FnMut() -> u64,
    deadline_ns: u64,
) -> Result<Warmup, E> {
    let mut recent: Vec<u64> = Vec::with_capacity(2 * WINDOW);
    let mut inferences = 0_u32;
    loop {
        let start = now_ns();
        run()?;
        let end = now_ns();
        inferences += 1;
        if recent.len() == 2 * WINDOW {
            recent.remove(0);
        }
        recent.push(end - start);
        let steady = inferences >= MIN_WARMUP && {
            let (older, newer) = (median_of(&recent[..WINDOW]), median_of(&recent[WINDOW..]));
            older.abs_diff(newer) <= older / DRIFT_DIVISOR
        };
        if steady || end >= deadline_ns {
            let newest = &recent[recent.len().saturating_sub(WINDOW)..];
            return Ok(Warmup { inferences, last_ns: median_of(newest) });
        }
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

/// Take `count` samples, each the mean of `per_sample` inferences in ns; at least one, fewer than `count` only when
/// `deadline_ns` on the clock has passed.
pub(crate) fn sample<E>(
    run: &mut dyn FnMut() -> Result<(), E>,
    now_ns: &mut dyn FnMut() -> u64,
    count: u32,
    per_sample: u32,
    deadline_ns: u64,
) -> Result<Vec<u64>, E> {
    let per_sample = per_sample.max(1);
    let mut samples = Vec::with_capacity(count as usize);
    while samples.len() < count as usize {
        let start = now_ns();
        for _ in 0..per_sample {
            run()?;
        }
        let end = now_ns();
        let half = u64::from(per_sample / 2);
        samples.push((end - start + half) / u64::from(per_sample));
        if end >= deadline_ns {
            break;
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    /// Runs the warm-up on inferences that take the given times; the last is repeated for ever.
    fn warm_up_on(times: &[u64], deadline_ns: u64) -> Warmup {
        let clock = Cell::new(0);
        let mut times = times.iter();
        let mut time = 0;
        let mut run = || {
            time = *times.next().unwrap_or(&time);
            clock.set(clock.get() + time);
            Ok::<_, Infallible>(())
        };
        warm_up(&mut run, &mut || clock.get(), deadline_ns).unwrap()
    }

    #[test]
    fn a_steady_model_warms_up_with_ten() {
        assert_eq!(warm_up_on(&[100], u64::MAX), Warmup { inferences: 10, last_ns: 100 });
    }

    #[test]
    fn drift_prolongs_the_warm_up_until_it_ends() {
        let falling: Vec<u64> = (0..40).map(|k| 1000 - 20 * k).collect();
        let warmup = warm_up_on(&falling, u64::MAX);
        assert!((40..50).contains(&warmup.inferences), "{warmup:?}");
        assert_eq!(warmup.last_ns, 220);
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
        let clock = Cell::new(0);
        let mut k = 0;
        let mut run = || {
            k += 1;
            clock.set(clock.get() + 10 * k);
            Ok::<_, Infallible>(())
        };
        let samples = sample(&mut run, &mut || clock.get(), 4, 2, u64::MAX).unwrap();
        assert_eq!(samples, [15, 35, 55, 75]);
        let cut = sample(&mut run, &mut || clock.get(), 4, 1, 0).unwrap();
        assert_eq!(cut, [90], "at least one");
        let failing = sample(&mut || Err("boom"), &mut || 0, 4, 1, 0);
        assert_eq!(failing, Err("boom"));
    }
}
