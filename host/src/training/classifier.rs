//! A network with weights on whichever device the user chose: what the rest of the program trains and asks.

use std::ops::ControlFlow;

use super::batches::Augmentation;
use super::device::Device;
use super::evaluation::Classify;
use super::kernels::{ChannelsLast, Cuda};
use super::model::Model;
use super::teacher_logits::TeacherLogits;
use super::trainer::{self, TrainProgress, TrainSummary, TrainingJob};
use super::{TrainingError, batch_norm};
use crate::data::{Normalisation, Samples};
use crate::model_io::Weights;
use crate::network::Network;

/// One model, on a CPU or a GPU.
#[derive(Debug)]
pub enum Classifier {
    /// On the CPU.
    Cpu(Model<ChannelsLast>),
    /// On a GPU, in a stream of its own.
    Cuda(Model<Cuda>),
}

/// The same expression about either model.
macro_rules! either {
    ($self:expr, $model:ident => $what:expr) => {
        match $self {
            Classifier::Cpu($model) => $what,
            Classifier::Cuda($model) => $what,
        }
    };
}

/// Works as a task of the kernels' own thread pool. From any other thread each of the some hundred kernels of a step would
/// wait for a thread of the pool to wake up: a quarter of a small student's time.
fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

impl Classifier {
    /// Puts `weights` on `device`.
    ///
    /// # Errors
    /// Weights that do not fit the network; a softmax that is not last; the device's.
    pub fn new(network: &Network, weights: &Weights, device: &Device) -> Result<Self, TrainingError> {
        Ok(match device {
            Device::Cpu => Self::Cpu(Model::new(network, weights, ChannelsLast)?),
            Device::Cuda(gpu) => Self::Cuda(Model::new(network, weights, Cuda::new(gpu)?)?),
        })
    }

    /// All tensors, back on the host.
    ///
    /// # Errors
    /// The device's.
    pub fn weights(&self) -> Result<Weights, TrainingError> {
        either!(self, model => model.weights())
    }

    /// As [`trainer::train`]; the observer, on a thread of the pool, sees the model as something to ask.
    ///
    /// # Errors
    /// As [`trainer::train`].
    pub fn train(
        &mut self,
        job: TrainingJob<'_>,
        observer: &mut (dyn FnMut(&TrainProgress, &dyn Classify) -> ControlFlow<()> + Send),
    ) -> Result<TrainSummary, TrainingError> {
        in_pool(|| either!(self, model => trainer::train(model, job, &mut |now, model| observer(now, model))))
    }

    /// As [`batch_norm::reestimate`].
    ///
    /// # Errors
    /// As [`batch_norm::reestimate`].
    pub fn reestimate(
        &mut self,
        samples: &Samples,
        normalisation: &Normalisation,
        images: usize,
        seed: u64,
    ) -> Result<(), TrainingError> {
        in_pool(
            || either!(self, model => batch_norm::reestimate(model, samples, normalisation, images, seed)),
        )
    }

    /// As [`TeacherLogits::compute`], of this teacher.
    ///
    /// # Errors
    /// As [`TeacherLogits::compute`].
    pub fn answers(
        &self,
        samples: &Samples,
        normalisation: &Normalisation,
        augmentation: Augmentation,
        views: usize,
        seed: u64,
    ) -> Result<TeacherLogits, TrainingError> {
        in_pool(
            || either!(self, model => TeacherLogits::compute(model, samples, normalisation, augmentation, views, seed)),
        )
    }
}

impl Classify for Classifier {
    fn network(&self) -> &Network {
        either!(self, model => model.network())
    }

    fn logits(&self, samples: &Samples, normalisation: &Normalisation) -> Result<Vec<f32>, TrainingError> {
        in_pool(|| either!(self, model => Classify::logits(model, samples, normalisation)))
    }
}
