//! The real programs with a home folder of their own, a deadline, and their output caught.

use std::fs::Permissions;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A folder that is a user's whole world: home, boards, keys, slots, working directory. Gone when dropped.
#[derive(Debug)]
pub struct World {
    folder: tempfile::TempDir,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

/// A program in the background; killed when dropped, so that a failed test leaves nothing behind.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
    lines: mpsc::Receiver<String>,
}

type Reader = mpsc::Receiver<io::Result<String>>;

/// A process of a [`World`], whoever started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub id: u32,
    /// Its command line, words separated by spaces.
    pub command: String,
}

/// Looks until there is something to see.
///
/// # Errors
/// Nothing by the deadline; the error names what was awaited.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if started.elapsed() > deadline {
            return Err(late(&format!("{what}: not seen after {deadline:?}")));
        }
        std::thread::sleep(POLL);
    }
}

/// Sends a signal, by the name that `kill` knows (`KILL`, `INT`).
///
/// # Errors
/// There is no such process, or it is not ours.
pub fn signal(process: u32, name: &str) -> io::Result<()> {
    let status = Command::new("kill").args(["-s", name, &process.to_string()]).status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("kill -s {name} {process}: {status}")))
}

impl World {
    /// A fresh, empty one.
    ///
    /// # Errors
    /// The system has no room for it.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("n2n-test-").tempdir()?;
        std::fs::create_dir(folder.path().join("home"))?;
        Ok(Self { folder })
    }

    /// The working directory of programs in this world.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the working directory.
    ///
    /// # Errors
    /// As for writing files.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, contents)?;
        Ok(path)
    }

    /// As [`Self::write`], readable by its owner only.
    ///
    /// # Errors
    /// As for writing files.
    pub fn write_secret(&self, name: &str, contents: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.write(name, contents)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// A command that sees this world only: its home, no colour, no settings of whoever runs the tests.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path())
            .env("N2N_HOME", self.path().join("home"))
            .env("HOME", self.path().join("home"))
            .env("NO_COLOR", "1")
            .env_remove("N2N_LOG")
            .env_remove("RUST_BACKTRACE")
            .env_remove("COLUMNS")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It cannot be started, or is not done by the deadline (then it is killed).
    pub fn run(&self, program: &str, arguments: &[&str], deadline: Duration) -> io::Result<Finished> {
        self.start(program, arguments)?.finish(deadline)
    }

    /// Everything alive that was started in this world, children of children too: found by the home in its environment.
    ///
    /// # Errors
    /// The system does not show its processes.
    pub fn processes(&self) -> io::Result<Vec<Process>> {
        let home = format!("N2N_HOME={}", self.path().join("home").display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // One that ended meanwhile, or is somebody else's, cannot be read.
            let Ok(environment) = std::fs::read(path.join("environ")) else { continue };
            if environment.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes()) {
                let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                found.push(Process { id, command });
            }
        }
        Ok(found)
    }

    /// Starts a program in the background.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, program: &str, arguments: &[&str]) -> io::Result<Running> {
        let mut command = self.command(program, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Read while it runs: a full pipe would stop the program.
        let (line, lines) = mpsc::channel();
        let stdout = drain(child.stdout.take(), Some(line));
        let stderr = drain(child.stderr.take(), None);
        Ok(Running { child, stdout, stderr, lines })
    }
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its next line on standard output.
    ///
    /// # Errors
    /// None comes by the deadline.
    pub fn next_line(&self, deadline: Duration) -> io::Result<String> {
        self.lines.recv_timeout(deadline).map_err(|error| io::Error::new(io::ErrorKind::TimedOut, error))
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// As for killing a child.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// As for asking after a child.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end, and for the end of its output: children that hold it are waited for too.
    ///
    /// # Errors
    /// Not done by the deadline (then it is killed), or its output cannot be read.
    pub fn finish(mut self, deadline: Duration) -> io::Result<Finished> {
        let started = Instant::now();
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if started.elapsed() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                return Err(late(&format!("not done after {deadline:?}")));
            }
            std::thread::sleep(POLL);
        };
        let left = || deadline.saturating_sub(started.elapsed()).max(POLL);
        let (stdout, stderr) = (read(self.stdout.take(), left())?, read(self.stderr.take(), left())?);
        Ok(Finished { code: status.code(), stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is fine; nothing else can be done about a failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The one JSON object on standard output.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
    }

    /// The line of standard error that starts so, without the start.
    pub fn line(&self, start: &str) -> Option<&str> {
        self.stderr.lines().find_map(|line| line.strip_prefix(start))
    }
}

/// Collects a stream, and passes its lines on as they come to whoever still listens.
fn drain(stream: Option<impl Read + Send + 'static>, line: Option<mpsc::Sender<String>>) -> Option<Reader> {
    let mut stream = BufReader::new(stream?);
    let (whole, reader) = mpsc::channel();
    let mut collect = move || -> io::Result<String> {
        let mut all = String::new();
        let mut bytes = Vec::new();
        while stream.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            all.push_str(&text);
            if let Some(line) = &line {
                let _ = line.send(text.trim_end().to_owned());
            }
            bytes.clear();
        }
        Ok(all)
    };
    std::thread::spawn(move || {
        // Whoever gave up waiting does not want it any more.
        let _ = whole.send(collect());
    });
    Some(reader)
}

fn read(reader: Option<Reader>, deadline: Duration) -> io::Result<String> {
    let Some(reader) = reader else { return Ok(String::new()) };
    reader.recv_timeout(deadline).map_err(|_| late("somebody still holds a program's output"))?
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}
