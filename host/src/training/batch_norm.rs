//! Batch-norm statistics anew: after surgery the inherited ones no longer describe what reaches each layer.
//!
//! EagleEye's observation, rung one of the cascade (docs/method.md#evaluation-cascade): with re-estimated statistics the
//! accuracy of inherited weights already ranks candidates. Weights are not touched.

use super::TrainingError;
use super::batches::{Pick, View, order, source};
use super::kernels::Backend;
use super::model::{Mode, Model};
use crate::data::{Normalisation, Samples};

/// Images a batch; the statistics of a layer are the mean over batches, so batches must not be tiny.
const BATCH: usize = 128;

/// Replaces all running statistics by the mean of batch statistics over `images` images, drawn by `seed`.
///
/// # Errors
/// Samples that do not fit the model, the backend's.
pub fn reestimate<B: Backend>(
    model: &mut Model<B>,
    samples: &Samples,
    normalisation: &Normalisation,
    images: usize,
    seed: u64,
) -> Result<(), TrainingError> {
    let backend = model.kernels().clone();
    let source = backend.source(source(samples, normalisation)?)?;
    let mut order = order(samples.len(), seed, 0);
    order.truncate(images.max(1));
    let mut result = Ok(());
    // A small rest would weigh as much as a full batch: left out, unless it is all there is.
    let full = (order.len() / BATCH).max(1);
    for (index, chunk) in order.chunks(BATCH).take(full).enumerate() {
        // Weight 1 / (k + 1) on batch k makes the running value the mean of all so far.
        model.set_momentum(Some(1.0 / (index + 1) as f64));
        let plain: Vec<Pick> = chunk.iter().map(|&image| Pick::of(image, View::PLAIN)).collect();
        result = backend
            .batch(&source, &plain)
            .map_err(TrainingError::from)
            .and_then(|batch| model.forward(&batch.images, Mode::Train))
            .map(|_| ());
        if result.is_err() {
            break;
        }
    }
    model.set_momentum(None);
    result
}
