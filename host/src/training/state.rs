//! A training between two steps, as a value: everything that decides how it goes on.
//!
//! Order, augmentation and the teacher's views are functions of seed, epoch and image, and the learning rate is one of the
//! step, so the position stands for all of them. The same state gives the same weights, bit for bit on a CPU.

use super::accuracy::Accuracy;
use super::kernels::Backend;
use super::model::{Model, to_host, to_kernels};
use super::optimiser::Optimiser;
use super::{TrainingError, mismatch};
use crate::model_io::{Weights, WeightsError};

/// A training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// Where it stands.
    pub position: Position,
    /// All tensors, running statistics of batch norm included; `[out, in / groups, height, width]` for a convolution.
    pub weights: Weights,
    /// Momentum or first moment of each trained tensor, in the tensor's layout.
    pub first_moments: Weights,
    /// Second moment of each; empty for an optimiser that has none.
    pub second_moments: Weights,
}

/// Where a training stands, and what it has seen so far.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Steps done.
    pub step: usize,
    /// Images seen, repeats included.
    pub images: usize,
    /// Steps of the optimiser, by which its moments are corrected.
    pub updates: i32,
    /// Dropout masks drawn.
    pub dropout_draws: u64,
    /// Over the last epoch's worth of steps of the whole training.
    pub tail: Losses,
    /// Over the epoch at hand.
    pub epoch: Losses,
    /// Of the epochs that are over.
    pub epochs: Vec<EpochResult>,
}

/// Sums over some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// How many steps the sums are over.
    pub steps: usize,
    /// Whole losses, as the optimiser saw them.
    #[serde(with = "bits")]
    pub loss: f64,
    /// Cross-entropies with the labels, nats.
    #[serde(with = "bits")]
    pub cross_entropy: f64,
    /// Squared error to the teacher's logits.
    #[serde(with = "bits")]
    pub distillation: f64,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochResult {
    /// Mean loss of its steps.
    #[serde(with = "bits")]
    pub loss: f64,
    /// At its end, over all validation images of the training.
    pub validation: Accuracy,
}

/// A number by its bits: decimal digits that are read back need not give the same ones.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

impl Losses {
    /// Adds a step.
    pub(super) fn add(&mut self, loss: f64, cross_entropy: f64, distillation: f64) {
        self.steps += 1;
        self.loss += loss;
        self.cross_entropy += cross_entropy;
        self.distillation += distillation;
    }

    /// The mean of a sum over these steps.
    pub(super) fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1) as f64
    }
}

impl TrainingState {
    /// The state of `model` under `optimiser`.
    ///
    /// # Errors
    /// The backend's.
    pub(super) fn of<B: Backend>(
        model: &Model<B>,
        optimiser: &Optimiser<B>,
        has_second: bool,
        position: &Position,
    ) -> Result<Self, TrainingError> {
        let (mut first_moments, mut second_moments) = (Weights::default(), Weights::default());
        for (variable, [first, second]) in model.variables().iter().zip(optimiser.moments()?) {
            let first = to_host(model.kernels(), &first)?;
            first_moments.insert(variable.name.clone(), first.dims, first.values);
            if has_second {
                let second = to_host(model.kernels(), &second)?;
                second_moments.insert(variable.name.clone(), second.dims, second.values);
            }
        }
        let position =
            Position { updates: optimiser.steps(), dropout_draws: model.dropout_draws(), ..position.clone() };
        Ok(Self { position, weights: model.weights()?, first_moments, second_moments })
    }

    /// Puts the moments back into `optimiser`, which was made for `model`.
    ///
    /// # Errors
    /// Moments of other tensors than the model's; the backend's.
    pub(super) fn restore<B: Backend>(
        &self,
        model: &Model<B>,
        optimiser: &mut Optimiser<B>,
        has_second: bool,
    ) -> Result<(), TrainingError> {
        let kernels = model.kernels();
        let expected = if has_second { self.first_moments.iter().count() } else { 0 };
        if self.second_moments.iter().count() != expected {
            return Err(mismatch("second moments", expected, self.second_moments.iter().count()));
        }
        let moments = model.variables().iter().map(|variable| {
            let missing = || WeightsError::Missing(variable.name.clone());
            let first = self.first_moments.get(&variable.name).ok_or_else(missing)?;
            let first = to_kernels(kernels, first)?;
            let second = match self.second_moments.get(&variable.name) {
                Some(second) => to_kernels(kernels, second)?,
                None if has_second => return Err(missing().into()),
                None => {
                    let dims = kernels.dims(&first);
                    kernels.tensor(vec![0.0; dims.iter().product()], &dims)?
                }
            };
            Ok([first, second])
        });
        let moments = moments.collect::<Result<Vec<_>, TrainingError>>()?;
        optimiser.resume(self.position.updates, moments)
    }
}
