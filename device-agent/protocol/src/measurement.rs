//! A result with all that is needed to trust it.

use crate::board::{Conditions, EngineId};
use crate::bounded::{list, lists};
use crate::{Digest, limits};
use alloc::string::String;
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// A result with all that is needed to trust it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Measurement {
    /// Model that was measured.
    pub model: Digest,
    /// Engine that ran it.
    pub engine: EngineId,
    /// Threads it ran with.
    pub threads: u16,
    /// Inputs of one inference.
    pub batch: u16,
    /// From the beginning of one inference to the next, microseconds; 0 for one after the other.
    pub pace_us: u32,
    /// Cores the workers were pinned to; empty if not pinned.
    #[serde(deserialize_with = "list::<{ limits::CORES }, _, _>")]
    pub affinity: Vec<u16>,
    /// Board fingerprint.
    pub board: Digest,
    /// Agent version.
    pub agent: String,
    /// Every timed inference, by process, nanoseconds.
    #[serde(deserialize_with = "lists::<{ limits::PROCESSES }, { limits::SAMPLES_PER_PROCESS }, _, _>")]
    pub samples_ns: Vec<Vec<u64>>,
    /// Inferences timed together as one sample when a single one is shorter than the clock can tell.
    pub inferences_per_sample: u32,
    /// Untimed inferences before the samples, by process.
    #[serde(deserialize_with = "list::<{ limits::PROCESSES }, _, _>")]
    pub warmup: Vec<u32>,
    /// From the start of a process to a model that is ready to run, by process, milliseconds.
    #[serde(deserialize_with = "list::<{ limits::PROCESSES }, _, _>")]
    pub load_ms: Vec<u32>,
    /// Statistics of the above.
    pub latency: Latency,
    /// Memory by named metric.
    pub memory: Memory,
    /// Largest golden difference, relative as in [`crate::Golden::tolerance`]; `None` when no golden was asked for.
    pub golden_difference: Option<f32>,
    /// Condition before.
    pub before: Conditions,
    /// Condition after.
    pub after: Conditions,
    /// Processes voided and repeated because of throttling or a frequency drop.
    pub voided: u16,
    /// Whether the time budget ended before the wished half-width was reached.
    pub budget_ended: bool,
}

/// Statistics over processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Latency {
    /// Median of the process medians, ns.
    pub median_ns: u64,
    /// Interval of the median, ns; `None` with too few processes for a distribution-free one.
    pub interval: Option<Interval>,
    /// Fastest sample, ns.
    pub min_ns: u64,
    /// 90th percentile of all samples, ns.
    pub p90_ns: u64,
    /// 99th percentile; `None` with fewer than 500 samples.
    pub p99_ns: Option<u64>,
}

/// Distribution-free interval of the median between two order statistics of the process medians.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Interval {
    /// Lower end, ns.
    pub low_ns: u64,
    /// Upper end, ns.
    pub high_ns: u64,
    /// Lower rank, from 1.
    pub low_rank: u16,
    /// Upper rank, from 1.
    pub high_rank: u16,
    /// Coverage in millionths.
    pub coverage_ppm: u32,
}

/// Memory, each metric by name, bytes; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Memory {
    /// Largest heap of the worker while it loaded and ran the model: exact, from its allocator.
    pub peak_heap: Option<u64>,
    /// Heap held after load and first inferences.
    pub steady_heap: Option<u64>,
    /// VmHWM of the fresh worker.
    pub peak_rss: Option<u64>,
    /// VmHWM of a worker that loads the engine and no model.
    pub engine_baseline: Option<u64>,
    /// What the student costs: `peak_rss - engine_baseline`, or the peak heap when resident memory was not asked for.
    pub model_memory: Option<u64>,
    /// Length of the file that was loaded.
    pub file_bytes: u64,
}
