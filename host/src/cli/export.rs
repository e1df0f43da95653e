//! `n2n export`: a student as a file for another program.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::json::SCHEMA;
use super::used::Used;
use super::{Context, compress, model, output};
use crate::exit::{Code, Failure, ResultExt as _};
use crate::model_io::fold::fold_batch_norm;
use crate::model_io::onnx::{self, Filling, ModelInfo};
use crate::model_io::{atomic_file, safetensors};
use crate::usage::Usage;
use crate::{ui, view};

const EXAMPLES: &str = "\
Examples:
  n2n export runs/pi-1 --format onnx --input-type uint8 --out camera.onnx
  n2n export runs/pi-1 --format safetensors --out weights.safetensors";

/// Form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The whole network, batch norms folded, for any ONNX engine
    Onnx,
    /// The weights by name, batch norms folded
    Safetensors,
}

/// Writes a student for another program
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A run folder (its student) or an .onnx file of n2n
    #[arg(value_name = "RUN|MODEL")]
    model: String,
    /// onnx or safetensors
    #[arg(long, value_enum)]
    format: Format,
    /// What an ONNX file takes: plain, uint8 or normalised [default: as it is]
    #[arg(long, value_name = "TYPE")]
    input_type: Option<String>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `n2n export --json`.
#[derive(Serialize)]
struct Exported {
    schema: u32,
    file: String,
    input_type: &'static str,
    classes: Vec<String>,
    /// How a program uses an ONNX file; `null` for weights alone.
    usage: Option<Used>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    output::check(&args.out)?;
    let it = model::load(&args.model)?;
    let Filling::Weights(weights) = &it.filling else {
        return Err(Failure::usage(format!(
            "{}: expected a trained model, got one without weights",
            args.model
        )))
        .hint("give a run folder or an .onnx file");
    };
    let (network, weights) = fold_batch_norm(&it.network, weights);
    let input = match &args.input_type {
        Some(text) => compress::input_form(Some(text))?,
        None => it.info.input,
    };
    let info = ModelInfo { input, ..it.info };
    match args.format {
        Format::Onnx => {
            atomic_file::write(&args.out, &onnx::write(&network, Filling::Weights(&weights), &info)?)?;
        }
        Format::Safetensors => safetensors::save(&args.out, &network, &weights).map_err(Failure::failed)?,
    }
    let file = args.out.display().to_string();
    let usage = Usage::of(&network, &info).filter(|_| args.format == Format::Onnx);
    let exported = Exported {
        schema: SCHEMA,
        file: file.clone(),
        input_type: input.name(),
        classes: info.classes.clone(),
        usage: usage.as_ref().map(|usage| Used::new(usage, &file)),
    };
    context.ui.result(&exported, || match &usage {
        Some(usage) => view::usage(usage, &file, &file),
        None => ui::facts([("file", file.clone()), ("classes", info.classes.join(", "))]),
    })?;
    Ok(Code::Done)
}
