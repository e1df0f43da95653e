//! Optimisers over a list of variables: SGD with momentum, Adam, AdamW. candle's SGD has no momentum.
//!
//! Formulas and defaults are PyTorch's, so that recipes carry over. Weight decay applies where the caller says.

use super::kernels::update::{AdamStep, Rule};
use super::kernels::{Backend, Moving};
use super::{TrainingError, mismatch};

/// Which optimiser, with what it needs besides the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the old direction that stays.
        momentum: f64,
        /// Look ahead by the momentum.
        nesterov: bool,
        /// Times the weight, added to the gradient.
        weight_decay: f64,
    },
    /// Adam; decay goes into the gradient.
    Adam {
        /// Times the weight, added to the gradient.
        weight_decay: f64,
    },
    /// Adam; decay apart from the gradient.
    AdamW {
        /// Times the learning rate, the share of the weight taken off each step.
        weight_decay: f64,
    },
}

impl Method {
    /// Whether a second moment is remembered besides the first.
    pub fn has_second_moment(self) -> bool {
        match self {
            Self::Sgd { .. } => false,
            Self::Adam { .. } | Self::AdamW { .. } => true,
        }
    }
}

/// Adam's shares of the old moments, and what keeps it from dividing by 0.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// An optimiser with its memory of past gradients.
#[derive(Debug)]
pub struct Optimiser<B: Backend> {
    method: Method,
    backend: B,
    moving: Vec<Moving<B::Tensor, B::Memory>>,
    steps: i32,
}

impl<B: Backend> Optimiser<B> {
    /// Over variables, changed in place; the flag says whether weight decay applies.
    ///
    /// # Errors
    /// The backend's.
    pub fn new(
        method: Method,
        backend: B,
        variables: impl IntoIterator<Item = (B::Tensor, bool)>,
    ) -> Result<Self, TrainingError> {
        let moving = variables
            .into_iter()
            .map(|(variable, decays)| {
                let memory = backend.memory(&variable)?;
                Ok(Moving { variable, decays, memory })
            })
            .collect::<Result<_, candle_core::Error>>()?;
        Ok(Self { method, backend, moving, steps: 0 })
    }

    /// Steps done so far.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// First and second moment of each variable, in the variables' order and layout.
    ///
    /// # Errors
    /// The backend's.
    pub fn moments(&self) -> Result<Vec<[B::Tensor; 2]>, TrainingError> {
        let moments =
            |each: &Moving<B::Tensor, B::Memory>| self.backend.moments(&each.memory, &each.variable);
        Ok(self.moving.iter().map(moments).collect::<Result<_, candle_core::Error>>()?)
    }

    /// Goes on after `steps` steps that left these moments, as [`Self::moments`] gave them.
    ///
    /// # Errors
    /// Another number of variables, shapes that differ, the backend's.
    pub fn resume(&mut self, steps: i32, moments: Vec<[B::Tensor; 2]>) -> Result<(), TrainingError> {
        if moments.len() != self.moving.len() {
            return Err(mismatch("moments", self.moving.len(), moments.len()));
        }
        for (each, moments) in self.moving.iter_mut().zip(moments) {
            let expected = self.backend.dims(&each.variable);
            if let Some(other) =
                moments.iter().map(|moment| self.backend.dims(moment)).find(|dims| *dims != expected)
            {
                return Err(mismatch("moments", format!("{expected:?}"), format!("{other:?}")));
            }
            each.memory = self.backend.memory_of(moments)?;
        }
        self.steps = steps;
        Ok(())
    }

    /// One step at `learning_rate`; gradients in the variables' order, none where a variable had no part in the loss.
    ///
    /// # Errors
    /// Another number of gradients, shapes that differ, the backend's.
    pub fn step(&mut self, gradients: &[Option<B::Tensor>], learning_rate: f64) -> Result<(), TrainingError> {
        if gradients.len() != self.moving.len() {
            return Err(mismatch("gradients", self.moving.len(), gradients.len()));
        }
        self.steps = self.steps.saturating_add(1);
        let rule = rule(self.method, learning_rate, self.steps);
        Ok(self.backend.update(&mut self.moving, gradients, rule)?)
    }
}

fn rule(method: Method, learning_rate: f64, step: i32) -> Rule {
    let adam = |decay: f64, shrink: f64| {
        Rule::Adam(AdamStep {
            rate: (learning_rate / (1.0 - BETA1.powi(step))) as f32,
            first: (BETA1 as f32, (1.0 - BETA1) as f32),
            second: (BETA2 as f32, (1.0 - BETA2) as f32),
            root_correction: (1.0 / (1.0 - BETA2.powi(step)).sqrt()) as f32,
            epsilon: EPSILON as f32,
            decay: decay as f32,
            shrink: shrink as f32,
        })
    };
    match method {
        Method::Sgd { momentum, nesterov, weight_decay } => Rule::Momentum {
            rate: learning_rate as f32,
            momentum: momentum as f32,
            nesterov,
            decay: weight_decay as f32,
        },
        Method::Adam { weight_decay } => adam(weight_decay, 1.0),
        Method::AdamW { weight_decay } => adam(0.0, 1.0 - learning_rate * weight_decay),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::training::kernels::ChannelsLast;

    /// The variable after two steps at rate 0.1 from 1.0 with gradients 0.5 and 0.2.
    fn after_two(method: Method, decays: bool) -> f32 {
        let variable = Tensor::new(&[1.0f32], &Device::Cpu).unwrap();
        let mut optimiser = Optimiser::new(method, ChannelsLast, [(variable.clone(), decays)]).unwrap();
        for gradient in [0.5f32, 0.2] {
            let gradient = Tensor::new(&[gradient], &Device::Cpu).unwrap();
            optimiser.step(&[Some(gradient)], 0.1).unwrap();
        }
        variable.to_vec1::<f32>().unwrap()[0]
    }

    fn close(got: f32, expected: f64) {
        assert!((f64::from(got) - expected).abs() < 1e-6, "{got} {expected}");
    }

    #[test]
    fn momentum_adds_up_as_on_paper() {
        // v1 = 0.5, w1 = 0.95; v2 = 0.45 + 0.2, w2 = 0.95 - 0.065.
        close(after_two(Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }, true), 0.885);
        // Nesterov: 0.5 + 0.45 first, then 0.2 + 0.9 * 0.65.
        close(after_two(Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 }, true), 0.8265);
    }

    #[test]
    fn decay_pulls_only_where_it_applies() {
        let method = Method::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 };
        close(after_two(method, false), 0.93);
        // 1 - 0.1 * 0.6 = 0.94, then 0.94 - 0.1 * (0.2 + 0.094).
        close(after_two(method, true), 0.9106);
    }

    #[test]
    fn adam_moves_by_its_rate_at_first_and_adamw_decays_apart() {
        // First step: exactly the rate. Second: m = 0.065 / 0.19, v = (0.00025 * 0.999 + 0.00004) / 0.001999.
        let second = 0.1 * (0.065 / 0.19) / ((0.00025f64 * 0.999 + 0.000_04) / 0.001_999).sqrt();
        close(after_two(Method::Adam { weight_decay: 0.0 }, true), 0.9 - second);
        let shrunk = (1.0 * 0.99 - 0.1) * 0.99 - second;
        close(after_two(Method::AdamW { weight_decay: 0.1 }, true), shrunk);
    }
}
