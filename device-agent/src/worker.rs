//! The worker: a fresh child process for every process run, which loads one model, answers and ends.
//!
//! A crash, a hang or a model that eats all memory ends the worker and never the agent. It reads one job from its
//! standard input, writes events to its standard output, and dies when the agent dies. It must not decide anything about
//! a measurement as a whole: that is the agent's side.

use crate::engine::{self, Session};
use crate::worker_job::{Event, InferInput, InferJob, Job, MeasureJob, Outcome, ProcessRun, WorkerBounds};
use crate::{allocator, probe, sampling, weightless, worker_job, worker_limits};
use n2n_protocol::{generator, limits};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Longest warm-up: a model that drifts for longer than this drifts with the board's temperature.
const MAX_WARMUP_NS: u64 = 2_000_000_000;
/// The part of a process's time that its warm-up may take.
const WARMUP_SHARE: u64 = 3;
/// Seed of the input that is timed when no golden answer was asked for.
const TIMING_SEED: u64 = 0;
/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;
/// What the Rust libraries say when an allocation failed and they panic about it.
const ALLOCATION_PANICS: [&str; 3] =
    ["failed to allocate", "assertion failed: !self.data.is_null()", "memory allocation"];

/// Why a job ends early. Not an error of the worker: the agent gets it as an outcome.
#[derive(Debug)]
enum Stop {
    OutOfMemory,
    TooSlow,
    Failed(String),
    /// The agent no longer listens.
    Gone,
}

impl From<engine::EngineError> for Stop {
    fn from(error: engine::EngineError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The only input or output that a job does by `?` is telling the agent something.
impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The whole life of a worker process.
pub fn main() -> ExitCode {
    let begun = Instant::now();
    let mut stdin = io::stdin();
    let Ok(job) = worker_job::read::<Job>(&mut stdin) else { return ExitCode::from(2) };
    // Results come as events: a panic's text goes there too, and the default hook would print it a second time.
    std::panic::set_hook(Box::new(|_| {}));
    if worker_limits::die_with_the_agent(stdin).is_err() {
        return ExitCode::from(2);
    }
    let mut out = io::stdout().lock();
    let outcome = match catch_unwind(AssertUnwindSafe(|| perform(&job, begun, &mut out))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(Stop::OutOfMemory)) => Outcome::OutOfMemory,
        Ok(Err(Stop::TooSlow)) => Outcome::TooSlow,
        Ok(Err(Stop::Failed(why))) => Outcome::Failed(why),
        Ok(Err(Stop::Gone)) => return ExitCode::FAILURE,
        Err(panic) => after_panic(panic.as_ref()),
    };
    match worker_job::write(&mut out, &Event::Done(outcome)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn perform(job: &Job, begun: Instant, out: &mut dyn Write) -> Result<Outcome, Stop> {
    match job {
        Job::Baseline => {
            engine::default_engine().initialise()?;
            Ok(Outcome::Baseline { peak_rss: worker_limits::peak_rss() })
        }
        Job::Measure(job) => measure(job, begun, out).map(Outcome::Measured),
        Job::Infer(job) => infer(job, out).map(Outcome::Inferred),
    }
}

/// A panic of the engine: most are a model's fault, some mean that no memory was left.
fn after_panic(panic: &(dyn std::any::Any + Send)) -> Outcome {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    if ALLOCATION_PANICS.iter().any(|start| text.starts_with(start)) {
        return Outcome::OutOfMemory;
    }
    Outcome::Failed(format!("the engine gave up on the model: {text}"))
}

/// Bounds, then the model, ready to run.
fn load(
    path: &Path,
    bounds: &WorkerBounds,
    threads: u16,
    out: &mut dyn Write,
) -> Result<(Box<dyn Session>, u64), Stop> {
    worker_limits::apply(bounds).map_err(Stop::Failed)?;
    let (model, file_bytes) = read_model(path, bounds.memory_bytes)?;
    let session = engine::default_engine().load(model, threads)?;
    worker_job::write(out, &Event::Loaded)?;
    Ok((session, file_bytes))
}

/// The model of a file and the file's length. The file's own bytes are gone when the engine begins to load.
fn read_model(path: &Path, memory_bytes: u64) -> Result<(tract_onnx::pb::ModelProto, u64), Stop> {
    let cannot = |error: io::Error| Stop::Failed(format!("cannot read the model file: {error}"));
    let file_bytes = std::fs::metadata(path).map_err(cannot)?.len();
    if file_bytes > limits::BLOB_BYTES {
        return Err(Stop::Failed(format!(
            "the model file has {file_bytes} bytes, at most {} are taken",
            limits::BLOB_BYTES
        )));
    }
    if file_bytes > memory_bytes {
        return Err(Stop::OutOfMemory);
    }
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => Stop::OutOfMemory,
        _ => cannot(error),
    })?;
    match weightless::read(&bytes, memory_bytes) {
        Ok(model) => Ok((model, file_bytes)),
        Err(weightless::ModelError::TooLarge { .. }) => Err(Stop::OutOfMemory),
        Err(error) => Err(Stop::Failed(error.to_string())),
    }
}

fn infer(job: &InferJob, out: &mut dyn Write) -> Result<Vec<Vec<f32>>, Stop> {
    let (mut session, _) = load(&job.model, &job.bounds, 1, out)?;
    let mut rows = Vec::with_capacity(job.inputs.len());
    for input in &job.inputs {
        let begun = Instant::now();
        rows.push(match input {
            InferInput::Values(values) => session.run(values)?,
            InferInput::Seed(seed) => session.run(&generator::input(*seed, session.input_len()))?,
        });
        worker_job::write(out, &Event::Inferred { ns: begun.elapsed().as_nanos() as u64 })?;
    }
    Ok(rows)
}

fn measure(job: &MeasureJob, begun: Instant, out: &mut dyn Write) -> Result<ProcessRun, Stop> {
    let heap_before = allocator::allocated();
    let (mut session, file_bytes) = load(&job.model, &job.bounds, job.threads, out)?;
    let load_ms = begun.elapsed().as_millis() as u32;
    let seed = job.golden.as_ref().map_or(TIMING_SEED, |golden| golden.input_seed);
    let input = generator::input(seed, session.input_len());

    let answer = first_inferences(session.as_mut(), &input, job.max_inference_ms, out)?;
    let golden_difference = match &job.golden {
        Some(golden) => {
            Some(golden.check(&answer).map_err(|error| Stop::Failed(format!("golden answer: {error}")))?)
        }
        None => None,
    };
    let held = |bytes: Option<u64>| Some(bytes?.saturating_sub(heap_before?));
    let steady_heap = held(allocator::allocated());

    let mut now_ns = || begun.elapsed().as_nanos() as u64;
    let mut run = || session.run(&input).map(|logits| drop(std::hint::black_box(logits)));
    let deadline_ns = u64::from(job.budget_ms) * MS;
    let left_ns = deadline_ns.saturating_sub(now_ns());
    let warmup_ends_ns = now_ns() + MAX_WARMUP_NS.min(left_ns / WARMUP_SHARE);
    let warmup = sampling::warm_up(&mut run, &mut now_ns, warmup_ends_ns)?;
    let inferences_per_sample = job.inferences_per_sample.unwrap_or_else(|| {
        let resolution_ns = sampling::clock_resolution_ns(&mut now_ns);
        sampling::inferences_per_sample(warmup.last_ns, resolution_ns)
    });

    worker_job::write(out, &Event::Sampling)?;
    let mut frequencies_khz = probe::core_frequencies_khz(&job.bounds.cores);
    let samples_ns =
        sampling::sample(&mut run, &mut now_ns, job.samples, inferences_per_sample, deadline_ns)?;
    frequencies_khz.extend(probe::core_frequencies_khz(&job.bounds.cores));

    Ok(ProcessRun {
        cut_short: samples_ns.len() < job.samples as usize,
        samples_ns,
        inferences_per_sample,
        warmup: warmup.inferences,
        load_ms,
        peak_heap: held(allocator::peak()),
        steady_heap,
        peak_rss: worker_limits::peak_rss(),
        golden_difference,
        file_bytes,
        frequencies_khz,
    })
}

/// The answer, and whether it comes in time. A first inference over the limit gets a second chance: it also pays for
/// pages touched for the first time, and the board may have been busy for a moment.
fn first_inferences(
    session: &mut dyn Session,
    input: &[f32],
    max_inference_ms: u32,
    out: &mut dyn Write,
) -> Result<Vec<f32>, Stop> {
    let limit_ns = u64::from(max_inference_ms) * MS;
    for _ in 0..2 {
        let begun = Instant::now();
        let answer = session.run(input)?;
        let ns = begun.elapsed().as_nanos() as u64;
        worker_job::write(out, &Event::Inferred { ns })?;
        if ns <= limit_ns {
            return Ok(answer);
        }
    }
    Err(Stop::TooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_about_memory_is_told_from_others() {
        let about = |text: &'static str| after_panic(&text);
        assert_eq!(about("failed to allocate Layout { size: 1 }"), Outcome::OutOfMemory);
        assert!(
            matches!(about("index out of bounds"), Outcome::Failed(why) if why.contains("index out of bounds"))
        );
        assert!(matches!(after_panic(&7), Outcome::Failed(_)));
    }
}
