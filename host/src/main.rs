//! `n2n`, the program; everything is in the library.

use std::process::ExitCode;

use n2n::cli::agent::allocator::{self, Allocator};

// Here, since an allocator belongs to an executable: a local board's worker is this one.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator::new();

fn main() -> ExitCode {
    allocator::register(&ALLOCATOR);
    n2n::cli::main(std::env::args_os())
}
