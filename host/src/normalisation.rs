//! How pixels become a network's inputs: stated by a model file, computed from a data set, applied by whoever runs the
//! network. No code here computes it: that needs images.

use serde::{Deserialize, Serialize};

/// Per-channel mean and deviation of the training pixels, on the 0-1 scale; part of what a model file states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, above 0.
    pub deviation: Vec<f32>,
}
