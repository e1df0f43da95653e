//! An engine's own optimisation of a model, before it is loaded: in a worker process with a time budget of its own.
//!
//! It is never part of a load or a latency. What an engine keeps of it is the engine's; this file keeps nothing.

use crate::cancel::Cancel;
use crate::measure::unexpected;
use crate::worker_command::WorkerCommand;
use crate::worker_job::{Job, ModelFile, Outcome, WorkerBounds};
use crate::worker_process::{self, Deadlines, NamedLimits};
use crate::{board_memory, plan_check};
use n2n_protocol::{Execution, Failure, PreparePlan, Prepared};
use std::path::Path;
use std::time::{Duration, Instant};

/// Let the plan's engine prepare a model file.
///
/// # Errors
/// [`Failure::Unknown`] when the engine cannot, or not within the plan's time; else as [`crate::infer::infer`].
pub async fn prepare(
    plan: &PreparePlan,
    path: &Path,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<Prepared, Failure> {
    let execution = Execution { batch: 1, pace_us: 0, ..plan.execution.clone() };
    let engine = plan_check::engine_for(&plan.model, &execution, &worker.engines)?.clone();
    if plan.time_budget_ms == 0 || plan.max_memory_bytes == 0 {
        return Err(Failure::Refused("time budget and memory must be above zero".into()));
    }
    let memory = board_memory::allowance(plan.max_memory_bytes);
    let bounds = WorkerBounds { cores: Vec::new(), memory_bytes: memory.bytes };
    let named = NamedLimits {
        memory_bytes: memory.bytes,
        memory_is_scarce: memory.scarce,
        inference_ms: plan.time_budget_ms,
    };
    let budget = Duration::from_millis(plan.time_budget_ms.into());
    let deadlines = Deadlines { load: budget, inference: budget, whole: budget };
    let job = Job::Prepare(ModelFile { path: path.into(), model: plan.model, engine, execution, bounds });
    let begun = Instant::now();
    match worker_process::run(worker, &job, deadlines, named, cancel, &mut |_| {}).await? {
        Outcome::Prepared { cached } => {
            let elapsed_ms = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
            Ok(Prepared { cached, elapsed_ms })
        }
        other => Err(unexpected(&other)),
    }
}
