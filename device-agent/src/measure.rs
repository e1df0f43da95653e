//! A measurement: fresh worker processes until the median is known well enough or the time is over.
//!
//! It decides how many processes, which are void and what the numbers are; the worker decides nothing. It must never
//! turn a disturbance, a lost worker or a lack of time into a number, nor drop a sample for its size.

use crate::cancel::Cancel;
use crate::disturbance::{self, Watch};
use crate::statistics::{self, Looks};
use crate::worker_command::WorkerCommand;
use crate::worker_job::{Event, InferInput, InferJob, Job, MeasureJob, Outcome, ProcessRun, WorkerBounds};
use crate::worker_process::{self, Deadlines, NamedLimits};
use crate::{engine, probe, worker_limits};
use n2n_protocol::{
    Activity, Conditions, Execution, Failure, InferPlan, MeasurePlan, Measurement, Memory, Progress, Unknown,
    limits,
};
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Between two signs of life; the other side gives up after several seconds of silence.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Longest load of a model: the largest take some seconds on the slowest board.
const MAX_LOAD: Duration = Duration::from_mins(1);
/// Least time that a process gets, so that the last ones of a short budget still give samples.
const MIN_PROCESS: Duration = Duration::from_millis(200);
/// Processes that may be voided before the board is called disturbed.
const MAX_VOIDED: u16 = 5;
/// Pause after the first voided process, for the board to cool down; each further one is as much longer.
const COOL_DOWN: Duration = Duration::from_secs(2);
/// Memory for a run that only wants answers, where no plan sets it: four times ResNet-34's weights and then some.
const INFER_MEMORY_BYTES: u64 = 1 << 30;
/// Longest inference of a run that only wants answers.
const INFER_INFERENCE_MS: u32 = 30_000;
/// Longest run that only wants answers.
const INFER_WHOLE: Duration = Duration::from_mins(5);

/// Measure a model file as planned.
///
/// `progress` is called at least once a second. Workers run one after the other and are killed when `cancel` says so or
/// when this future is dropped.
///
/// # Errors
/// [`Failure::Refused`] for a plan that makes no sense here, [`Failure::Infeasible`] when the model does not fit or is
/// too slow, [`Failure::Disturbed`] when the board kept throttling, [`Failure::Cancelled`], and [`Failure::Failed`] for
/// whatever is the engine's, the file's or the worker's fault.
pub async fn measure(
    plan: &MeasurePlan,
    model: &Path,
    worker: &WorkerCommand,
    progress: &(dyn Fn(Progress) + Send + Sync),
    cancel: &Cancel,
) -> Result<Measurement, Failure> {
    check(plan)?;
    let begun = Instant::now();
    let finished = AtomicU16::new(0);
    let session = Session {
        plan,
        model,
        worker,
        cancel,
        begun,
        finished: &finished,
        cores: cores(plan.execution.threads),
    };
    tokio::select! {
        result = session.measure() => result,
        never = signs_of_life(begun, &finished, progress) => match never {},
    }
}

/// Report progress for ever.
async fn signs_of_life(
    begun: Instant,
    finished: &AtomicU16,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Infallible {
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        ticks.tick().await;
        progress(Progress {
            elapsed_ms: u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX),
            activity: Activity::Running { processes: finished.load(Ordering::Relaxed) },
        });
    }
}

/// Run inputs through a model file; logits, one row per input.
///
/// # Errors
/// As [`measure`], but for what belongs to timing.
pub async fn infer(
    plan: &InferPlan,
    model: &Path,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, Failure> {
    check_execution(&plan.execution)?;
    let inputs =
        plan.inputs.iter().map(|input| values(input).map(InferInput::Values)).collect::<Result<_, _>>()?;
    infer_inputs(inputs, model, worker, cancel).await
}

/// [`infer`], of inputs given in either way.
pub(crate) async fn infer_inputs(
    inputs: Vec<InferInput>,
    model: &Path,
    worker: &WorkerCommand,
    cancel: &Cancel,
) -> Result<Vec<Vec<f32>>, Failure> {
    let wanted = inputs.len();
    let bounds = WorkerBounds { cores: Vec::new(), memory_bytes: INFER_MEMORY_BYTES };
    let job = Job::Infer(InferJob { model: model.into(), bounds, inputs });
    let named = NamedLimits { memory_bytes: INFER_MEMORY_BYTES, inference_ms: INFER_INFERENCE_MS };
    let deadlines = Deadlines {
        load: MAX_LOAD,
        inference: Duration::from_millis(INFER_INFERENCE_MS.into()),
        whole: INFER_WHOLE,
    };
    match worker_process::run(worker, &job, deadlines, named, cancel, &mut |_| {}).await? {
        Outcome::Inferred(rows) if rows.len() == wanted => Ok(rows),
        other => Err(unexpected(&other)),
    }
}

/// Values of one input that came as bytes.
fn values(input: &[u8]) -> Result<Vec<f32>, Failure> {
    let (words, rest) = input.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Failure::Refused(format!(
            "an input of {} bytes is no row of 32-bit floats",
            input.len()
        )));
    }
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// An execution that an engine of this board can do.
fn check_execution(execution: &Execution) -> Result<(), Failure> {
    let engine = engine::default_engine();
    if execution.engine != engine.id().name {
        return Err(Failure::Unknown(Unknown::EngineMissing(execution.engine.clone())));
    }
    let (name, most) = (engine.id().name, engine.most_threads());
    if execution.threads == 0 || execution.threads > most {
        let asked = execution.threads;
        return Err(Failure::Refused(format!(
            "engine {name} runs on 1 to {most} thread(s), the plan asks for {asked}"
        )));
    }
    if execution.batch != 1 || execution.pace_us != 0 {
        return Err(Failure::Refused(format!(
            "engine {name} runs one input at a time, the plan asks for batch {} at a pace of {} us",
            execution.batch, execution.pace_us
        )));
    }
    Ok(())
}

/// A plan that this board can follow.
fn check(plan: &MeasurePlan) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::Refused(why));
    check_execution(&plan.execution)?;
    if plan.min_processes == 0 || plan.min_processes > plan.max_processes {
        return refuse(format!(
            "processes: expected at least 1 and fewest <= most, got {} and {}",
            plan.min_processes, plan.max_processes
        ));
    }
    if plan.max_processes > statistics::MAX_PROCESSES {
        return refuse(format!(
            "{} processes, at most {} are run",
            plan.max_processes,
            statistics::MAX_PROCESSES
        ));
    }
    if plan.samples_per_process == 0 || plan.samples_per_process as usize > limits::SAMPLES_PER_PROCESS {
        return refuse(format!(
            "samples of a process: expected 1 to {}, got {}",
            limits::SAMPLES_PER_PROCESS,
            plan.samples_per_process
        ));
    }
    if plan.time_budget_ms == 0 || plan.max_inference_ms == 0 || plan.max_memory_bytes == 0 {
        return refuse("time budget, longest inference and memory must all be above zero".into());
    }
    Ok(())
}

/// Conditions now. Reading them may wait for a file or a program of the vendor.
async fn conditions() -> Conditions {
    tokio::task::spawn_blocking(probe::conditions).await.unwrap_or_default()
}

/// The cores that workers are pinned to, one a thread; empty if there are too few.
fn cores(threads: u16) -> Vec<u16> {
    worker_limits::choose_cores(&worker_limits::allowed_cores(), probe::max_frequency_khz, threads)
}

fn unexpected(outcome: &Outcome) -> Failure {
    let what = match outcome {
        Outcome::Measured(_) => "a measurement",
        Outcome::Inferred(_) => "logits",
        Outcome::Baseline { .. } => "a baseline",
        Outcome::OutOfMemory | Outcome::TooSlow | Outcome::Failed(_) => "a failure",
    };
    Failure::Failed(format!("the worker answered with {what}, which was not asked for"))
}

/// One request.
struct Session<'a> {
    plan: &'a MeasurePlan,
    model: &'a Path,
    worker: &'a WorkerCommand,
    cancel: &'a Cancel,
    begun: Instant,
    finished: &'a AtomicU16,
    cores: Vec<u16>,
}

impl Session<'_> {
    async fn measure(&self) -> Result<Measurement, Failure> {
        let plan = self.plan;
        let before = conditions().await;
        let engine_baseline = if plan.resident_memory { self.baseline().await? } else { None };
        let looks = Looks::between(plan.min_processes, plan.max_processes);
        let mut runs: Vec<ProcessRun> = Vec::new();
        let mut voided = 0_u16;
        let mut budget_ended = false;

        loop {
            if !runs.is_empty() && self.left().is_zero() {
                budget_ended = true;
                break;
            }
            let (run, disturbance) = self.process(&runs).await?;
            if let Some(why) = disturbance {
                voided += 1;
                tracing::info!("process {voided} voided: {why}");
                self.cool_down(voided, &why).await?;
                continue;
            }
            budget_ended |= run.cut_short;
            runs.push(run);
            let processes = runs.len() as u16;
            self.finished.store(processes, Ordering::Relaxed);
            if processes >= plan.max_processes
                || (looks.contains(processes) && narrow_enough(&runs, &looks, plan.half_width_ppm))
            {
                break;
            }
        }
        let after = conditions().await;
        let memory = memory(&runs, engine_baseline);
        let latency = statistics::latency(&samples(&runs), looks.error_ppm());
        Ok(Measurement {
            model: plan.model.digest,
            engine: engine::default_engine().id(),
            threads: plan.execution.threads,
            batch: plan.execution.batch,
            pace_us: plan.execution.pace_us,
            affinity: self.cores.clone(),
            board: probe::fingerprint(),
            agent: env!("CARGO_PKG_VERSION").into(),
            inferences_per_sample: runs.first().map_or(1, |run| run.inferences_per_sample),
            warmup: runs.iter().map(|run| run.warmup).collect(),
            load_ms: runs.iter().map(|run| run.load_ms).collect(),
            latency,
            memory,
            golden_difference: runs.iter().filter_map(|run| run.golden_difference).reduce(f32::max),
            before,
            after,
            voided,
            budget_ended,
            samples_ns: runs.into_iter().map(|run| run.samples_ns).collect(),
        })
    }

    /// What is left of the time budget.
    fn left(&self) -> Duration {
        Duration::from_millis(self.plan.time_budget_ms.into()).saturating_sub(self.begun.elapsed())
    }

    fn named_limits(&self) -> NamedLimits {
        NamedLimits { memory_bytes: self.plan.max_memory_bytes, inference_ms: self.plan.max_inference_ms }
    }

    /// VmHWM of a worker without a model.
    async fn baseline(&self) -> Result<Option<u64>, Failure> {
        let deadlines = Deadlines { load: MAX_LOAD, inference: MAX_LOAD, whole: MAX_LOAD };
        let limits = self.named_limits();
        let ended =
            worker_process::run(self.worker, &Job::Baseline, deadlines, limits, self.cancel, &mut |_| {})
                .await?;
        match ended {
            Outcome::Baseline { peak_rss } => Ok(peak_rss),
            other => Err(unexpected(&other)),
        }
    }

    /// One process, and why it does not count if it does not.
    async fn process(&self, done: &[ProcessRun]) -> Result<(ProcessRun, Option<String>), Failure> {
        let plan = self.plan;
        // Until the fewest are done, what is left is shared out between them.
        let missing = u32::from(plan.min_processes).saturating_sub(done.len() as u32).max(1);
        let share = (self.left() / missing).max(MIN_PROCESS);
        let job = Job::Measure(MeasureJob {
            model: self.model.into(),
            bounds: WorkerBounds { cores: self.cores.clone(), memory_bytes: plan.max_memory_bytes },
            threads: plan.execution.threads,
            samples: plan.samples_per_process,
            inferences_per_sample: done.first().map(|run| run.inferences_per_sample),
            budget_ms: u32::try_from(share.as_millis()).unwrap_or(u32::MAX),
            max_inference_ms: plan.max_inference_ms,
            golden: plan.golden.clone(),
        });
        let deadlines = Deadlines {
            load: MAX_LOAD.min(self.left().max(MIN_PROCESS)),
            inference: Duration::from_millis(plan.max_inference_ms.into()),
            whole: share,
        };
        let bits_before = probe::throttle_bits();
        let mut watch = None;
        let mut observe = |event: &Event| {
            if *event == Event::Sampling {
                watch = Some(Watch::start(&self.cores));
            }
        };
        let limits = self.named_limits();
        let ended =
            worker_process::run(self.worker, &job, deadlines, limits, self.cancel, &mut observe).await?;
        let Outcome::Measured(run) = ended else { return Err(unexpected(&ended)) };
        if run.samples_ns.is_empty() {
            return Err(Failure::Failed("the worker gave no samples".into()));
        }
        let mut seen = watch.map(Watch::finish).unwrap_or_default();
        seen.frequencies_khz.extend(&run.frequencies_khz);
        Ok((run, disturbance::judge(&seen, bits_before)))
    }

    /// Wait for the board to become quiet.
    async fn cool_down(&self, voided: u16, why: &str) -> Result<(), Failure> {
        let pause = COOL_DOWN * u32::from(voided);
        if voided >= MAX_VOIDED || self.left() <= pause {
            return Err(Failure::Disturbed(format!("{why}; {voided} process(es) voided")));
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancel.cancelled() => Err(Failure::Cancelled),
        }
    }
}

fn samples(runs: &[ProcessRun]) -> Vec<Vec<u64>> {
    runs.iter().map(|run| run.samples_ns.clone()).collect()
}

fn narrow_enough(runs: &[ProcessRun], looks: &Looks, half_width_ppm: u32) -> bool {
    let latency = statistics::latency(&samples(runs), looks.error_ppm());
    latency
        .interval
        .is_some_and(|interval| statistics::half_width_ppm(&interval, latency.median_ns) <= half_width_ppm)
}

/// The largest of each metric over the processes: a limit must hold in all of them.
fn memory(runs: &[ProcessRun], engine_baseline: Option<u64>) -> Memory {
    let largest = |metric: fn(&ProcessRun) -> Option<u64>| runs.iter().filter_map(metric).max();
    let peak_heap = largest(|run| run.peak_heap);
    let resident = engine_baseline.is_some();
    let peak_rss = largest(|run| run.peak_rss).filter(|_| resident);
    let above_the_engine = engine_baseline.zip(peak_rss).map(|(engine, peak)| peak.saturating_sub(engine));
    Memory {
        peak_heap,
        steady_heap: largest(|run| run.steady_heap),
        peak_rss,
        engine_baseline,
        model_memory: above_the_engine.or(peak_heap),
        file_bytes: runs.iter().map(|run| run.file_bytes).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use n2n_protocol::{Digest, Model, Place};

    fn plan() -> MeasurePlan {
        MeasurePlan {
            model: Model::onnx(Digest([0; 32])),
            place: Place::Store,
            execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
            min_processes: 2,
            max_processes: 3,
            samples_per_process: 30,
            half_width_ppm: 20_000,
            time_budget_ms: 1000,
            max_load_ms: 1000,
            max_inference_ms: 100,
            max_memory_bytes: 1 << 20,
            golden: None,
            resident_memory: false,
        }
    }

    fn threads(threads: u16) -> MeasurePlan {
        MeasurePlan { execution: Execution { threads, ..plan().execution }, ..plan() }
    }

    #[test]
    fn plans_without_sense_are_refused_with_their_numbers() {
        assert_eq!(check(&plan()), Ok(()));
        let why = |plan: MeasurePlan| match check(&plan) {
            Err(Failure::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(threads(4)), "engine tract runs on 1 to 1 thread(s), the plan asks for 4");
        assert!(why(threads(0)).contains("asks for 0"));
        assert!(why(MeasurePlan { min_processes: 4, ..plan() }).contains("got 4 and 3"));
        assert!(why(MeasurePlan { min_processes: 0, ..plan() }).contains("got 0 and 3"));
        assert!(why(MeasurePlan { max_processes: 65, ..plan() }).contains("65"));
        assert!(why(MeasurePlan { samples_per_process: 0, ..plan() }).contains("got 0"));
        assert!(why(MeasurePlan { samples_per_process: 1 << 20, ..plan() }).contains("1048576"));
        assert!(why(MeasurePlan { max_memory_bytes: 0, ..plan() }).contains("above zero"));
    }

    #[test]
    fn model_memory_names_what_it_is_made_of() {
        let run = |heap, rss| ProcessRun { peak_heap: heap, peak_rss: rss, ..ProcessRun::default() };
        let runs = [run(Some(10), Some(110)), run(Some(12), Some(130))];
        let resident = memory(&runs, Some(100));
        assert_eq!((resident.peak_rss, resident.model_memory), (Some(130), Some(30)));
        let heap = memory(&runs, None);
        assert_eq!((heap.peak_rss, heap.model_memory), (None, Some(12)));
        assert_eq!(memory(&[run(None, None)], None).model_memory, None);
    }
}
