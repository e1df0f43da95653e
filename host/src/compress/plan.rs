//! What one compression is asked to do: checked values, resolved from arguments, file and profile.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::board::Endpoint;
use crate::data::Dataset;
use crate::model_io::onnx;
use crate::search::Settings;
use crate::training::DeviceChoice;

/// Everything that `compress` and `quickstart` decide before the work begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Run folder.
    pub out: PathBuf,
    /// Go on with what lies there.
    pub resume: bool,
    /// The teacher as read from its file, batch norm alive.
    pub teacher: onnx::Model,
    /// That file.
    pub teacher_file: PathBuf,
    /// Images, split. The teacher's own normalisation is used, not this one's.
    pub dataset: Dataset,
    /// The board as the user wrote it, for people.
    pub board: String,
    /// Where it is, and its key.
    pub endpoint: Endpoint,
    /// Threads of the engine on the board.
    pub board_threads: u16,
    /// Limits, budget, preset, seed, rungs. `board_key` is filled in when the board has been greeted.
    pub search: Settings,
    /// How the student is chosen and finished.
    pub finale: Finale,
    /// Where training runs.
    pub device: DeviceChoice,
    /// Run folder of an earlier search whose policies start this one.
    pub policy_from: Option<PathBuf>,
    /// Whether the student goes into the board's active slot.
    pub ship: bool,
}

/// From finalists to the student (method.md 4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finale {
    /// Best candidates that are measured properly and retrained.
    pub finalists: usize,
    /// Seeds of each retraining.
    pub seeds: usize,
    /// Passes over the training images in each retraining.
    pub epochs: usize,
    /// Passes over the training images in the student's long distillation.
    pub final_epochs: usize,
}
