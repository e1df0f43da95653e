//! The agent's verbs, the same for `n2n-agent …` and `n2n agent …`.

use crate::log_tail::LogTail;
use crate::server::Server;
use crate::services::Services;
use crate::transport::tcp;
use crate::{WorkerCommand, key, parent, worker};
use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use etcetera::{AppStrategy as _, AppStrategyArgs, choose_app_strategy};
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Where an agent listens if it is not told otherwise: this machine only, n2n's port.
const DEFAULT_ADDRESS: &str = "127.0.0.1:7117";

/// Threads of the agent itself: one may block in a system call while the other keeps the sessions alive.
const THREADS: usize = 2;

/// For blocking work to end when the agent stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Measures candidate networks on this board and holds the deployed one.
#[derive(Parser)]
#[command(name = "n2n-agent", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

/// What an agent can be asked on the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this board to hosts that hold its key
    Serve(Serve),
    /// Make this board's key and show it once
    Key(MakeKey),
    /// A worker process; started by the agent itself
    #[command(hide = true)]
    Worker {
        /// Arguments of the agent to its worker.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        arguments: Vec<OsString>,
    },
}

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Address to listen at; a port of 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS)]
    listen: SocketAddr,
    /// File with the key [default: `key` in the data folder]
    #[arg(long, value_name = "FILE", conflicts_with = "parent_pipe")]
    key_file: Option<PathBuf>,
    /// Folder for models and slots [default: the user's data folder for n2n-agent]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Belong to the process at the other end of standard input: the key comes from there, and its end is this agent's
    #[arg(long)]
    parent_pipe: bool,
}

/// Arguments of `key`.
#[derive(Args, Debug)]
pub struct MakeKey {
    /// File for the key [default: `key` in the data folder]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Folder for models and slots [default: the user's data folder for n2n-agent]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Make another key though there is one; hosts that hold the old one are shut out
    #[arg(long)]
    replace: bool,
}

/// `n2n-agent` as a whole: read the command line and do what it says.
///
/// # Errors
/// As [`run`].
pub fn main() -> Result<ExitCode> {
    run(Program::parse().command, &[])
}

/// Do one verb. `group` is what stands before the verbs on the command line of this executable: nothing for `n2n-agent`,
/// `agent` for `n2n agent`.
///
/// # Errors
/// For people: what failed, and a hint.
pub fn run(command: Command, group: &[&str]) -> Result<ExitCode> {
    match command {
        Command::Serve(arguments) => serve(arguments, group).map(|()| ExitCode::SUCCESS),
        Command::Key(arguments) => make_key(arguments).map(|()| ExitCode::SUCCESS),
        // It reads its job from its own pipe and arguments.
        Command::Worker { .. } => Ok(worker::main()),
    }
}

fn make_key(arguments: MakeKey) -> Result<()> {
    let file = match arguments.key_file {
        Some(file) => file,
        None => key::file_in(&data_folder(arguments.data)?),
    };
    let made = key::make(&file, arguments.replace)?;
    // The result of the verb, shown this once.
    writeln!(std::io::stdout(), "{}", made.reveal()).context("showing the key")
}

fn serve(arguments: Serve, group: &[&str]) -> Result<()> {
    let log = LogTail::default();
    start_log(&log, arguments.parent_pipe);
    let data = data_folder(arguments.data)?;
    let (key, parent) = if arguments.parent_pipe {
        let (key, parent) = parent::meet(std::io::stdin())?;
        (key, Some(parent))
    } else {
        (key::read(&arguments.key_file.unwrap_or_else(|| key::file_in(&data)))?, None)
    };
    let worker = WorkerCommand::of_this_program(group).context("this program's own path")?;
    let services = Services::open(&data, worker, log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("starting threads")?;
    let outcome = runtime.block_on(async {
        let listener = tcp::bind(arguments.listen).await?;
        let address = listener.local_addr()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            match parent {
                // A parent decides itself what Ctrl-C means for its agent.
                Some(parent) => tokio::select! {
                    _ = parent => tracing::info!("the parent is gone"),
                    _ = terminate.recv() => tracing::info!("asked to stop"),
                },
                None => tokio::select! {
                    _ = interrupt.recv() => tracing::info!("interrupted"),
                    _ = terminate.recv() => tracing::info!("asked to stop"),
                },
            }
        };
        // For a parent, and for scripts: with port 0 nobody else knows it.
        writeln!(std::io::stdout(), "listening {address}").context("saying where it listens")?;
        tracing::info!(%address, "listening");
        Server::new(key, services.into_handler()).serve(listener, stop).await;
        Ok(())
    });
    runtime.shutdown_timeout(STOP_GRACE);
    outcome
}

/// Logs go to standard error and to the tail; `RUST_LOG` chooses, a child speaks up only for warnings.
fn start_log(tail: &LogTail, quiet: bool) {
    let filter = |level: &str| EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let to_people = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let to_tail = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(tail.clone());
    let started = tracing_subscriber::registry()
        .with(to_people.with_filter(filter(if quiet { "warn" } else { "info" })))
        .with(to_tail.with_filter(filter("info")))
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was set up before; the log tail stays empty");
    }
}

fn data_folder(chosen: Option<PathBuf>) -> Result<PathBuf> {
    let folder = match chosen {
        Some(folder) => folder,
        None => {
            let application =
                AppStrategyArgs { app_name: "n2n-agent".to_owned(), ..AppStrategyArgs::default() };
            choose_app_strategy(application)
                .context("no home folder\nhint: name a folder with --data")?
                .data_dir()
        }
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
