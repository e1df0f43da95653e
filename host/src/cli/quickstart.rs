//! `n2n quickstart`: the whole job on this machine, from the images inside this program to a student in the active slot
//! of a local agent.

use std::path::PathBuf;

use super::compress::{RUNS, free_folder};
use super::teacher::{Wish, train};
use super::{Context, device, engine, job, outcome, search_settings, target_board};
use crate::checkpoint;
use crate::compress::{Configuration, Finale};
use crate::data::{self, DataSpec, LoadOptions, Wishes};
use crate::exit::{Code, Failure};
use crate::network::zoo::Architecture;
use crate::normalisation::InputForm;
use crate::run::report;
use crate::search::{Preset, Settings};
use crate::training::Weighing;

const EXAMPLES: &str = "\
Example:
  n2n quickstart --out runs/first

It trains a small VGG-13 on 5,000 bundled images of clothes (Fashion-MNIST, MIT),
compresses it to half of its latency, as measured on this machine by an agent
process, and 3 % of its parameters, ships the student into that agent's
active slot, and writes a report.";

/// The teacher's file in the run folder.
const TEACHER: &str = "teacher.onnx";
/// Width of the teacher: small enough to train in a minute on two cores, large enough to have something to give away.
const WIDTH: f64 = 0.25;
/// Passes of the teacher over its 5,000 images.
const TEACHER_EPOCHS: usize = 16;
/// The limits, unless others are given.
const LIMITS: [&str; 2] = ["latency=0.5x", "params=0.03x"];
/// Widths are multiples of this: at some thousand parameters every channel counts.
const CHANNEL_MULTIPLE: usize = 2;
/// The search's budget; with everything around it some three and a half minutes on two cores.
const BUDGET: &str = "2min";

/// Runs the whole job on this machine, in some minutes: teacher, search, student, shipping, report
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Bound that the student has to keep; may be repeated [default: latency=0.5x and params=0.03x]
    #[arg(long = "limit", value_name = "METRIC=BOUND")]
    limits: Vec<String>,
    /// What the search may spend, as in 2min or 100candidates
    #[arg(long, value_name = "BUDGET", default_value = BUDGET)]
    budget: String,
    /// Of everything that is drawn at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run folder [default: the first free one of runs/quickstart-1, runs/quickstart-2, …]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    board: target_board::Args,
    #[command(flatten)]
    engine: engine::Args,
    #[command(flatten)]
    device: device::Args,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let limits =
        if args.limits.is_empty() { LIMITS.map(str::to_owned).to_vec() } else { args.limits.clone() };
    let bounds = search_settings::limits(&limits)?;
    let search = Settings {
        limits: bounds.limits,
        accuracy_loss: bounds.accuracy_loss,
        budget: search_settings::budget(&args.budget)?,
        channel_multiple: CHANNEL_MULTIPLE,
        ..Settings::new(Preset::Edge, args.seed)
    };
    let device = args.device.choice(&context.config)?;
    let board = args.board.address(context)?;
    let out = args.out.clone().unwrap_or_else(|| free_folder(RUNS.as_ref(), "quickstart"));
    let dataset =
        data::load(&DataSpec::bundled(), &LoadOptions { seed: args.seed, ..LoadOptions::default() })?;

    let teacher = out.join(TEACHER);
    let wish = Wish {
        architecture: Architecture::Vgg13,
        width: WIDTH,
        epochs: TEACHER_EPOCHS,
        seed: args.seed,
        device,
        out: teacher.clone(),
        checkpoint_interval: checkpoint::INTERVAL,
    };
    train(&wish, &dataset, context)?.write()?;

    let configuration = Configuration {
        teacher: std::path::absolute(teacher)?,
        data: DataSpec::bundled(),
        pictures: Wishes::default(),
        input: InputForm::default(),
        profile: None,
        any_board: false,
        board,
        engine: args.engine.choice(&context.config, None)?,
        board_threads: 1,
        device,
        policy_from: None,
        ship: true,
        reward: Weighing::default(),
        finale: Finale::QUICK,
        search,
    };
    let plan = job::plan(configuration, out.clone(), false, job::WAIT_BOARD, context)?;
    let summary = job::run(&plan, context)?;
    let written = report::write(&out, None)?;
    tracing::info!("report: {}", written.display());
    outcome::show(&summary, context)
}
