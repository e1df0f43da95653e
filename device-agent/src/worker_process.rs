//! One worker process seen from the agent: start, listen, watch the clock, and say what its end means.
//!
//! Every wait has a deadline and ends at once when the request is cancelled; the process never outlives this future. An
//! end that nobody understands is a failure and never scored: only what is *known* to be lack of memory or time is the
//! student's fault.

use crate::cancel::Cancel;
use crate::worker_command::WorkerCommand;
use crate::worker_job::{self, Event, Job, Outcome};
use crate::worker_limits::WORKER_ENVIRONMENT;
use n2n_protocol::{Failure, Infeasible};
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
const GRACE: Duration = Duration::from_secs(1);
/// A killed process is reaped within this, or the kernel holds it in a way that waiting does not help.
const REAP_WAIT: Duration = Duration::from_secs(5);
/// What the Rust runtime says when an allocation failed.
const ALLOCATION_FAILED: &str = "memory allocation of";
/// Signals by their numbers, the same on every Linux target of this project.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// How long the phases of a worker may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// From the start to [`Event::Loaded`].
    pub(crate) load: Duration,
    /// One inference, each of the early ones.
    pub(crate) inference: Duration,
    /// From the start to the end, by the worker's own count; it gets some grace beyond.
    pub(crate) whole: Duration,
}

/// Limits that a failure names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedLimits {
    pub(crate) memory_bytes: u64,
    pub(crate) inference_ms: u32,
}

/// What a worker was doing when it stopped answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
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
    let frame = worker_job::frame(job).map_err(|error| Failure::Failed(error.to_string()))?;

    let conversation = async {
        // A worker that dies while it is being told its job is judged by its end, not by the broken pipe. The pipe stays
        // open until then: its closing tells the worker that the agent is gone.
        match timeout(deadlines.load + GRACE, stdin.write_all(&frame)).await {
            Ok(_) => {}
            Err(_) => return Err(Heard::Stop(silence(Phase::Loading, deadlines, limits))),
        }
        listen(stdout, deadlines, limits, observe).await
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
            return Err(meaning_of_end(status, &words, oom_killed, limits));
        }
    };
    drop(stdin);
    match outcome {
        Outcome::OutOfMemory => Err(out_of_memory(limits)),
        Outcome::TooSlow => Err(too_slow(limits)),
        Outcome::Failed(why) => Err(Failure::Failed(why)),
        Outcome::Measured(_) | Outcome::Inferred(_) | Outcome::Baseline { .. } => Ok(outcome),
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
    deadlines: Deadlines,
    limits: NamedLimits,
    observe: &mut (dyn FnMut(&Event) + Send),
) -> Result<Outcome, Heard> {
    let begun = Instant::now();
    let mut phase = Phase::Loading;
    loop {
        let deadline = match phase {
            Phase::Loading => begun + deadlines.load,
            Phase::Inferring => Instant::now() + deadlines.inference,
            // One inference may still begin just before the worker's own time ends.
            Phase::Sampling => begun + deadlines.whole + deadlines.inference,
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
    match phase {
        Phase::Loading => Failure::Failed(format!(
            "the engine did not load the model within {} ms",
            deadlines.load.as_millis()
        )),
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
    let len = u64::from(worker_job::checked_len(len)?);
    let mut body = Vec::new();
    if from.take(len).read_to_end(&mut body).await? as u64 != len {
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

fn meaning_of_end(status: Option<ExitStatus>, words: &str, oom_killed: bool, limits: NamedLimits) -> Failure {
    let signal = status.and_then(|status| status.signal());
    if signal == Some(SIGABRT) && words.contains(ALLOCATION_FAILED) {
        return out_of_memory(limits);
    }
    if signal == Some(SIGKILL) && oom_killed {
        return out_of_memory(limits);
    }
    let how = match (signal, status.and_then(|status| status.code())) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended in an unknown way".into(),
    };
    let words = words.trim();
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    Failure::Failed(format!("the worker {how} before it had a result{words}"))
}

fn out_of_memory(limits: NamedLimits) -> Failure {
    Failure::Infeasible(Infeasible::OutOfMemory { limit_bytes: limits.memory_bytes })
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
    use crate::worker_job::{InferInput, InferJob, WorkerBounds};
    use std::time::Instant as Clock;

    const LIMITS: NamedLimits = NamedLimits { memory_bytes: 1000, inference_ms: 50 };

    /// A worker that is a shell script.
    fn script(text: &str) -> WorkerCommand {
        WorkerCommand { program: "/bin/sh".into(), prefix: vec!["-c".into(), text.into()] }
    }

    /// The outcome of a script, and how many ms it took.
    async fn outcome(text: &str, cancel: &Cancel) -> (Result<Outcome, Failure>, u128) {
        outcome_of(text, &Job::Baseline, cancel).await
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
        worker_job::frame(event)
            .unwrap()
            .iter()
            .fold(String::new(), |text, byte| format!("{text}\\{byte:03o}"))
    }

    #[tokio::test]
    async fn crashes_are_failures_and_name_their_signal() {
        let (crash, _) = outcome("echo last words >&2; kill -SEGV $$", &Cancel::never()).await;
        let Err(Failure::Failed(why)) = crash else { panic!("{crash:?}") };
        assert_eq!(why, "the worker was ended by signal 11 before it had a result: last words");

        let (exit, _) = outcome("exit 3", &Cancel::never()).await;
        assert!(matches!(exit, Err(Failure::Failed(why)) if why.contains("exited with code 3")));

        let (killed, _) = outcome("kill -9 $$", &Cancel::never()).await;
        assert!(
            matches!(killed, Err(Failure::Failed(_))),
            "killed by somebody is nobody's fault: {killed:?}"
        );
    }

    #[tokio::test]
    async fn lack_of_memory_is_told_from_other_aborts() {
        let out_of_memory = Err(super::out_of_memory(LIMITS));
        let words = "echo memory allocation of 1234 bytes failed >&2; kill -ABRT $$";
        assert_eq!(outcome(words, &Cancel::never()).await.0, out_of_memory);
        let (other, _) = outcome("echo assertion >&2; kill -ABRT $$", &Cancel::never()).await;
        assert!(matches!(other, Err(Failure::Failed(_))));

        let killed = ExitStatus::from_raw(SIGKILL);
        assert_eq!(meaning_of_end(Some(killed), "", true, LIMITS), super::out_of_memory(LIMITS));
    }

    #[tokio::test]
    async fn silence_means_what_the_worker_was_doing() {
        let (loading, ms) = outcome("sleep 60", &Cancel::never()).await;
        assert!(matches!(loading, Err(Failure::Failed(why)) if why.contains("did not load")));
        assert!((1100..4000).contains(&ms), "{ms}");

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
        let bounds = WorkerBounds { cores: vec![], memory_bytes: 1 };
        let inputs = vec![InferInput::Values(vec![1.0; 1 << 20])];
        let job = Job::Infer(InferJob { model: "m".into(), bounds, inputs });
        let (deaf, ms) = outcome_of("sleep 60", &job, &Cancel::never()).await;
        assert!(matches!(deaf, Err(Failure::Failed(why)) if why.contains("did not load")));
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
        let missing = WorkerCommand { program: "/no/such/worker".into(), prefix: vec![] };
        let second = Duration::from_secs(1);
        let deadlines = Deadlines { load: second, inference: second, whole: second };
        let result = run(&missing, &Job::Baseline, deadlines, LIMITS, &Cancel::never(), &mut |_| {}).await;
        assert!(matches!(result, Err(Failure::Failed(why)) if why.contains("/no/such/worker")));
    }
}
