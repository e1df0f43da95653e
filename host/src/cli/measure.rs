//! `n2n measure`: any model of ours, on any board, with interval, memory by kind and conditions.

use std::time::Duration;

use n2n_protocol::{Activity, Execution, MeasurePlan, Model, Place};

use super::{Context, json, model, target_board};
use crate::exit::{Code, Failure, ResultExt as _};
use crate::view;

const EXAMPLES: &str = "\
Examples:
  n2n measure zoo:vgg13@0.25                        on this machine, with seeded random weights
  n2n measure teacher.onnx --board pi-lab --json    the whole measurement, every sample, as JSON
  n2n measure runs/fashion-mnist-1 --board pi-lab   a run's student

A zoo network is for 1x28x28 images and 10 classes unless its name goes on: zoo:resnet18@0.5/3x32x32/100.";

/// Fewest processes: enough for a distribution-free interval of 99 % (docs/measurement.md#interval-of-the-median).
const MIN_PROCESSES: u16 = 8;
/// Most processes: the last look.
const MAX_PROCESSES: u16 = 16;
/// Timed inferences of each process; 8 processes then give the 500 samples that p99 wants.
const SAMPLES_PER_PROCESS: u32 = 64;
/// Longest load of a model.
const MAX_LOAD: Duration = Duration::from_mins(1);
/// A single inference longer than this is infeasible: minutes are no board's job.
const MAX_INFERENCE: Duration = Duration::from_secs(10);
/// Memory a worker may take, bytes; boards have less, and then their own limit bites first.
const MAX_MEMORY_BYTES: u64 = 4 << 30;

/// Measures a model on a board: latency with its interval, memory by kind, conditions
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// An .onnx file, a run folder (its student), or zoo:ARCH[@WIDTH][/CxHxW/CLASSES]
    #[arg(value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    board: target_board::Args,
    /// Threads of the engine; one that it cannot honour is refused
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: u16,
    /// Wished half-width of the median's interval
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    precision: f64,
    /// Longest time to measure
    #[arg(long, value_name = "TIME", default_value = "1min")]
    time: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let time = humantime::parse_duration(&args.time)
        .map_err(|error| Failure::usage(format!("time `{}`: {error}", args.time)))
        .hint("write it as in 30s or 2min")?;
    if !(0.1..=50.0).contains(&args.precision) {
        return Err(Failure::usage(format!("precision: expected 0.1 to 50 percent, got {}", args.precision)));
    }
    let model = model::load(&args.model)?;
    let file = model::measurable(&model)?;
    let mut board = args.board.connect(context)?;

    let progress = context.ui.progress(format!("measuring {} on {}", args.model, board.place()), 0);
    let digest = board.client.put(&file.bytes, &mut |done, all| {
        progress.set(done, format!("sending, {done} of {all} bytes"));
    })?;
    let engines = &board.client.welcome().board.engines;
    let engine = engines.first().map_or_else(String::new, |engine| engine.name.clone());
    let plan = MeasurePlan {
        model: Model::onnx(digest),
        place: Place::Store,
        execution: Execution { engine, threads: args.threads, batch: 1, pace_us: 0 },
        min_processes: MIN_PROCESSES,
        max_processes: MAX_PROCESSES,
        samples_per_process: SAMPLES_PER_PROCESS,
        half_width_ppm: (args.precision * 1e4).round() as u32,
        time_budget_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX),
        max_load_ms: MAX_LOAD.as_millis() as u32,
        max_inference_ms: MAX_INFERENCE.as_millis() as u32,
        max_memory_bytes: MAX_MEMORY_BYTES,
        golden: Some(file.golden),
        resident_memory: true,
    };
    let measured = board.client.measure(&plan, &mut |now| match now.activity {
        Activity::Running { processes } => {
            progress.set(u64::from(processes), format!("{processes} processes done"));
        }
        Activity::Waiting { ahead, client, .. } => {
            progress.set(0, format!("waiting for the board: {ahead} ahead, {client} has it"));
        }
    })?;
    drop(progress);

    let identity = json::BoardIdentity::new(&board.name, board.this_machine, &board.client.welcome().board);
    let object = json::Measured::new(&args.model, identity, &measured);
    context.ui.result(&object, || view::measurement(&args.model, &board.place(), &(&measured).into()))?;
    Ok(Code::Done)
}
