//! A training as one value: how long, how, from which seed. What a journal records and a search repeats.

use super::batches::Augmentation;
use super::optimiser::Method;
use super::schedule::Schedule;

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Passes over the samples.
    Epochs(usize),
    /// Batches, over as many passes as that takes.
    Steps(usize),
}

/// Everything that decides a training, besides network, weights, samples and teacher.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recipe {
    /// How long.
    pub length: Length,
    /// Images in a batch.
    pub batch: usize,
    /// Optimiser.
    pub method: Method,
    /// Learning rate at the schedule's factor 1.
    pub learning_rate: f64,
    /// Course of the learning rate.
    pub schedule: Schedule,
    /// Share of a label's probability spread over all classes.
    pub label_smoothing: f64,
    /// Weight of the squared error to the teacher's logits; without effect when there is no teacher.
    pub lambda: f64,
    /// How images vary.
    pub augmentation: Augmentation,
    /// Whether batch norm keeps its running statistics as they are and uses them.
    pub freeze_batch_norm: bool,
    /// Of order, augmentation and dropout.
    pub seed: u64,
}

/// Steps below which a distillation is short, and above which it is long.
const FEW_STEPS: usize = 1_000;
const MANY_STEPS: usize = 10_000;
/// What images bear in between.
const SHIFT: Augmentation = Augmentation { padding: 1, flip: false };

impl Recipe {
    /// A teacher from scratch: SGD with Nesterov momentum, cosine.
    pub fn teacher() -> Self {
        Self {
            length: Length::Epochs(10),
            batch: 64,
            method: Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 },
            learning_rate: 0.05,
            schedule: Schedule::Cosine { warm_up: 0.05 },
            label_smoothing: 0.0,
            lambda: 0.0,
            augmentation: Augmentation { padding: 2, flip: true },
            freeze_batch_norm: false,
            seed: 0,
        }
    }

    /// A candidate's short distillation in the `edge` preset: it starts from inherited weights, so a fast optimiser and
    /// few steps rank well.
    pub fn proxy() -> Self {
        Self {
            length: Length::Epochs(1),
            method: Method::AdamW { weight_decay: 5e-4 },
            learning_rate: 2e-3,
            lambda: 0.5,
            augmentation: Augmentation::NONE,
            ..Self::teacher()
        }
    }

    /// A candidate's distillation in the `paper` preset (docs/method.md#distillation): Adam at 5e-4, batch 200, 5 epochs.
    pub fn paper_proxy() -> Self {
        Self {
            length: Length::Epochs(5),
            batch: 200,
            method: Method::Adam { weight_decay: 5e-4 },
            learning_rate: 5e-4,
            schedule: Schedule::Constant,
            lambda: 0.5,
            augmentation: Augmentation::NONE,
            ..Self::teacher()
        }
    }

    /// A distillation of a finalist or of the student that ships, from its search weights: the more steps there are, the more
    /// images may vary. A small student has no capacity to waste: at some hundred steps augmentation costs it two to three
    /// points, at some thousand a shift by one pixel is best (docs/results.md#how-a-student-is-finished).
    pub fn finale(epochs: usize, images: usize) -> Self {
        let length = Length::Epochs(epochs);
        let long = Self { length, learning_rate: 0.1, lambda: 0.5, ..Self::teacher() };
        match long.steps(images) {
            steps if steps < FEW_STEPS => Self { length, learning_rate: 5e-3, ..Self::proxy() },
            steps if steps < MANY_STEPS => Self { augmentation: SHIFT, ..long },
            _ => long,
        }
    }

    /// The recipe for images that may be mirrored, or may not.
    #[must_use]
    pub fn for_images(self, mirrors: bool) -> Self {
        let flip = self.augmentation.flip && mirrors;
        Self { augmentation: Augmentation { flip, ..self.augmentation }, ..self }
    }

    /// Batches of an epoch over `images`: the incomplete last one is left out, unless it is the only one, for its
    /// batch statistics would be noise.
    pub fn batches(&self, images: usize) -> usize {
        (images / self.batch.max(1)).max(1)
    }

    /// Batches in all.
    pub fn steps(&self, images: usize) -> usize {
        match self.length {
            Length::Epochs(epochs) => epochs * self.batches(images),
            Length::Steps(steps) => steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_bear_it_are_mirrored() {
        assert!(Recipe::teacher().for_images(true).augmentation.flip);
        let digits = Recipe::finale(30, 54_000).for_images(false);
        assert_eq!((digits.augmentation.flip, digits.augmentation.padding), (false, 2));
        assert!(!Recipe::proxy().for_images(true).augmentation.flip);
    }

    #[test]
    fn images_vary_more_in_a_longer_distillation() {
        let padding = |epochs| Recipe::finale(epochs, 5_000).augmentation.padding;
        assert_eq!((padding(4), padding(20), padding(200)), (0, 1, 2));
        assert_eq!(Recipe::finale(4, 5_000).length, Length::Epochs(4));
    }

    #[test]
    fn incomplete_batches_are_left_out_unless_alone() {
        let recipe = Recipe { length: Length::Epochs(3), batch: 10, ..Recipe::teacher() };
        assert_eq!(recipe.steps(29), 6);
        assert_eq!(recipe.steps(4), 3);
        assert_eq!(Recipe { length: Length::Steps(5), ..recipe }.steps(29), 5);
    }
}
