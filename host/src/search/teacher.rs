//! What a search starts from: the teacher as it was found, and policies that have learned before.

use std::sync::Arc;

use super::answer::Measured;
use super::constraint::Resources;
use super::digits::tidy;
use crate::model_io::Weights;
use crate::network::Network;

/// The network to compress, as it was found.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// Structure, batch norm live.
    pub network: Network,
    /// Weights.
    pub weights: Arc<Weights>,
    /// On `validation_search`.
    pub accuracy: f64,
    /// Accuracy of always answering the most frequent class there.
    pub chance: f64,
    /// On the board.
    pub measured: Measured,
}

impl Teacher {
    /// Its costs, measurement included: what relative limits refer to.
    pub fn resources(&self) -> Resources {
        Resources { measured: Some(tidy(self.measured)), ..Resources::of(&self.network) }
    }
}

/// Policies as safetensors files: where a search starts (policy transfer), and where it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of the removal stage.
    pub removal: Option<Vec<u8>>,
    /// Of the shrinkage stage.
    pub shrinkage: Option<Vec<u8>>,
}
