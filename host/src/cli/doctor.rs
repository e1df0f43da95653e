//! `n2n doctor`: what this machine lacks, and the command that mends it.

use std::path::Path;

use n2n_protocol::Board;
use serde::Serialize;

use super::json::SCHEMA;
use super::{Context, target_board};
use crate::data::{self, DataSpec};
use crate::exit::{Code, Failure};
use crate::training::kernels::{Instructions, Precision, instructions};
use crate::training::{DeviceChoice, device};
use crate::{ui, units, wording};

/// Checks this machine and a board, and says what to do about what is missing
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  n2n doctor\n  n2n doctor --board pi-lab --data cifar10:/data/cifar-10-batches-bin"
)]
pub(super) struct Args {
    #[command(flatten)]
    board: target_board::Args,
    /// Images to look for
    #[arg(long, value_name = "KIND:PATH", default_value = "fashion-mnist")]
    data: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Fine,
    /// Works without, but slower or with less.
    Optional,
    /// Something will not work.
    Missing,
}

#[derive(Debug, PartialEq, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    mend: Option<String>,
}

#[derive(Serialize)]
struct Checked {
    schema: u32,
    checks: Vec<Check>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let spec: DataSpec = args.data.parse()?;
    let mut checks = vec![home(), images(&spec), processor(), gpu(), onnx_runtime()];
    checks.extend(board(&args.board, context));
    let checked = Checked { schema: SCHEMA, checks };
    context.ui.result(&checked, || text(&checked.checks))?;
    let missing = checked.checks.iter().any(|check| check.state == State::Missing);
    Ok(if missing { Code::Failed } else { Code::Done })
}

fn text(checks: &[Check]) -> String {
    let rows = checks.iter().map(|check| {
        let state = match check.state {
            State::Fine => "fine",
            State::Optional => "optional",
            State::Missing => "MISSING",
        };
        [check.what.into(), state.into(), check.found.clone()]
    });
    let mut text = ui::table(["", "", "found"], rows);
    text.push('\n');
    for (what, mend) in checks.iter().filter_map(|check| Some((check.what, check.mend.as_ref()?))) {
        text = [&text, "\n", what, ": ", mend].concat();
    }
    text
}

fn home() -> Check {
    let what = "home folder";
    let book = match target_board::home() {
        Ok(home) => home.book(),
        Err(failure) => {
            let mend = Some("set the environment variable N2N_HOME to a folder".into());
            return Check { what, state: State::Missing, found: failure.to_string(), mend };
        }
    };
    let folder = book.parent().unwrap_or(Path::new("."));
    let writable = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)).map(drop);
    match writable {
        Ok(()) => Check { what, state: State::Fine, found: folder.display().to_string(), mend: None },
        Err(error) => Check {
            what,
            state: State::Missing,
            found: format!("{}: {error}", folder.display()),
            mend: Some(format!(
                "chown -R $USER {}, or set N2N_HOME to a folder that you may write",
                folder.display()
            )),
        },
    }
}

fn images(spec: &DataSpec) -> Check {
    let what = "images";
    match data::look(spec) {
        Ok(found) => Check { what, state: State::Fine, found, mend: None },
        Err(error) => Check { what, state: State::Missing, found: error.to_string(), mend: error.hint() },
    }
}

/// Vector instructions that the training kernels use here.
fn processor() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let best = instructions();
    // Portable code is NEON on ARM, but on x86-64 what every processor has.
    let wide = cfg!(not(target_arch = "x86_64")) || best > Instructions::Portable;
    Check {
        what: "processor",
        state: if wide { State::Fine } else { State::Optional },
        found: format!("{cores} cores, {best}"),
        mend: (!wide).then(|| "training is slower without AVX2 and FMA: use another machine".into()),
    }
}

fn gpu() -> Check {
    let what = "GPU";
    match device::open(DeviceChoice::Cuda(0, Precision::F32)) {
        Ok(device) => Check { what, state: State::Fine, found: device.to_string(), mend: None },
        Err(error) => Check {
            what,
            state: State::Optional,
            found: error.to_string(),
            mend: Some("training uses the CPU; host/cuda/README.md says what a GPU needs".into()),
        },
    }
}

/// The independent judge of exported files; nothing of ours needs it.
fn onnx_runtime() -> Check {
    let what = "ONNX Runtime";
    let python = std::env::var("N2N_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = "import onnxruntime; print(onnxruntime.__version__)";
    let output = std::process::Command::new(&python).args(["-c", script]).output();
    match output {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Check { what, state: State::Fine, found: format!("{version}, by {python}"), mend: None }
        }
        _ => Check {
            what,
            state: State::Optional,
            found: format!("{python} cannot import it; only our own tests use it"),
            mend: Some(
                "python3 -m venv venv && venv/bin/pip install onnxruntime, and N2N_PYTHON=venv/bin/python"
                    .into(),
            ),
        },
    }
}

fn board(args: &target_board::Args, context: &Context) -> Vec<Check> {
    let what = "board";
    match args.connect(context) {
        Ok(connected) => {
            let board = &connected.client.welcome().board;
            let found = format!(
                "{}: {}, {} cores, {}; engines: {}",
                connected.place(),
                board.model,
                board.cores,
                units::bytes(board.memory_bytes),
                wording::engines(&board.engines)
            );
            vec![Check { what, state: State::Fine, found, mend: None }, quiet(board)]
        }
        Err(failure) => vec![Check {
            what,
            state: State::Missing,
            found: failure.to_string(),
            mend: Some(failure.next_step().unwrap_or("n2n board list").to_owned()),
        }],
    }
}

/// Whether the board is in a condition to be measured on, as far as it says.
fn quiet(board: &Board) -> Check {
    let it = &board.conditions;
    let mut found = Vec::new();
    let mut mend = Vec::new();
    if let Some(load) = it.load_milli {
        found.push(format!("load {:.1} on {} cores", f64::from(load) / 1e3, board.cores));
        if load >= u32::from(board.cores) * 1000 {
            mend.push("stop what else runs there".to_owned());
        }
    }
    if let Some(governor) = &it.governor {
        found.push(format!("governor {governor}"));
        if governor != "performance" {
            mend.push(
                "`sudo cpupower frequency-set -g performance` there keeps the clock in one place".to_owned(),
            );
        }
    }
    if let Some(bits) = it.throttle_bits.filter(|bits| *bits != 0) {
        found.push(format!("throttle bits {bits:#x}"));
        mend.push(
            "give it a better power supply or a cooler: it throttles, or has since it started".to_owned(),
        );
    }
    if found.is_empty() {
        found.push("it does not say how busy it is".to_owned());
    }
    Check {
        what: "board's condition",
        state: if mend.is_empty() { State::Fine } else { State::Optional },
        found: found.join(", "),
        mend: (!mend.is_empty()).then(|| format!("for steadier numbers: {}", mend.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_images_come_with_the_command_that_brings_them() {
        let check = images(&"fashion-mnist:/no/such/folder".parse().unwrap());
        assert_eq!(check.state, State::Missing);
        assert!(check.mend.unwrap().contains("apt install"));
        assert_eq!(images(&DataSpec::bundled()).state, State::Fine);
    }

    #[test]
    fn a_board_that_is_busy_or_hot_is_told_with_what_helps() {
        let mut board = Board {
            name: "pi".into(),
            model: "Pi".into(),
            class: "raspberrypi,4-model-b".into(),
            architecture: "aarch64".into(),
            system: "Linux".into(),
            cores: 4,
            memory_bytes: 1 << 30,
            fingerprint: n2n_protocol::Digest([0; 32]),
            engines: vec![],
            conditions: n2n_protocol::Conditions::default(),
        };
        assert_eq!(quiet(&board).state, State::Fine, "unknown is not busy");
        board.conditions.load_milli = Some(3_000);
        board.conditions.governor = Some("performance".into());
        board.conditions.throttle_bits = Some(0);
        assert_eq!((quiet(&board).state, quiet(&board).mend), (State::Fine, None));
        board.conditions.load_milli = Some(7_600);
        board.conditions.governor = Some("ondemand".into());
        board.conditions.throttle_bits = Some(0x50005);
        let check = quiet(&board);
        assert_eq!(check.state, State::Optional);
        for part in ["load 7.6 on 4 cores", "ondemand", "0x50005"] {
            assert!(check.found.contains(part), "{check:?}");
        }
        assert!(check.mend.unwrap().matches(';').count() == 2);
    }

    #[test]
    fn every_finding_that_is_not_fine_says_what_to_do() {
        for check in [processor(), gpu(), onnx_runtime()] {
            assert_eq!(check.state == State::Fine, check.mend.is_none(), "{check:?}");
        }
    }
}
