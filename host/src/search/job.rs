//! One training to do, with everything that it needs.

use std::sync::Arc;

use super::answer::Rung;
use crate::model_io::Weights;
use crate::network::Network;
use crate::network::surgery::Inheritance;

/// Where a student's weights begin.
#[derive(Clone, Debug)]
pub enum StartingWeights {
    /// `training::inheritance::inherit(&job.network, &inheritance, &source, job.seed)`.
    Inherited {
        /// Weights of the network that surgery began from (the teacher, or the removal stage's student).
        source: Arc<Weights>,
        /// Which slices each tensor takes.
        inheritance: Inheritance,
    },
    /// `training::inheritance::initial_weights(&job.network, job.seed)`; the `paper` preset.
    Fresh,
}

/// One training to do. The distiller is always the original teacher, in both stages.
#[derive(Clone, Debug)]
pub struct Job {
    /// [`Network::digest`]: what latency depends on.
    pub digest: String,
    /// Identity of structure *and* of which teacher layers were kept: what accuracy depends on. Two students of one
    /// structure that inherit other layers differ here. Name stored weights after this.
    pub lineage: String,
    /// The student.
    pub network: Network,
    /// Its weights before training.
    pub start: StartingWeights,
    /// How much training.
    pub rung: Rung,
    /// For re-initialised tensors, batches and augmentation.
    pub seed: u64,
}
