//! A teacher's answers to a sample set, computed once and reused by every student.
//!
//! Augmented images: the teacher answers a fixed, small number of views of each image, keyed by a seed; a student is
//! then trained on these views alone, one drawn per epoch, so that its logits are always compared with the teacher's for
//! the very same pixels. Without augmentation there is one view, the image.

use super::batches::{Augmentation, Pick, View, source};
use super::evaluation::logits_of;
use super::kernels::Backend;
use super::kernels::source::Answers;
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
    /// Samples that do not fit the teacher, no view, the backend's.
    pub fn compute<B: Backend>(
        teacher: &Model<B>,
        samples: &Samples,
        normalisation: &Normalisation,
        augmentation: Augmentation,
        views: usize,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        if views == 0 {
            return Err(mismatch("teacher logits", "at least one view", 0));
        }
        let views = if augmentation == Augmentation::NONE { 1 } else { views };
        let classes = teacher.network().classes();
        let source = teacher.kernels().source(source(samples, normalisation)?)?;
        let picks: Vec<Pick> = (0..views)
            .flat_map(|view| (0..samples.len()).map(move |image| (image, view as u64)))
            .map(|(image, view)| Pick::of(image, augmentation.view(seed, image, view)))
            .collect();
        let values = logits_of(teacher, &source, &picks)?;
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

    /// All answers.
    pub(super) fn rows(&self) -> Answers<'_> {
        Answers { values: &self.values, classes: self.classes }
    }

    /// The row of the answer about one view of one image.
    pub(super) fn row(&self, image: usize, view: u64) -> usize {
        view as usize * self.images + image
    }

    /// The answer about one view of one image.
    pub fn of(&self, image: usize, view: u64) -> &[f32] {
        let start = self.row(image, view) * self.classes;
        &self.values[start..start + self.classes]
    }

    /// The pixels that view stands for.
    pub fn view(&self, image: usize, view: u64) -> View {
        self.augmentation.view(self.seed, image, view)
    }
}
