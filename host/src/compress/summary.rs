//! What came out of a compression: the numbers that the table, the JSON object and the report repeat.
//!
//! Stored as `summary.json` in the run folder. Computed once, here; nobody downstream computes anew.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::paired::PairedDifference;
use crate::model_io::atomic_file;
use crate::network::Network;
use crate::search::constraint::Metric;
use crate::search::laboratory::Measured;
use crate::training::Accuracy;
use n2n_protocol::Measurement;

/// File in the run folder.
pub const FILE: &str = "summary.json";

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Run folder.
    pub run: PathBuf,
    /// Board as the user wrote it.
    pub board: String,
    /// Whether that is this machine.
    pub this_machine: bool,
    /// What the board says it is.
    pub board_model: String,
    /// Class of board, for which the student was made; empty in runs of older versions.
    #[serde(default)]
    pub board_class: String,
    /// Data set.
    pub dataset: String,
    /// Limits in base units.
    pub limits: Vec<(Metric, f64)>,
    /// The teacher.
    pub teacher: Side,
    /// The student; `None` if none meets the limits.
    pub student: Option<Student>,
    /// Candidates that the search scored.
    pub candidates: usize,
    /// Whole job, over all its resumed parts, seconds.
    pub wall_s: f64,
    /// Seconds by step of the job, in order.
    pub seconds: Vec<(String, f64)>,
}

/// Teacher or student, from the very file that is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// ONNX file.
    pub file: PathBuf,
    /// Structure: the student's with batch norm, as it was trained.
    pub network: Network,
    /// On the test split.
    pub test: Accuracy,
    /// On the second half of the validation split.
    pub validation: Accuracy,
    /// Trained parameters.
    pub params: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// On the board.
    pub measured: Measured,
    /// The whole measurement.
    pub measurement: Measurement,
}

/// The student, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Student {
    /// Its numbers.
    pub side: Side,
    /// Student minus teacher on the test split.
    pub difference: PairedDifference,
    /// Which searcher found it.
    pub searcher: String,
    /// Whether it runs in the board's active slot.
    pub shipped: bool,
    /// Why it does not, when it was to.
    #[serde(default)]
    pub not_shipped: Option<String>,
    /// Share of images on which board and host name the same class, of those that were compared.
    pub board_agreement: Option<Accuracy>,
}

impl Summary {
    /// Writes `summary.json`.
    pub fn save(&self, run: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        atomic_file::write(&run.join(FILE), &text)
    }

    /// Reads `summary.json`; `None` where the run has not ended.
    pub fn load(run: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(run.join(FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
