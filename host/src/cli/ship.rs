//! `n2n ship`: a student into a board's active slot, verified there before and after the switch.

use n2n_protocol::Execution;

use crate::engine_choice::EngineChoice;
use crate::exit::{Code, Failure, ResultExt as _};
use crate::model_io::fold::fold_batch_norm;
use crate::model_io::onnx;
use crate::run::summary::Summary;
use crate::search::{Bound, Limit, Metric};
use crate::shipping::{self, Check, Facts, Shipment, SigningKey, Step, next_number};
use crate::usage::{SLOT, Usage};
use crate::{ui, units, view, wording};

use super::model::ModelRef;
use super::sendable::{self, Judge, Prepared, Sendable};
use super::used::Used;
use super::{Context, engine, json, target_board};

const EXAMPLES: &str = "\
Examples:
  n2n ship runs/pi-1 --board pi-lab                          a run's student
  n2n ship student.onnx --board pi-lab --limit latency=5ms   refused by the board if it is slower

The board verifies signature, class of board, digest, golden answer and latency before it switches. The switch is a trial:
the host asks the student in the active slot, the file that programs on the board open, and confirms it; else the board goes
back, also when the host is gone. A student that is active already is not shipped again.";

/// Data folder of an agent that the supplied service runs.
const SERVICE: &str = "/var/lib/n2n-agent";

/// Ships a student to a board, with a check and a way back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A run folder (its student) or an .onnx file
    #[arg(value_name = "RUN|MODEL")]
    model: String,
    /// Sizes of one input without the batch, where an .onnx file leaves them open, as in 3x96x96
    #[arg(long, value_name = "SIZES")]
    input: Option<String>,
    #[command(flatten)]
    board: target_board::Args,
    #[command(flatten)]
    engine: engine::Args,
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
    let it = folded(sendable::read(&args.model, args.input.as_deref())?, &args.model)?;
    let usage = match &it {
        Sendable::Ours(model) => Usage::of(&model.network, &model.info),
        Sendable::Foreign(_) => None,
    };
    let mut board = args.board.connect(context)?;
    let Searched { target, execution } = searched(&args.model)?;
    // A run's student goes on the engine that it was measured with, unless the user wants another.
    let engine = if args.engine.is_given(&context.config) || execution.engine.is_empty() {
        args.engine.choice(&context.config, None)?
    } else {
        EngineChoice::Named(execution.engine.clone())
    };
    let Prepared { bytes, input, input_len, classes, golden, judge, engine } =
        sendable::prepare(it, &mut board, &engine, context)?;
    let mut name = args.name.clone().unwrap_or_else(|| short_name(&args.model));
    if judge == Judge::BoardAlone {
        name = wording::unverified(&name);
    }
    let home = target_board::home()?;
    let key = SigningKey::load_or_create(&home.signing_key())?;
    let number_file = home.bundle_number();
    let number = next_number(&number_file)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", number_file.display())))?;
    let facts = Facts {
        name: name.clone(),
        input,
        execution: Execution { engine, threads: args.threads.unwrap_or(execution.threads), ..execution },
        classes,
        target,
        number,
        golden,
        latency_limit_ns,
    };
    let shipment = Shipment { onnx: &bytes, input_len, facts, force: args.force };
    let place = board.place();
    let progress = context.ui.progress(format!("shipping {name} to {place}"), 0);
    let shipped = shipping::ship(&mut board.client, &shipment, &key, &mut |step| {
        progress.set(0, words(&step));
    })?;
    drop(progress);
    let (shown, path) = slot_paths(board.this_machine);
    let object = json::Shipped {
        slots: json::Slots::new(&board.name, &shipped.status),
        usage: usage.as_ref().map(|usage| Used::new(usage, &path)),
        verified_by: judge.name(),
    };
    context.ui.result(&object, || {
        let slots = view::slots(&place, &shipped.status);
        let used =
            usage.map_or_else(String::new, |usage| format!("\n\n{}", view::usage(&usage, &shown, &path)));
        format!("{}\n{slots}{used}", said(&name, &place, judge, shipped.check.as_ref()))
    })?;
    Ok(Code::Done)
}

/// As it ships: batch norms folded. A file that has none, or is another program's, stays as it is.
fn folded(it: Sendable, text: &str) -> Result<Sendable, Failure> {
    let model = match it {
        Sendable::Ours(model) => model,
        foreign @ Sendable::Foreign(_) => return Ok(foreign),
    };
    let onnx::Filling::Weights(weights) = &model.filling else {
        return Err(Failure::usage(format!("{text}: expected a trained model, got one without weights")))
            .hint("give a run folder or an .onnx file");
    };
    let (network, weights) = fold_batch_norm(&model.network, weights);
    Ok(Sendable::Ours(onnx::Model { network, filling: onnx::Filling::Weights(weights), info: model.info }))
}

/// Where the active student is: for people, and for a program on that machine.
pub(super) fn slot_paths(this_machine: bool) -> (String, String) {
    let home = this_machine.then(target_board::home).and_then(Result::ok);
    if let Some(home) = home {
        let path = home.local_agent().join(SLOT).display().to_string();
        return (path.clone(), path);
    }
    let path = format!("{SERVICE}/{SLOT}");
    (format!("{path}, or {SLOT} in the folder that `n2n-agent serve --data` names"), path)
}

/// What became of it, for people.
fn said(name: &str, place: &str, judge: Judge, check: Option<&Check>) -> String {
    let Some(check) = check else {
        return format!("{name} is already active on {place}; nothing changed\n");
    };
    let difference = check.golden_difference;
    ui::facts([
        ("shipped", name.to_owned()),
        (
            "answer",
            match judge {
                Judge::BoardAlone => judge.words().to_owned(),
                _ => format!(
                    "differs from the host's by {difference:.1e} of its largest logit, {}",
                    judge.words()
                ),
            },
        ),
        ("latency in the slot", {
            let it = &check.measurement;
            let engine = wording::engine(&it.engine.name, &it.engine.version, it.threads);
            format!("{}, measured on {place} with {engine}", units::latency(it.latency.median_ns))
        }),
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
