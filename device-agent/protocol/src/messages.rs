//! THE table: everything host and agent can say. Verbs are fixed; models are data; no path and no command crosses.
//!
//! postcard encodes by position: new variants go at the end of an enum (minor version); any other change is a major one.

use crate::bounded::{bytes, list, lists, text, write_bytes};
use crate::limits;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// SHA-256 of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host, repeated in every reply to it.
    pub request_id: u32,
    /// The verb.
    pub call: Call,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request this belongs to.
    pub request_id: u32,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, Failure>,
}

/// Verbs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// First message of every session.
    Hello(Hello),
    /// Ask for the board's identity and present condition.
    Probe,
    /// How many bytes of this blob are already there (content-addressed, resumable).
    PutQuery {
        /// SHA-256 of the whole blob.
        digest: Digest,
        /// Length of the whole blob, bytes.
        bytes: u64,
    },
    /// One piece; answered with the new length. The last piece is accepted only if the digest holds.
    PutChunk {
        /// The blob it belongs to.
        digest: Digest,
        /// Position of `data` in the blob, bytes.
        offset: u64,
        /// The piece.
        #[serde(serialize_with = "write_bytes", deserialize_with = "bytes::<{ limits::CHUNK_BYTES }, _>")]
        data: Vec<u8>,
    },
    /// Measure a blob that was put.
    Measure(MeasurePlan),
    /// Run inputs through a blob that was put.
    Infer(InferPlan),
    /// Copy a bundle into the idle slot, verifying digest, signature and golden output.
    Stage(BundleManifest),
    /// Make the staged slot the active one, atomically; on trial until confirmed.
    Activate,
    /// End the trial: the active slot is healthy.
    Confirm,
    /// Go back to the previous slot.
    Rollback,
    /// What is in the slots.
    Status,
    /// Abandon the running request of this session.
    Cancel {
        /// The request to abandon.
        request_id: u32,
    },
    /// The newest lines of the agent's log.
    LogTail {
        /// At most this many.
        lines: u16,
    },
}

/// Greeting of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version of the host.
    pub version: Version,
    /// [`crate::SCHEMA_HASH`] of the host.
    pub schema: [u8; 8],
    /// Who asks, for `busy` messages: program, user, host name.
    #[serde(deserialize_with = "text::<{ limits::NAME_BYTES }, _>")]
    pub client: String,
}

/// Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changes when old peers can no longer be understood.
    pub major: u16,
    /// Changes when variants are appended.
    pub minor: u16,
}

/// Answers, one per verb.
#[expect(clippy::large_enum_variant, reason = "one exists at a time, and only for a moment")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To hello.
    Hello(Welcome),
    /// To probe.
    Board(Board),
    /// To put query and put chunk: bytes present.
    Stored {
        /// Bytes of the blob that the agent holds.
        bytes: u64,
    },
    /// Sent at intervals while a long request runs, so that silence means trouble.
    Progress(Progress),
    /// To measure.
    Measured(Measurement),
    /// To infer: logits, one row per input.
    Inferred(
        #[serde(deserialize_with = "lists::<{ limits::INPUTS }, { limits::LOGITS }, _, _>")] Vec<Vec<f32>>,
    ),
    /// To stage, activate, confirm, rollback and status.
    Slots(SlotStatus),
    /// To cancel.
    Cancelled,
    /// To log tail.
    Log(#[serde(deserialize_with = "list::<{ limits::LOG_LINES }, _, _>")] Vec<String>),
}

/// Greeting of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Protocol version of the agent.
    pub version: Version,
    /// Schema hash of the agent.
    pub schema: [u8; 8],
    /// Version of the agent program.
    pub agent: String,
    /// Largest blob it takes, bytes.
    pub max_blob_bytes: u64,
    /// Identity of the board.
    pub board: Board,
}

/// A board's identity, and its condition at the time of asking. `None` is "unknown", never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Host name.
    pub name: String,
    /// Device-tree model or CPU brand.
    pub model: String,
    /// Instruction set, as in a target triple.
    pub architecture: String,
    /// Kernel and distribution.
    pub system: String,
    /// Logical cores.
    pub cores: u16,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// SHA-256 over the stable facts above: the key under which measurements are kept.
    pub fingerprint: Digest,
    /// Engines built into this agent: name and version.
    #[serde(deserialize_with = "list::<{ limits::ENGINES }, _, _>")]
    pub engines: Vec<EngineId>,
    /// Condition now.
    pub conditions: Conditions,
}

/// Which inference engine gave a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineId {
    /// Name, for example `tract`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What may disturb a number, read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Current frequency of each core, kHz; empty where unknown.
    #[serde(deserialize_with = "list::<{ limits::CORES }, _, _>")]
    pub frequencies_khz: Vec<u32>,
    /// cpufreq governor.
    pub governor: Option<String>,
    /// Thermal zones: name and temperature in millidegrees Celsius.
    #[serde(deserialize_with = "list::<{ limits::THERMAL_ZONES }, _, _>")]
    pub temperatures: Vec<(String, i32)>,
    /// One-minute load average in thousandths.
    pub load_milli: Option<u32>,
    /// Raspberry Pi throttle bits, where the board has them.
    pub throttle_bits: Option<u32>,
    /// Jetson power mode, where the board has one.
    pub power_mode: Option<String>,
}

/// How to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasurePlan {
    /// ONNX blob, put before. Without weights if its metadata names a seed.
    pub model: Digest,
    /// Threads of the engine; one it cannot honour is refused.
    pub threads: u16,
    /// Fewest fresh worker processes.
    pub min_processes: u16,
    /// Most fresh worker processes; looks are taken at fixed counts between the two.
    pub max_processes: u16,
    /// Timed inferences of each process, at least.
    pub samples_per_process: u32,
    /// Wished half-width of the median's interval, in millionths of the median.
    pub half_width_ppm: u32,
    /// Whole request, milliseconds; when it ends first, the measurement says so.
    pub time_budget_ms: u32,
    /// A single inference longer than this is `infeasible: too slow`, milliseconds.
    pub max_inference_ms: u32,
    /// Memory a worker may take, bytes.
    pub max_memory_bytes: u64,
    /// The answer that the worker must give before its time counts.
    pub golden: Option<Golden>,
    /// Whether to take resident-memory figures too (slower; for finalists).
    pub resident_memory: bool,
}

/// An input by seed and its right answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// Seed of [`crate::generator::input`].
    pub input_seed: u64,
    /// Logits by the host.
    #[serde(deserialize_with = "list::<{ limits::LOGITS }, _, _>")]
    pub logits: Vec<f32>,
    /// Largest allowed absolute difference, relative to the largest logit magnitude (at least 1).
    pub tolerance: f32,
}

/// Inputs for a golden check from the host's side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferPlan {
    /// ONNX blob, put before.
    pub model: Digest,
    /// Inputs, each channels x height x width, row-major.
    #[serde(deserialize_with = "lists::<{ limits::INPUTS }, { limits::INPUT_VALUES }, _, _>")]
    pub inputs: Vec<Vec<f32>>,
}

/// A sign of life from a long request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Worker processes finished.
    pub processes: u16,
    /// Milliseconds since the request began.
    pub elapsed_ms: u32,
}

/// A result with all that is needed to trust it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Model measured.
    pub model: Digest,
    /// Engine that ran it.
    pub engine: EngineId,
    /// Threads it ran with.
    pub threads: u16,
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
    /// Statistics of the above.
    pub latency: Latency,
    /// Memory by named metric.
    pub memory: Memory,
    /// Largest golden difference, relative as in [`Golden::tolerance`]; `None` when no golden was asked for.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A student on its way into a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BundleManifest {
    /// The name users gave it.
    #[serde(deserialize_with = "text::<{ limits::NAME_BYTES }, _>")]
    pub name: String,
    /// ONNX blob, put before.
    pub model: Digest,
    /// Answer it must give.
    pub golden: Golden,
    /// Upper bound of its median latency at batch 1, ns; `None` for no check.
    pub latency_limit_ns: Option<u64>,
    /// ed25519 public key of the signer.
    pub signer: [u8; 32],
    /// ed25519 signature (64 bytes) over [`BundleManifest::signed_bytes`].
    #[serde(serialize_with = "write_bytes", deserialize_with = "bytes::<{ limits::SIGNATURE_BYTES }, _>")]
    pub signature: Vec<u8>,
}

/// The slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// What runs.
    pub active: Option<SlotContent>,
    /// Verified, not active yet.
    pub staged: Option<SlotContent>,
    /// What a roll-back would return to.
    pub previous: Option<SlotContent>,
    /// Whether the active one still awaits its confirmation.
    pub on_trial: bool,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotContent {
    /// The name users gave it.
    pub name: String,
    /// Its model file.
    pub model: Digest,
    /// Bytes of the model file.
    pub bytes: u64,
    /// When it was staged, seconds since 1970.
    pub staged_at: u64,
}

/// Why there is no answer. The four kinds never mix: only `Infeasible` is ever scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// The student's fault.
    #[error("infeasible on this board: {0}")]
    Infeasible(Infeasible),
    /// The engine's or the file's fault.
    #[error("{0}")]
    Failed(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// Somebody else is measuring.
    #[error("busy: {client} has been measuring for {since_s} s")]
    Busy {
        /// Who.
        client: String,
        /// For how long, seconds.
        since_s: u32,
    },
    /// The board got too hot or too loaded for a trustworthy number.
    #[error("no trustworthy number: {0}")]
    Disturbed(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// Version, limit, quota or order of calls.
    #[error("refused: {0}")]
    Refused(#[serde(deserialize_with = "text::<{ limits::TEXT_BYTES }, _>")] String),
    /// The request was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// How a student does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Infeasible {
    /// The worker hit its memory limit.
    #[error("out of memory at a limit of {limit_bytes} bytes")]
    OutOfMemory {
        /// The limit.
        limit_bytes: u64,
    },
    /// One inference took longer than allowed.
    #[error("one inference took over {limit_ms} ms")]
    TooSlow {
        /// The limit.
        limit_ms: u32,
    },
}
