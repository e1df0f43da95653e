//! Accuracy, predictions and logits of a model over a sample set; the model is not changed.

use super::accuracy::Accuracy;
use super::batches::{Pick, View, source};
use super::confusion::Confusion;
use super::kernels::Backend;
use super::model::Model;
use super::{TrainingError, mismatch};
use crate::data::{Normalisation, Samples};
use crate::network::Network;

/// Images a batch when nothing is learned: large enough to fill the threads, small enough for the caches.
pub(super) const EVALUATION_BATCH: usize = 128;

/// Something that classifies images.
pub trait Classify {
    /// What it is.
    fn network(&self) -> &Network;

    /// Logits of every image, `[images][classes]` row-major.
    ///
    /// # Errors
    /// Samples that do not fit the network, the backend's.
    fn logits(&self, samples: &Samples, normalisation: &Normalisation) -> Result<Vec<f32>, TrainingError>;
}

impl<B: Backend> Classify for Model<B> {
    fn network(&self) -> &Network {
        self.network()
    }

    fn logits(&self, samples: &Samples, normalisation: &Normalisation) -> Result<Vec<f32>, TrainingError> {
        let picks: Vec<Pick> = (0..samples.len()).map(|image| Pick::of(image, View::PLAIN)).collect();
        let backend = self.kernels();
        logits_of(self, &backend.source(source(samples, normalisation)?)?, &picks)
    }
}

/// Logits of the picked images, row-major.
pub(super) fn logits_of<B: Backend>(
    model: &Model<B>,
    source: &B::Source<'_>,
    picks: &[Pick],
) -> Result<Vec<f32>, TrainingError> {
    let (backend, folded) = (model.kernels(), model.fold()?);
    let mut all = Vec::with_capacity(picks.len() * model.network().classes());
    for picks in picks.chunks(EVALUATION_BATCH) {
        let batch = backend.batch(source, picks)?;
        all.extend(backend.values(&model.logits_folded(&folded, &batch.images)?)?);
    }
    Ok(all)
}

/// Class of the largest logit of every image; the first of equals.
///
/// # Errors
/// As [`Classify::logits`].
pub fn predictions(
    model: &dyn Classify,
    samples: &Samples,
    normalisation: &Normalisation,
) -> Result<Vec<u16>, TrainingError> {
    let classes = model.network().classes();
    if classes > usize::from(u16::MAX) {
        return Err(mismatch("classes", format!("at most {}", u16::MAX), classes));
    }
    Ok(model.logits(samples, normalisation)?.chunks_exact(classes).map(largest).collect())
}

/// Index of the largest logit, the lower one of equals; the row is as long as there are classes, at most 65,536.
pub fn largest(row: &[f32]) -> u16 {
    let best = (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
    best as u16
}

/// Counts right predictions.
///
/// # Errors
/// As [`Classify::logits`].
pub fn evaluate(
    model: &dyn Classify,
    samples: &Samples,
    normalisation: &Normalisation,
) -> Result<Accuracy, TrainingError> {
    let predicted = predictions(model, samples, normalisation)?;
    let correct =
        predicted.iter().zip(&samples.labels).filter(|(predicted, label)| predicted == label).count();
    Ok(Accuracy { correct: correct as u32, total: samples.len() as u32 })
}

/// Counts predictions by label.
///
/// # Errors
/// As [`Classify::logits`].
pub fn confusion(
    model: &dyn Classify,
    samples: &Samples,
    normalisation: &Normalisation,
) -> Result<Confusion, TrainingError> {
    let predicted = predictions(model, samples, normalisation)?;
    Ok(Confusion::new(&predicted, &samples.labels, model.network().classes()))
}
