//! What `--json` prints: the documented, versioned objects that scripts read.
//!
//! Rules: `schema` first and always; numbers are numbers; the unit is in the key; what is unknown is `null`, never 0. A
//! field may be added under the same schema number; any other change raises it.

use n2n_protocol::{Board, Conditions, EngineId, Measurement, SlotContent, SlotStatus};
use serde::Serialize;
use std::collections::BTreeMap;

use super::used::Used;
use crate::wording;

/// Version of all objects below.
pub(super) const SCHEMA: u32 = 2;

/// A median and its interval; the ends are `null` where too few processes ran for one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    /// Median of the process medians.
    pub median: u64,
    /// Lower end.
    pub low: Option<u64>,
    /// Upper end.
    pub high: Option<u64>,
}

/// `n2n measure --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Measured {
    /// [`SCHEMA`].
    schema: u32,
    /// What was measured, as written on the command line.
    model: String,
    /// SHA-256 of the file that was sent.
    model_sha256: String,
    /// The board.
    board: BoardIdentity,
    /// The engine that ran it.
    engine: Engine,
    /// Threads it ran with.
    threads: u16,
    /// Cores the workers were pinned to.
    affinity: Vec<u16>,
    /// Version of the agent.
    agent: String,
    /// Statistics over processes.
    latency_ns: Latency,
    /// Memory by metric.
    memory_bytes: Memory,
    /// Every timed sample, by worker process.
    samples_ns: Vec<Vec<u64>>,
    /// Inferences timed together as one sample.
    inferences_per_sample: u32,
    /// Untimed inferences before the samples, by worker process.
    warmup: Vec<u32>,
    /// Largest difference from the host's logits, relative to the largest logit.
    golden_difference: Option<f32>,
    /// Who else ran it: `host` (its reference) or `local agent`; `null` where the board's own engine is the only judge.
    verified_by: Option<&'static str>,
    /// Condition before the first process.
    before: Condition,
    /// Condition after the last process.
    after: Condition,
    /// Processes repeated because the board throttled.
    voided: u16,
    /// Whether time ended before the wished precision.
    budget_ended: bool,
    /// From the start of each process to a model that is ready to run, ms.
    load_ms: Vec<u32>,
    /// Inputs of one inference.
    batch: u16,
    /// From the beginning of one inference to the next, microseconds; 0 for one after the other.
    pace_us: u32,
    /// Signs that something else ran on the board, in words; empty when there are none.
    disturbances: Vec<String>,
}

/// A board.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct BoardIdentity {
    /// Name the user knows it by.
    pub name: String,
    /// Whether it is this machine.
    pub this_machine: bool,
    /// Device-tree model or CPU.
    pub model: String,
    /// Instruction set.
    pub architecture: String,
    /// Kernel and distribution.
    pub system: String,
    /// Logical cores.
    pub cores: u16,
    /// Memory.
    pub memory_bytes: u64,
    /// SHA-256 over the stable facts.
    pub fingerprint: String,
    /// Engines of its agent.
    pub engines: Vec<Engine>,
    /// Condition when asked.
    pub condition: Condition,
}

/// An inference engine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Engine {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Latency {
    #[serde(flatten)]
    interval: Interval,
    /// Coverage of the interval, 0 to 1.
    coverage: Option<f64>,
    min: u64,
    p90: u64,
    p99: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the metric is called so everywhere")]
struct Memory {
    model_memory: Option<u64>,
    peak_heap: Option<u64>,
    steady_heap: Option<u64>,
    peak_rss: Option<u64>,
    engine_baseline: Option<u64>,
    file: u64,
}

/// What may disturb a number, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Condition {
    frequencies_khz: Vec<u32>,
    governor: Option<String>,
    temperatures_millicelsius: BTreeMap<String, i32>,
    /// Of a minute, or what ran at the moment beside the agent where that was more.
    load_1min: Option<f64>,
    throttle_bits: Option<u32>,
    power_mode: Option<String>,
}

/// `n2n rollback --json`, and a part of `n2n ship --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Slots {
    /// [`SCHEMA`].
    schema: u32,
    /// The board, as the user wrote it.
    board: String,
    /// What runs.
    active: Option<Slot>,
    /// What a roll-back returns to.
    way_back: Option<Slot>,
    /// The trial of the active student; `null` when it is confirmed.
    trial: Option<Trial>,
    /// Verified, not active.
    staged: Option<Slot>,
    /// What the board did or found by itself, newest last.
    notices: Vec<Note>,
}

/// `n2n ship --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Shipped {
    /// As they are now.
    #[serde(flatten)]
    pub slots: Slots,
    /// How a program on the board uses the active student; `null` for a file of another program.
    pub usage: Option<Used>,
    /// Who else ran it: `host` (its reference) or `local agent`; `null` where the board's own engine is the only judge.
    pub verified_by: Option<&'static str>,
}

/// `n2n status --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Status {
    /// The slots; all empty when another agent owns them.
    #[serde(flatten)]
    slots: Slots,
    /// Process id of another agent that owns the slots.
    owner_process: Option<u32>,
    /// Who has the board, then who waits for it.
    queue: Vec<Turn>,
    /// Room on the board's disk.
    disk: Disk,
    /// Connections without a key that were turned away since the agent started.
    strangers: u64,
    /// Seconds since the agent started.
    uptime_s: u64,
}

/// The trial of the active student.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Trial {
    /// The student's.
    id: u64,
    /// Until the board goes back by itself.
    seconds_left: u32,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Slot {
    /// Given by the board, never twice.
    id: u64,
    name: String,
    /// Whether a second engine has given the same answer as the board's.
    verified_by_second_engine: bool,
    model_sha256: String,
    file_bytes: u64,
    /// Number of its bundle; 0 for a student of protocol 1.
    number: u64,
    /// Class of board that it was made for; empty for any.
    target: String,
    /// Engine that it was measured with; empty where unknown.
    engine: String,
    threads: u16,
    staged_at_unix_s: u64,
    /// When its bytes were last found right; `null` for not since the agent started.
    verified_at_unix_s: Option<u64>,
}

/// Something that a board did or found by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Note {
    at_unix_s: u64,
    text: String,
}

/// One that has the board or waits for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Turn {
    client: String,
    verb: String,
    since_s: u32,
}

/// Room on a disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Disk {
    free_bytes: u64,
    /// What uploads leave free.
    reserve_bytes: u64,
}

/// `n2n teacher inspect --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Inspected {
    /// [`SCHEMA`].
    pub schema: u32,
    /// As written on the command line.
    pub model: String,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Peak of live activations.
    pub planned_activation_bytes: u64,
    /// Every node of the graph.
    pub layers: Vec<Layer>,
    /// What one keep/remove decision applies to.
    pub units: Vec<Unit>,
    /// Channels that are cut together.
    pub groups: Vec<Group>,
}

/// A node of the graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Layer {
    /// Name.
    pub name: String,
    /// `conv`, `linear` …
    pub kind: String,
    /// Output shape.
    pub shape: String,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
}

/// A removable unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Unit {
    /// Name.
    pub name: String,
    /// `conv`, `residual` or `pool`.
    pub kind: &'static str,
    /// Names of its nodes.
    pub layers: Vec<String>,
    /// Parameters of its nodes.
    pub params: u64,
}

/// A channel group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Group {
    /// Name.
    pub name: String,
    /// Names of the layers that write its channels.
    pub layers: Vec<String>,
    /// Channels.
    pub channels: usize,
    /// Whether it can be shrunk.
    pub shrinkable: bool,
}

/// Verbs that make a file or change a setting: what was done to which thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Done {
    /// [`SCHEMA`].
    schema: u32,
    /// Past participle: `written`, `added`, `removed`.
    #[serde(rename = "done")]
    verb: &'static str,
    /// A path or a name.
    what: String,
}

impl Done {
    /// With the schema number.
    pub(super) fn new(verb: &'static str, what: impl std::fmt::Display) -> Self {
        Self { schema: SCHEMA, verb, what: what.to_string() }
    }
}

impl Measured {
    /// The whole measurement.
    pub(super) fn new(
        model: &str,
        board: BoardIdentity,
        disturbances: Vec<String>,
        verified_by: Option<&'static str>,
        it: &Measurement,
    ) -> Self {
        let interval = it.latency.interval.as_ref();
        Self {
            schema: SCHEMA,
            model: model.into(),
            model_sha256: it.model.to_string(),
            board,
            engine: (&it.engine).into(),
            threads: it.threads,
            affinity: it.affinity.clone(),
            agent: it.agent.clone(),
            latency_ns: Latency {
                interval: Interval {
                    median: it.latency.median_ns,
                    low: interval.map(|it| it.low_ns),
                    high: interval.map(|it| it.high_ns),
                },
                coverage: interval.map(|it| f64::from(it.coverage_ppm) / 1e6),
                min: it.latency.min_ns,
                p90: it.latency.p90_ns,
                p99: it.latency.p99_ns,
            },
            memory_bytes: Memory {
                model_memory: it.memory.model_memory,
                peak_heap: it.memory.peak_heap,
                steady_heap: it.memory.steady_heap,
                peak_rss: it.memory.peak_rss,
                engine_baseline: it.memory.engine_baseline,
                file: it.memory.file_bytes,
            },
            samples_ns: it.samples_ns.clone(),
            inferences_per_sample: it.inferences_per_sample,
            warmup: it.warmup.clone(),
            golden_difference: it.golden_difference,
            verified_by,
            before: (&it.before).into(),
            after: (&it.after).into(),
            voided: it.voided,
            budget_ended: it.budget_ended,
            load_ms: it.load_ms.clone(),
            batch: it.batch,
            pace_us: it.pace_us,
            disturbances,
        }
    }
}

impl BoardIdentity {
    /// By the name the user gave it.
    pub(super) fn new(name: &str, this_machine: bool, board: &Board) -> Self {
        Self {
            name: name.into(),
            this_machine,
            model: board.model.clone(),
            architecture: board.architecture.clone(),
            system: board.system.clone(),
            cores: board.cores,
            memory_bytes: board.memory_bytes,
            fingerprint: board.fingerprint.to_string(),
            engines: board.engines.iter().map(Engine::from).collect(),
            condition: (&board.conditions).into(),
        }
    }
}

impl From<&EngineId> for Engine {
    fn from(engine: &EngineId) -> Self {
        Self { name: engine.name.clone(), version: engine.version.clone() }
    }
}

impl From<&Conditions> for Condition {
    fn from(it: &Conditions) -> Self {
        Self {
            frequencies_khz: it.frequencies_khz.clone(),
            governor: it.governor.clone(),
            temperatures_millicelsius: it.temperatures.iter().cloned().collect(),
            load_1min: it.load_milli.map(|milli| f64::from(milli) / 1e3),
            throttle_bits: it.throttle_bits,
            power_mode: it.power_mode.clone(),
        }
    }
}

impl Slots {
    /// By the name the user gave the board.
    pub(super) fn new(board: &str, it: &SlotStatus) -> Self {
        let slot = |content: &Option<SlotContent>| content.as_ref().map(Slot::from);
        Self {
            schema: SCHEMA,
            board: board.into(),
            active: slot(&it.active),
            way_back: slot(&it.way_back),
            trial: it.trial.map(|it| Trial { id: it.id, seconds_left: it.seconds_left }),
            staged: slot(&it.staged),
            notices: it.notices.iter().map(|it| Note { at_unix_s: it.at, text: it.text.clone() }).collect(),
        }
    }
}

impl From<&SlotContent> for Slot {
    fn from(it: &SlotContent) -> Self {
        Self {
            id: it.id,
            name: wording::checked(&it.name).0.into(),
            verified_by_second_engine: wording::checked(&it.name).1,
            model_sha256: it.model.to_string(),
            file_bytes: it.bytes,
            number: it.number,
            target: it.target.clone(),
            engine: it.engine.clone(),
            threads: it.threads,
            staged_at_unix_s: it.staged_at,
            verified_at_unix_s: (it.verified_at > 0).then_some(it.verified_at),
        }
    }
}

impl Status {
    /// By the name the user gave the board.
    pub(super) fn new(board: &str, it: &n2n_protocol::Status) -> Self {
        let turn = |it: &n2n_protocol::Turn| Turn {
            client: it.client.clone(),
            verb: it.verb.clone(),
            since_s: it.since_s,
        };
        Self {
            slots: Slots::new(board, it.slots.as_ref().unwrap_or(&SlotStatus::default())),
            owner_process: it.owner,
            queue: it.queue.iter().map(turn).collect(),
            disk: Disk { free_bytes: it.disk.free_bytes, reserve_bytes: it.disk.reserve_bytes },
            strangers: it.strangers,
            uptime_s: it.uptime_s,
        }
    }
}
