//! What a board measured, as this program keeps it in files and shows it to people. The wire's own types end here: the
//! conversions below are the border, so a change of the protocol changes no file that a run has written.

use std::fmt;

use n2n_protocol as wire;
use serde::{Deserialize, Deserializer, Serialize};

/// A measured latency and memory, with all that is needed to trust the numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// SHA-256 of the model file that was measured.
    #[serde(deserialize_with = "sha256")]
    pub model: String,
    /// What ran it.
    pub engine: Engine,
    /// Threads of the engine.
    pub threads: u16,
    /// Inputs of one inference.
    #[serde(default = "one")]
    pub batch: u16,
    /// Time from the start of one inference to the start of the next, microseconds; 0 for one after the other.
    #[serde(default)]
    pub pace_us: u32,
    /// Cores that the workers were pinned to; empty if they were not.
    pub affinity: Vec<u16>,
    /// SHA-256 over the board's stable facts.
    #[serde(deserialize_with = "sha256")]
    pub board: String,
    /// Version of the agent.
    pub agent: String,
    /// Every timed sample, by worker process, nanoseconds.
    pub samples_ns: Vec<Vec<u64>>,
    /// Inferences timed together as one sample, where a single one is shorter than the clock can tell.
    pub inferences_per_sample: u32,
    /// Untimed inferences before the samples, by worker process.
    pub warmup: Vec<u32>,
    /// From the start of a worker process to a model that is ready to run, by process, milliseconds; empty in old summaries.
    #[serde(default)]
    pub load_ms: Vec<u32>,
    /// Statistics of the samples.
    pub latency: Latency,
    /// Memory by kind.
    pub memory: Memory,
    /// Largest difference from the host's logits, relative to the largest logit; `None` if none were compared.
    pub golden_difference: Option<f32>,
    /// The board before the first process.
    pub before: Conditions,
    /// The board after the last one.
    pub after: Conditions,
    /// Processes that were repeated because the board throttled.
    pub voided: u16,
    /// Whether time ended before the wished precision was reached.
    pub budget_ended: bool,
}

/// An inference engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Its name, for example `tract`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Latency of one inference at batch 1, nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Median of the process medians.
    pub median_ns: u64,
    /// Interval of that median; `None` where too few processes ran for a distribution-free one.
    pub interval: Option<Interval>,
    /// Fastest sample.
    pub min_ns: u64,
    /// 90th percentile of all samples.
    pub p90_ns: u64,
    /// 99th percentile; `None` with fewer than 500 samples.
    pub p99_ns: Option<u64>,
}

/// A distribution-free interval: two order statistics of the process medians.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end, nanoseconds.
    pub low_ns: u64,
    /// Upper end, nanoseconds.
    pub high_ns: u64,
    /// Rank of the lower end, from 1.
    pub low_rank: u16,
    /// Rank of the upper end, from 1.
    pub high_rank: u16,
    /// Coverage, millionths.
    pub coverage_ppm: u32,
}

/// Memory of a worker by kind, bytes; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Largest heap while it loaded and ran the model: exact, from its allocator.
    pub peak_heap: Option<u64>,
    /// Heap after loading and the first inferences.
    pub steady_heap: Option<u64>,
    /// VmHWM of the worker.
    pub peak_rss: Option<u64>,
    /// VmHWM of a worker with the engine and no model.
    pub engine_baseline: Option<u64>,
    /// What the model costs: `peak_rss - engine_baseline`, or the peak heap where resident memory was not measured.
    pub model_memory: Option<u64>,
    /// Length of the file that was loaded.
    pub file_bytes: u64,
}

/// What may disturb a number, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// Frequency of each core, kHz; empty where unknown.
    pub frequencies_khz: Vec<u32>,
    /// cpufreq governor.
    pub governor: Option<String>,
    /// Thermal zones: name, and temperature in millidegrees Celsius.
    pub temperatures: Vec<(String, i32)>,
    /// One-minute load average, thousandths.
    pub load_milli: Option<u32>,
    /// Throttle bits of a Raspberry Pi.
    pub throttle_bits: Option<u32>,
    /// Power mode of a Jetson.
    pub power_mode: Option<String>,
}

impl From<&wire::Measurement> for Measurement {
    fn from(it: &wire::Measurement) -> Self {
        Self {
            model: it.model.to_string(),
            engine: Engine { name: it.engine.name.clone(), version: it.engine.version.clone() },
            threads: it.threads,
            batch: it.batch,
            pace_us: it.pace_us,
            affinity: it.affinity.clone(),
            board: it.board.to_string(),
            agent: it.agent.clone(),
            samples_ns: it.samples_ns.clone(),
            inferences_per_sample: it.inferences_per_sample,
            warmup: it.warmup.clone(),
            load_ms: it.load_ms.clone(),
            latency: Latency {
                median_ns: it.latency.median_ns,
                interval: it.latency.interval.as_ref().map(|it| Interval {
                    low_ns: it.low_ns,
                    high_ns: it.high_ns,
                    low_rank: it.low_rank,
                    high_rank: it.high_rank,
                    coverage_ppm: it.coverage_ppm,
                }),
                min_ns: it.latency.min_ns,
                p90_ns: it.latency.p90_ns,
                p99_ns: it.latency.p99_ns,
            },
            memory: Memory {
                peak_heap: it.memory.peak_heap,
                steady_heap: it.memory.steady_heap,
                peak_rss: it.memory.peak_rss,
                engine_baseline: it.memory.engine_baseline,
                model_memory: it.memory.model_memory,
                file_bytes: it.memory.file_bytes,
            },
            golden_difference: it.golden_difference,
            before: (&it.before).into(),
            after: (&it.after).into(),
            voided: it.voided,
            budget_ended: it.budget_ended,
        }
    }
}

impl From<&wire::Conditions> for Conditions {
    fn from(it: &wire::Conditions) -> Self {
        Self {
            frequencies_khz: it.frequencies_khz.clone(),
            governor: it.governor.clone(),
            temperatures: it.temperatures.clone(),
            load_milli: it.load_milli,
            throttle_bits: it.throttle_bits,
            power_mode: it.power_mode.clone(),
        }
    }
}

impl Latency {
    /// Both ends of the interval, nanoseconds.
    pub fn ends_ns(&self) -> Option<(u64, u64)> {
        self.interval.map(|interval| (interval.low_ns, interval.high_ns))
    }
}

/// Batch of a summary of schema 1, which states none.
fn one() -> u16 {
    1
}

/// 64 hexadecimal digits; summaries of schema 1 wrote a list of 32 bytes.
fn sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Digest;
    impl<'de> serde::de::Visitor<'de> for Digest {
        type Value = String;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("64 hexadecimal digits, or a list of 32 bytes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            match text.parse::<wire::Digest>() {
                Ok(digest) => Ok(digest.to_string()),
                Err(error) => Err(E::custom(error)),
            }
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<String, A::Error> {
            let bytes = <[u8; 32]>::deserialize(serde::de::value::SeqAccessDeserializer::new(list))?;
            Ok(wire::Digest(bytes).to_string())
        }
    }
    deserializer.deserialize_any(Digest)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// As a board sends it.
    pub(crate) fn sent() -> wire::Measurement {
        wire::Measurement {
            model: wire::Digest([1; 32]),
            engine: wire::EngineId { name: "tract".into(), version: "0.23.9".into() },
            threads: 1,
            batch: 1,
            pace_us: 0,
            affinity: vec![1],
            board: wire::Digest([2; 32]),
            agent: "0.1.0".into(),
            samples_ns: vec![vec![1_000_000; 20]; 8],
            inferences_per_sample: 1,
            warmup: vec![10; 8],
            load_ms: vec![1; 8],
            latency: wire::Latency {
                median_ns: 1_000_000,
                interval: Some(wire::Interval {
                    low_ns: 990_000,
                    high_ns: 1_020_000,
                    low_rank: 1,
                    high_rank: 8,
                    coverage_ppm: 992_188,
                }),
                min_ns: 950_000,
                p90_ns: 1_100_000,
                p99_ns: None,
            },
            memory: wire::Memory { peak_heap: Some(3 << 20), file_bytes: 4096, ..wire::Memory::default() },
            golden_difference: Some(2e-7),
            before: wire::Conditions { load_milli: Some(420), ..wire::Conditions::default() },
            after: wire::Conditions::default(),
            voided: 0,
            budget_ended: true,
        }
    }

    #[test]
    fn it_reads_back_from_json_and_digests_are_text() {
        let measurement = Measurement::from(&sent());
        let text = serde_json::to_string(&measurement).unwrap();
        assert!(text.contains(&format!("\"model\":\"{}\"", "01".repeat(32))), "{text}");
        assert_eq!(serde_json::from_str::<Measurement>(&text).unwrap(), measurement);
    }

    #[test]
    fn a_digest_that_is_cut_short_is_refused() {
        let text = serde_json::to_string(&Measurement::from(&sent())).unwrap();
        for wrong in ["\"01\"", "[1,2]", "7", "null"] {
            let text = text.replacen(&format!("\"{}\"", "01".repeat(32)), wrong, 1);
            assert!(serde_json::from_str::<Measurement>(&text).is_err(), "{wrong}");
        }
    }
}
