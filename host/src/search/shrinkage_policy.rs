//! The shrinkage policy: an autoregressive LSTM of two layers; the previous action is part of the input, one factor out
//! of {0.1 .. 1.0} per coupled channel group (docs/method.md#policies, docs/method.md#action-space).

use candle_core::{Device, Tensor};
use candle_nn::rnn::{LSTM, LSTMState, RNN};
use candle_nn::{Linear, Module};
use rand_chacha::ChaCha8Rng;

use super::policy::{self, Decisions, HIDDEN, Parameters, Policy, PolicyError};
use super::state::FEATURES;

/// Choices for each coupled group.
pub const ACTIONS: usize = 10;

/// Width factors as published, by action index.
pub const FACTORS: [f64; ACTIONS] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const INPUTS: usize = FEATURES + ACTIONS;

/// Autoregressive LSTM, 2 layers, [`HIDDEN`] wide.
pub struct ShrinkagePolicy {
    parameters: Parameters,
    layers: [LSTM; 2],
    head: Linear,
}

impl ShrinkagePolicy {
    /// A new policy; `bias` are the starting logits of its actions.
    ///
    /// # Errors
    /// From the tensor library only.
    pub fn new(bias: &[f64; ACTIONS], rng: &mut ChaCha8Rng) -> Result<Self, PolicyError> {
        let mut parameters = Parameters::default();
        parameters.add_lstm("layer1", INPUTS, rng)?;
        parameters.add_lstm("layer2", HIDDEN, rng)?;
        parameters.add_linear("head", HIDDEN, bias, rng)?;
        let builder = parameters.builder();
        let layers = [policy::lstm(&builder, "layer1", INPUTS)?, policy::lstm(&builder, "layer2", HIDDEN)?];
        let head = policy::linear(&builder, "head", HIDDEN, ACTIONS)?;
        Ok(Self { parameters, layers, head })
    }

    fn start(&self, episodes: usize) -> Result<[LSTMState; 2], PolicyError> {
        Ok([self.layers[0].zero_state(episodes)?, self.layers[1].zero_state(episodes)?])
    }

    /// One step for all episodes: `previous` holds their last actions; gives `[episodes, actions]`.
    fn step(
        &self,
        features: &[f32],
        previous: &[Option<usize>],
        states: &mut [LSTMState; 2],
    ) -> Result<Tensor, PolicyError> {
        let mut input = Vec::with_capacity(previous.len() * INPUTS);
        for action in previous {
            input.extend_from_slice(features);
            input.extend((0..ACTIONS).map(|index| if *action == Some(index) { 1.0_f32 } else { 0.0 }));
        }
        let mut values = Tensor::from_vec(input, (previous.len(), INPUTS), &Device::Cpu)?;
        for (layer, state) in self.layers.iter().zip(states) {
            *state = layer.step(&values, state)?;
            values = state.h.clone();
        }
        Ok(self.head.forward(&values)?)
    }
}

impl Policy for ShrinkagePolicy {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn logits(&self, decisions: &Decisions, episodes: &[Vec<usize>]) -> Result<Tensor, PolicyError> {
        let mut states = self.start(episodes.len())?;
        let mut rows = Vec::with_capacity(decisions.features.len());
        for (step, features) in decisions.features.iter().enumerate() {
            let earlier = |episode: &Vec<usize>| step.checked_sub(1).map(|before| episode[before]);
            let previous: Vec<Option<usize>> = episodes.iter().map(earlier).collect();
            rows.push(self.step(features, &previous, &mut states)?);
        }
        Ok(Tensor::stack(&rows, 1)?)
    }

    fn sample(
        &self,
        decisions: &Decisions,
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Vec<usize>>, PolicyError> {
        let mut states = self.start(count)?;
        let mut episodes: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (step, features) in decisions.features.iter().enumerate() {
            let previous: Vec<Option<usize>> =
                episodes.iter().map(|episode| episode.last().copied()).collect();
            let logits = self.step(features, &previous, &mut states)?.to_vec2::<f32>()?;
            for (episode, row) in episodes.iter_mut().zip(&logits) {
                let legal = (decisions.legal)(episode);
                episode.push(policy::draw(row, &legal, rng).ok_or(PolicyError::Stuck(step))?);
            }
        }
        Ok(episodes)
    }
}
