//! A measurement: fresh worker processes until the median is known well enough or the time is over.
//!
//! It decides how many processes, which are void and what the numbers are; the worker decides nothing. It must never
//! turn a disturbance, a lost worker or a lack of time into a number, nor drop a sample for its size.
//!
//! **The time budget** bounds the whole request from the moment it has the board. Nothing new is begun after its end, so a
//! measurement ends within budget + one inference + some grace for ending a process. A further process is begun only if
//! more is left than the last one needed at the least: its load and three inferences. A model that is slow but allowed
//! gives what fits, down to one sample of one process, and says that its budget ended.

use crate::board_memory;
use crate::cancel::Cancel;
use crate::disturbance::{self, Watch};
use crate::engine::Installed;
use crate::statistics::{self, Looks};
use crate::worker_command::WorkerCommand;
use crate::worker_job::{Event, Job, MeasureJob, ModelFile, Outcome, ProcessRun, WorkerBounds};
use crate::worker_process::{self, Deadlines, NamedLimits};
use crate::{plan_check, probe, worker_limits};
use n2n_protocol::{
    Activity, Conditions, Failure, Infeasible, MeasurePlan, Measurement, Memory, Progress, Unknown,
};
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Between two signs of life; the other side gives up after several seconds of silence.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Inferences that a process needs at the least: its first, one to warm up, one sample.
const LEAST_INFERENCES: u32 = 3;
/// Processes that may be voided before the board is called disturbed.
const MAX_VOIDED: u16 = 5;
/// Pause after the first voided process, for the board to cool down; each further one is as much longer.
const COOL_DOWN: Duration = Duration::from_secs(2);

/// Measure a model file as planned.
///
/// `progress` is called at least once a second. Workers run one after the other and are killed when `cancel` says so or
/// when this future is dropped.
///
/// # Errors
/// [`Failure::Refused`] for a plan that makes no sense here, [`Failure::Infeasible`] when the model does not fit or is
/// too slow, [`Failure::Unknown`] when the engine cannot tell, [`Failure::Disturbed`] when the board kept throttling or
/// others have its memory, [`Failure::Cancelled`], and [`Failure::Failed`] for the file's and the worker's faults.
pub async fn measure(
    plan: &MeasurePlan,
    model: &Path,
    worker: &WorkerCommand,
    progress: &(dyn Fn(Progress) + Send + Sync),
    cancel: &Cancel,
) -> Result<Measurement, Failure> {
    let engine = plan_check::measurable(plan, &worker.engines)?;
    let begun = Instant::now();
    let finished = AtomicU16::new(0);
    let cores = cores(plan.execution.threads);
    let session = Session { plan, engine, model, worker, cancel, begun, finished: &finished, cores };
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

/// Conditions now. Reading them may wait for a file or a program of the vendor.
async fn conditions() -> Conditions {
    tokio::task::spawn_blocking(probe::conditions).await.unwrap_or_default()
}

/// The cores that workers are pinned to, one a thread; empty if there are too few.
fn cores(threads: u16) -> Vec<u16> {
    worker_limits::choose_cores(&worker_limits::allowed_cores(), probe::max_frequency_khz, threads)
}

/// An outcome of another job than the one that was given.
pub(crate) fn unexpected(outcome: &Outcome) -> Failure {
    let what = match outcome {
        Outcome::Measured(_) => "a measurement",
        Outcome::Inferred => "fewer logits",
        Outcome::Prepared { .. } => "a preparation",
        Outcome::Baseline { .. } => "a baseline",
        Outcome::Opened(_) => "an engine",
        Outcome::OutOfMemory
        | Outcome::TooSlow
        | Outcome::Unknown(_)
        | Outcome::Refused(_)
        | Outcome::Failed(_) => "a failure",
    };
    Failure::Failed(format!("the worker answered with {what}, which was not asked for"))
}

/// One request.
struct Session<'a> {
    plan: &'a MeasurePlan,
    engine: &'a Installed,
    model: &'a Path,
    worker: &'a WorkerCommand,
    cancel: &'a Cancel,
    begun: Instant,
    finished: &'a AtomicU16,
    cores: Vec<u16>,
}

/// One process that gave samples.
struct Process {
    run: ProcessRun,
    /// Why it does not count, if it does not.
    disturbance: Option<String>,
    /// What the next one will need at the least.
    least: Duration,
}

impl Session<'_> {
    async fn measure(&self) -> Result<Measurement, Failure> {
        let plan = self.plan;
        let before = conditions().await;
        let engine_baseline = if self.wants_resident_memory() { self.baseline().await? } else { None };
        let looks = Looks::between(plan.min_processes, plan.max_processes);
        let mut runs: Vec<ProcessRun> = Vec::new();
        let mut least = Duration::ZERO;
        let mut voided = 0_u16;
        let mut budget_ended = false;

        loop {
            if !runs.is_empty() && self.left() <= least {
                budget_ended = true;
                break;
            }
            let process = match self.process(&runs).await {
                Ok(process) => process,
                // What there is, is true; that one more could not be had in time makes none of it wrong.
                Err(failure) if !runs.is_empty() && self.is_end_of_time(&failure) => {
                    budget_ended = true;
                    break;
                }
                Err(failure) => return Err(failure),
            };
            least = process.least;
            if let Some(why) = process.disturbance {
                voided += 1;
                tracing::info!("process {voided} voided: {why}");
                self.cool_down(voided, least, &why).await?;
                continue;
            }
            budget_ended |= process.run.cut_short;
            runs.push(process.run);
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
            engine: self.engine.engine().id(),
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

    /// Resident memory is asked for, or nothing else says what a model costs with this engine.
    fn wants_resident_memory(&self) -> bool {
        self.plan.resident_memory || !self.engine.engine().counts_its_memory()
    }

    /// What is left of the time budget.
    fn left(&self) -> Duration {
        Duration::from_millis(self.plan.time_budget_ms.into()).saturating_sub(self.begun.elapsed())
    }

    /// Longest load of a process that begins now.
    fn longest_load(&self) -> Duration {
        Duration::from_millis(self.plan.max_load_ms.into()).min(self.left())
    }

    /// Whether a process failed only because its time was over, or it loaded for longer than the ones before.
    fn is_end_of_time(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Unknown(Unknown::NotLoaded { .. }) => true,
            Failure::Infeasible(Infeasible::TooSlow { .. }) => self.left().is_zero(),
            _ => false,
        }
    }

    /// VmHWM of a worker without a model.
    async fn baseline(&self) -> Result<Option<u64>, Failure> {
        let longest = self.longest_load();
        let deadlines = Deadlines { load: longest, inference: longest, whole: longest };
        let limits = NamedLimits {
            memory_bytes: self.plan.max_memory_bytes,
            memory_is_scarce: false,
            inference_ms: self.plan.max_inference_ms,
        };
        let job = Job::Baseline(self.engine.clone());
        let ended =
            worker_process::run(self.worker, &job, deadlines, limits, self.cancel, &mut |_| {}).await?;
        match ended {
            Outcome::Baseline { peak_rss } => Ok(peak_rss),
            other => Err(unexpected(&other)),
        }
    }

    /// One process.
    async fn process(&self, done: &[ProcessRun]) -> Result<Process, Failure> {
        let plan = self.plan;
        let left = self.left();
        // Until the fewest are done, what is left is shared out between them.
        let missing = u32::from(plan.min_processes).saturating_sub(done.len() as u32).max(1);
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let memory = board_memory::allowance(plan.max_memory_bytes);
        let job = Job::Measure(MeasureJob {
            file: ModelFile {
                path: self.model.into(),
                model: plan.model,
                engine: self.engine.clone(),
                execution: plan.execution.clone(),
                bounds: WorkerBounds { cores: self.cores.clone(), memory_bytes: memory.bytes },
            },
            samples: plan.samples_per_process,
            inferences_per_sample: done.first().map(|run| run.inferences_per_sample),
            aim_ms: ms(left / missing),
            end_ms: ms(left),
            max_inference_ms: plan.max_inference_ms,
            golden: plan.golden.clone(),
        });
        let deadlines = Deadlines {
            load: self.longest_load(),
            inference: Duration::from_millis(plan.max_inference_ms.into()),
            whole: left,
        };
        let limits = NamedLimits {
            memory_bytes: memory.bytes,
            memory_is_scarce: memory.scarce,
            inference_ms: plan.max_inference_ms,
        };
        let bits_before = probe::throttle_bits();
        let begun = Instant::now();
        let mut load = Duration::ZERO;
        let mut watch = None;
        let mut observe = |event: &Event| match event {
            Event::Loaded => load = begun.elapsed(),
            Event::Sampling => watch = Some(Watch::start(&self.cores)),
            _ => {}
        };
        let ended =
            worker_process::run(self.worker, &job, deadlines, limits, self.cancel, &mut observe).await?;
        let Outcome::Measured(run) = ended else { return Err(unexpected(&ended)) };
        let Some(slowest_ns) = run.samples_ns.iter().max() else {
            return Err(Failure::Failed("the worker gave no samples".into()));
        };
        let least = load + LEAST_INFERENCES * Duration::from_nanos(*slowest_ns);
        let mut seen = watch.map(Watch::finish).unwrap_or_default();
        seen.frequencies_khz.extend(&run.frequencies_khz);
        Ok(Process { disturbance: disturbance::judge(&seen, bits_before), run, least })
    }

    /// Wait for the board to become quiet; `least` is what the next process needs then.
    async fn cool_down(&self, voided: u16, least: Duration, why: &str) -> Result<(), Failure> {
        let pause = COOL_DOWN * u32::from(voided);
        if voided >= MAX_VOIDED || self.left() <= pause + least {
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
