//! A student tried on this board before it may run: its golden answer, and its latency if it has a limit.
//!
//! Workers run the model, never this process. It must not decide what becomes of a student that fails.

use crate::cancel::Cancel;
use crate::worker_command::WorkerCommand;
use crate::{infer, measure};
use n2n_protocol::{BundleManifest, Failure, MeasurePlan, Place};
use std::path::Path;
use std::time::Duration;

/// Processes of the latency check: the fewest that give a 95 % interval at a first look.
const PROCESSES: u16 = 8;
/// Samples of each.
const SAMPLES: u32 = 50;
/// Longest latency check.
const BUDGET_MS: u32 = 120_000;
/// Longest load of the model.
const LOAD_MS: u32 = 60_000;
/// Memory of the workers, bytes: what the board has and can spare.
const MEMORY_BYTES: u64 = u64::MAX;

/// Whether a model file gives its golden answer here.
///
/// # Errors
/// [`Failure::Failed`] with what came instead, or what its worker met.
pub(super) async fn answer(
    model: &Path,
    bundle: &BundleManifest,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<(), Failure> {
    let BundleManifest { artifact, golden, .. } = bundle;
    let (seed, execution) = (golden.input_seed, &artifact.execution);
    let answer = infer::answer_to_seed(seed, model, &artifact.model, execution, worker, cancel).await?;
    golden.check(&answer).map(drop).map_err(|error| Failure::Failed(format!("golden answer: {error}")))
}

/// Whether a model file keeps its bundle's latency limit here, as the upper end of its median's interval.
///
/// # Errors
/// [`Failure::Failed`] when it does not, or what its workers met.
pub(super) async fn latency(
    model: &Path,
    bundle: &BundleManifest,
    limit_ns: u64,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<(), Failure> {
    // Ten times the limit is too slow for sure; at least a second, for the first touch of every page.
    let max_inference_ms = (limit_ns.saturating_mul(10) / 1_000_000).clamp(1_000, u64::from(BUDGET_MS));
    let plan = MeasurePlan {
        model: bundle.artifact.model,
        place: Place::Store,
        execution: bundle.artifact.execution.clone(),
        min_processes: PROCESSES,
        max_processes: PROCESSES,
        samples_per_process: SAMPLES,
        half_width_ppm: 0,
        time_budget_ms: BUDGET_MS,
        max_load_ms: LOAD_MS,
        max_inference_ms: max_inference_ms as u32,
        max_memory_bytes: MEMORY_BYTES,
        golden: None,
        resident_memory: false,
    };
    let found = measure::measure(&plan, model, worker, &|_| {}, cancel).await?.latency;
    let upper_ns = found.interval.map_or(found.median_ns, |interval| interval.high_ns);
    if upper_ns <= limit_ns {
        return Ok(());
    }
    let [upper, limit] = [upper_ns, limit_ns].map(Duration::from_nanos);
    Err(Failure::Failed(format!("its median latency here is up to {upper:.2?}, the limit is {limit:.2?}")))
}
