//! `n2n measure`: any model, on any board, with interval, memory by kind and conditions.

use std::time::Duration;

use n2n_protocol::{Activity, Execution, Latency, MeasurePlan, Measurement, Model, Place};

use super::sendable::{self, Judge};
use super::{Context, engine, json, target_board};
use crate::exit::{Code, Failure, ResultExt as _};
use crate::view;

const EXAMPLES: &str = "\
Examples:
  n2n measure zoo:vgg13@0.25                        on this machine, with seeded random weights
  n2n measure teacher.onnx --board pi-lab --json    the whole measurement, every sample, as JSON
  n2n measure runs/fashion-mnist-1 --board pi-lab   a run's student
  n2n measure mobilenet.onnx --input 3x96x96        a file of another program, as it is

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
/// On a quiet board nine of ten inferences take less than this many medians.
const NOISY_P90: u64 = 2;

/// Measures a model on a board: latency with its interval, memory by kind, conditions
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// An .onnx file, a run folder (its student), or zoo:ARCH[@WIDTH][/CxHxW/CLASSES]
    #[arg(value_name = "MODEL")]
    model: String,
    /// Sizes of one input without the batch, where an .onnx file leaves them open, as in 3x96x96
    #[arg(long, value_name = "SIZES")]
    input: Option<String>,
    #[command(flatten)]
    board: target_board::Args,
    #[command(flatten)]
    engine: engine::Args,
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
    let model = sendable::read(&args.model, args.input.as_deref())?;
    let mut board = args.board.connect(context)?;
    let engine = args.engine.choice(&context.config, None)?;
    let file = sendable::prepare(model, &mut board, &engine, context)?;

    let progress = context.ui.progress(format!("measuring {} on {}", args.model, board.place()), 0);
    let digest = board.client.put(&file.bytes, &mut |done, all| {
        progress.set(done, format!("sending, {done} of {all} bytes"));
    })?;
    let plan = MeasurePlan {
        model: Model { input: file.input, ..Model::onnx(digest) },
        place: Place::Store,
        execution: Execution { engine: file.engine, threads: args.threads, batch: 1, pace_us: 0 },
        min_processes: MIN_PROCESSES,
        max_processes: MAX_PROCESSES,
        samples_per_process: SAMPLES_PER_PROCESS,
        half_width_ppm: (args.precision * 1e4).round() as u32,
        time_budget_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX),
        max_load_ms: MAX_LOAD.as_millis() as u32,
        max_inference_ms: MAX_INFERENCE.as_millis() as u32,
        // As much as the board has and its agent can spare: the agent knows.
        max_memory_bytes: u64::MAX,
        golden: Some(file.golden),
        resident_memory: true,
    };
    let measured = board.client.measure(&plan, &mut |now| match now.activity {
        Activity::Running { processes } => {
            progress.set(u64::from(processes), format!("{processes} processes done"));
        }
        Activity::Waiting { ahead, client, since_s } => {
            progress.set(0, format!("waiting for the board: {ahead} ahead ({client}, {since_s} s)"));
        }
    })?;
    drop(progress);

    let it = &board.client.welcome().board;
    let disturbances = disturbances(&measured, it.cores, args.precision / 100.0);
    for sign in &disturbances {
        tracing::warn!("{sign}: stop what else runs there and measure again before you trust this number");
    }
    let identity = json::BoardIdentity::new(&board.name, board.this_machine, it);
    let judge = file.judge;
    let object = json::Measured::new(&args.model, identity, disturbances.clone(), judge.name(), &measured);
    context.ui.result(&object, || {
        let mut it: crate::measurement::Measurement = (&measured).into();
        // An engine that is compared with itself says nothing.
        if judge == Judge::BoardAlone {
            it.golden_difference = None;
        }
        view::measurement(&args.model, &board.place(), &disturbances, judge.words(), &it)
    })?;
    Ok(Code::Done)
}

/// Signs that something else ran on the board meanwhile, in words.
/// `wished` is the half-width of the median's interval that was asked for, a share.
fn disturbances(it: &Measurement, cores: u16, wished: f64) -> Vec<String> {
    // With no core left free whatever is measured shares one.
    let load = it.before.load_milli.filter(|load| *load >= u32::from(cores) * 1000);
    let load = load.map(|load| {
        format!("the board is busy: load {:.1} on {cores} cores when it began", f64::from(load) / 1e3)
    });
    let Latency { median_ns, p90_ns, .. } = it.latency;
    let noisy = (p90_ns > median_ns.saturating_mul(NOISY_P90)).then(|| {
        let times = p90_ns as f64 / median_ns.max(1) as f64;
        format!("the times are noisy: one inference in ten takes over {times:.1} times the median")
    });
    let loose = it.latency.interval.as_ref().and_then(|interval| {
        let known = (interval.high_ns - interval.low_ns) as f64 / 2.0 / median_ns.max(1) as f64;
        let (known, asked) = (100.0 * known, 100.0 * wished);
        (known > asked).then(|| {
            format!("the processes differ: the median is known within {known:.1} %, {asked:.1} % was wished")
        })
    });
    load.into_iter().chain(noisy).chain(loose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::tests::sent as measured;

    #[test]
    fn a_busy_board_and_noisy_times_are_told() {
        let quiet = measured();
        assert_eq!(disturbances(&quiet, 4, 0.02), Vec::<String>::new());
        let mut busy = quiet;
        busy.before.load_milli = Some(7_610);
        busy.latency.p90_ns = 10 * busy.latency.median_ns;
        let told = disturbances(&busy, 2, 0.02);
        assert!(told[0].contains("load 7.6 on 2 cores") && told[1].contains("10.0 times"), "{told:?}");
        assert_eq!(disturbances(&busy, 8, 0.02).len(), 1, "eight cores carry that load");
        if let Some(interval) = &mut busy.latency.interval {
            (interval.low_ns, interval.high_ns) =
                (busy.latency.median_ns * 9 / 10, busy.latency.median_ns * 11 / 10);
        }
        let told = disturbances(&busy, 8, 0.02);
        assert!(told[1].contains("within 10.0 %, 2.0 % was wished"), "{told:?}");
        busy.latency.interval = None;
        busy.before.load_milli = None;
        assert_eq!(disturbances(&busy, 2, 0.02).len(), 1, "unknown is not busy");
    }
}
