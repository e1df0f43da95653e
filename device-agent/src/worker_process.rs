//! One worker process seen from the agent: start, listen, watch the clock, and say what its end means.
//!
//! Every wait has a deadline and ends at once when the request is cancelled; the process never outlives this future. An
//! end is the student's fault only where lack of memory or time is *known*; a crash of the engine says that nothing can be
//! known; and an end that nobody understands is a failure.

use crate::cancel::Cancel;
use crate::log_tail::clip;
use crate::worker_command::WorkerCommand;
use crate::worker_job::{self, EVENT_BYTES, Event, JOB_BYTES, Job, Outcome};
use crate::worker_limits::WORKER_ENVIRONMENT;
use n2n_protocol::{Failure, Infeasible, Unknown, limits};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// Bytes of a worker's last words that are kept.
const MAX_STDERR_BYTES: usize = 4096;
/// Given to the worker beyond its own bounds before it is killed: starting and scheduling take time on a small board.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// Inferences that a worker may be silent for beyond its own end, before it is called hung: one may begin just before the
/// end, and a model at its limit takes a little longer now and then.
const SILENT_INFERENCES: u32 = 2;
/// A killed process is reaped within this, or the kernel holds it in a way that waiting does not help.
const REAP_WAIT: Duration = Duration::from_secs(5);
/// Signals by their numbers, the same on every Linux target of this project.
const SIGKILL: i32 = 9;
/// Signals that a process gets by its own doing: illegal instruction, breakpoint (how some abort), abort, bus error,
/// arithmetic, segmentation.
const CRASHES: [i32; 6] = [4, 5, 6, 7, 8, 11];

/// How long the phases of a worker may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// From the start to [`Event::Loaded`], or to the end of a preparation.
    pub(crate) load: Duration,
    /// One inference, each of the early ones.
    pub(crate) inference: Duration,
    /// From the start to the end, by the worker's own count; it gets an inference and some grace beyond.
    pub(crate) whole: Duration,
}

/// Limits that a failure names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedLimits {
    pub(crate) memory_bytes: u64,
    /// Whether the board allows more memory but has no more free now.
    pub(crate) memory_is_scarce: bool,
    pub(crate) inference_ms: u32,
}

/// What a worker was doing when it stopped answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Preparing,
    Inferring,
    Sampling,
}

/// Run a job in a fresh process. `observe` hears every event as it comes.
pub(crate) async fn run(
    command: &WorkerCommand,
    job: &Job,
    deadlines: Deadlines,
    limits: NamedLimits,
    cancel: &Cancel,
    observe: &mut (dyn FnMut(&Event) + Send),
) -> Result<Outcome, Failure> {
    let oom_kills_before = oom_kills();
    let mut child = spawn(command)?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(Failure::Failed("the worker's pipes are missing".into()));
    };
    let last_words = tokio::spawn(last_words(stderr));
    let frame = worker_job::frame(job, JOB_BYTES).map_err(|error| Failure::Failed(error.to_string()))?;
    let phase = if matches!(job, Job::Prepare(_)) { Phase::Preparing } else { Phase::Loading };
    let mut refused = false;
    let mut hear = |event: &Event| {
        refused |= matches!(event, Event::Refused { .. });
        observe(event);
    };

    let conversation = async {
        // A worker that dies while it is being told its job is judged by its end, not by the broken pipe. The pipe stays
        // open until then: its closing tells the worker that the agent is gone.
        if timeout(deadlines.load + GRACE, stdin.write_all(&frame)).await.is_err() {
            let ms = deadlines.load.as_millis();
            let why = format!("the worker did not take its job within {ms} ms");
            return Err(Heard::Stop(Failure::Failed(why)));
        }
        listen(stdout, phase, deadlines, limits, &mut hear).await
    };
    let heard = tokio::select! {
        heard = conversation => heard,
        () = cancel.cancelled() => Err(Heard::Stop(Failure::Cancelled)),
    };
    let outcome = match heard {
        Ok(outcome) => {
            reap(&mut child, GRACE).await;
            outcome
        }
        Err(Heard::Stop(failure)) => {
            reap(&mut child, Duration::ZERO).await;
            return Err(failure);
        }
        Err(Heard::Ended) => {
            let status = reap(&mut child, GRACE).await;
            let words = timeout(GRACE, last_words).await.ok().and_then(Result::ok).unwrap_or_default();
            let oom_killed = matches!((oom_kills_before, oom_kills()), (Some(a), Some(b)) if b > a);
            return Err(End { status, words: words.trim(), refused, oom_killed }.meaning(limits));
        }
    };
    drop(stdin);
    match outcome {
        Outcome::OutOfMemory => Err(out_of_memory(limits)),
        Outcome::TooSlow => Err(too_slow(limits)),
        Outcome::Unknown(unknown) => Err(Failure::Unknown(unknown)),
        Outcome::Refused(why) => Err(Failure::Refused(why)),
        Outcome::Failed(why) => Err(Failure::Failed(why)),
        Outcome::Measured(_)
        | Outcome::Inferred
        | Outcome::Prepared { .. }
        | Outcome::Opened(_)
        | Outcome::Baseline { .. } => Ok(outcome),
    }
}

fn spawn(command: &WorkerCommand) -> Result<Child, Failure> {
    Command::new(&command.program)
        .args(&command.prefix)
        .envs(WORKER_ENVIRONMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::Failed(format!("cannot start worker {}: {error}", command.program.display()))
        })
}

/// Why listening stopped without an outcome.
enum Heard {
    /// The worker is to be killed.
    Stop(Failure),
    /// The worker ended by itself without a word.
    Ended,
}

async fn listen(
    mut stdout: ChildStdout,
    first: Phase,
    deadlines: Deadlines,
    limits: NamedLimits,
    observe: &mut (dyn FnMut(&Event) + Send),
) -> Result<Outcome, Heard> {
    let begun = Instant::now();
    let mut phase = first;
    loop {
        let now = Instant::now();
        let deadline = match phase {
            Phase::Loading | Phase::Preparing => begun + deadlines.load,
            Phase::Inferring => now + deadlines.inference,
            // A worker that has loaded for longer than it has time ends with the inference that it is at.
            Phase::Sampling => now.max(begun + deadlines.whole) + SILENT_INFERENCES * deadlines.inference,
        } + GRACE;
        let event = tokio::time::timeout_at(deadline, next_event(&mut stdout)).await;
        let event = match event {
            Ok(Ok(event)) => event,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Heard::Ended),
            Ok(Err(error)) => {
                return Err(Heard::Stop(Failure::Failed(format!("the worker answers nonsense: {error}"))));
            }
            Err(_) => return Err(Heard::Stop(silence(phase, deadlines, limits))),
        };
        observe(&event);
        phase = match event {
            Event::Loaded => Phase::Inferring,
            // Inferences go on; whether the next are announced depends on how long this one took.
            Event::Inferred { ns } => after_inference(phase, ns, limits),
            Event::Sampling => Phase::Sampling,
            Event::Answer(_) | Event::Refused { .. } => phase,
            Event::Done(outcome) => return Ok(outcome),
        };
    }
}

/// After an inference in time come warm-up and samples, silently; after a slow one comes a second.
fn after_inference(phase: Phase, ns: u64, limits: NamedLimits) -> Phase {
    let in_time = ns <= u64::from(limits.inference_ms) * 1_000_000;
    if phase == Phase::Inferring && in_time { Phase::Sampling } else { phase }
}

/// What it means that nothing came until the deadline.
fn silence(phase: Phase, deadlines: Deadlines, limits: NamedLimits) -> Failure {
    let limit_ms = u32::try_from(deadlines.load.as_millis()).unwrap_or(u32::MAX);
    match phase {
        Phase::Loading => Failure::Unknown(Unknown::NotLoaded { limit_ms }),
        Phase::Preparing => Failure::Unknown(Unknown::NotPrepared { limit_ms }),
        Phase::Inferring => too_slow(limits),
        // It was fast enough before, so this is no property of the model.
        Phase::Sampling => Failure::Failed(format!(
            "the worker fell silent after its first inferences; it had {} ms",
            deadlines.whole.as_millis()
        )),
    }
}

async fn next_event(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Event> {
    let mut len = [0; 4];
    from.read_exact(&mut len).await?;
    let len = worker_job::checked_len(len, EVENT_BYTES)?;
    let mut body = Vec::new();
    if from.take(len as u64).read_to_end(&mut body).await? != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    worker_job::decode(&body)
}

/// Standard error to its end, of which the beginning is kept.
async fn last_words(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        let room = MAX_STDERR_BYTES - kept.len();
        kept.extend_from_slice(&piece[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Wait for the end that has come or is near, then kill.
async fn reap(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    if let Ok(Ok(status)) = timeout(patience, child.wait()).await {
        return Some(status);
    }
    if child.start_kill().is_err() {
        tracing::warn!("a worker could not be killed");
    }
    timeout(REAP_WAIT, child.wait()).await.ok()?.ok()
}

/// How a worker ended without an outcome.
struct End<'a> {
    status: Option<ExitStatus>,
    words: &'a str,
    /// Whether it had said that an allocation was refused.
    refused: bool,
    /// Whether the kernel has ended a process for lack of memory meanwhile.
    oom_killed: bool,
}

impl End<'_> {
    fn meaning(&self, limits: NamedLimits) -> Failure {
        let signal = self.status.and_then(|status| status.signal());
        let code = self.status.and_then(|status| status.code());
        let crashed = signal.is_some_and(|signal| CRASHES.contains(&signal));
        if self.refused && (crashed || code.is_some()) {
            return out_of_memory(limits);
        }
        if signal == Some(SIGKILL) && self.oom_killed {
            return out_of_memory(limits);
        }
        let words = if self.words.is_empty() { String::new() } else { format!(": {}", self.words) };
        let how = match (signal, code) {
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, Some(code)) => format!("exited with code {code}"),
            (None, None) => "ended in an unknown way".into(),
        };
        if crashed {
            let why = format!("it {how}{words}");
            return Failure::Unknown(Unknown::Crashed(clip(&why, limits::TEXT_BYTES).to_owned()));
        }
        Failure::Failed(format!("the worker {how} before it had a result{words}"))
    }
}

/// The student's fault where the board allows no more, but not where others have taken it.
fn out_of_memory(limits: NamedLimits) -> Failure {
    let limit_bytes = limits.memory_bytes;
    if limits.memory_is_scarce {
        return Failure::Disturbed(format!(
            "only {limit_bytes} bytes of the board's memory were free for it, which did not suffice"
        ));
    }
    Failure::Infeasible(Infeasible::OutOfMemory { limit_bytes })
}

fn too_slow(limits: NamedLimits) -> Failure {
    Failure::Infeasible(Infeasible::TooSlow { limit_ms: limits.inference_ms })
}

/// How many processes the kernel has killed for lack of memory since boot; `None` where it does not count.
fn oom_kills() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engines, Installed, Tract};
    use crate::worker_job::{InferInput, InferJob, ModelFile, WorkerBounds};
    use n2n_protocol::{Digest, Execution, Model};
    use std::time::Instant as Clock;

    const LIMITS: NamedLimits = NamedLimits { memory_bytes: 1000, memory_is_scarce: false, inference_ms: 50 };

    fn baseline() -> Job {
        Job::Baseline(Installed::Tract(Tract))
    }

    fn model() -> ModelFile {
        ModelFile {
            path: "m".into(),
            model: Model::onnx(Digest([0; 32])),
            engine: Installed::Tract(Tract),
            execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
            bounds: WorkerBounds { cores: vec![], memory_bytes: 1 },
        }
    }

    /// A worker that is a shell script.
    fn script(text: &str) -> WorkerCommand {
        let (program, prefix) = ("/bin/sh".into(), vec!["-c".into(), text.into()]);
        WorkerCommand { program, prefix, engines: Engines::default() }
    }

    /// The outcome of a script, and how many ms it took.
    async fn outcome(text: &str, cancel: &Cancel) -> (Result<Outcome, Failure>, u128) {
        outcome_of(text, &baseline(), cancel).await
    }

    async fn outcome_of(text: &str, job: &Job, cancel: &Cancel) -> (Result<Outcome, Failure>, u128) {
        let ms = Duration::from_millis;
        let deadlines = Deadlines { load: ms(100), inference: ms(50), whole: ms(100) };
        let begun = Clock::now();
        let result = run(&script(text), job, deadlines, LIMITS, cancel, &mut |_| {}).await;
        (result, begun.elapsed().as_millis())
    }

    /// As `printf` writes them.
    fn octal(event: &Event) -> String {
        worker_job::frame(event, EVENT_BYTES)
            .unwrap()
            .iter()
            .fold(String::new(), |text, byte| format!("{text}\\{byte:03o}"))
    }

    #[tokio::test]
    async fn crashes_of_the_engine_are_unknown_and_other_ends_are_failures() {
        for (signal, number) in [("SEGV", 11), ("ABRT", 6), ("ILL", 4), ("FPE", 8), ("BUS", 7), ("TRAP", 5)] {
            let text = format!("echo last words >&2; kill -{signal} $$");
            let (crash, _) = outcome(&text, &Cancel::never()).await;
            let words = format!("it was ended by signal {number}: last words");
            assert_eq!(crash, Err(Failure::Unknown(Unknown::Crashed(words))));
        }
        let (exit, _) = outcome("exit 3", &Cancel::never()).await;
        assert!(matches!(exit, Err(Failure::Failed(why)) if why.contains("exited with code 3")));

        let (killed, _) = outcome("kill -9 $$", &Cancel::never()).await;
        assert!(
            matches!(killed, Err(Failure::Failed(_))),
            "killed by somebody is nobody's fault: {killed:?}"
        );
    }

    #[tokio::test]
    async fn lack_of_memory_is_what_the_allocator_said_and_not_what_a_text_says() {
        let out_of_memory = Err(super::out_of_memory(LIMITS));
        let refused = octal(&Event::Refused { bytes: 1 << 30 });
        for end in ["kill -ABRT $$", "kill -SEGV $$", "exit 101"] {
            let (after, _) = outcome(&format!("printf '{refused}'; {end}"), &Cancel::never()).await;
            assert_eq!(after, out_of_memory, "{end}");
        }
        let (killed, _) = outcome(&format!("printf '{refused}'; kill -9 $$"), &Cancel::never()).await;
        assert!(matches!(killed, Err(Failure::Failed(_))), "somebody killed it: {killed:?}");
        let words = "echo memory allocation of 1234 bytes failed >&2; kill -ABRT $$";
        let (other, _) = outcome(words, &Cancel::never()).await;
        assert!(matches!(other, Err(Failure::Unknown(Unknown::Crashed(_)))), "{other:?}");
        // A worker that copes with a refusal goes on.
        let done = octal(&Event::Done(Outcome::Inferred));
        let (coped, _) = outcome(&format!("printf '{refused}{done}'"), &Cancel::never()).await;
        assert_eq!(coped, Ok(Outcome::Inferred));

        let end =
            End { status: Some(ExitStatus::from_raw(SIGKILL)), words: "", refused: false, oom_killed: true };
        assert_eq!(end.meaning(LIMITS), super::out_of_memory(LIMITS));
        let scarce = NamedLimits { memory_is_scarce: true, ..LIMITS };
        assert!(matches!(end.meaning(scarce), Failure::Disturbed(why) if why.contains("1000 bytes")));
    }

    #[tokio::test]
    async fn silence_means_what_the_worker_was_doing() {
        let (loading, ms) = outcome("sleep 60", &Cancel::never()).await;
        assert_eq!(loading, Err(Failure::Unknown(Unknown::NotLoaded { limit_ms: 100 })));
        assert!((1100..4000).contains(&ms), "{ms}");
        let (preparing, _) = outcome_of("sleep 60", &Job::Prepare(model()), &Cancel::never()).await;
        assert_eq!(preparing, Err(Failure::Unknown(Unknown::NotPrepared { limit_ms: 100 })));

        let loaded = octal(&Event::Loaded);
        let (inferring, ms) = outcome(&format!("printf '{loaded}'; sleep 60"), &Cancel::never()).await;
        assert_eq!(inferring, Err(too_slow(LIMITS)));
        assert!((1050..4000).contains(&ms), "{ms}");

        let first = octal(&Event::Inferred { ns: 1000 });
        let (sampling, _) = outcome(&format!("printf '{loaded}{first}'; sleep 60"), &Cancel::never()).await;
        assert!(matches!(sampling, Err(Failure::Failed(why)) if why.contains("fell silent")));
    }

    #[tokio::test]
    async fn a_worker_that_never_reads_its_job_is_given_up() {
        let inputs = vec![InferInput::Bytes(vec![1; 1 << 22].into())];
        let job = Job::Infer(InferJob { file: model(), inputs });
        let (deaf, ms) = outcome_of("sleep 60", &job, &Cancel::never()).await;
        assert!(matches!(deaf, Err(Failure::Failed(why)) if why.contains("did not take its job")));
        assert!((1100..4000).contains(&ms), "{ms}");
    }

    #[tokio::test]
    async fn nonsense_is_a_failure() {
        for text in
            ["printf '\\377\\377\\377\\377'; sleep 60", "printf '\\001\\000\\000\\000\\143'; sleep 60"]
        {
            let (nonsense, ms) = outcome(text, &Cancel::never()).await;
            assert!(matches!(nonsense, Err(Failure::Failed(why)) if why.contains("nonsense")));
            assert!(ms < 1000);
        }
    }

    #[tokio::test]
    async fn cancelling_kills_the_process_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let text = format!("echo $$ > {}; exec sleep 60", file.display());
        let (canceller, cancel) = Cancel::pair();
        let stop_when_it_runs = async {
            let pid = loop {
                match std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i32>().ok()) {
                    Some(pid) => break pid,
                    None => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
            canceller.cancel();
            (pid, Clock::now())
        };
        let ((result, _), (pid, cancelled)) = tokio::join!(outcome(&text, &cancel), stop_when_it_runs);
        assert_eq!(result, Err(Failure::Cancelled));
        assert!(cancelled.elapsed() < Duration::from_secs(1));
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the worker is still there");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let missing = WorkerCommand { program: "/no/such/worker".into(), ..script("") };
        let second = Duration::from_secs(1);
        let deadlines = Deadlines { load: second, inference: second, whole: second };
        let result = run(&missing, &baseline(), deadlines, LIMITS, &Cancel::never(), &mut |_| {}).await;
        assert!(matches!(result, Err(Failure::Failed(why)) if why.contains("/no/such/worker")));
    }
}
