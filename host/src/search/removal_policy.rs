//! The removal policy: a bidirectional LSTM of two layers, one keep/remove softmax per unit (docs/method.md#policies).
//!
//! Its logits do not depend on earlier actions (the network is read from both sides first); legality does.

use candle_core::{D, Device, Tensor};
use candle_nn::Linear;
use candle_nn::rnn::LSTM;
use rand_chacha::ChaCha8Rng;

use super::policy::{self, Decisions, HIDDEN, Parameters, Policy, PolicyError};
use super::state::FEATURES;

/// Action index that takes a unit out.
pub const REMOVE: usize = 0;
/// Action index that leaves a unit in.
pub const KEEP: usize = 1;

/// Bidirectional LSTM, 2 layers, [`HIDDEN`] per direction.
pub struct RemovalPolicy {
    parameters: Parameters,
    /// Forward and backward, first layer then second.
    layers: [[LSTM; 2]; 2],
    head: Linear,
}

impl RemovalPolicy {
    /// A new policy. `keep_prior` is the keep logit's start: a uniform start deletes half of a VGG (docs/method.md#action-space).
    ///
    /// # Errors
    /// From the tensor library only.
    pub fn new(keep_prior: f64, rng: &mut ChaCha8Rng) -> Result<Self, PolicyError> {
        let mut parameters = Parameters::default();
        for (name, inputs) in [("layer1", FEATURES), ("layer2", 2 * HIDDEN)] {
            parameters.add_lstm(&format!("{name}.forward"), inputs, rng)?;
            parameters.add_lstm(&format!("{name}.backward"), inputs, rng)?;
        }
        parameters.add_linear("head", 2 * HIDDEN, &[0.0, keep_prior], rng)?;
        let builder = parameters.builder();
        let pair = |name: &str, inputs| -> Result<[LSTM; 2], PolicyError> {
            Ok([
                policy::lstm(&builder, &format!("{name}.forward"), inputs)?,
                policy::lstm(&builder, &format!("{name}.backward"), inputs)?,
            ])
        };
        let layers = [pair("layer1", FEATURES)?, pair("layer2", 2 * HIDDEN)?];
        let head = policy::linear(&builder, "head", 2 * HIDDEN, 2)?;
        Ok(Self { parameters, layers, head })
    }

    /// `[1, steps, 2]`.
    fn shared_logits(&self, decisions: &Decisions) -> Result<Tensor, PolicyError> {
        let mut values =
            decisions.features.iter().map(|row| policy::row(row)).collect::<Result<Vec<_>, _>>()?;
        for [forward, backward] in &self.layers {
            let ahead = policy::run(forward, &values, false)?;
            let behind = policy::run(backward, &values, true)?;
            let both = ahead.iter().zip(&behind).map(|(a, b)| Tensor::cat(&[a, b], D::Minus1));
            values = both.collect::<Result<Vec<_>, _>>()?;
        }
        policy::heads(&self.head, &values)
    }
}

impl Policy for RemovalPolicy {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(&self, decisions: &Decisions, episodes: &[Vec<usize>]) -> Result<Tensor, PolicyError> {
        let zeros = Tensor::zeros((episodes.len(), 1, 1), candle_core::DType::F32, &Device::Cpu)?;
        Ok(self.shared_logits(decisions)?.broadcast_add(&zeros)?)
    }

    fn sample(
        &self,
        decisions: &Decisions,
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Vec<usize>>, PolicyError> {
        let logits = self.shared_logits(decisions)?.squeeze(0)?.to_vec2::<f32>()?;
        let mut episodes = Vec::with_capacity(count);
        for _ in 0..count {
            let mut episode = Vec::with_capacity(logits.len());
            for (step, row) in logits.iter().enumerate() {
                let legal = (decisions.legal)(&episode);
                episode.push(policy::draw(row, &legal, rng).ok_or(PolicyError::Stuck(step))?);
            }
            episodes.push(episode);
        }
        Ok(episodes)
    }
}
