//! How the student is chosen and finished, in numbers.

use serde::{Deserialize, Serialize};

use crate::search;

/// Seeds that each finalist is retrained with.
const SEEDS: usize = 2;

/// From finalists to the student (docs/method.md#final-student).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl Finale {
    /// Of a job that takes minutes: one seed, and few passes.
    pub const QUICK: Self = Self { finalists: search::FINALISTS, seeds: 1, epochs: 4, final_epochs: 20 };
    /// Passes of the long distillation, unless told otherwise.
    pub const EPOCHS: usize = 30;

    /// Of a job whose long distillation has so many passes: retraining the usual number of finalists costs as much again.
    pub fn of(finalists: usize, final_epochs: usize) -> Self {
        Self {
            finalists,
            seeds: SEEDS,
            epochs: final_epochs.div_ceil(search::FINALISTS * SEEDS),
            final_epochs,
        }
    }
}
