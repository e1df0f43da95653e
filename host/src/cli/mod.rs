//! The command line: one file per verb, each `Args` -> checked configuration -> call -> `ui`.
//!
//! To add a verb: one file with `Args` and `run`, one variant in `Verb`, one arm in `Verb::run`. A verb computes
//! nothing itself and prints only through [`crate::ui`]. Only `agent` may name the agent's library.

pub mod agent;
mod board;
mod checkpoints;
mod compress;
mod compressed;
mod context;
mod data;
mod device;
mod doctor;
mod engine;
mod export;
mod interrupt;
mod job;
mod json;
mod measure;
mod model;
mod outcome;
mod output;
mod pictures;
mod profile;
mod quickstart;
mod report;
mod rollback;
mod search_settings;
mod sendable;
mod ship;
mod status;
mod target_board;
mod teacher;
mod used;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;

use crate::config::Config;
use crate::exit::{Code, Failure};
use crate::ui::{self, Ui, Verbosity};

const EXAMPLES: &str = "\
First steps:
  n2n quickstart                                   the whole job on this machine, in some minutes
  n2n data inspect folder:photos                   classes, counts and parts of your pictures
  n2n teacher train --arch vgg13 --width 0.25 --data fashion-mnist --out teacher.onnx
  n2n compress --teacher teacher.onnx --data fashion-mnist --board local --limit latency=0.5x
  n2n report runs/fashion-mnist-1                  the run as one HTML page

Exit codes: 0 done, 1 failed, 2 usage, 3 no student meets the limits, 4 board unavailable, 5 a student was found
and not shipped.";

/// Compresses a trained image classifier for one board, measured on that very board, and ships the result to it.
#[derive(Debug, Parser)]
#[command(name = "n2n", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Command,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// Print the result as one JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say nothing but errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Configuration file; without it `n2n.toml` in the current folder, if there is one. Flags win
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one exists, once")]
enum Command {
    #[command(flatten)]
    Verb(Verb),
    /// Runs the board agent in this process, as `n2n-agent` does
    #[command(subcommand)]
    Agent(agent::Command),
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one exists, once")]
enum Verb {
    Quickstart(quickstart::Args),
    Compress(compress::Args),
    #[command(subcommand)]
    Data(data::Verb),
    #[command(subcommand)]
    Teacher(teacher::Verb),
    Measure(measure::Args),
    #[command(subcommand)]
    Board(board::Verb),
    #[command(subcommand)]
    Profile(profile::Verb),
    Ship(ship::Args),
    Export(export::Args),
    Status(status::Args),
    Rollback(rollback::Args),
    Report(report::Args),
    Doctor(doctor::Args),
}

impl Verb {
    fn run(self, context: &Context) -> Result<Code, Failure> {
        match self {
            Self::Quickstart(args) => quickstart::run(&args, context),
            Self::Compress(args) => compress::run(&args, context),
            Self::Data(verb) => data::run(verb, context),
            Self::Teacher(verb) => teacher::run(verb, context),
            Self::Measure(args) => measure::run(&args, context),
            Self::Board(verb) => board::run(verb, context),
            Self::Profile(verb) => profile::run(verb, context),
            Self::Ship(args) => ship::run(&args, context),
            Self::Export(args) => export::run(&args, context),
            Self::Status(args) => status::run(&args, context),
            Self::Rollback(args) => rollback::run(&args, context),
            Self::Report(args) => report::run(&args, context),
            Self::Doctor(args) => doctor::run(&args, context),
        }
    }
}

/// The whole program, from arguments to exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap; it knows their stream and code (2 for usage, as ours).
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let ended = match cli.verb {
        // It has its own log and its own answer to signals: a worker's standard streams are not ours to touch.
        Command::Agent(command) => return agent_code(agent::run(command)),
        Command::Verb(verb) => start(&cli.global).and_then(|context| {
            let ended = verb.run(&context);
            // Bars are gone before the last words are said.
            drop(context);
            ended
        }),
    };
    match ended {
        Ok(code) => ExitCode::from(code as u8),
        Err(failure) => {
            ui::complain(&failure);
            ExitCode::from(failure.code() as u8)
        }
    }
}

fn agent_code(ended: Result<ExitCode, Failure>) -> ExitCode {
    ended.unwrap_or_else(|failure| {
        ui::complain(&failure);
        ExitCode::from(failure.code() as u8)
    })
}

fn start(global: &Global) -> Result<Context, Failure> {
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, 1) => Verbosity::Verbose,
        (false, _) => Verbosity::Debug,
    };
    let ui = Ui::start(global.json, verbosity);
    let config = Config::load(global.config.as_deref())?;
    Ok(Context { ui, config, stop: interrupt::watch()? })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_explains_itself() {
        fn walk(command: &clap::Command) {
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "`{}` has no help text", sub.get_name());
                for argument in sub.get_arguments() {
                    assert!(argument.get_help().is_some(), "`{} {}`", sub.get_name(), argument.get_id());
                }
                walk(sub);
            }
        }
        walk(&Cli::command());
    }
}
