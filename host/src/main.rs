//! `n2n`, the program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    n2n::cli::main(std::env::args_os())
}
