//! The training loop: one for a teacher's training, a candidate's distillation and the final one.
//!
//! loss = cross-entropy(labels) + lambda * mean squared error(logits, teacher's logits), method.md section 1.

use std::ops::ControlFlow;
use std::time::Instant;

use super::batches::{batch, check, draw, order};
use super::kernels::loss::{Target, loss};
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
pub fn train(
    model: &mut Model,
    samples: &Samples,
    normalisation: &Normalisation,
    teacher: Option<&TeacherLogits>,
    recipe: &Recipe,
    observer: &mut dyn FnMut(&TrainProgress, &Model) -> ControlFlow<()>,
) -> Result<TrainSummary, TrainingError> {
    check(samples, normalisation)?;
    check_fit(model, samples, teacher, recipe)?;
    let variables = model.variables().iter().map(|each| (each.var.clone(), each.role == Role::Weight));
    let mut optimiser = Optimiser::new(recipe.method, variables)?;
    model.freeze_batch_norm(recipe.freeze_batch_norm);
    model.seed_dropout(recipe.seed);
    let result = run(model, &mut optimiser, samples, normalisation, teacher, recipe, observer);
    model.freeze_batch_norm(false);
    result
}

fn check_fit(
    model: &Model,
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

fn run(
    model: &mut Model,
    optimiser: &mut Optimiser,
    samples: &Samples,
    normalisation: &Normalisation,
    teacher: Option<&TeacherLogits>,
    recipe: &Recipe,
    observer: &mut dyn FnMut(&TrainProgress, &Model) -> ControlFlow<()>,
) -> Result<TrainSummary, TrainingError> {
    let began = Instant::now();
    let (steps, per_epoch) = (recipe.steps(samples.len()), recipe.batches(samples.len()));
    let mut tail = Tail::default();
    let mut images_seen = 0;
    let mut shuffled = Vec::new();
    for step in 0..steps {
        let (epoch, within) = (step / per_epoch, step % per_epoch);
        if within == 0 {
            shuffled = order(samples.len(), recipe.seed, epoch);
        }
        let start = within * recipe.batch;
        let chosen = &shuffled[start..(start + recipe.batch).min(shuffled.len())];
        // With a teacher, one of the views that it answered; without, a new view each epoch.
        let numbers: Vec<u64> = chosen
            .iter()
            .map(|&image| match teacher {
                Some(teacher) => draw(recipe.seed, image, epoch, teacher.views() as u64),
                None => epoch as u64,
            })
            .collect();
        let views = chosen.iter().zip(&numbers).map(|(&image, &number)| match teacher {
            Some(teacher) => (image, teacher.view(image, number)),
            None => (image, recipe.augmentation.view(recipe.seed, image, number)),
        });
        let images = batch(samples, normalisation, views, model.device())?;
        let labels: Vec<u16> = chosen.iter().map(|&image| samples.labels[image]).collect();
        let wanted: Option<Vec<f32>> = teacher.map(|teacher| {
            let answers = chosen.iter().zip(&numbers);
            answers.flat_map(|(&image, &number)| teacher.of(image, number)).copied().collect()
        });

        let (logits, tape) = model.forward_train(&images)?;
        let target = Target {
            labels: &labels,
            label_smoothing: recipe.label_smoothing,
            teacher: wanted.as_deref().map(|wanted| (wanted, recipe.lambda)),
        };
        let loss = loss(&logits, target)?;
        if !loss.total.is_finite() {
            return Err(TrainingError::Diverged { step, loss: loss.total });
        }
        let gradients = model.backward(tape, &loss.gradient)?;
        optimiser.step(&gradients, recipe.learning_rate * recipe.schedule.factor(step, steps))?;

        images_seen += chosen.len();
        if steps - step <= per_epoch {
            tail.steps += 1;
            tail.loss += loss.total;
            tail.cross_entropy += loss.cross_entropy;
            tail.distillation += loss.distillation;
        }
        let progress = TrainProgress {
            epoch,
            step: step + 1,
            steps,
            ends_epoch: within + 1 == per_epoch || step + 1 == steps,
            loss: loss.total,
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
