//! What one compression is asked to do: the configuration that `run.toml` keeps, and what was loaded by it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::as_text;
use super::finale::Finale;
use crate::board::{Address, Endpoint};
use crate::data::{DataSpec, Dataset, Wishes};
use crate::engine_choice::EngineChoice;
use crate::model_io::onnx;
use crate::normalisation::InputForm;
use crate::profile::Profile;
use crate::search::{Budget, Settings};
use crate::training::{DeviceChoice, Weighing};

/// The resolved configuration: enough to build the same [`Plan`] again when the run is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// ONNX file of the teacher.
    pub teacher: PathBuf,
    /// Images.
    #[serde(with = "as_text")]
    pub data: DataSpec,
    /// How a folder's pictures are read, as far as the user says; else as the teacher's were.
    #[serde(default, skip_serializing_if = "Wishes::none")]
    pub pictures: Wishes,
    /// What candidates and student take.
    #[serde(default = "normalised")]
    pub input: InputForm,
    /// Kind of board, as in `--profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Whether a board of another kind than the profile's is taken, as with `--any-board`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_board: bool,
    /// The board.
    #[serde(with = "as_text")]
    pub board: Address,
    /// Which of the board's engines runs models.
    #[serde(default, with = "as_text")]
    pub engine: EngineChoice,
    /// Threads of the engine on the board.
    pub board_threads: u16,
    /// Where training runs.
    #[serde(with = "as_text")]
    pub device: DeviceChoice,
    /// Run folder of an earlier search whose policies start this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_from: Option<PathBuf>,
    /// Whether the student goes into the board's active slot.
    pub ship: bool,
    /// What accuracies are averages over, in rewards and among finalists.
    #[serde(default)]
    pub reward: Weighing,
    /// How the student is chosen and finished.
    pub finale: Finale,
    /// Limits, budget, preset, seed, rungs. `board_key` stays empty here; the greeting fills it in.
    pub search: Settings,
}

/// Of runs that were begun before students normalised themselves.
fn normalised() -> InputForm {
    InputForm::Normalised
}

/// A configuration with everything that it names.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was asked for.
    pub configuration: Configuration,
    /// Run folder.
    pub out: PathBuf,
    /// Go on with what lies there.
    pub resume: bool,
    /// The budget that a resumed run is given; larger than what it had, it goes on searching.
    pub budget: Option<Budget>,
    /// The teacher as read from its file, batch norm alive.
    pub teacher: onnx::Model,
    /// SHA-256 of that file.
    pub teacher_digest: String,
    /// [`Dataset::digest`] of the images.
    pub data_digest: String,
    /// Images, split. The teacher's own normalisation is used, not this one's.
    pub dataset: Dataset,
    /// The profile that the configuration names.
    pub profile: Option<Profile>,
    /// Where the board is, and its key.
    pub endpoint: Endpoint,
    /// For how long a board that is lost on the way is waited for. It decides nothing about the result, so a resumed run may
    /// be told another time.
    pub wait_board: Duration,
    /// Time between two states of a long training that are kept. It decides nothing about the result.
    pub checkpoint_interval: Duration,
    /// File of the user's signing key; made if it does not exist.
    pub signing_key: PathBuf,
    /// File with the number of the user's last bundle.
    pub bundle_number: PathBuf,
}
