//! A job to an accuracy: starting weights, batch-norm re-estimation, distillation from the original teacher, validation.
//!
//! The teacher's logits are computed once and serve all candidates. Must not know about boards, limits or rewards.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Device;

use super::weight_store::WeightStore;
use crate::data::{Dataset, Samples};
use crate::model_io::Weights;
use crate::network::Network;
use crate::search::laboratory::{Fault, Job, Outcome, Rung, StartingWeights, Trained};
use crate::training::inheritance::{inherit, initial_weights};
use crate::training::recipe::{Length, Recipe};
use crate::training::{
    Accuracy, Augmentation, Model, TeacherLogits, TrainProgress, TrainingError, batch_norm, evaluation, train,
};

/// Images for batch-norm re-estimation (method.md 4.4: 1-2 K).
const REESTIMATION_IMAGES: usize = 1024;

/// Augmented views of each image for which a final student's teacher logits are kept.
const FINAL_VIEWS: usize = 4;

/// Trains candidates and finalists.
pub(super) struct Distiller<'a> {
    dataset: &'a Dataset,
    teacher: Model,
    /// Of the plain training images: what the short trainings of the search use.
    plain: TeacherLogits,
    /// Of augmented views; computed when the first finalist asks.
    augmented: Option<TeacherLogits>,
    proxy: Recipe,
    device: Device,
    store: WeightStore,
    stop: Arc<AtomicBool>,
}

impl<'a> Distiller<'a> {
    /// Computes the teacher's logits.
    pub(super) fn new(
        dataset: &'a Dataset,
        teacher: Model,
        proxy: Recipe,
        folder: &Path,
        stop: Arc<AtomicBool>,
    ) -> anyhow::Result<Self> {
        let plain = TeacherLogits::compute(
            &teacher,
            &dataset.train,
            &dataset.normalisation,
            Augmentation::NONE,
            1,
            0,
        )?;
        let device = teacher.device().clone();
        let store = WeightStore::open(folder)?;
        Ok(Self { dataset, teacher, plain, augmented: None, proxy, device, store, stop })
    }

    /// One training of the search. A student whose loss runs away is infeasible; everything else that fails is a fault.
    pub(super) fn train(
        &mut self,
        job: &Job,
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<Outcome<Trained>, Fault> {
        let began = Instant::now();
        match self.trained(job, observer) {
            Ok((weights, accuracy, fresh_tensors)) => {
                self.store
                    .put(job, &weights, accuracy.fraction())
                    .map_err(|error| Fault::Training(format!("keeping a candidate's weights: {error}")))?;
                let seconds = began.elapsed().as_secs_f64();
                Ok(Outcome::Done(Trained { accuracy: accuracy.fraction(), fresh_tensors, seconds }))
            }
            Err(TrainingError::Diverged { step, .. }) => {
                Ok(Outcome::Infeasible(format!("its training diverged at step {step}")))
            }
            Err(error) => Err(fault(error)),
        }
    }

    /// The weights that [`Self::train`] gave for this job; trained again if they were not kept.
    pub(super) fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        if let Some(weights) = self.store.get(job) {
            return Ok(Arc::new(weights));
        }
        self.trained(job, &mut |_| {}).map(|(weights, ..)| Arc::new(weights)).map_err(fault)
    }

    /// Long distillation with augmentation, from where the search left off.
    pub(super) fn finish(
        &mut self,
        network: &Network,
        start: &Weights,
        recipe: &Recipe,
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<Weights, TrainingError> {
        let mut model = Model::new(network, start, &self.device)?;
        if self.augmented.as_ref().is_none_or(|logits| logits.augmentation() != recipe.augmentation) {
            self.augmented = Some(TeacherLogits::compute(
                &self.teacher,
                &self.dataset.train,
                &self.dataset.normalisation,
                recipe.augmentation,
                FINAL_VIEWS,
                0,
            )?);
        }
        let (train_set, normalisation) = (&self.dataset.train, &self.dataset.normalisation);
        let stop = Arc::clone(&self.stop);
        train(&mut model, train_set, normalisation, self.augmented.as_ref(), recipe, &mut |progress| {
            observer(progress);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        model.weights()
    }

    /// Accuracy of a network with these weights.
    pub(super) fn accuracy(
        &self,
        network: &Network,
        weights: &Weights,
        samples: &Samples,
    ) -> Result<Accuracy, TrainingError> {
        let model = Model::new(network, weights, &self.device)?;
        evaluation::evaluate(&model, samples, &self.dataset.normalisation)
    }

    /// Predicted classes of a network with these weights.
    pub(super) fn predictions(
        &self,
        network: &Network,
        weights: &Weights,
        samples: &Samples,
    ) -> Result<Vec<u16>, TrainingError> {
        let model = Model::new(network, weights, &self.device)?;
        evaluation::predictions(&model, samples, &self.dataset.normalisation)
    }

    fn trained(
        &self,
        job: &Job,
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<(Weights, Accuracy, Vec<String>), TrainingError> {
        let (weights, fresh) = match &job.start {
            StartingWeights::Inherited { source, inheritance } => {
                inherit(&job.network, inheritance, source, job.seed)
            }
            StartingWeights::Fresh => (initial_weights(&job.network, job.seed), Vec::new()),
        };
        let mut model = Model::new(&job.network, &weights, &self.device)?;
        let (samples, normalisation) = (&self.dataset.train, &self.dataset.normalisation);
        let length = match job.rung {
            Rung::Inherited => None,
            Rung::Steps(steps) => Some(Length::Steps(steps as usize)),
            Rung::Epochs(epochs) => Some(Length::Epochs(epochs as usize)),
        };
        match length {
            None => {
                batch_norm::reestimate(&mut model, samples, normalisation, REESTIMATION_IMAGES, job.seed)?;
            }
            Some(length) => {
                let recipe = Recipe { length, seed: job.seed, ..self.proxy.clone() };
                train(&mut model, samples, normalisation, Some(&self.plain), &recipe, &mut |progress| {
                    observer(progress);
                    if self.stop.load(Ordering::Relaxed) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                // A short training leaves running statistics that lag behind the weights.
                batch_norm::reestimate(&mut model, samples, normalisation, REESTIMATION_IMAGES, job.seed)?;
            }
        }
        let accuracy = evaluation::evaluate(&model, &self.dataset.validation_search, normalisation)?;
        Ok((model.weights()?, accuracy, fresh))
    }
}

fn fault(error: TrainingError) -> Fault {
    match error {
        TrainingError::Cancelled { .. } => Fault::Cancelled,
        other => Fault::Training(other.to_string()),
    }
}
