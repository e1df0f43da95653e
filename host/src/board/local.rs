//! An agent of our own: a second process of this executable, which listens on loopback and lives as long as we do.

use super::error::BoardError;
use super::home::Home;
use n2n_protocol::key::Key;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For the child to say where it listens: it opens its store first, on a slow disk.
const START: Duration = Duration::from_secs(20);

/// For the child to end by itself, killing its worker, before it is killed.
const STOP: Duration = Duration::from_secs(3);

/// Between two looks at whether it has ended.
const STOP_LOOK: Duration = Duration::from_millis(10);

/// Longest first line that is read from the child, bytes.
const LINE_BYTES: u64 = 128;

/// What the child says before its address.
const ANNOUNCEMENT: &str = "listening ";

/// How to start a local agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalProgram {
    /// The executable.
    pub program: PathBuf,
    /// Words before the agent's verbs: `agent` for `n2n`, none for `n2n-agent`.
    pub prefix: Vec<OsString>,
    /// The agent's data folder.
    pub data: PathBuf,
}

impl LocalProgram {
    /// `n2n agent …` of the running executable.
    ///
    /// # Errors
    /// [`BoardError::Unavailable`] when the system does not say which file is running.
    pub fn of_this_program(home: &Home) -> Result<Self, BoardError> {
        let program = std::env::current_exe().map_err(|error| unavailable(&error.to_string()))?;
        Ok(Self { program, prefix: vec![OsString::from("agent")], data: home.local_agent() })
    }
}

/// A running local agent. Dropped, it ends.
#[derive(Debug)]
pub(super) struct LocalAgent {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) key: Key,
}

impl LocalAgent {
    /// Start the child, hand it a fresh key, and wait until it listens.
    pub(super) fn start(local: &LocalProgram) -> Result<Self, BoardError> {
        let key = Key::generate().map_err(|error| unavailable(&error.to_string()))?;
        let mut command = Command::new(&local.program);
        command
            .args(&local.prefix)
            .args(["serve", "--parent-pipe", "--listen", "127.0.0.1:0", "--data"])
            .arg(&local.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // A group of its own: Ctrl-C in the terminal is for the host, which finishes its journal first.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let starting =
            |error: io::Error| unavailable(&format!("starting {}: {error}", local.program.display()));
        let mut child = command.spawn().map_err(starting)?;
        let output = child.stdout.take();
        // From here on the child is ours to end, whatever fails.
        let mut agent = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), key };
        let line = format!("{}\n", agent.key.reveal());
        let input = agent.child.stdin.as_mut();
        // A child that has died already is told apart below, by its missing announcement.
        let _ = input.map(|input| input.write_all(line.as_bytes()).and_then(|()| input.flush()));
        agent.address = agent.announcement(output)?;
        Ok(agent)
    }

    /// Process id of the child.
    pub(super) fn process_id(&self) -> u32 {
        self.child.id()
    }

    fn announcement(&mut self, output: Option<ChildStdout>) -> Result<SocketAddr, BoardError> {
        let output = output.ok_or_else(|| unavailable("the local agent has no output"))?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let reader = move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            let _ = output.by_ref().take(LINE_BYTES).read_line(&mut line);
            let _ = sender.send(line);
            // Whatever comes later must not fill the pipe and stop the child.
            let _ = io::copy(&mut output, &mut io::sink());
        };
        let thread = std::thread::Builder::new().name("local-agent".to_owned()).spawn(reader);
        thread.map_err(|error| unavailable(&error.to_string()))?;
        let line =
            receiver.recv_timeout(START).map_err(|_| unavailable("the local agent did not start in time"))?;
        line.strip_prefix(ANNOUNCEMENT).and_then(|address| address.trim().parse().ok()).ok_or_else(|| {
            let ended = wait(&mut self.child, STOP)
                .map_or_else(String::new, |status| format!(" and ended ({status})"));
            unavailable(&format!("the local agent said {:?} instead of its address{ended}", line.trim()))
        })
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        // The end of its pipe tells the child to stop its worker and leave.
        drop(self.child.stdin.take());
        if wait(&mut self.child, STOP).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Wait for a child's end, at most so long.
fn wait(child: &mut Child, longest: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + longest;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(STOP_LOOK),
            _ => return None,
        }
    }
}

fn unavailable(reason: &str) -> BoardError {
    BoardError::Unavailable { board: "local".to_owned(), reason: reason.to_owned() }
}
