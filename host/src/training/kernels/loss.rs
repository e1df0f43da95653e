//! The training loss and its gradient by the logits, in one pass over a batch.
//!
//! docs/method.md#distillation: cross-entropy with the labels, plus lambda times the mean squared error to the teacher's
//! logits. In f64: logits are a few KB.

use candle_core::{Result, bail};

use crate::data::UNLABELLED;

/// What the student is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Class of each image; one that is [`UNLABELLED`] has no cross-entropy.
    pub labels: &'a [u16],
    /// Share of the probability that is spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f64,
    /// Teacher's logits, `[N, classes]` row-major, and the weight lambda of their error.
    pub teacher: Option<(&'a [f32], f64)>,
}

/// The loss of a batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The whole: cross-entropy + lambda * distillation.
    pub total: f64,
    /// Mean over images; those without a label count as 0.
    pub cross_entropy: f64,
    /// Mean over images and classes of the squared difference to the teacher's logits; 0 without a teacher.
    pub distillation: f64,
    /// Of the total by the logits, `[N, classes]`.
    pub gradient: Vec<f32>,
}

/// Loss of `logits`, `[N, classes]` row-major.
///
/// # Errors
/// Labels or teacher logits that do not fit the logits.
pub fn loss(rows: &[f32], classes: usize, target: Target<'_>) -> Result<Loss> {
    let images = rows.len() / classes.max(1);
    if target.labels.len() != images {
        bail!("loss: expected {images} labels, got {}", target.labels.len());
    }
    let fits = |label: u16| usize::from(label) < classes || label == UNLABELLED;
    if let Some(&label) = target.labels.iter().find(|&&label| !fits(label)) {
        bail!("loss: label {label} is not below the {classes} classes");
    }
    if let Some((teacher, _)) = target.teacher
        && teacher.len() != rows.len()
    {
        bail!("loss: expected {} teacher logits, got {}", rows.len(), teacher.len());
    }
    let (mut cross_entropy, mut distillation) = (0.0, 0.0);
    let mut gradient = vec![0.0f32; rows.len()];
    let spread = target.label_smoothing / classes as f64;
    for (image, (row, gradient)) in
        rows.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).enumerate()
    {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        let normaliser = f64::from(largest) + sum.ln();
        let named = target.labels[image] != UNLABELLED;
        for (class, (&logit, gradient)) in row.iter().zip(gradient).enumerate() {
            let hit = class == usize::from(target.labels[image]);
            let wanted = spread + if hit { 1.0 - target.label_smoothing } else { 0.0 };
            let log_probability = f64::from(logit) - normaliser;
            if wanted > 0.0 && named {
                cross_entropy -= wanted * log_probability;
            }
            let mut slope = if named { log_probability.exp() - wanted } else { 0.0 };
            if let Some((teacher, lambda)) = target.teacher {
                let difference = f64::from(logit) - f64::from(teacher[image * classes + class]);
                distillation += difference * difference;
                // 2 * difference / (images * classes), times the images divided out below.
                slope += lambda * 2.0 * difference / classes as f64;
            }
            *gradient = (slope / images as f64) as f32;
        }
    }
    cross_entropy /= images as f64;
    distillation /= (images * classes) as f64;
    let lambda = target.teacher.map_or(0.0, |(_, lambda)| lambda);
    Ok(Loss { total: cross_entropy + lambda * distillation, cross_entropy, distillation, gradient })
}
