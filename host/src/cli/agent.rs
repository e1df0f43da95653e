//! `n2n agent …`: the agent's own verbs in this executable, so that a local board needs no second build.
//!
//! The one file of the host that may name the agent's crate: everybody else speaks to an agent over the wire.

use crate::exit::{Code, Failure};
use n2n_agent::advice::Advice;
pub use n2n_agent::allocator;
pub use n2n_agent::cli::Command;
use std::process::ExitCode;

/// Words on the command line before the agent's verbs; a worker process is started by the same ones.
const GROUP: &[&str] = &["agent"];

/// Do one of the agent's verbs.
///
/// # Errors
/// What failed, with the agent's own next step as hint.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    n2n_agent::cli::run(command, GROUP).map_err(|error| match Advice::hint_of(&error).map(str::to_owned) {
        Some(hint) => Failure::new(Code::Failed, error).hint(hint),
        None => Failure::new(Code::Failed, error),
    })
}
