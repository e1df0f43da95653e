//! The worker: a fresh child process for every process run, which loads one model, answers and ends.
//!
//! A crash, a hang or a model that eats all memory ends the worker and never the agent. It reads one job from its
//! standard input, writes events to its standard output, and dies when the agent dies. It must not decide anything about
//! a measurement as a whole: that is the agent's side.

use crate::engine::{self, EngineError, OnnxRuntime, Session};
use crate::log_tail::clip;
use crate::sampling::{self, Bench};
use crate::worker_job::{
    EVENT_BYTES, Event, InferInput, InferJob, JOB_BYTES, Job, MeasureJob, ModelFile, Outcome, ProcessRun,
};
use crate::{allocator, probe, weightless, worker_job, worker_limits};
use n2n_protocol::{Element, Format, Unknown, generator, limits};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longest warm-up: a model that drifts for longer than this drifts with the board's temperature.
const MAX_WARMUP_NS: u64 = 2_000_000_000;
/// The part of a process's time that its warm-up may take.
const WARMUP_SHARE: u64 = 3;
/// A process runs for at least this part of the time that it loaded, however little was meant for it: a load that is
/// paid for is used.
const RUN_SHARE: u64 = 2;
/// Seed of the input that is timed when no golden answer was asked for.
const TIMING_SEED: u64 = 0;
/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;
/// All answers of one job, bytes: as a reply to a host they must fit into one message, with a length in front of each.
const ANSWERS_BYTES: usize = limits::REPLY_BYTES - 5 * limits::INPUTS - 64;

/// Why a job ends early. Not an error of the worker: the agent gets it as an outcome.
#[derive(Debug)]
enum Stop {
    OutOfMemory,
    TooSlow,
    Unknown(Unknown),
    Refused(String),
    Failed(String),
    /// The agent no longer listens.
    Gone,
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Execution { .. } | EngineError::Input { .. } => Self::Refused(error.to_string()),
            EngineError::Library(_) => Self::Failed(error.to_string()),
            EngineError::Memory(_) => Self::OutOfMemory,
            EngineError::Model(_) | EngineError::Run(_) if allocator::refused().is_some() => {
                Self::OutOfMemory
            }
            EngineError::Model(why) => unsupported(&why),
            EngineError::Run(why) => unsupported(&format!("it failed while running: {why}")),
        }
    }
}

/// The only input or output that a job does by `?` is telling the agent something.
impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

fn unsupported(why: &str) -> Stop {
    Stop::Unknown(Unknown::Unsupported(clip(why, limits::TEXT_BYTES).to_owned()))
}

/// The worker's way to its agent: standard output, each event by one system call.
struct Teller(File);

/// Whether a frame is on its way to the agent, which a second one must not cut in two.
static TELLING: AtomicBool = AtomicBool::new(false);

impl Teller {
    fn new() -> io::Result<Self> {
        Ok(Self(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    fn say(&mut self, event: &Event) -> io::Result<()> {
        let frame = worker_job::frame(event, EVENT_BYTES)?;
        TELLING.store(true, Ordering::Release);
        let told = self.0.write_all(&frame);
        // Nothing may follow the last event.
        TELLING.store(matches!(event, Event::Done(_)), Ordering::Release);
        told
    }
}

/// Tell the agent that an allocation was refused. It runs inside the allocator and allocates nothing.
fn tell_refusal(bytes: u64) {
    let mut buffer = [0; 32];
    if TELLING.load(Ordering::Acquire) {
        return;
    }
    if let Some(frame) = worker_job::frame_in(&Event::Refused { bytes }, &mut buffer) {
        // So short a frame goes into a pipe whole or not at all; without it the agent knows less, no more.
        let _ = rustix::io::write(io::stdout().as_fd(), frame);
    }
}

/// The whole life of a worker process.
pub fn main() -> ExitCode {
    let begun = Instant::now();
    let mut stdin = io::stdin();
    let Ok(job) = worker_job::read::<Job>(&mut stdin, JOB_BYTES) else { return ExitCode::from(2) };
    // Results come as events: a panic's text goes there too, and the default hook would print it a second time.
    std::panic::set_hook(Box::new(|_| {}));
    if worker_limits::die_with_the_agent(stdin).is_err() {
        return ExitCode::from(2);
    }
    let Ok(mut out) = Teller::new() else { return ExitCode::from(2) };
    allocator::on_refusal(tell_refusal);
    let outcome = match catch_unwind(AssertUnwindSafe(|| perform(&job, begun, &mut out))) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(Stop::OutOfMemory)) => Outcome::OutOfMemory,
        Ok(Err(Stop::TooSlow)) => Outcome::TooSlow,
        Ok(Err(Stop::Unknown(unknown))) => Outcome::Unknown(unknown),
        Ok(Err(Stop::Refused(why))) => Outcome::Refused(why),
        Ok(Err(Stop::Failed(why))) => Outcome::Failed(why),
        Ok(Err(Stop::Gone)) => return ExitCode::FAILURE,
        Err(panic) => after_panic(panic.as_ref(), allocator::refused()),
    };
    match out.say(&Event::Done(outcome)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn perform(job: &Job, begun: Instant, out: &mut Teller) -> Result<Outcome, Stop> {
    match job {
        Job::Open(library) => Ok(Outcome::Opened(OnnxRuntime::open(library.clone())?)),
        Job::Baseline(installed) => {
            installed.engine().initialise()?;
            Ok(Outcome::Baseline { peak_rss: worker_limits::peak_rss() })
        }
        Job::Prepare(file) => {
            let (bytes, _) = read_model(file)?;
            let engine = file.engine.engine();
            Ok(Outcome::Prepared { cached: engine.prepare(&bytes, &file.model, &file.execution)? })
        }
        Job::Measure(job) => measure(job, begun, out).map(Outcome::Measured),
        Job::Infer(job) => infer(job, out).map(|()| Outcome::Inferred),
    }
}

/// A panic of the engine: it means that no memory was left if an allocation was refused, else it is a crash.
fn after_panic(panic: &(dyn std::any::Any + Send), refused: Option<u64>) -> Outcome {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    match refused {
        Some(_) => Outcome::OutOfMemory,
        None => Outcome::Unknown(Unknown::Crashed(clip(text, limits::TEXT_BYTES).to_owned())),
    }
}

/// The model, ready to run, and the length of its file.
fn load(file: &ModelFile, out: &mut Teller) -> Result<(Box<dyn Session>, u64), Stop> {
    let (bytes, file_bytes) = read_model(file)?;
    let session = file.engine.engine().load(bytes, &file.model, &file.execution)?;
    out.say(&Event::Loaded)?;
    Ok((session, file_bytes))
}

/// Bounds for this process, then the whole model file, and the length that it had on the disk.
fn read_model(file: &ModelFile) -> Result<(Vec<u8>, u64), Stop> {
    worker_limits::apply(&file.bounds).map_err(Stop::Failed)?;
    let memory_bytes = file.bounds.memory_bytes;
    let bytes = read_file(&file.path, memory_bytes)?;
    let file_bytes = bytes.len() as u64;
    let whole = match file.model.format {
        Format::Onnx => weightless::whole(bytes, memory_bytes),
    };
    match whole {
        Ok(whole) => Ok((whole, file_bytes)),
        Err(weightless::ModelError::TooLarge { .. }) => Err(Stop::OutOfMemory),
        Err(error) => Err(Stop::Failed(error.to_string())),
    }
}

fn read_file(path: &Path, memory_bytes: u64) -> Result<Vec<u8>, Stop> {
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
    std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => Stop::OutOfMemory,
        _ => cannot(error),
    })
}

/// An input out of a seed, as the model takes it.
fn generated(seed: u64, session: &dyn Session) -> Result<Vec<u8>, Stop> {
    let element = session.element();
    let values = generator::input_as(seed, session.input_len(), element)
        .ok_or_else(|| unsupported(&format!("inputs of {element:?} cannot be generated")))?;
    Ok(match element {
        Element::U8 => values.into_iter().map(|value| value as u8).collect(),
        Element::F32 | Element::F16 | Element::I8 => engine::bytes_of(&values),
    })
}

fn infer(job: &InferJob, out: &mut Teller) -> Result<(), Stop> {
    let (mut session, _) = load(&job.file, out)?;
    let mut answered = 0;
    for input in &job.inputs {
        let begun = Instant::now();
        let logits = match input {
            InferInput::Bytes(bytes) => session.run(bytes)?,
            InferInput::Seed(seed) => session.run(&generated(*seed, session.as_ref())?)?,
        };
        out.say(&Event::Inferred { ns: begun.elapsed().as_nanos() as u64 })?;
        answered += logits.len() * size_of::<f32>();
        if answered > ANSWERS_BYTES {
            return Err(Stop::Refused(format!(
                "the answers take more than {ANSWERS_BYTES} bytes: send fewer inputs in one request"
            )));
        }
        out.say(&Event::Answer(logits))?;
    }
    Ok(())
}

fn measure(job: &MeasureJob, begun: Instant, out: &mut Teller) -> Result<ProcessRun, Stop> {
    let heap_before = allocator::allocated();
    let (mut session, file_bytes) = load(&job.file, out)?;
    let ready_ns = begun.elapsed().as_nanos() as u64;
    let seed = job.golden.as_ref().map_or(TIMING_SEED, |golden| golden.input_seed);
    let input = generated(seed, session.as_ref())?;

    let (answer, first_ns) = first_inferences(session.as_mut(), &input, job.max_inference_ms, out)?;
    let golden_difference = match &job.golden {
        Some(golden) => Some(golden.check(&answer).map_err(|wrong| {
            Stop::Unknown(Unknown::WrongAnswer(clip(&wrong.to_string(), limits::TEXT_BYTES).to_owned()))
        })?),
        None => None,
    };
    // What an engine takes past this process's allocator is in none of its counts.
    let counts = job.file.engine.engine().counts_its_memory();
    let held = |bytes: Option<u64>| Some(bytes?.saturating_sub(heap_before?)).filter(|_| counts);
    let steady_heap = held(allocator::allocated());

    let mut now_ns = || begun.elapsed().as_nanos() as u64;
    let pace_ns = u64::from(job.file.execution.pace_us) * 1000;
    let mut bench = Bench {
        run: &mut || session.run(&input).map(|logits| drop(std::hint::black_box(logits))),
        sleep_until_ns: &mut |due_ns| {
            std::thread::sleep(Duration::from_nanos(due_ns).saturating_sub(begun.elapsed()));
        },
        due_ns: now_ns().saturating_sub(first_ns).saturating_add(pace_ns),
        now_ns: &mut now_ns,
        pace_ns,
    };
    let timed = time(job, &mut bench, ready_ns, first_ns, out)?;
    Ok(ProcessRun {
        cut_short: timed.samples_ns.len() < job.samples as usize,
        samples_ns: timed.samples_ns,
        inferences_per_sample: timed.inferences_per_sample,
        warmup: timed.warmup,
        load_ms: u32::try_from(ready_ns / MS).unwrap_or(u32::MAX),
        peak_heap: held(allocator::peak()),
        steady_heap,
        peak_rss: worker_limits::peak_rss(),
        golden_difference,
        file_bytes,
        frequencies_khz: timed.frequencies_khz,
    })
}

/// What a process's samples are.
struct Timed {
    samples_ns: Vec<u64>,
    inferences_per_sample: u32,
    warmup: u32,
    frequencies_khz: Vec<u32>,
}

/// Warm-up and samples, for as long as the job says. Where its end has passed already the newest inference is the one
/// sample: of a model that takes seconds, a cold or hardly warm time is a bound, and better than none.
fn time(
    job: &MeasureJob,
    bench: &mut Bench<'_, EngineError>,
    ready_ns: u64,
    first_ns: u64,
    out: &mut Teller,
) -> Result<Timed, Stop> {
    let end_ns = u64::from(job.end_ms) * MS;
    let newest = |ns: u64, warmup: u32| Timed {
        samples_ns: vec![ns],
        inferences_per_sample: 1,
        warmup,
        frequencies_khz: Vec::new(),
    };
    let now_ns = (bench.now_ns)();
    if now_ns >= end_ns {
        return Ok(newest(first_ns, 0));
    }
    let aim_ns = (u64::from(job.aim_ms) * MS).max(ready_ns + ready_ns / RUN_SHARE).min(end_ns);
    let warmup_ends_ns = now_ns + MAX_WARMUP_NS.min(aim_ns.saturating_sub(now_ns) / WARMUP_SHARE);
    let warmup = bench.warm_up(warmup_ends_ns)?;
    if (bench.now_ns)() >= end_ns {
        return Ok(newest(warmup.newest_ns, warmup.inferences - 1));
    }
    let inferences_per_sample = job.inferences_per_sample.unwrap_or_else(|| {
        let resolution_ns = sampling::clock_resolution_ns(bench.now_ns);
        sampling::inferences_per_sample(warmup.last_ns, resolution_ns)
    });
    let inferences_per_sample = if bench.pace_ns == 0 { inferences_per_sample } else { 1 };

    out.say(&Event::Sampling)?;
    let cores = &job.file.bounds.cores;
    let mut frequencies_khz = probe::core_frequencies_khz(cores);
    let samples_ns = bench.sample(job.samples, inferences_per_sample, aim_ns)?;
    frequencies_khz.extend(probe::core_frequencies_khz(cores));
    Ok(Timed { samples_ns, inferences_per_sample, warmup: warmup.inferences, frequencies_khz })
}

/// The answer, how long it took, and whether that is in time. A first inference over the limit gets a second chance: it
/// also pays for pages touched for the first time, and the board may have been busy for a moment.
fn first_inferences(
    session: &mut dyn Session,
    input: &[u8],
    max_inference_ms: u32,
    out: &mut Teller,
) -> Result<(Vec<f32>, u64), Stop> {
    let limit_ns = u64::from(max_inference_ms) * MS;
    for _ in 0..2 {
        let begun = Instant::now();
        let answer = session.run(input)?;
        let ns = begun.elapsed().as_nanos() as u64;
        out.say(&Event::Inferred { ns })?;
        if ns <= limit_ns {
            return Ok((answer, ns));
        }
    }
    Err(Stop::TooSlow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_means_a_lack_of_memory_only_after_a_refused_allocation() {
        assert_eq!(after_panic(&"failed to allocate", Some(64)), Outcome::OutOfMemory);
        assert_eq!(after_panic(&"index out of bounds", Some(64)), Outcome::OutOfMemory);
        for text in ["failed to allocate Layout { size: 1 }", "index out of bounds"] {
            let crashed = Outcome::Unknown(Unknown::Crashed(text.into()));
            assert_eq!(after_panic(&text, None), crashed, "words alone mean nothing");
        }
        assert!(matches!(after_panic(&7, None), Outcome::Unknown(Unknown::Crashed(_))));
    }
}
