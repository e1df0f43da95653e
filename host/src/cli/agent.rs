//! `n2n agent …`: the agent's own verbs in this executable, so that a local board needs no second build.
//!
//! The one file of the host that may name the agent's crate: everybody else speaks to an agent over the wire.

pub use n2n_agent::allocator;
pub use n2n_agent::cli::Command;
use std::process::ExitCode;

/// Words on the command line before the agent's verbs; a worker process is started by the same ones.
const GROUP: &[&str] = &["agent"];

/// Do one of the agent's verbs.
///
/// # Errors
/// For people: what failed, and a hint.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    n2n_agent::cli::run(command, GROUP)
}
