//! The user's own program, told of every switch: the application that runs the student is to load the other one.
//!
//! Which program it is stands in the board's own configuration, never in a message: no host names commands. It has a
//! deadline, and a group of its own, so that what it started ends with it.

use n2n_protocol::Digest;
use rustix::process::{Pid, Signal, kill_process_group};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// For the program to end: an application that loads a model anew, on a slow board.
const DEADLINE: Duration = Duration::from_secs(30);
/// For the output of a program that has ended: something it left behind may hold the other end.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// Output of the program that is kept for the log and for the host, bytes, the last of it.
const TAIL_BYTES: usize = 2048;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// A student was activated, on trial.
    Activated,
    /// The board went back to an earlier one.
    RolledBack,
}

/// The student that is active now.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) model: PathBuf,
    pub(super) name: String,
    pub(super) digest: Digest,
}

/// Tell the program, and wait for its end. `now` is `None` when nothing is active any more.
///
/// # Errors
/// Why it failed, with the last of its output.
pub(super) async fn tell(program: &Path, switch: Switch, now: Option<&Now>) -> Result<(), String> {
    told_within(DEADLINE, program, switch, now).await
}

async fn told_within(
    deadline: Duration,
    program: &Path,
    switch: Switch,
    now: Option<&Now>,
) -> Result<(), String> {
    let failed = |why: &str| format!("the program {} {why}", program.display());
    let mut command = Command::new(program);
    command
        .env(
            "N2N_EVENT",
            match switch {
                Switch::Activated => "activated",
                Switch::RolledBack => "rolled_back",
            },
        )
        .env("N2N_MODEL", now.map_or_else(PathBuf::new, |now| now.model.clone()))
        .env("N2N_NAME", now.map_or("", |now| &now.name))
        .env("N2N_DIGEST", now.map_or_else(String::new, |now| now.digest.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(&format!("does not start: {error}")))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let output = tokio::spawn(tails(child.stdout.take(), child.stderr.take()));
    let ended = timeout(deadline, child.wait()).await;
    // Also after a good end: what the program leaves behind in its group is not ours to keep.
    if ended.is_err()
        && let Some(group) = group
    {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
    let output = timeout(OUTPUT_GRACE, output).await.ok().and_then(Result::ok).unwrap_or_default();
    let said = if output.is_empty() { String::new() } else { format!("; it said: {output}") };
    match ended {
        Ok(Ok(status)) if status.success() => {
            tracing::info!(program = %program.display(), output, "told of the switch");
            Ok(())
        }
        Ok(Ok(status)) => Err(failed(&format!("failed ({status}){said}"))),
        Ok(Err(error)) => Err(failed(&format!("was lost: {error}"))),
        Err(_) => Err(failed(&format!("was not done within {} s and was ended{said}", deadline.as_secs()))),
    }
}

/// The last of two streams, as one text.
async fn tails(out: Option<impl AsyncRead + Unpin>, err: Option<impl AsyncRead + Unpin>) -> String {
    let (out, err) = tokio::join!(tail(out), tail(err));
    let text = [out, err].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    text.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" | ")
}

async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    let Some(mut stream) = stream else { return kept };
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(TAIL_BYTES));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn program(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("told");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn now() -> Now {
        Now { model: "/slots/active/model.onnx".into(), name: "a".into(), digest: Digest([1; 32]) }
    }

    #[tokio::test]
    async fn the_program_hears_what_happened() {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let text = format!("echo \"$N2N_EVENT $N2N_MODEL $N2N_NAME $N2N_DIGEST\" >> {}", heard.display());
        let path = program(folder.path(), &text);
        tell(&path, Switch::Activated, Some(&now())).await.unwrap();
        tell(&path, Switch::RolledBack, None).await.unwrap();
        let digest = "01".repeat(32);
        let expected = format!("activated /slots/active/model.onnx a {digest}\nrolled_back   \n");
        assert_eq!(std::fs::read_to_string(heard).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_failure_comes_with_what_the_program_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "echo loading; echo 'no such operator' >&2; exit 3");
        let why = tell(&path, Switch::Activated, Some(&now())).await.unwrap_err();
        assert!(why.contains("exit status: 3") && why.contains("loading | no such operator"), "{why}");
        let why = tell(Path::new("/nonexistent/told"), Switch::Activated, None).await.unwrap_err();
        assert!(why.contains("does not start"), "{why}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let child = folder.path().join("child");
        let text = format!("sleep 600 & echo $! > {}; wait", child.display());
        let path = program(folder.path(), &text);
        let why =
            told_within(Duration::from_secs(1), &path, Switch::Activated, Some(&now())).await.unwrap_err();
        assert!(why.contains("was not done within 1 s"), "{why}");
        let id: i32 = std::fs::read_to_string(child).unwrap().trim().parse().unwrap();
        let alive =
            || std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z"));
        let began = std::time::Instant::now();
        while alive() {
            assert!(began.elapsed() < Duration::from_secs(20), "its child lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
