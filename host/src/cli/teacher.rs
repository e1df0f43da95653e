//! `n2n teacher …`: make a teacher, look at one.

mod inspect;

use super::Context;
use crate::exit::{Code, Failure};

/// Trains a teacher, or shows what a model is made of
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    Inspect(inspect::Args),
}

pub(super) fn run(verb: Verb, context: &Context) -> Result<Code, Failure> {
    match verb {
        Verb::Inspect(args) => inspect::run(args, context),
    }
}
