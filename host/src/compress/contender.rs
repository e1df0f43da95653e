//! A finalist on its way to be the student.

use crate::model_io::Weights;
use crate::search::Finalist;

/// A finalist that keeps the limits, with the best of its retrained weights.
pub(super) struct Contender<'a> {
    pub(super) finalist: &'a Finalist,
    pub(super) weights: Weights,
    /// Mean over the seeds, on the second half of the validation split.
    pub(super) accuracy: f64,
    /// The answers of its weights on those images.
    pub(super) answers: Vec<u16>,
}
