//! From a configuration to a plan: reads what the configuration names. Shared by `compress` and `quickstart`.

use std::path::PathBuf;

use n2n_protocol::Digest;

use super::target_board;
use crate::board::{Address, Endpoint};
use crate::compress::{Configuration, Plan};
use crate::data::{self, DataSpec, LoadOptions};
use crate::exit::Failure;
use crate::model_io::onnx;

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
