//! The training loop: one for a teacher's training, a candidate's distillation and the final one.
//!
//! loss = cross-entropy(labels) + lambda * mean squared error(logits, teacher's logits), docs/method.md#distillation.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::accuracy::Accuracy;
use super::batches::{Pick, draw, order, source};
use super::evaluation::evaluate;
use super::kernels::source::Source;
use super::kernels::{Backend, Terms};
use super::model::Model;
use super::optimiser::Optimiser;
use super::recipe::Recipe;
use super::state::{EpochResult, Losses, Position, TrainingState};
use super::teacher_logits::TeacherLogits;
use super::{TrainingError, mismatch};
use crate::data::{Normalisation, Samples, UNLABELLED};
use crate::network::Role;

/// Where a training stands, after a step.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainProgress {
    /// Pass over the samples, from 0.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The pass that this step ended, if it is the last one of its pass.
    pub ended: Option<EpochResult>,
    /// Loss of this step's batch.
    pub loss: f64,
    /// Since this part of the training began.
    pub images_per_second: f64,
}

/// What a training came to.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSummary {
    /// Steps done.
    pub steps: usize,
    /// Images seen, repeats included.
    pub images: usize,
    /// Mean loss over the last epoch's worth of steps.
    pub loss: f64,
    /// Of which cross-entropy.
    pub cross_entropy: f64,
    /// Of which squared error to the teacher, before lambda.
    pub distillation: f64,
    /// Pass by pass.
    pub epochs: Vec<EpochResult>,
    /// Wall time of this part of the training.
    pub wall_s: f64,
}

/// A training to do.
pub struct TrainingJob<'a> {
    /// What is learned from.
    pub samples: &'a Samples,
    /// How their pixels become inputs.
    pub normalisation: &'a Normalisation,
    /// The teacher's logits about them; `None` without distillation.
    pub teacher: Option<&'a TeacherLogits>,
    /// Optimiser, rate, length, augmentation and seed.
    pub recipe: &'a Recipe,
    /// Images on which accuracy is looked at after each epoch, all together; may be empty.
    pub validation: &'a [&'a Samples],
    /// How its state is kept; `None` for a training that begins anew when it is interrupted.
    pub checkpoints: Option<Checkpoints<'a>>,
}

impl<'a> TrainingJob<'a> {
    /// One without validation and without checkpoints.
    pub fn new(
        samples: &'a Samples,
        normalisation: &'a Normalisation,
        teacher: Option<&'a TeacherLogits>,
        recipe: &'a Recipe,
    ) -> Self {
        Self { samples, normalisation, teacher, recipe, validation: &[], checkpoints: None }
    }
}

/// How a training's state is kept, and where it goes on.
pub struct Checkpoints<'a> {
    /// The state to go on from; `None` to begin with the model as it is.
    pub from: Option<TrainingState>,
    /// Time between two states.
    pub interval: Duration,
    /// Keeps a state: each interval, and at once when the observer ends the training.
    pub keep: &'a mut (dyn FnMut(&TrainingState) + Send),
}

impl std::fmt::Debug for Checkpoints<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoints").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TrainingJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingJob").field("recipe", &self.recipe).finish_non_exhaustive()
    }
}

/// Trains `model` in place. After each step the observer sees where the training stands and the model as it is then.
///
/// # Errors
/// A loss that is not finite (weights are then useless), `Break` from the observer, parts that do not fit, candle's.
pub fn train<B: Backend>(
    model: &mut Model<B>,
    job: TrainingJob<'_>,
    observer: &mut dyn FnMut(&TrainProgress, &Model<B>) -> ControlFlow<()>,
) -> Result<TrainSummary, TrainingError> {
    let TrainingJob { samples, normalisation, teacher, recipe, validation, mut checkpoints } = job;
    let source = Source { answers: teacher.map(TeacherLogits::rows), ..source(samples, normalisation)? };
    check_fit(model, samples, teacher, recipe)?;
    let from = checkpoints.as_mut().and_then(|checkpoints| checkpoints.from.take());
    let position = match &from {
        Some(state) => {
            *model = Model::new(&model.network().clone(), &state.weights, model.kernels().clone())?;
            state.position.clone()
        }
        None => Position::default(),
    };
    let variables = model.variables().iter().map(|each| (each.tensor.clone(), each.role == Role::Weight));
    let mut optimiser = Optimiser::new(recipe.method, model.kernels().clone(), variables)?;
    if let Some(state) = &from {
        state.restore(model, &mut optimiser, recipe.method.has_second_moment())?;
    }
    drop(from);
    model.freeze_batch_norm(recipe.freeze_batch_norm);
    model.seed_dropout(recipe.seed, position.dropout_draws);
    let loop_of = Loop { source, normalisation, teacher, recipe, validation, checkpoints };
    let result = loop_of.run(model, &mut optimiser, position, observer);
    model.freeze_batch_norm(false);
    result
}

fn check_fit<B: Backend>(
    model: &Model<B>,
    samples: &Samples,
    teacher: Option<&TeacherLogits>,
    recipe: &Recipe,
) -> Result<(), TrainingError> {
    if recipe.batch == 0 {
        return Err(mismatch("batch", "at least 1 image", 0));
    }
    let classes = model.network().classes();
    let fits = |label: u16| usize::from(label) < classes || (label == UNLABELLED && teacher.is_some());
    if let Some(&label) = samples.labels.iter().find(|&&label| !fits(label)) {
        return Err(mismatch("label", format!("below the network's {classes} classes"), label));
    }
    let Some(teacher) = teacher else { return Ok(()) };
    if (teacher.images(), teacher.classes()) != (samples.len(), classes) {
        return Err(mismatch(
            "teacher logits",
            format!("{} images of {classes} classes", samples.len()),
            format!("{} of {}", teacher.images(), teacher.classes()),
        ));
    }
    if teacher.augmentation() != recipe.augmentation {
        return Err(mismatch(
            "augmentation",
            format!("the teacher logits' {:?}", teacher.augmentation()),
            format!("{:?}", recipe.augmentation),
        ));
    }
    Ok(())
}

/// What the loop needs besides model and optimiser.
struct Loop<'a> {
    source: Source<'a>,
    normalisation: &'a Normalisation,
    teacher: Option<&'a TeacherLogits>,
    recipe: &'a Recipe,
    validation: &'a [&'a Samples],
    checkpoints: Option<Checkpoints<'a>>,
}

impl Loop<'_> {
    fn run<B: Backend>(
        mut self,
        model: &mut Model<B>,
        optimiser: &mut Optimiser<B>,
        mut position: Position,
        observer: &mut dyn FnMut(&TrainProgress, &Model<B>) -> ControlFlow<()>,
    ) -> Result<TrainSummary, TrainingError> {
        let (teacher, recipe) = (self.teacher, self.recipe);
        let (began, mut kept) = (Instant::now(), Instant::now());
        let images = self.source.samples.len();
        let (steps, per_epoch) = (recipe.steps(images), recipe.batches(images));
        let backend = model.kernels().clone();
        let source = backend.source(self.source)?;
        let terms = Terms { label_smoothing: recipe.label_smoothing, lambda: recipe.lambda };
        if position.step > steps {
            return Err(mismatch("position", format!("at most step {steps} of {steps}"), position.step));
        }
        let before = position.images;
        let mut shuffled = Vec::new();
        for step in position.step..steps {
            let (epoch, within) = (step / per_epoch, step % per_epoch);
            if within == 0 || shuffled.is_empty() {
                shuffled = order(images, recipe.seed, epoch);
            }
            let start = within * recipe.batch;
            let chosen = &shuffled[start..(start + recipe.batch).min(shuffled.len())];
            // With a teacher, one of the views that it answered; without, a new view each epoch.
            let pick = |&image: &usize| match teacher {
                Some(teacher) => {
                    let number = draw(recipe.seed, image, epoch, teacher.views() as u64);
                    Pick { image, view: teacher.view(image, number), answer: teacher.row(image, number) }
                }
                None => Pick::of(image, recipe.augmentation.view(recipe.seed, image, epoch as u64)),
            };
            let picks: Vec<Pick> = chosen.iter().map(pick).collect();
            // Images that lie on disk are on their way while this batch is learned.
            let next = (start + recipe.batch).min(shuffled.len());
            self.source.samples.pixels.soon(&shuffled[next..(next + recipe.batch).min(shuffled.len())]);

            let batch = backend.batch(&source, &picks)?;
            let (logits, tape) = model.forward_train(&batch.images)?;
            let loss = backend.loss(&logits, &batch, terms)?;
            let gradients = model.backward(tape, &loss.gradient)?;
            optimiser.step(&gradients, recipe.learning_rate * recipe.schedule.factor(step, steps))?;
            // Asked for last: a GPU has by now all of the step to work on.
            let parts: Vec<f64> = backend.values(&loss.parts)?.into_iter().map(f64::from).collect();
            let &[cross_entropy, distillation] = parts.as_slice() else {
                return Err(mismatch("loss", "2 parts", parts.len()));
            };
            let loss = cross_entropy + teacher.map_or(0.0, |_| recipe.lambda * distillation);
            if !loss.is_finite() {
                return Err(TrainingError::Diverged { step, loss });
            }

            position.step = step + 1;
            position.images += chosen.len();
            position.epoch.add(loss, cross_entropy, distillation);
            if steps - step <= per_epoch {
                position.tail.add(loss, cross_entropy, distillation);
            }
            let ended = if within + 1 == per_epoch || step + 1 == steps {
                let over = std::mem::take(&mut position.epoch);
                let validation = validate(model, self.validation, self.normalisation)?;
                position.epochs.push(EpochResult { loss: over.mean(over.loss), validation });
                position.epochs.last().copied()
            } else {
                None
            };
            let seconds = began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
            let images_per_second = (position.images - before) as f64 / seconds;
            let progress = TrainProgress { epoch, step: step + 1, steps, ended, loss, images_per_second };
            let stopped = observer(&progress, model).is_break();
            if let Some(checkpoints) = &mut self.checkpoints
                && (stopped || kept.elapsed() >= checkpoints.interval)
            {
                let has_second = recipe.method.has_second_moment();
                (checkpoints.keep)(&TrainingState::of(model, optimiser, has_second, &position)?);
                kept = Instant::now();
            }
            if stopped {
                return Err(TrainingError::Cancelled { step: step + 1 });
            }
        }
        let Losses { loss, cross_entropy, distillation, .. } = position.tail;
        let mean = |sum: f64| position.tail.mean(sum);
        Ok(TrainSummary {
            steps,
            images: position.images,
            loss: mean(loss),
            cross_entropy: mean(cross_entropy),
            distillation: mean(distillation),
            epochs: position.epochs,
            wall_s: began.elapsed().as_secs_f64(),
        })
    }
}

/// Accuracy on all of these images together.
fn validate<B: Backend>(
    model: &Model<B>,
    validation: &[&Samples],
    normalisation: &Normalisation,
) -> Result<Accuracy, TrainingError> {
    let mut whole = Accuracy::default();
    for samples in validation {
        let part = evaluate(model, samples, normalisation)?;
        whole.correct += part.correct;
        whole.total += part.total;
    }
    Ok(whole)
}
