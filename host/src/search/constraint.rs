//! Constraints Ax <= b: limits on a student's resources as users write them, resolved against the teacher, and how far
//! a student is beyond them (docs/method.md#relaxation, docs/method.md#measure-before-training).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::answer::Measured;
use crate::network::{Network, Role};

/// A resource that a limit can bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Upper confidence bound of the median latency at batch 1, ns.
    Latency,
    /// What the student costs on the board beyond the engine's baseline, bytes.
    ModelMemory,
    /// Exact peak of live activations, from the graph, bytes.
    PlannedActivation,
    /// Size of the file that ships, bytes.
    File,
    /// Trained parameters.
    Params,
    /// Multiply-accumulates of one inference.
    Macs,
}

/// In the order of tables and reports.
pub const METRICS: [Metric; 6] = [
    Metric::Latency,
    Metric::ModelMemory,
    Metric::PlannedActivation,
    Metric::File,
    Metric::Params,
    Metric::Macs,
];

impl Metric {
    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::ModelMemory => "model_memory",
            Self::PlannedActivation => "planned_activation",
            Self::File => "file",
            Self::Params => "params",
            Self::Macs => "macs",
        }
    }

    fn units(self) -> &'static [(&'static str, f64)] {
        const TIME: &[(&str, f64)] = &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
        const BYTES: &[(&str, f64)] = &[
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
            ("KB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("B", 1.0),
        ];
        const COUNT: &[(&str, f64)] = &[("K", 1e3), ("M", 1e6), ("G", 1e9), ("", 1.0)];
        match self {
            Self::Latency => TIME,
            Self::ModelMemory | Self::PlannedActivation | Self::File => BYTES,
            Self::Params | Self::Macs => COUNT,
        }
    }

    /// A value of this metric with its unit, for people.
    pub fn show(self, value: f64) -> String {
        let (unit, scale) = match self {
            Self::Latency => pick(value, &[("s", 1e9), ("ms", 1e6), ("us", 1e3), ("ns", 1.0)]),
            Self::ModelMemory | Self::PlannedActivation | Self::File => {
                pick(value, &[("MiB", 1_048_576.0), ("KiB", 1024.0), ("B", 1.0)])
            }
            Self::Params | Self::Macs => pick(value, &[("G", 1e9), ("M", 1e6), ("K", 1e3), ("", 1.0)]),
        };
        let number = format!("{:.2}", value / scale);
        let number = number.trim_end_matches('0').trim_end_matches('.');
        if unit.is_empty() { number.to_owned() } else { format!("{number} {unit}") }
    }
}

fn pick(value: f64, units: &[(&'static str, f64)]) -> (&'static str, f64) {
    units.iter().find(|(_, scale)| value >= *scale).or(units.last()).copied().unwrap_or(("", 1.0))
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        // `memory` is what people type first; it means the metric that limits are about (docs/measurement.md#memory).
        if text == "memory" {
            return Ok(Self::ModelMemory);
        }
        METRICS
            .into_iter()
            .find(|metric| metric.name() == text)
            .ok_or_else(|| LimitError::Metric(text.to_owned()))
    }
}

/// How much of a metric is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// In the metric's base unit (ns, bytes, count).
    Absolute(f64),
    /// A multiple of the teacher's value.
    Relative(f64),
}

/// One limit as a user writes it: `latency=5ms`, `params=0.2x`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What is bound.
    pub metric: Metric,
    /// How much of it.
    pub bound: Bound,
}

/// Why a text is no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No `=`.
    #[error("limit `{0}`: expected METRIC=VALUE, for example latency=5ms or params=0.2x")]
    Form(String),
    /// Unknown metric.
    #[error("limit on `{0}`: expected latency, model_memory, planned_activation, file, params or macs")]
    Metric(String),
    /// Not a number with a unit of the metric.
    #[error(
        "limit {metric}={got}: expected a positive number with one of {expected}, or a share of the teacher such as 0.5x"
    )]
    Value {
        /// The metric.
        metric: Metric,
        /// What was written.
        got: String,
        /// Its units.
        expected: String,
    },
    /// Two limits on one metric.
    #[error("limit on {0}: given twice")]
    Twice(Metric),
}

impl FromStr for Limit {
    type Err = LimitError;
    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (metric, value) = text.split_once('=').ok_or_else(|| LimitError::Form(text.to_owned()))?;
        let metric: Metric = metric.trim().parse()?;
        let value = value.trim();
        let split = value.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(value.len());
        let (number, unit) = value.split_at(split);
        let unit = unit.trim();
        let number =
            number.replace('_', "").parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        let scale =
            metric.units().iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, scale)| *scale);
        match (number, scale) {
            (Some(number), _) if unit == "x" => Ok(Self { metric, bound: Bound::Relative(number) }),
            (Some(number), Some(scale)) => Ok(Self { metric, bound: Bound::Absolute(number * scale) }),
            _ => {
                let names =
                    metric.units().iter().map(|(name, _)| if name.is_empty() { "no unit" } else { *name });
                let expected = names.collect::<Vec<_>>().join(", ");
                Err(LimitError::Value { metric, got: value.to_owned(), expected })
            }
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bound {
            Bound::Absolute(value) => write!(f, "{} <= {}", self.metric, self.metric.show(value)),
            Bound::Relative(share) => write!(f, "{} <= {share}x the teacher's", self.metric),
        }
    }
}

/// What a network costs. Graph costs are exact; the measured part is absent until a board has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Trained parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Bytes of kernels and matrices alone, f32: no file of it is smaller (batch norm may be folded away).
    pub least_file_bytes: u64,
    /// Peak of live activations, bytes.
    pub planned_activation_bytes: u64,
    /// From the board.
    pub measured: Option<Measured>,
}

impl Resources {
    /// Exact costs of the graph, nothing measured.
    pub fn of(network: &Network) -> Self {
        let cost = network.cost();
        let kernels = network.parameters().into_iter().filter(|parameter| parameter.role == Role::Weight);
        let values: usize = kernels.map(|kernel| kernel.dims.iter().product::<usize>()).sum();
        Self {
            params: cost.params,
            macs: cost.macs,
            least_file_bytes: 4 * values as u64,
            planned_activation_bytes: cost.peak_activation_bytes,
            measured: None,
        }
    }

    /// The value that a limit binds (for latency the upper confidence bound), or what is known to be a lower bound of
    /// it; `None` when nothing is known.
    pub fn bound_value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Latency => self.measured.map(|measured| measured.latency_upper_ns as f64),
            Metric::ModelMemory => self.measured.map(|measured| measured.model_memory_bytes as f64),
            Metric::PlannedActivation => Some(self.planned_activation_bytes as f64),
            Metric::File => {
                Some(self.measured.map_or(self.least_file_bytes, |measured| measured.file_bytes) as f64)
            }
            Metric::Params => Some(self.params as f64),
            Metric::Macs => Some(self.macs as f64),
        }
    }

    /// The best estimate of the value: the median for latency, else as [`Self::bound_value`].
    pub fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Latency => self.measured.map(|measured| measured.latency_ns as f64),
            Metric::ModelMemory
            | Metric::PlannedActivation
            | Metric::File
            | Metric::Params
            | Metric::Macs => self.bound_value(metric),
        }
    }

    /// Relative differences below this are ties.
    fn noise(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Latency => self.measured.map_or(0.0, |measured| measured.noise),
            Metric::ModelMemory
            | Metric::PlannedActivation
            | Metric::File
            | Metric::Params
            | Metric::Macs => 0.0,
        }
    }
}

/// How far one metric is beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    /// The metric.
    pub metric: Metric,
    /// `max(0, T / limit - 1)`; rounded up to the board's noise, so that differences below it are ties.
    pub relative: f64,
}

/// Limits in base units: the rows of Ax <= b.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits(pub Vec<(Metric, f64)>);

impl Limits {
    /// Turns shares of the teacher into values.
    ///
    /// # Errors
    /// [`LimitError::Twice`].
    pub fn resolve(limits: &[Limit], teacher: &Resources) -> Result<Self, LimitError> {
        let mut rows: Vec<(Metric, f64)> = Vec::with_capacity(limits.len());
        for limit in limits {
            if rows.iter().any(|(metric, _)| *metric == limit.metric) {
                return Err(LimitError::Twice(limit.metric));
            }
            let bound = match limit.bound {
                Bound::Absolute(value) => value,
                Bound::Relative(share) => share * teacher.value(limit.metric).unwrap_or(f64::MAX),
            };
            // Nanoseconds, bytes and counts are whole numbers: the floor forbids and allows the same.
            rows.push((limit.metric, bound.floor().max(1.0)));
        }
        rows.sort_by_key(|(metric, _)| *metric);
        Ok(Self(rows))
    }

    /// The limit of which the student uses most, and how much of it; metrics of which nothing is known count as 0.
    pub fn tightest(&self, resources: &Resources) -> (Option<Metric>, f64) {
        let used =
            |&(metric, bound): &(Metric, f64)| (metric, resources.bound_value(metric).unwrap_or(0.0) / bound);
        let most = self.0.iter().map(used).max_by(|a, b| a.1.total_cmp(&b.1));
        most.map_or((None, 0.0), |(metric, used)| (Some(metric), used))
    }

    /// Whether one of the limits needs the board's word.
    pub fn need_the_board(&self) -> bool {
        self.0
            .iter()
            .any(|(metric, _)| matches!(metric, Metric::Latency | Metric::ModelMemory | Metric::File))
    }

    /// Whether there is no limit.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How far beyond each limit the student is; metrics of which nothing is known count as within.
    pub fn excess(&self, resources: &Resources) -> Vec<Excess> {
        let one = |&(metric, bound): &(Metric, f64)| {
            let raw = resources.bound_value(metric).map_or(0.0, |value| (value / bound - 1.0).max(0.0));
            Excess { metric, relative: round_up(raw, resources.noise(metric)) }
        };
        self.0.iter().map(one).collect()
    }
}

/// To a multiple of `step`; what is above 0 stays above 0, so noise never makes a violator feasible.
fn round_up(value: f64, step: f64) -> f64 {
    if step > 0.0 { (value / step).ceil() * step } else { value }
}

/// The largest relative violation: 0 means feasible.
pub fn violation(excess: &[Excess]) -> f64 {
    excess.iter().map(|excess| excess.relative).fold(0.0, f64::max)
}

/// Updates after which the paper's relaxation is spent.
const PAPER_RELAXED_UPDATES: f64 = 15.0;
/// Relaxation of the limits by policy updates of this stage (paper): 1 at first, exactly 0 from update 15 on.
pub fn epsilon_by_updates(update: usize) -> f64 {
    (1.0 - update as f64 / PAPER_RELAXED_UPDATES).max(0.0).powi(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(latency_ns: u64, upper: u64, noise: f64) -> Resources {
        let measured = Measured {
            latency_ns,
            latency_upper_ns: upper,
            latency_lower_ns: latency_ns,
            model_memory_bytes: 1 << 20,
            file_bytes: 4_100,
            noise,
        };
        Resources {
            params: 1000,
            macs: 50_000,
            least_file_bytes: 4_000,
            planned_activation_bytes: 2_048,
            measured: Some(measured),
        }
    }

    #[test]
    fn limits_are_read_with_their_units() {
        let limit = |text: &str| text.parse::<Limit>().unwrap();
        assert_eq!(limit("latency=5ms"), Limit { metric: Metric::Latency, bound: Bound::Absolute(5e6) });
        assert_eq!(limit("latency=0.5x").bound, Bound::Relative(0.5));
        assert_eq!(limit("latency=250us").bound, Bound::Absolute(250e3));
        assert_eq!(limit("memory=20MiB"), limit("model_memory=20 MiB"));
        assert_eq!(limit("file=200KB").bound, Bound::Absolute(200_000.0));
        assert_eq!(limit("macs=40M").bound, Bound::Absolute(40e6));
        assert_eq!(limit("params=73_000").bound, Bound::Absolute(73_000.0));
        assert_eq!(limit("planned_activation=64kib").bound, Bound::Absolute(65536.0));
    }

    #[test]
    fn bad_limits_say_what_was_expected() {
        let error = |text: &str| text.parse::<Limit>().unwrap_err().to_string();
        assert!(error("latency").contains("METRIC=VALUE"));
        assert!(error("speed=5ms").contains("model_memory"));
        for text in
            ["latency=5", "latency=5MiB", "latency=-5ms", "latency=0ms", "latency=ms", "latency=1.2.3ms"]
        {
            assert!(error(text).contains("ns, us, ms, s"), "{text}: {}", error(text));
        }
        assert!(error("params=5MiB").contains("no unit"));
        assert!(error("params=0x").contains("0.5x"));
    }

    #[test]
    fn limits_are_shown_with_units() {
        assert_eq!("latency=5000us".parse::<Limit>().unwrap().to_string(), "latency <= 5 ms");
        assert_eq!("params=0.2x".parse::<Limit>().unwrap().to_string(), "params <= 0.2x the teacher's");
        assert_eq!(Metric::File.show(1536.0), "1.5 KiB");
        assert_eq!(Metric::Params.show(590_000.0), "590 K");
    }

    #[test]
    fn relative_limits_follow_the_teachers_median_and_bind_the_upper_bound() {
        let teacher = resources(1000, 1100, 0.0);
        let limits =
            Limits::resolve(&["latency=0.5x".parse().unwrap(), "params=0.2x".parse().unwrap()], &teacher);
        let limits = limits.unwrap();
        assert_eq!(limits.0, vec![(Metric::Latency, 500.0), (Metric::Params, 200.0)]);
        let mut student = resources(490, 550, 0.0);
        student.params = 150;
        let excess = limits.excess(&student);
        assert!((excess[0].relative - 0.1).abs() < 1e-12, "the median fits, its upper bound does not");
        assert_eq!(excess[1].relative, 0.0);
        assert!((violation(&excess) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_metric_limited_twice_is_an_error() {
        let limits = ["memory=1MiB".parse().unwrap(), "model_memory=0.5x".parse().unwrap()];
        assert_eq!(
            Limits::resolve(&limits, &resources(1, 1, 0.0)),
            Err(LimitError::Twice(Metric::ModelMemory))
        );
    }

    #[test]
    fn differences_below_the_boards_noise_are_ties_but_never_feasible() {
        let limits = Limits(vec![(Metric::Latency, 1000.0)]);
        let excess = |upper| violation(&limits.excess(&resources(900, upper, 0.05)));
        assert_eq!(excess(1000), 0.0);
        assert_eq!(excess(1010), excess(1040));
        assert!(excess(1001) > 0.0);
        assert!(excess(1060) > excess(1040));
    }

    #[test]
    fn without_a_measurement_only_graph_costs_count() {
        let limits = Limits(vec![(Metric::Latency, 1.0), (Metric::File, 2000.0), (Metric::Macs, 25_000.0)]);
        let mut student = resources(1000, 1000, 0.0);
        student.measured = None;
        let excess: Vec<f64> = limits.excess(&student).iter().map(|e| e.relative).collect();
        assert_eq!(excess, vec![0.0, 1.0, 1.0]);
    }

    #[test]
    fn relaxation_falls_and_never_grows_again() {
        assert_eq!(epsilon_by_updates(0), 1.0);
        for update in 0..100 {
            assert!(epsilon_by_updates(update + 1) <= epsilon_by_updates(update));
        }
        assert_eq!(epsilon_by_updates(15), 0.0);
        assert_eq!(epsilon_by_updates(40), 0.0);
    }
}
