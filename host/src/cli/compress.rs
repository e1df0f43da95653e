//! `n2n compress`: flags and file -> a checked plan -> the job -> the comparison of teacher and student.

use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  n2n compress --teacher teacher.onnx --data fashion-mnist --board local --limit latency=0.5x --limit params=0.2x
  n2n compress --teacher teacher.onnx --data cifar10:/data/cifar-10-batches-bin --profile raspberry-pi-4b \\
      --board pi-lab --limit latency=5ms --limit model_memory=20MiB --budget 2h --out runs/pi-1
  n2n compress --resume --out runs/pi-1            go on with a run that was stopped
  n2n compress … --dry-run                         seconds per candidate, and what the budget buys

Limits: latency, model_memory, planned_activation, file, params, macs; absolute (5ms, 20MiB, 200K) or relative to the
teacher (0.5x). `latency` binds the upper bound of the median at batch 1.
Budget: a time (30min) or a number of candidates (200candidates), for both stages together; teacher training and the
long distillation of the result are outside it.";

/// Compresses a teacher for one board, within limits measured on that board
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The trained network, an ONNX file written by `n2n teacher train`
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub(super) teacher: Option<PathBuf>,
    /// Images: bundled, or KIND:PATH with KIND one of fashion-mnist, mnist, cifar10, cifar100, svhn, folder
    #[arg(long, value_name = "KIND:PATH")]
    pub(super) data: Option<String>,
    /// Kind of board, a name of `n2n profile list`; without one the board itself is asked
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Where candidates are measured: a name of `n2n board list`, tcp://HOST:PORT, serial:///dev/TTY, or local
    #[arg(long, value_name = "BOARD")]
    pub(super) board: Option<String>,
    /// Bound that the student has to keep; may be repeated
    #[arg(long = "limit", value_name = "METRIC=BOUND")]
    pub(super) limits: Vec<String>,
    /// What to reward when there is no limit: smallest or fastest
    #[arg(long, value_name = "GOAL")]
    pub(super) goal: Option<String>,
    /// edge: our best; paper: as published
    #[arg(long, value_name = "PRESET")]
    pub(super) preset: Option<String>,
    /// What the search may spend, as in 30min or 200candidates
    #[arg(long, value_name = "BUDGET")]
    pub(super) budget: Option<String>,
    /// Passes over the training images in the long distillation of the result
    #[arg(long, value_name = "N")]
    pub(super) final_epochs: Option<usize>,
    /// Of everything that is drawn at random: the same seed and measurements give the same candidates
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
    /// Run folder; default runs/DATA-N
    #[arg(long, value_name = "FOLDER", required_if_eq("resume", "true"))]
    pub(super) out: Option<PathBuf>,
    /// Go on with the run in --out, with its own settings
    #[arg(long, conflicts_with_all = ["teacher", "data", "profile", "limits", "goal", "preset", "budget", "dry_run"])]
    pub(super) resume: bool,
    /// Start from the policies of an earlier run
    #[arg(long, value_name = "RUN")]
    pub(super) policy_from: Option<PathBuf>,
    /// Measure and train a few candidates, say what the budget buys, and stop
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) machine: super::machine::Args,
}
