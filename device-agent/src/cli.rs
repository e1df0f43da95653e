//! The agent's verbs, the same for `n2n-agent …` and `n2n agent …`.

mod key;
mod place;

use crate::advice::Advice;
use crate::audit::{Audit, audited};
use crate::configuration::Configuration;
use crate::key::files::{KeyFiles, Loaded};
use crate::key::{KeyRing, watch};
use crate::log_tail::LogTail;
use crate::server::Server;
use crate::services::Services;
use crate::tally::{Tally, told_in_status};
use crate::transport::doors::Doors;
use crate::transport::serial::SerialListener;
use crate::transport::tcp;
use crate::{WorkerCommand, doctor, find_engines, parent, probe, slots, worker};
use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use n2n_serial::{DEFAULT_BAUD, MAX_BAUD, MIN_BAUD, Settings};
use place::{data_folder, named_folder};
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Where an agent listens if it is not told otherwise: this machine only, n2n's port.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7117);

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
    /// Show this board's key, and make it the first time; or see to the keys of several hosts
    Key(key::Arguments),
    /// Show what this board has for its agent and what it lacks
    Doctor {
        /// Folder with the board's `agent.toml` [default: the user's data folder for n2n-agent]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
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
    /// Address to listen at; a port of 0 takes any free one [default: 127.0.0.1:7117, or none with --serial]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serial device to serve, whether it is plugged in already or not
    #[arg(long, value_name = "DEVICE")]
    serial: Option<PathBuf>,
    /// Speed of the serial device, bits in a second; the host's has to be the same
    #[arg(long, value_name = "BAUD", default_value_t = DEFAULT_BAUD, requires = "serial",
        value_parser = clap::value_parser!(u32).range(i64::from(MIN_BAUD)..=i64::from(MAX_BAUD)))]
    baud: u32,
    /// File with the key `default` [default: `key` in the data folder]
    #[arg(long, value_name = "FILE", conflicts_with = "parent_pipe")]
    key_file: Option<PathBuf>,
    /// Folder for models, slots and keys [default: the user's data folder for n2n-agent]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Belong to the process at the other end of standard input: the key comes from there, and its end is this agent's
    #[arg(long)]
    parent_pipe: bool,
}

/// `n2n-agent` as a whole: read the command line and do what it says. An error is told in words.
pub fn main() -> ExitCode {
    run(Program::parse().command, &[]).unwrap_or_else(|error| {
        // Nothing is left to be told if standard error is gone.
        let _ = writeln!(std::io::stderr(), "{}", in_words(&error));
        ExitCode::FAILURE
    })
}

/// One line `error: …`, and one line `hint: …` if there is a next step.
fn in_words(error: &anyhow::Error) -> String {
    match Advice::hint_of(error) {
        Some(hint) => format!("error: {error:#}\nhint: {hint}"),
        None => format!("error: {error:#}"),
    }
}

/// Do one verb. `group` is what stands before the verbs on the command line of this executable: nothing for `n2n-agent`,
/// `agent` for `n2n agent`.
///
/// # Errors
/// For people: what failed; [`Advice::hint_of`] finds the next step.
pub fn run(command: Command, group: &[&str]) -> Result<ExitCode> {
    match command {
        Command::Serve(arguments) => serve(arguments, group).map(|()| ExitCode::SUCCESS),
        Command::Key(arguments) => key::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Doctor { data } => {
            let data = named_folder(data)?;
            let choice = Configuration::load(&data).context("the board's own configuration")?.onnxruntime;
            let worker = WorkerCommand::of_this_program(group).context("this program's own path")?;
            let found = runtime()?.block_on(find_engines::find(&choice, &data, &worker));
            write!(std::io::stdout(), "{}", doctor::report(&found)).context("showing the findings")?;
            Ok(ExitCode::SUCCESS)
        }
        // It reads its job from its own pipe and arguments.
        Command::Worker { .. } => Ok(worker::main()),
    }
}

/// The keys to serve with, and whether they follow their files.
fn keys(arguments: &Serve, data: &Path) -> Result<watch::Keys> {
    let mut files = KeyFiles::in_data(data);
    if let Some(file) = &arguments.key_file {
        files = files.with_single(file.clone());
    }
    let loaded = files.load();
    if loaded.ring.is_empty() {
        let none =
            || Advice::new(format!("no key in {}", files.place().display()), "`n2n-agent key` makes one");
        return Err(loaded.problems.into_iter().next().unwrap_or_else(none).into());
    }
    let Loaded { ring, problems } = &loaded;
    problems.iter().for_each(Advice::warn);
    tracing::info!(keys = ring.all().len(), "hosts with these keys are served");
    watch::follow(files, loaded).context("watching the keys")
}

fn serve(arguments: Serve, group: &[&str]) -> Result<()> {
    let log = LogTail::default();
    start_log(&log, arguments.parent_pipe);
    let data = data_folder(arguments.data.clone())?;
    let (keys, parent) = if arguments.parent_pipe {
        let (key, parent) = parent::meet(std::io::stdin())?;
        (watch::fixed(KeyRing::of("parent", key)), Some(parent))
    } else {
        (keys(&arguments, &data)?, None)
    };
    let serial = arguments.serial.map(|device| Settings { device, baud: arguments.baud });
    let worker = WorkerCommand::of_this_program(group).context("this program's own path")?;
    let Configuration { class, trial, on_switch, onnxruntime } =
        Configuration::load(&data).context("the board's own configuration")?;
    let runtime = runtime()?;
    let found = runtime.block_on(find_engines::find(&onnxruntime, &data, &worker));
    if let Some(problem) = &found.problem {
        tracing::warn!("{problem}");
    }
    let worker = worker.with_engines(found.engines);
    let class = class.unwrap_or_else(|| probe::board().class);
    let settings = slots::Settings { trial, class, on_switch };
    let services = Services::open(&data, settings, worker, log)?;
    let audit = if services.owns_its_data() {
        Audit::in_folder(&data).context("keeping the audit log")?
    } else {
        Audit::in_memory()
    };
    let outcome = runtime.block_on(async {
        let doors = open_doors(arguments.listen, serial).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            // A parent decides itself what Ctrl-C means for its agent.
            if let Some(parent) = parent {
                tokio::select! {
                    _ = parent => tracing::info!("the parent is gone"),
                    _ = terminate.recv() => tracing::info!("asked to stop"),
                }
            } else {
                tokio::select! {
                    _ = interrupt.recv() => tracing::info!("interrupted"),
                    _ = terminate.recv() => tracing::info!("asked to stop"),
                }
            }
        };
        let keeper = services.clone();
        let keeper = tokio::spawn(async move { keeper.keep().await });
        let tally = Tally::default();
        let handler = audited(told_in_status(services.into_handler(), tally.clone()), audit.clone());
        Server::new(keys, handler, tally).serve(doors, stop).await;
        keeper.abort();
        Ok(())
    });
    audit.flush(STOP_GRACE);
    runtime.shutdown_timeout(STOP_GRACE);
    outcome
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_all().build().context("starting threads")
}

/// Open what the arguments name, and say where it is: for a parent, and for scripts. With port 0 nobody else knows it.
async fn open_doors(listen: Option<SocketAddr>, serial: Option<Settings>) -> Result<Doors> {
    let mut doors = Doors::default();
    let mut out = std::io::stdout();
    let default = if serial.is_none() { Some(DEFAULT_ADDRESS) } else { None };
    if let Some(address) = listen.or(default) {
        let listener = tcp::bind(address).await?;
        let address = listener.local_addr()?;
        writeln!(out, "listening {address}").context("saying where it listens")?;
        tracing::info!(%address, "listening");
        doors.tcp = Some(listener);
    }
    if let Some(settings) = serial {
        let device = settings.device.display().to_string();
        doors.serial = Some(SerialListener::bind(settings).with_context(|| format!("serving {device}"))?);
        writeln!(out, "listening {device}").context("saying where it listens")?;
    }
    Ok(doors)
}

/// Logs go to standard error and to the tail; `RUST_LOG` chooses, a child speaks up only for warnings.
fn start_log(tail: &LogTail, quiet: bool) {
    let filter = |level: &str| EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let to_people = tracing_subscriber::fmt::layer()
        .with_ansi(wants_colour())
        .with_target(false)
        .with_writer(std::io::stderr);
    let to_tail = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(tail.clone());
    let started = tracing_subscriber::registry()
        .with(to_people.with_filter(filter(if quiet { "warn" } else { "info" })))
        .with(to_tail.with_filter(filter("info")))
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was set up before; the log tail stays empty");
    }
}

/// Colour codes are for a terminal, and there only if its user did not decline them.
fn wants_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
