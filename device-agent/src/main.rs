//! `n2n-agent`: the board's side as a program of its own.

use clap::Parser;
use n2n_agent::allocator::{self, Allocator};
use n2n_agent::cli::{self, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = allocator::new();

/// Measures candidate networks on this board and holds the deployed one.
#[derive(Parser)]
#[command(name = "n2n-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> anyhow::Result<ExitCode> {
    allocator::register(&ALLOCATOR);
    cli::run(Arguments::parse().command, &[])
}
