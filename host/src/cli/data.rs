//! `n2n data`: what a data set holds, before anything is trained on it.

mod inspect;
mod sheet;

use super::Context;
use crate::exit::{Code, Failure};

/// Looks at a data set
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    Inspect(inspect::Args),
}

pub(super) fn run(verb: Verb, context: &Context) -> Result<Code, Failure> {
    match verb {
        Verb::Inspect(args) => inspect::run(&args, context),
    }
}
