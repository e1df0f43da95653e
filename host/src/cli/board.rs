//! `n2n board …`: the boards this user knows.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use n2n_protocol::text::printable;
use n2n_protocol::{Log, limits};
use serde::Serialize;

use super::json::{BoardIdentity, Done, Engine, SCHEMA};
use super::{Context, target_board};
use crate::board::{Address, BoardError, Book, Client, Endpoint, Entry, Key};
use crate::exit::{Code, Failure};
use crate::{ui, view};

/// Longest line with a key that is read, bytes: 64 digits and white space.
const MAX_KEY_BYTES: u64 = 256;

/// Most lines of a log that an agent keeps.
const MAX_LINES: u16 = limits::LOG_LINES as u16;

/// How to come by a key.
const KEY_HINT: &str = "`n2n-agent key` on the board shows its key: 64 hexadecimal digits";

/// Makes boards known, and asks them what they are
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    Add(Add),
    List(List),
    Probe(Probe),
    Log(LogOf),
    Remove(Remove),
}

/// Makes a board known under a name, with the key it shares with this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The key is asked for, or read from standard input or from --key-file; never from the command line, where others
could see it. On the board `n2n-agent key` shows it; `n2n-agent key add THIS_HOST` makes one for this host alone.

Example:
  ssh pi n2n-agent key | n2n board add pi-lab tcp://192.168.1.20:7117
  n2n board add nano-lab serial:///dev/ttyUSB0?baud=115200 --key-file nano.key")]
pub(super) struct Add {
    /// Letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME")]
    name: String,
    /// tcp://HOST:PORT, or serial:///dev/DEVICE, with ?baud=BAUD behind it if it is not 921600
    #[arg(value_name = "ADDRESS")]
    address: String,
    /// File with the board's key: 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Keep the board without asking it for its identity now
    #[arg(long)]
    unchecked: bool,
}

/// Lists the boards that are known
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  n2n board list --json\n  n2n board list --ask     asks each of them which engines it has"
)]
pub(super) struct List {
    /// Ask each board which engines it has
    #[arg(long)]
    ask: bool,
}

/// Asks a board what it is and in which condition
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n board probe pi-lab")]
pub(super) struct Probe {
    /// A name of `n2n board list`, tcp://HOST:PORT, serial:///dev/DEVICE, or local
    #[arg(value_name = "BOARD", default_value = "local")]
    board: String,
}

/// Shows who did what on a board, or what its agent says of itself
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  n2n board log pi-lab\n  n2n board log pi-lab --agent --lines 20")]
pub(super) struct LogOf {
    /// A name of `n2n board list`, tcp://HOST:PORT, serial:///dev/DEVICE, or local
    #[arg(value_name = "BOARD", default_value = "local")]
    board: String,
    /// The agent's own messages since it started, instead of what holders of a key did
    #[arg(long)]
    agent: bool,
    /// At most this many lines, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_LINES)))]
    lines: u16,
}

/// Forgets a board and its key
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n board remove pi-lab")]
pub(super) struct Remove {
    /// A name of `n2n board list`
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn run(verb: Verb, context: &Context) -> Result<Code, Failure> {
    match verb {
        Verb::Add(args) => add(&args, context),
        Verb::List(args) => list(&args, context),
        Verb::Probe(args) => probe(&args, context),
        Verb::Log(args) => log(&args, context),
        Verb::Remove(args) => remove(&args, context),
    }
}

fn add(args: &Add, context: &Context) -> Result<Code, Failure> {
    let address: Address = args.address.parse()?;
    let mut book = Book::read(&target_board::home()?.book())?;
    book.check_new(&args.name, &address)?;
    let key = read_key(args.key_file.as_deref(), &args.name, context)?;
    if !args.unchecked
        && let Some(endpoint) = Endpoint::keyed(&address, &key)
    {
        // Before it stands in the book: a wrong key or address is a mistake to mend now.
        let client = Client::connect(&endpoint).map_err(|error| explained(error, &key))?;
        let board = &client.welcome().board;
        tracing::info!("{address} answers: {}, {} cores", printable(&board.model), board.cores);
    }
    book.add(&args.name, Entry { address, key })?;
    context.ui.result(&Done::new("added", &args.name), || format!("added {}", args.name))?;
    Ok(Code::Done)
}

/// Why a board that is being added does not answer, and what to do: nothing stands in the book yet.
fn explained(error: BoardError, key: &Key) -> Failure {
    let hint = match &error {
        BoardError::WrongKey { .. } => {
            let id = key.id();
            format!(
                "the key that was given has the id {id}; `n2n-agent key list` on the board shows the ids of its keys"
            )
        }
        BoardError::Unreachable { hurdle, .. } => {
            format!("{} (--unchecked adds it all the same)", hurdle.hint())
        }
        _ => return error.into(),
    };
    Failure::from(error).hint(hint)
}

/// From the file, from the user at the terminal, or from the first line of standard input.
fn read_key(file: Option<&Path>, board: &str, context: &Context) -> Result<Key, Failure> {
    let (text, place) = if let Some(path) = file {
        let text = n2n_secrets::read(path, MAX_KEY_BYTES).map_err(|error| {
            let failure = Failure::new(Code::Failed, anyhow::anyhow!("the key of {board}: {error}"));
            match error.hint() {
                Some(mend) => failure.hint(mend),
                None => failure.hint(KEY_HINT),
            }
        })?;
        (text, path.display().to_string())
    } else if std::io::stdin().is_terminal() {
        let question = format!("key of {board} (not shown): ");
        let answer = context.ui.ask_secret(&question, MAX_KEY_BYTES, &context.stop)?;
        (
            answer
                .ok_or_else(|| Failure::new(Code::Failed, anyhow::anyhow!("stopped; no board was added")))?,
            "you".into(),
        )
    } else {
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_KEY_BYTES).read_line(&mut text)?;
        (text, "standard input".into())
    };
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("no key came from {place}")).hint(KEY_HINT));
    }
    text.trim()
        .parse()
        .map_err(|error| Failure::usage(format!("the key from {place}: {error}")).hint(KEY_HINT))
}

#[derive(Serialize)]
struct Listed {
    schema: u32,
    boards: Vec<Known>,
}

#[derive(Serialize)]
struct Known {
    name: String,
    address: String,
    /// What it has, where it was asked and answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    engines: Option<Vec<Engine>>,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Known {
    fn new(name: &str, address: String) -> Self {
        Self { name: name.into(), address, engines: None, problem: None }
    }

    /// With what the board says of itself.
    fn asked(mut self, context: &Context) -> Self {
        let answer = self.name.parse::<Address>().map_err(Failure::from);
        match answer.and_then(|address| target_board::connect(&address, context)) {
            Ok(it) => {
                let engines = &it.client.welcome().board.engines;
                self.engines = Some(engines.iter().map(Engine::from).collect());
            }
            Err(failure) => self.problem = Some(failure.to_string()),
        }
        self
    }

    /// For people.
    fn engines(&self) -> String {
        match (&self.engines, &self.problem) {
            (Some(engines), _) => {
                let named = |it: &Engine| format!("{} {}", it.name, it.version);
                engines.iter().map(named).collect::<Vec<_>>().join(", ")
            }
            (None, Some(problem)) => printable(problem).into(),
            (None, None) => String::new(),
        }
    }
}

fn list(args: &List, context: &Context) -> Result<Code, Failure> {
    let book = Book::read(&target_board::home()?.book())?;
    let own = Known::new("local", "this machine, by an agent of its own".into());
    let kept = book.boards().map(|(name, entry)| Known::new(name, entry.address.to_string()));
    let known = std::iter::once(own).chain(kept);
    let boards = if args.ask { known.map(|it| it.asked(context)).collect() } else { known.collect() };
    let listed = Listed { schema: SCHEMA, boards };
    context.ui.result(&listed, || {
        let row = |it: &Known| [it.name.clone(), it.address.clone(), it.engines()];
        if args.ask {
            ui::table(["board", "address", "engines"], listed.boards.iter().map(row))
        } else {
            ui::table(
                ["board", "address"],
                listed.boards.iter().map(|it| [it.name.clone(), it.address.clone()]),
            )
        }
    })?;
    Ok(Code::Done)
}

#[derive(Serialize)]
struct Probed {
    schema: u32,
    #[serde(flatten)]
    board: BoardIdentity,
}

fn probe(args: &Probe, context: &Context) -> Result<Code, Failure> {
    let mut connected = target_board::connect(&args.board.parse()?, context)?;
    let board = connected.client.probe()?;
    let (name, this_machine) = (connected.name.as_str(), connected.this_machine);
    let probed = Probed { schema: SCHEMA, board: BoardIdentity::new(name, this_machine, &board) };
    context.ui.result(&probed, || view::board(name, this_machine, &board))?;
    Ok(Code::Done)
}

#[derive(Serialize)]
struct Logged {
    schema: u32,
    board: String,
    log: &'static str,
    lines: Vec<String>,
}

fn log(args: &LogOf, context: &Context) -> Result<Code, Failure> {
    let mut connected = target_board::connect(&args.board.parse()?, context)?;
    let (name, log) = if args.agent { ("agent", Log::Agent) } else { ("audit", Log::Audit) };
    let lines = connected.client.log_tail(args.lines, log)?;
    let logged = Logged { schema: SCHEMA, board: connected.name, log: name, lines };
    context.ui.result(&logged, || {
        let lines: Vec<_> = logged.lines.iter().map(|line| printable(line)).collect();
        lines.join("\n")
    })?;
    Ok(Code::Done)
}

fn remove(args: &Remove, context: &Context) -> Result<Code, Failure> {
    Book::read(&target_board::home()?.book())?.remove(&args.name)?;
    context.ui.result(&Done::new("removed", &args.name), || format!("removed {}", args.name))?;
    Ok(Code::Done)
}
