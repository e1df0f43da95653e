//! Numbers as people read them: the only place where nanoseconds become milliseconds and bytes become MiB.
//!
//! Pure text, three or four significant digits, unit always there. Nothing here parses what users type; machines get
//! plain numbers with the unit in the key (`--json`), never these.

use std::time::Duration;

/// Bytes in a KiB.
const KIB: f64 = 1024.0;

/// `2_410_000` -> `2.41 ms`.
pub fn latency(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{} us", three_digits(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", three_digits(ns / 1e6)),
        ns => format!("{} s", three_digits(ns / 1e9)),
    }
}

/// A latency with its interval, one unit for all three: `2.41 ms [2.38, 2.47]`; without one when there is none.
pub fn latency_with_interval(median_ns: u64, interval_ns: Option<(u64, u64)>) -> String {
    let Some((low, high)) = interval_ns else { return latency(median_ns) };
    let scale = match median_ns {
        0..1_000 => 1.0,
        1_000..1_000_000 => 1e3,
        1_000_000..1_000_000_000 => 1e6,
        _ => 1e9,
    };
    let [low, high] = [low, high].map(|ns| three_digits(ns as f64 / scale));
    format!("{} [{low}, {high}]", latency(median_ns))
}

/// `20 * 1024 * 1024` -> `20.0 MiB`.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        count if count < KIB => format!("{count:.0} B"),
        count if count < KIB * KIB => format!("{} KiB", three_digits(count / KIB)),
        count if count < KIB * KIB * KIB => format!("{} MiB", three_digits(count / KIB / KIB)),
        count => format!("{} GiB", three_digits(count / KIB / KIB / KIB)),
    }
}

/// A figure that may be unknown; unknown is said, never shown as 0.
pub fn bytes_or_unknown(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".into(), bytes)
}

/// Parameters, MACs, candidates: `9_416_010` -> `9.42 M`.
pub fn count(count: u64) -> String {
    let value = count as f64;
    match value {
        value if value < 1e4 => count.to_string(),
        value if value < 1e6 => format!("{} K", three_digits(value / 1e3)),
        value if value < 1e9 => format!("{} M", three_digits(value / 1e6)),
        value => format!("{} G", three_digits(value / 1e9)),
    }
}

/// A share in `[0, 1]`: `0.9154` -> `91.54 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A difference of two shares in points, signed: `-0.0031` -> `-0.31`.
pub fn points(difference: f64) -> String {
    format!("{:+.2}", difference * 100.0)
}

/// How many times smaller: `11.4x`.
pub fn ratio(larger: f64, smaller: f64) -> String {
    if smaller > 0.0 { format!("{}x", three_digits(larger / smaller)) } else { "-".into() }
}

/// Wall-clock time to the second: `3m 20s`; below ten seconds to the tenth.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
}

/// An estimate: `about 6 min`, `about 40 s`.
pub fn about(time: Duration) -> String {
    match time.as_secs() {
        0..90 => format!("about {} s", time.as_secs().div_ceil(10).max(1) * 10),
        seconds @ 90..5400 => format!("about {} min", (seconds + 30) / 60),
        seconds => format!("about {:.1} h", seconds as f64 / 3600.0),
    }
}

/// Temperature from millidegrees Celsius: `48_200` -> `48.2 C`.
pub fn temperature(millidegrees: i32) -> String {
    format!("{:.1} C", f64::from(millidegrees) / 1e3)
}

/// Frequency from kHz: `1_500_000` -> `1500 MHz`.
pub fn frequency(khz: u32) -> String {
    format!("{} MHz", khz / 1000)
}

/// Three significant digits without an exponent: 2.41, 24.1, 241.
fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A list that ends after `most` names with how many more there are.
pub fn listed(names: &[String], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_three_digits_and_their_unit() {
        let written = [0, 999, 1_000, 2_410_000, 24_120_000, 999_600, 1_500_000_000].map(latency);
        assert_eq!(written, ["0 ns", "999 ns", "1.00 us", "2.41 ms", "24.1 ms", "1000 us", "1.50 s"]);
    }

    #[test]
    fn an_interval_shares_the_unit_of_its_median() {
        assert_eq!(latency_with_interval(1_010_000, Some((990_000, 1_100_000))), "1.01 ms [0.99, 1.10]");
        assert_eq!(latency_with_interval(1_010_000, None), "1.01 ms");
    }

    #[test]
    fn bytes_are_binary() {
        assert_eq!(
            [0, 1023, 1024, 20 << 20, 3 << 30].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "20.0 MiB", "3.00 GiB"]
        );
        assert_eq!(bytes_or_unknown(None), "unknown");
    }

    #[test]
    fn small_counts_stay_exact() {
        assert_eq!(
            [9_999, 73_000, 9_416_010, 1_200_000_000].map(count),
            ["9999", "73.0 K", "9.42 M", "1.20 G"]
        );
    }

    #[test]
    fn shares_and_differences() {
        assert_eq!(percent(0.9154), "91.54 %");
        assert_eq!([points(-0.0031), points(0.01)], ["-0.31", "+1.00"]);
        assert_eq!([ratio(11.4, 1.0), ratio(1.0, 0.0)], ["11.4x", "-"]);
    }

    #[test]
    fn durations_are_whole_seconds_once_they_are_long() {
        assert_eq!(duration(Duration::from_millis(1_234)), "1.2s");
        assert_eq!(duration(Duration::from_secs_f64(199.7)), "3m 20s");
    }
}
