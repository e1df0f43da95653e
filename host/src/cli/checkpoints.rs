//! How often a long training keeps its state: a flag for tests, which `--help` leaves out.

use std::time::Duration;

use crate::checkpoint;
use crate::exit::{Failure, ResultExt as _};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Time between two states of a long training that are kept, as in 30s; it decides nothing about the result
    #[arg(long, value_name = "TIME", hide = true)]
    checkpoint_interval: Option<String>,
}

impl Args {
    pub(super) fn interval(&self) -> Result<Duration, Failure> {
        let Some(text) = &self.checkpoint_interval else { return Ok(checkpoint::INTERVAL) };
        humantime::parse_duration(text)
            .map_err(|error| Failure::usage(format!("checkpoint interval `{text}`: {error}")))
            .hint("write it as in 500ms or 30s")
    }
}
