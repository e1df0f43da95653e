//! The training loop: one for a teacher's training, a candidate's distillation and the final one.
//!
//! loss = cross-entropy(labels) + lambda * mean squared error(logits, teacher's logits), docs/method.md#distillation.

use std::ops::ControlFlow;
use std::time::Instant;

use super::batches::{Pick, draw, order, source};
use super::kernels::source::Source;
use super::kernels::{Backend, Terms};
use super::model::Model;
use super::optimiser::Optimiser;
use super::recipe::Recipe;
use super::teacher_logits::TeacherLogits;
use super::{TrainingError, mismatch};
use crate::data::{Normalisation, Samples};
use crate::network::Role;

/// Where a training stands, after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainProgress {
    /// Pass over the samples, from 0.
    pub epoch: usize,
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Whether this step is the last one of its pass.
    pub ends_epoch: bool,
    /// Loss of this step's batch.
    pub loss: f64,
    /// Since the start.
    pub images_per_second: f64,
}

/// What a training came to.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Wall time.
    pub wall_s: f64,
}

/// Trains `model` in place. After each step the observer sees where the training stands and the model as it is then.
///
/// # Errors
/// A loss that is not finite (weights are then useless), `Break` from the observer, parts that do not fit, candle's.
pub fn train<B: Backend>(
    model: &mut Model<B>,
    samples: &Samples,
    normalisation: &Normalisation,
    teacher: Option<&TeacherLogits>,
    recipe: &Recipe,
    observer: &mut dyn FnMut(&TrainProgress, &Model<B>) -> ControlFlow<()>,
) -> Result<TrainSummary, TrainingError> {
    let source = Source { answers: teacher.map(TeacherLogits::rows), ..source(samples, normalisation)? };
    check_fit(model, samples, teacher, recipe)?;
    let variables = model.variables().iter().map(|each| (each.tensor.clone(), each.role == Role::Weight));
    let mut optimiser = Optimiser::new(recipe.method, model.kernels().clone(), variables)?;
    model.freeze_batch_norm(recipe.freeze_batch_norm);
    model.seed_dropout(recipe.seed);
    let result = run(model, &mut optimiser, source, teacher, recipe, observer);
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
    if let Some(&label) = samples.labels.iter().find(|&&label| usize::from(label) >= classes) {
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

/// Sums over the last epoch's worth of steps.
#[derive(Default)]
struct Tail {
    steps: usize,
    loss: f64,
    cross_entropy: f64,
    distillation: f64,
}

fn run<B: Backend>(
    model: &mut Model<B>,
    optimiser: &mut Optimiser<B>,
    source: Source<'_>,
    teacher: Option<&TeacherLogits>,
    recipe: &Recipe,
    observer: &mut dyn FnMut(&TrainProgress, &Model<B>) -> ControlFlow<()>,
) -> Result<TrainSummary, TrainingError> {
    let began = Instant::now();
    let images = source.samples.len();
    let (steps, per_epoch) = (recipe.steps(images), recipe.batches(images));
    let backend = model.kernels().clone();
    let source = backend.source(source)?;
    let terms = Terms { label_smoothing: recipe.label_smoothing, lambda: recipe.lambda };
    let mut tail = Tail::default();
    let mut images_seen = 0;
    let mut shuffled = Vec::new();
    for step in 0..steps {
        let (epoch, within) = (step / per_epoch, step % per_epoch);
        if within == 0 {
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

        images_seen += chosen.len();
        if steps - step <= per_epoch {
            tail.steps += 1;
            tail.loss += loss;
            tail.cross_entropy += cross_entropy;
            tail.distillation += distillation;
        }
        let progress = TrainProgress {
            epoch,
            step: step + 1,
            steps,
            ends_epoch: within + 1 == per_epoch || step + 1 == steps,
            loss,
            images_per_second: images_seen as f64 / began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE),
        };
        if observer(&progress, model).is_break() {
            return Err(TrainingError::Cancelled { step: step + 1 });
        }
    }
    let mean = |sum: f64| sum / tail.steps.max(1) as f64;
    Ok(TrainSummary {
        steps,
        images: images_seen,
        loss: mean(tail.loss),
        cross_entropy: mean(tail.cross_entropy),
        distillation: mean(tail.distillation),
        wall_s: began.elapsed().as_secs_f64(),
    })
}
