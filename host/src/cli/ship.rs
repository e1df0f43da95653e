//! `n2n ship`: a student into a board's active slot, verified there before and after the switch.

use n2n_protocol::Execution;

use crate::exit::{Code, Failure, ResultExt as _};
use crate::model_io::fold::fold_batch_norm;
use crate::model_io::onnx;
use crate::run::summary::Summary;
use crate::search::{Bound, Limit, Metric};
use crate::shipping::{self, Check, Facts, Shipment, SigningKey, Step, next_number};
use crate::{ui, units, view};

use super::model::ModelRef;
use super::{Context, json, model, target_board};

const EXAMPLES: &str = "\
Examples:
  n2n ship runs/pi-1 --board pi-lab                          a run's student
  n2n ship student.onnx --board pi-lab --limit latency=5ms   refused by the board if it is slower

The board verifies signature, class of board, digest, golden answer and latency before it switches. The switch is a trial:
the host asks the student in the active slot, the file that programs on the board open, and confirms it; else the board goes
back, also when the host is gone. A student that is active already is not shipped again.";

/// Seed of the golden input that travels with the student.
const GOLDEN_SEED: u64 = 1;

/// Ships a student to a board, with a check and a way back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A run folder (its student) or an .onnx file
    #[arg(value_name = "RUN|MODEL")]
    model: String,
    #[command(flatten)]
    board: target_board::Args,
    /// Name in the slot; default: the file's or folder's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only `latency=TIME`: the board refuses a student whose median is above it
    #[arg(long, value_name = "METRIC=BOUND")]
    limit: Option<String>,
    /// Threads of the engine [default: as the run was measured, else 1]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// Ship though it was made for another class of board, or is older than what the board has seen
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let latency_limit_ns = args.limit.as_deref().map(latency_limit).transpose()?;
    let it = model::load(&args.model)?;
    let onnx::Filling::Weights(weights) = &it.filling else {
        return Err(Failure::usage(format!(
            "{}: expected a trained model, got one without weights",
            args.model
        )))
        .hint("give a run folder or an .onnx file");
    };
    // What ships has its batch norms folded; a file that has none is unchanged by this.
    let (network, weights) = fold_batch_norm(&it.network, weights);
    let bytes = onnx::write(&network, onnx::Filling::Weights(&weights), &it.info)?;
    let name = args.name.clone().unwrap_or_else(|| short_name(&args.model));
    let home = target_board::home()?;
    let key = SigningKey::load_or_create(&home.signing_key())?;
    let number_file = home.bundle_number();
    let number = next_number(&number_file)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", number_file.display())))?;
    let Searched { target, execution } = searched(&args.model)?;
    let facts = Facts {
        name: name.clone(),
        execution: Execution { threads: args.threads.unwrap_or(execution.threads), ..execution },
        classes: it.info.classes.clone(),
        target,
        number,
        golden: shipping::golden(&network, &weights, GOLDEN_SEED)?,
        latency_limit_ns,
    };
    let input_len = network.input_shape().elements();
    let shipment = Shipment { onnx: &bytes, input_len, facts, force: args.force };
    let mut board = args.board.connect(context)?;
    let place = board.place();
    let progress = context.ui.progress(format!("shipping {name} to {place}"), 0);
    let shipped = shipping::ship(&mut board.client, &shipment, &key, &mut |step| {
        progress.set(0, words(&step));
    })?;
    drop(progress);
    context.ui.result(&json::Slots::new(&board.name, &shipped.status), || {
        format!("{}\n{}", said(&name, &place, shipped.check.as_ref()), view::slots(&place, &shipped.status))
    })?;
    Ok(Code::Done)
}

/// What became of it, for people.
fn said(name: &str, place: &str, check: Option<&Check>) -> String {
    let Some(check) = check else {
        return format!("{name} is already active on {place}; nothing changed\n");
    };
    let difference = check.golden_difference;
    ui::facts([
        ("shipped", name.to_owned()),
        ("answer", format!("differs from the host's by {difference:.1e} of its largest logit")),
        (
            "latency in the slot",
            format!("{}, measured on {place}", units::latency(check.measurement.latency.median_ns)),
        ),
    ])
}

/// What a student was made for; empty where the board it ships to decides.
struct Searched {
    /// Class of board.
    target: String,
    /// How it was measured.
    execution: Execution,
}

/// Of a run: the class of its board, and how its student was measured there. A file alone does not tell.
fn searched(model: &str) -> Result<Searched, Failure> {
    let summary = match ModelRef::parse(model).map_err(Failure::usage)? {
        ModelRef::Run(run) => Summary::load(&run)?,
        ModelRef::File(_) | ModelRef::Zoo(_) => None,
    };
    let unknown = Execution { engine: String::new(), threads: 1, batch: 1, pace_us: 0 };
    let Some(summary) = summary else { return Ok(Searched { target: String::new(), execution: unknown }) };
    let execution = summary.student.map_or(unknown, |student| {
        let measured = student.side.measurement;
        Execution {
            engine: measured.engine.name,
            threads: measured.threads,
            batch: measured.batch,
            pace_us: measured.pace_us,
        }
    });
    Ok(Searched { target: summary.board_class, execution })
}

fn latency_limit(text: &str) -> Result<u64, Failure> {
    let limit: Limit = text.parse().map_err(Failure::usage)?;
    match limit {
        Limit { metric: Metric::Latency, bound: Bound::Absolute(ns) } => Ok(ns.round() as u64),
        _ => Err(Failure::usage(format!("limit `{text}`: expected an absolute latency, as in latency=5ms"))),
    }
}

/// Last part of the path, without `.onnx`.
fn short_name(model: &str) -> String {
    let path = std::path::Path::new(model);
    let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
    stem.map_or_else(|| model.to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// For a progress line.
pub(super) fn words(step: &Step) -> String {
    match step {
        Step::Putting { done, bytes } => {
            format!("sending, {} of {}", units::bytes(*done), units::bytes(*bytes))
        }
        Step::Staging => "the board verifies it".into(),
        Step::Activating => "switching".into(),
        Step::Checking => "asking and timing the student in the active slot".into(),
        Step::Confirming => "confirming".into(),
        Step::RollingBack { reason } => {
            tracing::warn!("rolling back: {reason}");
            "rolling back".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_latency_can_travel_with_a_student() {
        assert_eq!(latency_limit("latency=5ms").unwrap(), 5_000_000);
        for text in ["latency=0.5x", "params=5K", "5ms"] {
            assert!(latency_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_slot_is_called_after_the_file_or_the_run() {
        assert_eq!(short_name("models/student.onnx"), "student");
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("pi-1.5");
        std::fs::create_dir(&run).unwrap();
        assert_eq!(short_name(run.to_str().unwrap()), "pi-1.5");
    }
}
