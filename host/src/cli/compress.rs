//! `n2n compress`: flags and file -> a checked plan -> the job -> the comparison of teacher and student.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::watch::Watcher;
use super::{
    Context, checkpoints, device, engine, job, outcome, pictures, profile, search_settings, target_board,
};
use crate::compress::{self, Configuration, Finale, Plan};
use crate::config::Config;
use crate::data::{DataSpec, Wishes};
use crate::exit::{Code, Failure, ResultExt as _};
use crate::normalisation::InputForm;
use crate::profile::Profile;
use crate::run::folder::{Folder, FolderError, Layout};
use crate::run::manifest::Manifest;
use crate::search::{self, Preset, Settings};
use crate::training::Weighing;

const EXAMPLES: &str = "\
Examples:
  n2n compress --teacher teacher.onnx --data fashion-mnist --board local --limit latency=0.5x --limit params=0.2x
  n2n compress --teacher teacher.onnx --data cifar10:/data/cifar-10-batches-bin --profile raspberry-pi-4b \\
      --board pi-lab --limit latency=5ms --limit model_memory=20MiB --budget 2h --out runs/pi-1
  n2n compress --teacher teacher.onnx --data mnist --objective smallest --limit accuracy=-1pt
  n2n compress --resume --out runs/pi-1              goes on with a run that was stopped
  the first command with --dry-run                   seconds per candidate, and what the budget buys

Limits: latency, model_memory, planned_activation, file, params, macs; absolute (5ms, 20MiB, 200K) or relative to the
teacher (0.5x). `latency` binds the upper bound of the median at batch 1. accuracy=-1pt: at most a point is lost, decided
on validation images before shipping. Limits given here replace the profile's.
Budget: a time (30min) or a number of candidates (200candidates) for the search; teacher training and the long
distillation of the result are outside it.";

/// Folder of run folders when --out is not given.
pub(super) const RUNS: &str = "runs";
/// Most passes over the training images that make sense to ask for.
const MAX_EPOCHS: usize = 10_000;
/// Most finalists that make sense to ask for: each is retrained for some epochs and seeds, and more candidates than this
/// are not kept with their weights.
const MAX_FINALISTS: usize = 24;
/// Flags that decide what a run is: they are given where it begins.
const BEGINNING: [&str; 27] = [
    "teacher",
    "data",
    "unlabelled",
    "input_type",
    "reward",
    "image_size",
    "channels",
    "resize",
    "series",
    "split_salt",
    "skip_bad",
    "profile",
    "board",
    "any_board",
    "limits",
    "objective",
    "preset",
    "searchers",
    "finalists",
    "final_epochs",
    "seed",
    "policy_from",
    "dry_run",
    "no_ship",
    "engine",
    "threads",
    "device",
];

/// Compresses a teacher for one board, within limits measured on that board
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The trained network, an ONNX file written by `n2n teacher train`
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    teacher: Option<PathBuf>,
    /// Images: bundled, or KIND:PATH with KIND one of fashion-mnist, mnist, idx, cifar10, cifar100, svhn, folder, npz
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    /// Folder of more pictures without classes, to learn from by the teacher's answers alone
    #[arg(long, value_name = "FOLDER")]
    unlabelled: Option<PathBuf>,
    /// What the student takes: plain (pixels from 0 to 1, which it normalises), uint8 (bytes) or normalised [default: plain]
    #[arg(long, value_name = "TYPE")]
    input_type: Option<String>,
    /// Kind of board, a name of `n2n profile list` or a .toml file: channel multiple, threads, limits
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Where candidates are measured: a name of `n2n board list`, tcp://HOST:PORT, serial:///dev/DEVICE, or local [default: local]
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Take the board that answers although the profile is about another kind
    #[arg(long)]
    any_board: bool,
    /// How long to wait for a board that is lost on the way, as in 10min [default: 5min]
    #[arg(long, value_name = "TIME")]
    wait_board: Option<String>,
    /// Bound that the student has to keep; may be repeated
    #[arg(long = "limit", value_name = "METRIC=BOUND")]
    limits: Vec<String>,
    /// most-accurate, smallest, fastest, or a metric to make small [default: most-accurate; without a limit on costs smallest].
    /// Where something is to be made small, a student may lose a point of accuracy unless --limit accuracy=-…pt says otherwise
    #[arg(long, value_name = "OBJECTIVE")]
    objective: Option<String>,
    /// What accuracies in rewards are averages over: images, or balanced: classes alike [default: images]
    #[arg(long, value_name = "HOW")]
    reward: Option<String>,
    /// edge: our best; paper: as published [default: edge]
    #[arg(long, value_name = "PRESET")]
    preset: Option<String>,
    /// What the search may spend, as in 30min or 200candidates [default: 20min; paper: 1000candidates]
    #[arg(long, value_name = "BUDGET")]
    budget: Option<String>,
    /// Who spends how much of it [default: all but uniform; paper: paper]
    #[arg(long, value_name = "NAME=SHARE,…")]
    searchers: Option<String>,
    /// Best candidates that are measured carefully and retrained, to choose among them [default: 5]
    #[arg(long, value_name = "N")]
    finalists: Option<usize>,
    /// Passes over the training images in the long distillation of the result [default: 30]
    #[arg(long, value_name = "N")]
    final_epochs: Option<usize>,
    /// Of everything that is drawn at random: the same seed and measurements give the same candidates
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run folder [default: the first free one of runs/DATA-1, runs/DATA-2, …]
    #[arg(long, value_name = "FOLDER", required_if_eq("resume", "true"))]
    out: Option<PathBuf>,
    /// Go on with the run in --out, as it was begun; a larger --budget lets it search on. Other flags that decide something
    /// are refused beside it
    #[arg(long, conflicts_with_all = BEGINNING)]
    resume: bool,
    /// Start from the policies of an earlier run
    #[arg(long, value_name = "RUN")]
    policy_from: Option<PathBuf>,
    /// Evaluate a few candidates, say what the budget buys, and stop
    #[arg(long)]
    dry_run: bool,
    /// Keep the student in the run folder; do not put it into the board's active slot
    #[arg(long)]
    no_ship: bool,
    #[command(flatten)]
    engine: engine::Args,
    /// Threads of the engine on the board [default: the profile's, else 1]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    #[command(flatten)]
    pictures: pictures::Args,
    #[command(flatten)]
    device: device::Args,
    #[command(flatten)]
    checkpoints: checkpoints::Args,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let (dry_run, resume) = (args.dry_run, args.resume);
    let (configuration, out) = match (resume, &args.out) {
        (true, Some(out)) => (recorded(out)?, out.clone()),
        _ => configuration(args, context)?,
    };
    if !resume && !dry_run {
        Folder::check(&out)?;
    }
    let budget = args.budget.as_deref().filter(|_| resume).map(search_settings::budget).transpose()?;
    if resume && let Some(summary) = compress::finished(&out, &configuration, budget)? {
        let student = summary.student.as_ref().map(|student| student.side.file.display().to_string());
        tracing::info!(
            "this run is finished; {}",
            student.map_or("no student".into(), |it| format!("student {it}"))
        );
        return outcome::show(&summary, context);
    }
    let plan = Plan {
        checkpoint_interval: args.checkpoints.interval()?,
        budget,
        ..job::plan(configuration, out, resume, wait_board(args, &context.config)?, context)?
    };
    if dry_run {
        let watcher = Watcher::new(&context.ui);
        let forecast = compress::dry_run(&plan, &context.stop, &|event| watcher.see(event))?;
        watcher.end();
        return outcome::forecast(&forecast, &plan.configuration.search, context);
    }
    outcome::show(&job::run(&plan, context)?, context)
}

/// Flag over file over default.
fn wait_board(args: &Args, config: &Config) -> Result<Duration, Failure> {
    match args.wait_board.as_deref().or(config.compress.wait_board.as_deref()) {
        Some(text) => humantime::parse_duration(text)
            .map_err(|error| Failure::usage(format!("wait for the board `{text}`: {error}")))
            .hint("write it as in 30s or 10min"),
        None => Ok(job::WAIT_BOARD),
    }
}

/// What a run was started with.
fn recorded(run: &Path) -> Result<Configuration, Failure> {
    let path = Layout::of(run).manifest();
    if !path.is_file() {
        return Err(FolderError::Nothing(run.into()).into());
    }
    Manifest::load(&path)?
        .configuration
        .try_into()
        .map_err(|error| Failure::failed(format_args!("{}: {error}", path.display())))
        .hint("the run was begun by another version of n2n: finish it with that one")
}

/// Everything that can be wrong with the command itself is found here, before any work.
fn configuration(args: &Args, context: &Context) -> Result<(Configuration, PathBuf), Failure> {
    let config = &context.config;
    let profile_name = args.profile.as_deref().or(config.profile.as_deref());
    let profile = profile_name.map(profile::load).transpose()?;
    let search = settings(args, config, profile.as_ref())?;
    let final_epochs = args.final_epochs.or(config.compress.final_epochs).unwrap_or(Finale::EPOCHS);
    if !(1..=MAX_EPOCHS).contains(&final_epochs) {
        return Err(Failure::usage(format!("final epochs: expected 1 to {MAX_EPOCHS}, got {final_epochs}")));
    }
    let data = args.data.as_deref().or(config.compress.data.as_deref());
    let spec: DataSpec = data
        .ok_or_else(|| {
            Failure::usage("no data set: expected --data KIND:PATH").hint("for a first try: --data bundled")
        })?
        .parse()?;
    let teacher =
        args.teacher.clone().ok_or_else(|| Failure::usage("no teacher: expected --teacher FILE"))?;
    let unlabelled = args.unlabelled.as_deref().map(std::path::absolute).transpose()?;
    let out = args.out.clone().unwrap_or_else(|| free_folder(Path::new(RUNS), &spec.name()));
    // A run goes on from any folder: what it names keeps its place.
    let configuration = Configuration {
        teacher: std::path::absolute(teacher)?,
        data: spec.absolute()?,
        pictures: Wishes { unlabelled, ..args.pictures.wishes()? },
        input: input_form(args.input_type.as_deref())?,
        profile: profile_name.map(profile::absolute).transpose()?,
        any_board: args.any_board,
        board: target_board::address(args.board.as_deref(), context)?,
        engine: args.engine.choice(config, profile.as_ref())?,
        board_threads: args.threads.or(config.threads).or(profile.map(|it| it.threads)).unwrap_or(1),
        device: args.device.choice(config)?,
        policy_from: args.policy_from.as_deref().map(std::path::absolute).transpose()?,
        ship: !args.no_ship,
        reward: args
            .reward
            .as_deref()
            .or(config.compress.reward.as_deref())
            .map_or(Ok(Weighing::default()), search_settings::weighing)?,
        finale: Finale::of(search.finalists, final_epochs),
        search,
    };
    Ok((configuration, out))
}

/// Flags over file over profile over preset.
fn settings(args: &Args, config: &Config, profile: Option<&Profile>) -> Result<Settings, Failure> {
    let preset = args.preset.as_deref().or(config.compress.preset.as_deref());
    let preset = preset.map_or(Ok(Preset::Edge), search_settings::preset)?;
    let mut settings = Settings::new(preset, args.seed);
    if preset.minds_the_board()
        && let Some(profile) = profile
    {
        settings.channel_multiple = profile.channel_multiple;
    }
    let own = [&args.limits, &config.compress.limits].into_iter().find(|limits| !limits.is_empty());
    if let Some(limits) = own.or(profile.map(|profile| &profile.limits)) {
        let bounds = search_settings::limits(limits)?;
        (settings.limits, settings.accuracy_loss) = (bounds.limits, bounds.accuracy_loss);
    }
    settings.goal = args.objective.as_deref().map(search_settings::objective).transpose()?.flatten();
    let otherwise = preset.accuracy_loss(settings.goal, !settings.limits.is_empty());
    settings.accuracy_loss = settings.accuracy_loss.or(otherwise);
    if let Some(budget) = args.budget.as_deref().or(config.compress.budget.as_deref()) {
        settings.budget = search_settings::budget(budget)?;
    }
    settings.finalists = args.finalists.unwrap_or(search::FINALISTS);
    if !(1..=MAX_FINALISTS).contains(&settings.finalists) {
        let got = settings.finalists;
        return Err(Failure::usage(format!("finalists: expected 1 to {MAX_FINALISTS}, got {got}")));
    }
    if let Some(searchers) = &args.searchers {
        settings.searchers = search_settings::searchers(searchers)?;
    }
    Ok(settings)
}

/// The value of `--input-type`; without one, plain pixels.
pub(super) fn input_form(text: Option<&str>) -> Result<InputForm, Failure> {
    let form = text.map(str::parse).transpose();
    form.map(Option::unwrap_or_default)
        .map_err(|expected| Failure::usage(format!("input type: expected {expected}")))
}

/// `runs/NAME-1`, or the next number that is not taken.
pub(super) fn free_folder(runs: &Path, name: &str) -> PathBuf {
    let mut number = 1_u32;
    loop {
        let folder = runs.join(format!("{name}-{number}"));
        if !folder.exists() {
            return folder;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::search::{Budget, Metric};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        let command = ["compress", "--teacher", "t.onnx"];
        Line::try_parse_from(command.iter().chain(words)).unwrap().args
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_profile() {
        let profile = Profile::load("raspberry-pi-4b", None).unwrap();
        let mut config = Config::default();
        let metrics = |settings: &Settings| settings.limits.iter().map(|it| it.metric).collect::<Vec<_>>();

        let from_profile = settings(&args(&[]), &config, Some(&profile)).unwrap();
        assert_eq!(metrics(&from_profile), [Metric::ModelMemory]);
        assert_eq!(from_profile.channel_multiple, profile.channel_multiple);

        config.compress.limits = vec!["params=0.5x".into()];
        config.compress.budget = Some("7candidates".into());
        let from_file = settings(&args(&[]), &config, Some(&profile)).unwrap();
        assert_eq!((metrics(&from_file), from_file.budget), (vec![Metric::Params], Budget::Candidates(7)));

        let words = ["--limit", "latency=5ms", "--budget", "9candidates", "--searchers", "random"];
        let from_flags = settings(&args(&words), &config, Some(&profile)).unwrap();
        assert_eq!((metrics(&from_flags), from_flags.budget), (vec![Metric::Latency], Budget::Candidates(9)));
        assert_eq!(from_flags.searchers, [("random".to_owned(), 1.0)]);
    }

    #[test]
    fn the_search_names_as_many_finalists_as_are_looked_at() {
        let with = |words: &[&str]| settings(&args(words), &Config::default(), None);
        assert_eq!(with(&["--finalists", "2"]).unwrap().finalists, 2);
        for wrong in ["0", "25"] {
            let error = with(&["--finalists", wrong]).unwrap_err().render();
            assert!(error.contains(&format!("finalists: expected 1 to 24, got {wrong}")), "{error}");
        }
    }

    #[test]
    fn the_paper_is_left_as_published() {
        let settings = settings(&args(&["--preset", "paper"]), &Config::default(), None).unwrap();
        assert_eq!(settings, Settings::new(Preset::Paper, 0));
    }

    #[test]
    fn a_lost_board_is_waited_for_as_long_as_flag_file_or_default_say() {
        let mut config = Config::default();
        let minutes =
            |words: &[&str], config: &Config| wait_board(&args(words), config).map(|it| it.as_secs() / 60);
        assert_eq!(minutes(&[], &config).unwrap(), 5);
        config.compress.wait_board = Some("7min".into());
        assert_eq!(minutes(&[], &config).unwrap(), 7);
        assert_eq!(minutes(&["--wait-board", "2h"], &config).unwrap(), 120);
        let error = minutes(&["--wait-board", "soon"], &config).unwrap_err().render();
        assert!(error.contains("`soon`") && error.contains("10min"), "{error}");
    }

    #[test]
    fn a_run_gets_the_first_free_folder() {
        let runs = tempfile::tempdir().unwrap();
        std::fs::create_dir(runs.path().join("mnist-1")).unwrap();
        assert_eq!(free_folder(runs.path(), "mnist"), runs.path().join("mnist-2"));
    }

    #[test]
    fn resuming_names_the_folder() {
        assert!(Line::try_parse_from(["compress", "--resume"]).is_err());
        assert!(Line::try_parse_from(["compress", "--resume", "--out", "runs/a"]).is_ok());
        assert!(Line::try_parse_from(["compress", "--out", "runs/a"]).is_err());
        for flags in [
            &["--teacher", "t.onnx"][..],
            &["--seed", "0"],
            &["--limit", "params=0.5x"],
            &["--device", "cpu"],
            &["--no-ship"],
            &["--unlabelled", "more"],
            &["--image-size", "9x9"],
            &["--skip-bad"],
            &["--reward", "balanced"],
            &["--input-type", "uint8"],
            &["--board", "local"],
            &["--dry-run"],
        ] {
            let words = ["compress", "--resume", "--out", "runs/a"].iter().chain(flags);
            let error = Line::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains("'--resume' cannot be used with") && error.contains(flags[0]), "{error}");
        }
        let decides_nothing = ["--wait-board", "1min", "--budget", "2h", "--checkpoint-interval", "1s"];
        let words = ["compress", "--resume", "--out", "runs/a"].into_iter().chain(decides_nothing);
        assert!(Line::try_parse_from(words).is_ok());
        let nothing = recorded(Path::new("/no/such/run")).unwrap_err().render();
        assert!(nothing.contains("no run to resume"), "{nothing}");
    }
}
