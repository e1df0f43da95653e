//! From a configuration to a plan to a summary: opens what the configuration names, and runs the job. Shared by `compress` and `quickstart`.

use std::path::PathBuf;

use n2n_protocol::Digest;

use super::watch::Watcher;
use super::{Context, target_board};
use crate::board::{Address, Endpoint};
use crate::compress::{self, Configuration, Plan, Summary};
use crate::data::{self, DataSpec, LoadOptions};
use crate::exit::Failure;
use crate::model_io::onnx;

/// Runs the job; one that was stopped, or lost its board, names the command that goes on with it.
///
/// # Errors
/// See [`compress::Error`].
pub(super) fn run(plan: &Plan, context: &Context) -> Result<Summary, Failure> {
    let watcher = Watcher::new(&context.ui);
    let outcome = compress::run(plan, &context.stop, &|event| watcher.see(event));
    watcher.end();
    outcome.map_err(|error| {
        let passing = matches!(error, compress::Error::Stopped | compress::Error::Board(_));
        let failure = Failure::from(error);
        if !passing {
            return failure;
        }
        failure
            .hint(format!("nothing is lost; go on with: n2n compress --resume --out {}", plan.out.display()))
    })
}

/// Opens teacher, images and board.
///
/// # Errors
/// The first of them that cannot be used.
pub(super) fn plan(configuration: Configuration, out: PathBuf, resume: bool) -> Result<Plan, Failure> {
    let spec: DataSpec = configuration.data.parse()?;
    let address: Address = configuration.board.parse().map_err(Failure::usage)?;
    let home = target_board::home()?;
    let endpoint = Endpoint::resolve(&address, &home)?;
    let teacher = onnx::load(&configuration.teacher)?;
    let teacher_digest = Digest::of(&std::fs::read(&configuration.teacher)?).to_string();
    let options = LoadOptions { seed: configuration.search.seed, ..LoadOptions::default() };
    let dataset = data::load(&spec, &options)?;
    let signing_key = home.signing_key();
    Ok(Plan { configuration, out, resume, teacher, teacher_digest, dataset, endpoint, signing_key })
}
