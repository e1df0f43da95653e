//! Training: network + weights -> a trainable model, teacher training and distillation by one loop.
//!
//! | file | what |
//! |---|---|
//! | `kernels/` | every operation forward and backward; the only SIMD and `unsafe` |
//! | `plan` | the network as a list of fused steps |
//! | `model` | steps + variables + running statistics: forward and backward |
//! | `batches` | shuffling, augmentation, normalisation, all seeded |
//! | `optimiser`, `schedule`, `recipe` | how weights move, how fast, and the whole as one value |
//! | `trainer`, `state` | the loop; a training between two steps |
//! | `teacher_logits` | a teacher's answers, computed once |
//! | `evaluation`, `batch_norm` | accuracy, logits; statistics anew after surgery |
//! | `paired` | two models on the same images |
//! | `accuracy`, `confusion`, `guessing` | right answers; by class; beside guessing |
//! | `inheritance` | initial weights, and what a student takes from its teacher |
//! | `device` | CPU or GPU, probed |
//! | `classifier` | a model on either: the room's front |
//!
//! No file is read here and nothing is printed. The same seed gives the same weights, bit for bit on a CPU, whatever
//! the number of threads.

// A new kind of layer, activation or tensor must be thought about wherever one is told from another.
#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

mod accuracy;
pub mod batch_norm;
pub mod batches;
mod classifier;
mod confusion;
pub mod device;
pub mod evaluation;
mod guessing;
pub mod inheritance;
pub mod kernels;
pub mod model;
pub mod optimiser;
mod paired;
mod plan;
pub mod recipe;
pub mod schedule;
pub mod state;
pub mod teacher_logits;
pub mod trainer;

#[cfg(test)]
mod tests;

pub use accuracy::{Accuracy, ClassAccuracy};
pub use batches::Augmentation;
pub use classifier::Classifier;
pub use confusion::{Confusion, Weighing};
pub use device::{Device, DeviceChoice};
pub use evaluation::Classify;
pub use guessing::{Guessing, Verdict};
pub use paired::PairedDifference;
pub use recipe::Recipe;
pub use state::TrainingState;
pub use teacher_logits::TeacherLogits;
pub use trainer::{Checkpoints, TrainProgress, TrainSummary, TrainingJob};

use std::fmt::Display;

use crate::exit::Diagnostic;
use crate::model_io::WeightsError;

/// Why training or evaluation stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The loss is infinite or not a number: the learning rate is too high, or weights were broken from the start.
    #[error("training diverged at step {step}: the loss is {loss}")]
    Diverged {
        /// Counted from 0 over all epochs.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// The observer asked to stop.
    #[error("training was cancelled at step {step}")]
    Cancelled {
        /// Steps done.
        step: usize,
    },
    /// Weights do not fit the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Samples, recipe, teacher logits or model do not fit each other.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// The thing.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The device asked for is not there.
    #[error(transparent)]
    Device(#[from] device::DeviceError),
    /// The GPU failed while a model was put on it.
    #[error(transparent)]
    Gpu(#[from] kernels::GpuError),
    /// An operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Diagnostic for TrainingError {}

impl TrainingError {
    /// Whether a GPU had no memory left. cuDNN has no such word for its own allocations, so not every lack is told.
    pub fn is_out_of_gpu_memory(&self) -> bool {
        match self {
            Self::Gpu(kernels::GpuError::Memory { .. }) => true,
            Self::Candle(error) => error.to_string().contains(kernels::MEMORY_IS_FULL),
            Self::Diverged { .. }
            | Self::Cancelled { .. }
            | Self::Weights(_)
            | Self::Mismatch { .. }
            | Self::Device(_)
            | Self::Gpu(_) => false,
        }
    }
}

pub(crate) fn mismatch(what: &'static str, expected: impl Display, got: impl Display) -> TrainingError {
    TrainingError::Mismatch { what, expected: expected.to_string(), got: got.to_string() }
}
