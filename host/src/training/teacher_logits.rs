//! A teacher's answers to a sample set, computed once and reused by every student.
//!
//! Augmented images: the teacher answers a fixed, small number of views of each image, keyed by a seed; a student is
//! then trained on these views alone, one drawn per epoch, so that its logits are always compared with the teacher's for
//! the very same pixels. Without augmentation there is one view, the image.

use super::batches::{Augmentation, View, batch, check};
use super::evaluation::EVALUATION_BATCH;
use super::model::Model;
use super::{TrainingError, mismatch};
use crate::data::{Normalisation, Samples};

/// Logits `[views, images, classes]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherLogits {
    values: Vec<f32>,
    images: usize,
    classes: usize,
    views: usize,
    augmentation: Augmentation,
    seed: u64,
}

impl TeacherLogits {
    /// Asks `teacher` about `views` views of each image (one, whatever `views` says, if nothing is augmented).
    ///
    /// # Errors
    /// Samples that do not fit the teacher, no view, candle's.
    pub fn compute(
        teacher: &Model,
        samples: &Samples,
        normalisation: &Normalisation,
        augmentation: Augmentation,
        views: usize,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        check(samples, normalisation)?;
        if views == 0 {
            return Err(mismatch("teacher logits", "at least one view", 0));
        }
        let views = if augmentation == Augmentation::NONE { 1 } else { views };
        let classes = teacher.network().classes();
        let folded = teacher.fold()?;
        let mut values = Vec::with_capacity(views * samples.len() * classes);
        for view in 0..views {
            for start in (0..samples.len()).step_by(EVALUATION_BATCH) {
                let end = (start + EVALUATION_BATCH).min(samples.len());
                let images = (start..end).map(|image| (image, augmentation.view(seed, image, view as u64)));
                let images = batch(samples, normalisation, images, teacher.device())?;
                values.extend(teacher.logits_folded(&folded, &images)?.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        Ok(Self { values, images: samples.len(), classes, views, augmentation, seed })
    }

    /// Images asked about.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Logits an image.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Views an image.
    pub fn views(&self) -> usize {
        self.views
    }

    /// The augmentation of the views.
    pub fn augmentation(&self) -> Augmentation {
        self.augmentation
    }

    /// The answer about one view of one image.
    pub fn of(&self, image: usize, view: u64) -> &[f32] {
        let start = (view as usize * self.images + image) * self.classes;
        &self.values[start..start + self.classes]
    }

    /// The pixels that view stands for.
    pub fn view(&self, image: usize, view: u64) -> View {
        self.augmentation.view(self.seed, image, view)
    }
}
