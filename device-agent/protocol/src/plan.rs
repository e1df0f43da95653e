//! What the host asks to be run: preparations, measurements, answers.

use crate::blob::Bytes;
use crate::bounded::list;
use crate::golden::Golden;
use crate::limits;
use crate::model::{Execution, Model};
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Which copy of a model file is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum Place {
    /// The blob that was put.
    #[default]
    Store,
    /// The file in the active slot: what the user's program opens. Refused if another student is active.
    ActiveSlot,
}

/// How to prepare a model: an engine's own optimisation, cached by digest, engine and its version, device, driver,
/// precision and threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct PreparePlan {
    /// The file.
    pub model: Model,
    /// For which engine and threads.
    pub execution: Execution,
    /// Longest preparation, milliseconds; then it is `unknown`.
    pub time_budget_ms: u32,
    /// Memory that the worker may take, bytes.
    pub max_memory_bytes: u64,
}

/// A model that is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Prepared {
    /// Whether it was there already, or the engine needs no preparation.
    pub cached: bool,
    /// How long it took, milliseconds.
    pub elapsed_ms: u32,
}

/// How to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct MeasurePlan {
    /// The file.
    pub model: Model,
    /// Which copy of it.
    pub place: Place,
    /// Engine, threads, batch and pace.
    pub execution: Execution,
    /// Fewest fresh worker processes.
    pub min_processes: u16,
    /// Most fresh worker processes; looks are taken at fixed counts between the two.
    pub max_processes: u16,
    /// Timed inferences of each process, at least.
    pub samples_per_process: u32,
    /// Wished half-width of the median's interval, in millionths of the median.
    pub half_width_ppm: u32,
    /// Whole request from the moment it has the board, milliseconds; when it ends first, the measurement says so.
    pub time_budget_ms: u32,
    /// Longest load of the model in one process, milliseconds; then it is `unknown`.
    pub max_load_ms: u32,
    /// A single inference longer than this is `infeasible: too slow`, milliseconds.
    pub max_inference_ms: u32,
    /// Memory that a worker may take, bytes.
    pub max_memory_bytes: u64,
    /// The answer that the worker must give before its time counts.
    pub golden: Option<Golden>,
    /// Whether to take resident-memory figures too (slower; for finalists).
    pub resident_memory: bool,
}

/// Inputs to run through a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct InferPlan {
    /// The file.
    pub model: Model,
    /// Which copy of it.
    pub place: Place,
    /// Engine and threads; batch and pace do not count.
    pub execution: Execution,
    /// Memory that the worker may take, bytes.
    pub max_memory_bytes: u64,
    /// Inputs, each of the model's element type, in its layout.
    #[serde(deserialize_with = "list::<{ limits::INPUTS }, _, _>")]
    pub inputs: Vec<Bytes<{ limits::INPUT_BYTES }>>,
}
