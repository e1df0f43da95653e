//! `n2n-agent`: the board's side as a program of its own.

use n2n_agent::allocator::{self, Allocator};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

fn main() -> ExitCode {
    allocator::register(&ALLOCATOR);
    n2n_agent::cli::main()
}
