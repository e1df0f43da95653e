//! From samples to a median that can be trusted. Pure: no clock, no input, no output.
//!
//! Variance between processes dominates variance within one, so the interval is over the medians of whole processes,
//! and it assumes nothing about their distribution: between two order statistics the true median lies with a
//! probability that is a plain sum of binomial coefficients. It must never drop a sample.

use n2n_protocol::{Interval, Latency, limits};

/// Counts of processes at which it may be decided to stop.
pub const LOOKS: [u16; 3] = [8, 12, 16];
/// Error of the whole procedure, in millionths: a 95 % interval.
pub const ERROR_PPM: u32 = 50_000;
/// Most processes of a measurement; binomial coefficients of this many are still exact in 128 bits.
pub const MAX_PROCESSES: u16 = limits::PROCESSES as u16;
/// Fewest samples for a 99th percentile: below, five or fewer samples would decide it.
const P99_SAMPLES: usize = 500;
/// Millionths.
const PPM: u128 = 1_000_000;

/// At which counts of processes a measurement looks at its interval, fixed before the first sample.
///
/// Stopping at the first look that pleases costs coverage, so the error is shared out between the looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looks {
    counts: Vec<u16>,
}

impl Looks {
    /// The looks between the fewest and the most processes of a plan; the last is always at the most.
    pub fn between(min_processes: u16, max_processes: u16) -> Self {
        let mut counts: Vec<u16> =
            LOOKS.into_iter().filter(|count| (min_processes..max_processes).contains(count)).collect();
        counts.push(max_processes);
        Self { counts }
    }

    /// Whether it may be decided to stop after this many processes.
    pub fn contains(&self, processes: u16) -> bool {
        self.counts.contains(&processes)
    }

    /// Share of the error that each look may spend, in millionths.
    pub fn error_ppm(&self) -> u32 {
        ERROR_PPM / self.counts.len() as u32
    }
}

/// Median of sorted values: the middle one, or the mean of the two; 0 for none.
pub fn median(sorted: &[u64]) -> u64 {
    match sorted.len() {
        0 => 0,
        n if n % 2 == 1 => sorted[n / 2],
        n => u64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Median of values in any order.
pub fn median_of(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    median(&sorted)
}

/// Percentile of sorted values by nearest rank; 0 for none.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Probability, in millionths rounded down, that the true median lies between the `low`-th and `high`-th smallest
/// (ranks from 1) of `n` independent values.
pub fn coverage_ppm(n: u16, low: u16, high: u16) -> u32 {
    let n = n.min(MAX_PROCESSES);
    let mut ways = 0_u128;
    let mut binomial = 1_u128;
    for k in 0..=n {
        if (low..high).contains(&k) {
            ways += binomial;
        }
        binomial = binomial * u128::from(n - k) / u128::from(k + 1);
    }
    ((ways * PPM) >> n) as u32
}

/// Narrowest symmetric interval of the median with an error of at most `error_ppm`; `None` when even the smallest and
/// the largest value do not reach that.
pub fn interval(process_medians: &[u64], error_ppm: u32) -> Option<Interval> {
    let mut sorted = process_medians.to_vec();
    sorted.sort_unstable();
    let n = u16::try_from(sorted.len()).ok().filter(|n| *n <= MAX_PROCESSES)?;
    (1..=n / 2).rev().find_map(|low_rank| {
        let high_rank = n + 1 - low_rank;
        let coverage_ppm = coverage_ppm(n, low_rank, high_rank);
        (coverage_ppm + error_ppm >= PPM as u32).then(|| Interval {
            low_ns: sorted[usize::from(low_rank) - 1],
            high_ns: sorted[usize::from(high_rank) - 1],
            low_rank,
            high_rank,
            coverage_ppm,
        })
    })
}

/// Half the width of an interval in millionths of the median.
pub fn half_width_ppm(interval: &Interval, median_ns: u64) -> u32 {
    let half = u128::from(interval.high_ns.saturating_sub(interval.low_ns)) * PPM / 2;
    u32::try_from(half / u128::from(median_ns.max(1))).unwrap_or(u32::MAX)
}

/// All statistics of the samples of some processes.
pub fn latency(samples_ns: &[Vec<u64>], error_ppm: u32) -> Latency {
    let medians: Vec<u64> = samples_ns.iter().map(|process| median_of(process)).collect();
    let mut all: Vec<u64> = samples_ns.iter().flatten().copied().collect();
    all.sort_unstable();
    Latency {
        median_ns: median_of(&medians),
        interval: interval(&medians, error_ppm),
        min_ns: all.first().copied().unwrap_or(0),
        p90_ns: percentile(&all, 90),
        p99_ns: (all.len() >= P99_SAMPLES).then(|| percentile(&all, 99)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn coverage_is_the_textbook_one() {
        assert_eq!(coverage_ppm(8, 1, 8), 992_187);
        assert_eq!(coverage_ppm(8, 2, 7), 929_687);
        assert_eq!(coverage_ppm(12, 3, 10), 961_425);
        assert_eq!(coverage_ppm(16, 4, 13), 978_729);
        assert_eq!(coverage_ppm(64, 1, 64), 999_999);
    }

    #[test]
    fn looks_share_the_error() {
        let three = Looks::between(2, 16);
        assert_eq!(three, Looks { counts: vec![8, 12, 16] });
        assert_eq!(three.error_ppm(), 16_666);
        assert_eq!(Looks::between(3, 3), Looks { counts: vec![3] });
        assert_eq!(Looks::between(12, 12).error_ppm(), ERROR_PPM);
        assert!(Looks::between(9, 20).contains(12) && !Looks::between(9, 20).contains(8));
    }

    #[test]
    fn ranks_follow_from_the_error() {
        let medians: Vec<u64> = (1..=16).collect();
        let ranks = |n: usize, error| interval(&medians[..n], error).map(|i| (i.low_rank, i.high_rank));
        let shared = Looks::between(8, 16).error_ppm();
        assert_eq!(ranks(8, shared), Some((1, 8)));
        assert_eq!(ranks(12, shared), Some((2, 11)));
        assert_eq!(ranks(16, shared), Some((3, 14)));
        assert_eq!(ranks(12, ERROR_PPM), Some((3, 10)));
        assert_eq!(ranks(3, ERROR_PPM), None, "three processes give no interval");
        assert_eq!(ranks(5, ERROR_PPM), None);
        assert_eq!(ranks(6, ERROR_PPM), Some((1, 6)));
    }

    #[test]
    fn statistics_of_known_samples() {
        let process = |offset: u64| (1..=100).map(|k| offset + k).collect::<Vec<_>>();
        let latency = latency(&[process(0), process(100), process(200)], ERROR_PPM);
        assert_eq!((latency.median_ns, latency.min_ns, latency.p90_ns), (150, 1, 270));
        assert_eq!((latency.p99_ns, latency.interval), (None, None));
        let many = super::latency(&vec![process(0); 5], ERROR_PPM);
        assert_eq!(many.p99_ns, Some(99));
        assert_eq!(median(&[]), 0);
        assert_eq!(median(&[u64::MAX - 1, u64::MAX]), u64::MAX - 1);
    }

    #[test]
    fn half_width_is_relative_to_the_median() {
        let interval = Interval { low_ns: 98, high_ns: 102, low_rank: 1, high_rank: 8, coverage_ppm: 0 };
        assert_eq!(half_width_ppm(&interval, 100), 20_000);
        assert_eq!(half_width_ppm(&interval, 0), 2_000_000);
    }

    proptest! {
        #[test]
        fn the_interval_covers_as_often_as_it_says(seed in any::<u64>()) {
            // 400 experiments of 8 uniform values: the true median (0.5) must be covered about 99.2 % of the time.
            let mut state = seed | 1;
            let mut next = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state >> 11 };
            let truth = 1_u64 << 52;
            let covered = (0..400).filter(|_| {
                let medians: Vec<u64> = (0..8).map(|_| next()).collect();
                let found = interval(&medians, 16_666).unwrap();
                (found.low_ns..=found.high_ns).contains(&truth)
            }).count();
            // Binomial(400, 0.992): fewer than 380 has a probability below 1e-9.
            prop_assert!(covered >= 380, "covered {covered} of 400");
        }

        #[test]
        fn nothing_panics_and_order_holds(samples in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..20), 0..20)) {
            let latency = latency(&samples, ERROR_PPM);
            prop_assert!(latency.min_ns <= latency.p90_ns);
            if let Some(interval) = latency.interval {
                prop_assert!(interval.low_ns <= latency.median_ns && latency.median_ns <= interval.high_ns);
            }
        }
    }
}
