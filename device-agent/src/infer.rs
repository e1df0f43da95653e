//! Answers alone: inputs through a model in one worker process, nothing timed.
//!
//! It must not judge an answer: whoever asks knows the right one.

use crate::board_memory;
use crate::cancel::Cancel;
use crate::measure::unexpected;
use crate::plan_check;
use crate::worker_command::WorkerCommand;
use crate::worker_job::{Event, InferInput, InferJob, Job, ModelFile, Outcome, WorkerBounds};
use crate::worker_process::{self, Deadlines, NamedLimits};
use n2n_protocol::{Execution, Failure, InferPlan, Model, limits};
use std::path::Path;
use std::time::Duration;

/// Memory for a run by a golden's seed, where no plan sets it, bytes: what the board has and can spare.
const MEMORY_BYTES: u64 = u64::MAX;
/// Longest load of a model: the largest take some seconds on the slowest board.
const MAX_LOAD: Duration = Duration::from_mins(1);
/// Longest inference, ms.
const INFERENCE_MS: u32 = 30_000;
/// Longest run.
const WHOLE: Duration = Duration::from_mins(5);

/// Run inputs through a model file; logits, one row per input.
///
/// # Errors
/// [`Failure::Refused`] for an input of another size or more answers than fit into a reply, [`Failure::Infeasible`] when
/// the model does not fit or is too slow, [`Failure::Unknown`] when the engine cannot run it, [`Failure::Cancelled`], and
/// [`Failure::Failed`] for the file's and the worker's faults.
pub async fn infer(
    plan: &InferPlan,
    path: &Path,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, Failure> {
    let inputs = plan.inputs.iter().cloned().map(InferInput::Bytes).collect();
    run(inputs, path, &plan.model, &plan.execution, plan.max_memory_bytes, worker, cancel).await
}

/// The logits of a model file for the input that a golden answer names by its seed.
///
/// # Errors
/// As [`infer`].
pub(crate) async fn answer_to_seed(
    seed: u64,
    path: &Path,
    model: &Model,
    execution: &Execution,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<Vec<f32>, Failure> {
    let rows =
        run(vec![InferInput::Seed(seed)], path, model, execution, MEMORY_BYTES, worker, cancel).await?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

async fn run(
    inputs: Vec<InferInput>,
    path: &Path,
    model: &Model,
    execution: &Execution,
    memory_bytes: u64,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, Failure> {
    let execution = Execution { batch: 1, pace_us: 0, ..execution.clone() };
    let engine = plan_check::engine_for(model, &execution, &worker.engines)?.clone();
    let memory = board_memory::allowance(memory_bytes);
    let bounds = WorkerBounds { cores: Vec::new(), memory_bytes: memory.bytes };
    let named = NamedLimits {
        memory_bytes: memory.bytes,
        memory_is_scarce: memory.scarce,
        inference_ms: INFERENCE_MS,
    };
    let deadlines =
        Deadlines { load: MAX_LOAD, inference: Duration::from_millis(INFERENCE_MS.into()), whole: WHOLE };
    let wanted = inputs.len();
    let file = ModelFile { path: path.into(), model: *model, engine, execution, bounds };
    let job = Job::Infer(InferJob { file, inputs });
    let mut rows = Vec::with_capacity(wanted);
    let mut bytes = 0;
    // A worker that says more than a reply can carry is not listened to: its own bound is the same.
    let mut observe = |event: &Event| {
        if let Event::Answer(row) = event {
            bytes += row.len() * size_of::<f32>();
            if rows.len() < wanted && bytes <= limits::REPLY_BYTES {
                rows.push(row.clone());
            }
        }
    };
    match worker_process::run(worker, &job, deadlines, named, cancel, &mut observe).await? {
        Outcome::Inferred if rows.len() == wanted => Ok(rows),
        other => Err(unexpected(&other)),
    }
}
