//! A job to an accuracy: starting weights, batch-norm re-estimation, distillation from the original teacher, validation.
//!
//! The teacher's logits are computed once and serve all candidates. Must not know about boards, limits or rewards.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::error::Error;
use super::weight_store::WeightStore;
use crate::checkpoint::{Checkpoint, Owner};
use crate::data::{Dataset, Samples};
use crate::model_io::Weights;
use crate::network::Network;
use crate::search::answer::{Fault, Outcome, Rung, Trained, WORST_NLL};
use crate::search::job::{Job, StartingWeights};
use crate::training::inheritance::{inherit, initial_weights};
use crate::training::recipe::{Length, Recipe};
use crate::training::{
    Accuracy, Augmentation, Checkpoints, Classifier, Classify as _, Device, TeacherLogits, TrainProgress,
    TrainingError, TrainingJob, TrainingState, Weighing, evaluation,
};

/// Images for batch-norm re-estimation (docs/method.md#evaluation-cascade).
const REESTIMATION_IMAGES: usize = 1024;

/// Images of the search's half of the validation split that a look without training takes: it is to be cheap, and what it
/// misses many looks together tell.
const UNTRAINED_IMAGES: usize = 1000;

/// Images that a look without training costs, forward passes of the student.
pub(super) const IMAGES_OF_A_LOOK: usize = REESTIMATION_IMAGES + UNTRAINED_IMAGES;

/// Augmented views of each image for which a final student's teacher logits are kept.
const FINAL_VIEWS: usize = 4;

/// A final distillation to do.
#[derive(Clone, Copy)]
pub(super) struct Distillation<'a> {
    pub(super) network: &'a Network,
    /// Its weights before.
    pub(super) start: &'a Weights,
    pub(super) epochs: usize,
    pub(super) seed: u64,
}

/// What a distillation gave.
pub(super) struct Distilled {
    pub(super) weights: Weights,
    /// On the second half of the validation split.
    pub(super) accuracy: Accuracy,
}

/// Puts what a distillation, by index, gave where it is safe.
type Keep<'a> = dyn Fn(usize, &Distilled) -> Result<(), Error> + Sync + 'a;

/// How trained weights and the states of long trainings are kept.
pub(super) struct Keeping {
    /// Where the candidates' weights are.
    pub(super) candidates: PathBuf,
    /// Where the states' files are.
    pub(super) folder: PathBuf,
    /// Digest of the data set.
    pub(super) data: String,
    /// Digest of the teacher's file.
    pub(super) teacher: String,
    /// Device, as in `--device`.
    pub(super) device: String,
    /// Time between two states.
    pub(super) interval: Duration,
}

/// What a training may be interrupted by, beside the user.
#[derive(Clone, Copy)]
struct Until<'a> {
    /// Where its state is kept.
    checkpoint: Option<&'a Checkpoint>,
    /// When it is given up.
    deadline: Option<Instant>,
}

/// What is told as a training goes.
type Tell<'a> = dyn FnMut(&TrainProgress) + Send + 'a;

/// One training.
type Training<'a, J, T> = dyn Fn(&J, &mut Tell<'_>) -> T + Sync + 'a;

/// Trains candidates and finalists.
pub(super) struct Distiller<'a> {
    dataset: &'a Dataset,
    /// What students learn from.
    learned: Samples,
    /// What accuracies are averages over.
    weighing: Weighing,
    teacher: Classifier,
    /// Of the plain training images: what the short trainings of the search use; computed when a search asks.
    plain: Option<TeacherLogits>,
    /// Of the search's half of the validation images, row-major; computed with it.
    validation: Vec<f32>,
    /// Of augmented views, by how images vary; computed when the first finalist asks.
    augmented: Vec<(Augmentation, TeacherLogits)>,
    proxy: Recipe,
    device: Device,
    store: WeightStore,
    keeping: Keeping,
    stop: Arc<AtomicBool>,
}

impl<'a> Distiller<'a> {
    /// Of a teacher, for a data set.
    pub(super) fn new(
        dataset: &'a Dataset,
        weighing: Weighing,
        teacher: Classifier,
        device: Device,
        proxy: Recipe,
        keeping: Keeping,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let store = WeightStore::open(&keeping.candidates)?;
        Ok(Self {
            dataset,
            learned: dataset.learned(),
            weighing,
            teacher,
            plain: None,
            validation: Vec::new(),
            augmented: Vec::new(),
            proxy,
            device,
            store,
            keeping,
            stop,
        })
    }

    /// Computes the teacher's logits of the plain training images, if that was not done yet.
    pub(super) fn answer_plain(&mut self) -> Result<(), TrainingError> {
        if self.plain.is_none() {
            let normalisation = &self.dataset.normalisation;
            self.validation = self.teacher.logits(&self.dataset.validation_search, normalisation)?;
            self.plain =
                Some(self.teacher.answers(&self.learned, normalisation, Augmentation::NONE, 1, 0)?);
        }
        Ok(())
    }

    /// Computes the teacher's logits of images that vary so, if that was not done yet.
    fn answer(&mut self, augmentation: Augmentation) -> Result<(), TrainingError> {
        if augmentation == Augmentation::NONE {
            return self.answer_plain();
        }
        if self.answers(augmentation).is_none() {
            let normalisation = &self.dataset.normalisation;
            let answers = self.teacher.answers(&self.learned, normalisation, augmentation, FINAL_VIEWS, 0)?;
            self.augmented.push((augmentation, answers));
        }
        Ok(())
    }

    /// The teacher's logits of images that vary so, once they are computed.
    fn answers(&self, augmentation: Augmentation) -> Option<&TeacherLogits> {
        if augmentation == Augmentation::NONE {
            return self.plain.as_ref();
        }
        self.augmented.iter().find(|(known, _)| *known == augmentation).map(|(_, answers)| answers)
    }

    /// Trainings of the search, at once; what comes out is the same, since no kernel's result depends on its
    /// threads. A student whose loss runs away is infeasible; the worth of one that a GPU's memory cannot train even alone is
    /// unknown; what is not done at the deadline is `None`; everything else that fails is a fault.
    pub(super) fn train(
        &mut self,
        jobs: &[&Job],
        deadline: Option<Instant>,
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<Vec<Option<Outcome<Trained>>>, Fault> {
        self.answer_plain().map_err(fault)?;
        let began = Instant::now();
        let this = &*self;
        let one = |job: &&Job, tell: &mut Tell<'_>| {
            let began = Instant::now();
            (this.trained(job, deadline, tell), began.elapsed().as_secs_f64())
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
            Ok((weights, look, fresh_tensors)) => {
                let Look { accuracy, agreement, nll } = look;
                // What was not trained is inherited again in a moment.
                if job.rung != Rung::Inherited {
                    self.store.put(job, &weights, accuracy).map_err(|error| {
                        Fault::Training(format!("keeping a candidate's weights: {error}"))
                    })?;
                }
                let seconds = seconds * share;
                Ok(Some(Outcome::Done(Trained { accuracy, agreement, nll, fresh_tensors, seconds })))
            }
            Err(TrainingError::Diverged { step, .. }) => {
                Ok(Some(Outcome::Infeasible(format!("its training diverged at step {step}"))))
            }
            Err(error) if error.is_out_of_gpu_memory() => Ok(Some(Outcome::Unknown(error.to_string()))),
            Err(TrainingError::Cancelled { .. }) if !self.stop.load(Ordering::Relaxed) => Ok(None),
            Err(error) => Err(fault(error)),
        };
        jobs.iter().zip(trainings).map(answer).collect()
    }

    /// The weights that [`Self::train`] gave for this job; trained again if they were not kept.
    pub(super) fn weights(&mut self, job: &Job) -> Result<Arc<Weights>, Fault> {
        if let Some(weights) = self.store.get(job) {
            return Ok(Arc::new(weights));
        }
        self.answer_plain().map_err(fault)?;
        self.trained(job, None, &mut |_| {}).map(|(weights, ..)| Arc::new(weights)).map_err(fault)
    }

    /// Distillations with augmentation, from where the search or an earlier part of the job left off; at once, as those of
    /// the search. Each is kept as soon as it is over, then its state goes.
    pub(super) fn finish(
        &mut self,
        distillations: &[Distillation<'_>],
        keep: &Keep<'_>,
        observer: &mut dyn FnMut(&TrainProgress),
    ) -> Result<Vec<Distilled>, Error> {
        if distillations.is_empty() {
            return Ok(Vec::new());
        }
        for distillation in distillations {
            self.answer(self.recipe(distillation).augmentation)?;
        }
        let this = &*self;
        let indices: Vec<usize> = (0..distillations.len()).collect();
        let one = |&index: &usize, tell: &mut Tell<'_>| {
            let distillation = &distillations[index];
            let mut model = Classifier::new(distillation.network, distillation.start, &this.device)?;
            let recipe = this.recipe(distillation);
            let checkpoint = this.checkpoint(distillation);
            let until = Until { checkpoint: Some(&checkpoint), deadline: None };
            this.distil(&mut model, this.answers(recipe.augmentation), &recipe, until, tell)?;
            let select = &this.dataset.validation_select;
            let accuracy = evaluation::evaluate(&model, select, &this.dataset.normalisation)?;
            let distilled = Distilled { weights: model.weights()?, accuracy };
            keep(index, &distilled)?;
            checkpoint.remove();
            Ok(distilled)
        };
        at_once(&indices, &one, observer).into_iter().collect()
    }

    /// What a distillation is called in files: another name for all that could give other weights.
    pub(super) fn name(&self, distillation: &Distillation<'_>) -> String {
        self.owner(distillation).digest()
    }

    /// Takes away the state of a distillation that is over.
    pub(super) fn forget(&self, distillation: &Distillation<'_>) {
        self.checkpoint(distillation).remove();
    }

    fn recipe(&self, distillation: &Distillation<'_>) -> Recipe {
        let Distillation { epochs, seed, .. } = *distillation;
        Recipe { seed, ..Recipe::finale(epochs, self.learned.len()) }.for_images(self.dataset.mirrors)
    }

    fn owner(&self, distillation: &Distillation<'_>) -> Owner {
        let Keeping { data, teacher, device, .. } = &self.keeping;
        let Distillation { network, start, .. } = distillation;
        Owner::new(network, start, &self.recipe(distillation), data, Some(teacher), device)
    }

    /// The file of a distillation's state.
    fn checkpoint(&self, distillation: &Distillation<'_>) -> Checkpoint {
        let owner = self.owner(distillation);
        let path = self.keeping.folder.join(format!("{}.safetensors", owner.digest()));
        Checkpoint::new(path, distillation.network, owner, self.keeping.interval)
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

    fn trained(
        &self,
        job: &Job,
        deadline: Option<Instant>,
        tell: &mut Tell<'_>,
    ) -> Result<(Weights, Look, Vec<String>), TrainingError> {
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
                let until = Until { checkpoint: None, deadline };
                self.distil(&mut model, self.plain.as_ref(), &recipe, until, tell)?;
                // A short training leaves running statistics that lag behind the weights.
                model.reestimate(samples, normalisation, REESTIMATION_IMAGES, job.seed)?;
            }
        }
        let images = match job.rung {
            Rung::Inherited => UNTRAINED_IMAGES,
            Rung::Steps(_) | Rung::Epochs(_) => usize::MAX,
        };
        Ok((model.weights()?, self.look(&model, images)?, fresh))
    }

    /// A student on the first so many of the search's validation images, beside its teacher.
    fn look(&self, model: &Classifier, images: usize) -> Result<Look, TrainingError> {
        let samples = self.dataset.validation_search.first(images);
        let logits = model.logits(&samples, &self.dataset.normalisation)?;
        let classes = self.dataset.classes.len();
        Ok(Look::of(&logits, &self.validation, &samples.labels, classes, self.weighing))
    }

    /// Trains by a recipe until it ends, the user stops it or the deadline comes; from where its checkpoint was left.
    fn distil(
        &self,
        model: &mut Classifier,
        logits: Option<&TeacherLogits>,
        recipe: &Recipe,
        Until { checkpoint, deadline }: Until<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), TrainingError> {
        let mut keep = |state: &TrainingState| checkpoint.into_iter().for_each(|it| it.keep(state));
        let checkpoints =
            checkpoint.map(|it| Checkpoints { from: it.resume(), interval: it.interval, keep: &mut keep });
        let job = TrainingJob {
            checkpoints,
            ..TrainingJob::new(&self.learned, &self.dataset.normalisation, logits, recipe)
        };
        model.train(job, &mut |progress, _| {
            tell(progress);
            let is_over = deadline.is_some_and(|deadline| Instant::now() > deadline);
            if is_over || self.stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
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

/// How a student answers, and how its teacher does.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    /// Share of right answers.
    accuracy: f64,
    /// Share of the teacher's answers.
    agreement: f64,
    /// Of the labels, nats.
    nll: f64,
}

impl Look {
    /// From logits, row-major; the teacher's may be of more images.
    fn of(logits: &[f32], teacher: &[f32], labels: &[u16], classes: usize, weighing: Weighing) -> Self {
        let rows = logits.chunks_exact(classes.max(1));
        let mut images = vec![0_usize; classes];
        for &label in labels {
            if let Some(count) = images.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        let weight = |label: u16| match weighing {
            Weighing::Images => 1.0,
            Weighing::Classes => {
                1.0 / images.get(usize::from(label)).map_or(1.0, |&count| count.max(1) as f64)
            }
        };
        let (mut right, mut alike, mut nll, mut count) = (0.0, 0.0, 0.0, 0.0);
        for ((row, teacher), &label) in rows.zip(teacher.chunks_exact(classes.max(1))).zip(labels) {
            let (answer, weight) = (evaluation::largest(row), weight(label));
            count += weight;
            right += weight * f64::from(u8::from(answer == label));
            alike += weight * f64::from(u8::from(answer == evaluation::largest(teacher)));
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&logit| f64::from(logit - top).exp()).sum();
            let own = row.get(usize::from(label)).map_or(0.0, |&logit| f64::from(logit - top));
            nll += weight * (sum.ln() - own).min(WORST_NLL);
        }
        let count = f64::max(count, f64::MIN_POSITIVE);
        Self { accuracy: right / count, agreement: alike / count, nll: nll / count }
    }
}

fn fault(error: TrainingError) -> Fault {
    match error {
        TrainingError::Cancelled { .. } => Fault::Cancelled,
        other => Fault::Training(other.to_string()),
    }
}
