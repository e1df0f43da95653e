//! `n2n board …`: the boards this user knows.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;

use serde::Serialize;

use super::json::{BoardIdentity, Done, SCHEMA};
use super::{Context, target_board};
use crate::board::{Address, Book, Client, Endpoint, Entry, Key};
use crate::exit::{Code, Failure, ResultExt as _};
use crate::{ui, view};

/// Longest line with a key that is read, bytes: 64 digits and white space.
const MAX_KEY_BYTES: u64 = 256;

/// Makes boards known, and asks them what they are
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    Add(Add),
    List(List),
    Probe(Probe),
    Remove(Remove),
}

/// Makes a board known under a name, with the key it shares with this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The key is read from --key-file or from standard input, never from the command line, where others could see it.
On the board `n2n-agent key` makes and shows it.

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
#[command(after_help = "Example:\n  n2n board list --json")]
pub(super) struct List {}

/// Asks a board what it is and in which condition
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  n2n board probe pi-lab")]
pub(super) struct Probe {
    /// A name of `n2n board list`, tcp://HOST:PORT, serial:///dev/DEVICE, or local
    #[arg(value_name = "BOARD", default_value = "local")]
    board: String,
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
        Verb::Add(args) => add(args, context),
        Verb::List(List {}) => list(context),
        Verb::Probe(args) => probe(&args, context),
        Verb::Remove(args) => remove(&args, context),
    }
}

fn add(args: Add, context: &Context) -> Result<Code, Failure> {
    let address: Address = args.address.parse().map_err(Failure::usage)?;
    let key = read_key(args.key_file)?;
    let mut book = Book::read(&target_board::home()?.book())?;
    if !args.unchecked
        && let Some(endpoint) = Endpoint::keyed(&address, &key)
    {
        // Before it stands in the book: a wrong key or address is a mistake to mend now.
        let board = Client::connect(&endpoint)
            .hint("switch the board on and run `n2n-agent serve` there, or add it --unchecked")?
            .welcome()
            .board
            .clone();
        tracing::info!("{} answers: {}, {} cores", address, board.model, board.cores);
    }
    book.add(&args.name, Entry { address, key })?;
    context.ui.result(&Done::new("added", &args.name), || format!("added {}", args.name))?;
    Ok(Code::Done)
}

/// From the file, or the first line of standard input.
fn read_key(file: Option<PathBuf>) -> Result<Key, Failure> {
    let mut text = String::new();
    let place = if let Some(path) = file {
        let place = path.display().to_string();
        std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text))
            .map_err(|error| Failure::failed(format_args!("{place}: {error}")))?;
        place
    } else {
        if std::io::stdin().is_terminal() {
            tracing::warn!(
                "reading the board's key from standard input; on the board `n2n-agent key` shows it"
            );
        }
        std::io::stdin().lock().take(MAX_KEY_BYTES).read_line(&mut text)?;
        "standard input".into()
    };
    text.trim()
        .parse()
        .map_err(|error| Failure::usage(format!("key from {place}: {error}")))
        .hint("`n2n-agent key` on the board makes and shows the key")
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
}

fn list(context: &Context) -> Result<Code, Failure> {
    let book = Book::read(&target_board::home()?.book())?;
    let own = Known { name: "local".into(), address: "this machine, by an agent of its own".into() };
    let kept =
        book.boards().map(|(name, entry)| Known { name: name.into(), address: entry.address.to_string() });
    let listed = Listed { schema: SCHEMA, boards: std::iter::once(own).chain(kept).collect() };
    context.ui.result(&listed, || {
        ui::table(["board", "address"], listed.boards.iter().map(|it| [it.name.clone(), it.address.clone()]))
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
    let mut connected = target_board::connect(&args.board.parse().map_err(Failure::usage)?, context)?;
    let board = connected.client.probe()?;
    let (name, this_machine) = (connected.name.as_str(), connected.this_machine);
    let probed = Probed { schema: SCHEMA, board: BoardIdentity::new(name, this_machine, &board) };
    context.ui.result(&probed, || view::board(name, this_machine, &board))?;
    Ok(Code::Done)
}

fn remove(args: &Remove, context: &Context) -> Result<Code, Failure> {
    Book::read(&target_board::home()?.book())?.remove(&args.name)?;
    context.ui.result(&Done::new("removed", &args.name), || format!("removed {}", args.name))?;
    Ok(Code::Done)
}
