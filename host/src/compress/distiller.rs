//! A job to an accuracy: starting weights, batch-norm re-estimation, distillation from the original teacher, validation.
//!
//! The teacher's logits are computed once and serve all candidates. Must not know about boards, limits or rewards.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use rayon::prelude::*;

use super::error::Error;
use super::weight_store::WeightStore;
use crate::data::{Dataset, Samples};
use crate::model_io::Weights;
use crate::network::Network;
use crate::search::laboratory::{Fault, Job, Outcome, Rung, StartingWeights, Trained};
use crate::training::inheritance::{inherit, initial_weights};
use crate::training::recipe::{Length, Recipe};
use crate::training::{
    Accuracy, Augmentation, Classifier, Device, TeacherLogits, TrainProgress, TrainingError, Weighing,
    evaluation,
};

/// Images for batch-norm re-estimation (docs/method.md#evaluation-cascade).
const REESTIMATION_IMAGES: usize = 1024;

/// Augmented views of each image for which a final student's teacher logits are kept.
const FINAL_VIEWS: usize = 4;

/// A final distillation to do.
pub(super) struct Distillation<'a> {
    pub(super) network: &'a Network,
    /// Its weights before.
    pub(super) start: &'a Weights,
    pub(super) epochs: usize,
    pub(super) seed: u64,
}

/// What is told as a training goes.
type Tell<'a> = dyn FnMut(&TrainProgress) + Send + 'a;

/// One training.
type Training<'a, J, T> = dyn Fn(&J, &mut Tell<'_>) -> T + Sync + 'a;

/// Trains candidates and finalists.
pub(super) struct Distiller<'a> {
    dataset: &'a Dataset,
    /// What accuracies are averages over.
    weighing: Weighing,
    teacher: Classifier,
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
        weighing: Weighing,
        teacher: Classifier,
        device: Device,
        proxy: Recipe,
        folder: &Path,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let plain = teacher.answers(&dataset.train, &dataset.normalisation, Augmentation::NONE, 1, 0)?;
        let store = WeightStore::open(folder)?;
        Ok(Self { dataset, weighing, teacher, plain, augmented: None, proxy, device, store, stop })
    }

    /// Trainings of the search, at once; what comes out is the same, since no kernel's result depends on its
    /// threads. A student whose loss runs away is infeasible; the worth of one that a GPU's memory cannot train even alone is
    /// unknown; everything else that fails is a fault.
    pub(super) fn train(
        &mut self,
        jobs: &[&Job],
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<Vec<Outcome<Trained>>, Fault> {
        let began = Instant::now();
        let this = &*self;
        let one = |job: &&Job, tell: &mut Tell<'_>| {
            let began = Instant::now();
            (this.trained(job, tell), began.elapsed().as_secs_f64())
        };
        let mut trainings = at_once(jobs, &one, observer);
        // Several share a GPU's memory: one that it cannot hold beside the others may fit alone.
        if jobs.len() > 1 {
            for (job, (training, seconds)) in jobs.iter().zip(&mut trainings) {
                if training.as_ref().is_err_and(TrainingError::is_out_of_gpu_memory) {
                    let (again, more) = one(job, &mut |_| {});
                    (*training, *seconds) = (again, *seconds + more);
                }
            }
        }
        // Each one's part of the wall-clock time: together they make the whole.
        let busy: f64 = trainings.iter().map(|(_, seconds)| seconds).sum();
        let share = began.elapsed().as_secs_f64() / busy.max(f64::MIN_POSITIVE);
        let answer = |(job, (training, seconds)): (&&Job, (_, f64))| match training {
            Ok((weights, accuracy, fresh_tensors)) => {
                self.store
                    .put(job, &weights, accuracy)
                    .map_err(|error| Fault::Training(format!("keeping a candidate's weights: {error}")))?;
                Ok(Outcome::Done(Trained { accuracy, fresh_tensors, seconds: seconds * share }))
            }
            Err(TrainingError::Diverged { step, .. }) => {
                Ok(Outcome::Infeasible(format!("its training diverged at step {step}")))
            }
            Err(error) if error.is_out_of_gpu_memory() => Ok(Outcome::Unknown(error.to_string())),
            Err(error) => Err(fault(error)),
        };
        jobs.iter().zip(trainings).map(answer).collect()
    }

    /// The weights that [`Self::train`] gave for this job; trained again if they were not kept.
    pub(super) fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        if let Some(weights) = self.store.get(job) {
            return Ok(Arc::new(weights));
        }
        self.trained(job, &mut |_| {}).map(|(weights, ..)| Arc::new(weights)).map_err(fault)
    }

    /// Distillations with augmentation, from where the search left off; at once, as those of the search.
    pub(super) fn finish(
        &mut self,
        distillations: &[Distillation<'_>],
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<Vec<Weights>, TrainingError> {
        if distillations.is_empty() {
            return Ok(Vec::new());
        }
        if self.augmented.is_none() {
            self.augmented = Some(self.teacher.answers(
                &self.dataset.train,
                &self.dataset.normalisation,
                Recipe::finale().augmentation,
                FINAL_VIEWS,
                0,
            )?);
        }
        let this = &*self;
        let one = |distillation: &Distillation<'_>, tell: &mut Tell<'_>| {
            let mut model = Classifier::new(distillation.network, distillation.start, &this.device)?;
            let recipe = Recipe {
                length: Length::Epochs(distillation.epochs),
                seed: distillation.seed,
                ..Recipe::finale()
            };
            this.distil(&mut model, this.augmented.as_ref(), &recipe, tell)?;
            model.weights()
        };
        at_once(distillations, &one, observer).into_iter().collect()
    }

    /// Accuracy of a network with these weights.
    pub(super) fn accuracy(
        &self,
        network: &Network,
        weights: &Weights,
        samples: &Samples,
    ) -> Result<Accuracy, TrainingError> {
        let model = Classifier::new(network, weights, &self.device)?;
        evaluation::evaluate(&model, samples, &self.dataset.normalisation)
    }

    /// Share of right answers of a network with these weights, as rewards weigh them.
    pub(super) fn share(
        &self,
        network: &Network,
        weights: &Weights,
        samples: &Samples,
    ) -> Result<f64, TrainingError> {
        let model = Classifier::new(network, weights, &self.device)?;
        self.share_of(&model, samples)
    }

    fn share_of(&self, model: &Classifier, samples: &Samples) -> Result<f64, TrainingError> {
        let confusion = evaluation::confusion(model, samples, &self.dataset.normalisation)?;
        Ok(confusion.share(self.weighing))
    }

    /// Predicted classes of a network with these weights.
    pub(super) fn predictions(
        &self,
        network: &Network,
        weights: &Weights,
        samples: &Samples,
    ) -> Result<Vec<u16>, TrainingError> {
        let model = Classifier::new(network, weights, &self.device)?;
        evaluation::predictions(&model, samples, &self.dataset.normalisation)
    }

    fn trained(&self, job: &Job, tell: &mut Tell<'_>) -> Result<(Weights, f64, Vec<String>), TrainingError> {
        let (weights, fresh) = match &job.start {
            StartingWeights::Inherited { source, inheritance } => {
                inherit(&job.network, inheritance, source, job.seed)
            }
            StartingWeights::Fresh => (initial_weights(&job.network, job.seed), Vec::new()),
        };
        let mut model = Classifier::new(&job.network, &weights, &self.device)?;
        let (samples, normalisation) = (&self.dataset.train, &self.dataset.normalisation);
        let length = match job.rung {
            Rung::Inherited => None,
            Rung::Steps(steps) => Some(Length::Steps(steps as usize)),
            Rung::Epochs(epochs) => Some(Length::Epochs(epochs as usize)),
        };
        match length {
            None => {
                model.reestimate(samples, normalisation, REESTIMATION_IMAGES, job.seed)?;
            }
            Some(length) => {
                let recipe = Recipe { length, seed: job.seed, ..self.proxy.clone() };
                self.distil(&mut model, Some(&self.plain), &recipe, tell)?;
                // A short training leaves running statistics that lag behind the weights.
                model.reestimate(samples, normalisation, REESTIMATION_IMAGES, job.seed)?;
            }
        }
        let accuracy = self.share_of(&model, &self.dataset.validation_search)?;
        Ok((model.weights()?, accuracy, fresh))
    }

    /// Trains by a recipe until it ends or the user stops it.
    fn distil(
        &self,
        model: &mut Classifier,
        logits: Option<&TeacherLogits>,
        recipe: &Recipe,
        tell: &mut Tell<'_>,
    ) -> Result<(), TrainingError> {
        let (samples, normalisation) = (&self.dataset.train, &self.dataset.normalisation);
        model.train(samples, normalisation, logits, recipe, &mut |progress, _| {
            tell(progress);
            if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(())
    }
}

/// Runs all of them as tasks of the thread pool. On a CPU, as long as there are as many as threads, each has a thread to
/// itself and nothing to wait for; the last ones have the others' help. On a GPU each has a stream of its own. What they
/// tell is passed on to `observer` on the calling thread, as one training of all their steps.
fn at_once<J: Sync, T: Send>(
    jobs: &[J],
    one: &Training<'_, J, T>,
    observer: &mut dyn FnMut(&TrainProgress),
) -> Vec<T> {
    let (send, receive) = mpsc::channel::<(usize, TrainProgress)>();
    std::thread::scope(|scope| {
        let work = scope.spawn(move || {
            jobs.par_iter()
                .enumerate()
                .with_max_len(1)
                .map_with(send, |send, (index, job)| {
                    // Nobody listens any more only if this function has panicked.
                    one(job, &mut |progress| send.send((index, *progress)).unwrap_or(()))
                })
                .collect()
        });
        let mut done = vec![0; jobs.len()];
        for (index, progress) in receive {
            done[index] = progress.step;
            let (step, steps) = (done.iter().sum(), progress.steps * jobs.len());
            observer(&TrainProgress { step, steps, ..progress });
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn fault(error: TrainingError) -> Fault {
    match error {
        TrainingError::Cancelled { .. } => Fault::Cancelled,
        other => Fault::Training(other.to_string()),
    }
}
