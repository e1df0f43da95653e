//! `n2n teacher …`: make a teacher, look at one.

mod inspect;
mod train;

pub(super) use train::{Wish, train};

use super::Context;
use crate::exit::{Code, Failure};

/// Trains a teacher, or shows what a model is made of
#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one exists, once")]
pub(super) enum Verb {
    Train(train::Args),
    Inspect(inspect::Args),
}

pub(super) fn run(verb: Verb, context: &Context) -> Result<Code, Failure> {
    match verb {
        Verb::Train(args) => train::run(&args, context),
        Verb::Inspect(args) => inspect::run(&args, context),
    }
}
