//! What both policies share: named parameters drawn from our own generator, recurrent layers, masked distributions,
//! and their safetensors form.
//!
//! A policy knows features and legal actions, never a network: one trained on a small teacher starts the search on a
//! bigger one (docs/method.md#policy-transfer). Candle's CPU generator cannot be seeded, hence our own initial values.

use std::collections::{BTreeMap, HashMap};

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::rnn::{LSTM, LSTMConfig, RNN};
use candle_nn::{Linear, Module, VarBuilder};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::random;

/// Units of every recurrent layer, per direction (docs/method.md#policies).
pub const HIDDEN: usize = 30;
/// A policy file is some 150 KB; this bounds what a wrong path can make us read.
pub const MAX_POLICY_BYTES: usize = 4 << 20;
/// Added to the logits of illegal actions: `exp` of it is exactly 0 in f32, and it stays finite.
const ILLEGAL: f64 = 1e9;
/// The output layers start small, so that a new policy follows its prior and not the accident of its seed.
const OUTPUT_SCALE: f64 = 0.3;

/// What a policy cannot do.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The tensor library refused.
    #[error("policy: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A saved policy does not fit.
    #[error("policy file: {0}")]
    File(String),
    /// No action is legal at a step.
    #[error("policy: no legal action at step {0}")]
    Stuck(usize),
    /// Learning left the finite numbers.
    #[error("policy: the gradient is not finite")]
    NotFinite,
}

/// Which actions (indices) may follow the earlier ones; as long as the number of actions.
pub type Legal = Box<dyn Fn(&[usize]) -> Vec<bool>>;

/// The decisions that one student takes.
pub struct Decisions {
    /// One row of `state::FEATURES` values per step.
    pub features: Vec<Vec<f32>>,
    /// Choices per step.
    pub actions: usize,
    /// The mask. Log-probabilities are over the masked distribution, so a forced step adds none.
    pub legal: Legal,
}

impl Decisions {
    /// Masks along one episode, one row per step.
    pub fn masks(&self, episode: &[usize]) -> Vec<Vec<bool>> {
        (0..self.features.len()).map(|step| (self.legal)(&episode[..step])).collect()
    }
}

/// A stochastic policy over sequences of decisions.
pub trait Policy {
    /// The trained tensors.
    fn parameters(&self) -> &Parameters;

    /// `[episodes, steps, actions]` logits before masking, each step given that episode's own earlier actions.
    ///
    /// # Errors
    /// From the tensor library only.
    fn logits(&self, decisions: &Decisions, episodes: &[Vec<usize>]) -> Result<Tensor, PolicyError>;

    /// Draws `count` episodes.
    ///
    /// # Errors
    /// [`PolicyError::Stuck`] when a mask leaves nothing.
    fn sample(
        &self,
        decisions: &Decisions,
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Vec<usize>>, PolicyError>;
}

/// Named trainable tensors, in a fixed order.
#[derive(Clone, Debug, Default)]
pub struct Parameters(BTreeMap<String, Var>);

impl Parameters {
    /// Adds the four tensors of an LSTM layer under `prefix`: uniform in +-1/sqrt(HIDDEN), biases 0.
    pub(super) fn add_lstm(
        &mut self,
        prefix: &str,
        inputs: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<(), PolicyError> {
        let bound = 1.0 / (HIDDEN as f64).sqrt();
        self.add(format!("{prefix}.weight_ih_l0"), &[4 * HIDDEN, inputs], |_| bound * signed(rng))?;
        self.add(format!("{prefix}.weight_hh_l0"), &[4 * HIDDEN, HIDDEN], |_| bound * signed(rng))?;
        self.add(format!("{prefix}.bias_ih_l0"), &[4 * HIDDEN], |_| 0.0)?;
        self.add(format!("{prefix}.bias_hh_l0"), &[4 * HIDDEN], |_| 0.0)
    }

    /// Adds a linear layer under `prefix`; `prior` is its bias.
    pub(super) fn add_linear(
        &mut self,
        prefix: &str,
        inputs: usize,
        prior: &[f64],
        rng: &mut ChaCha8Rng,
    ) -> Result<(), PolicyError> {
        let bound = OUTPUT_SCALE / (inputs as f64).sqrt();
        self.add(format!("{prefix}.weight"), &[prior.len(), inputs], |_| bound * signed(rng))?;
        self.add(format!("{prefix}.bias"), &[prior.len()], |index| prior[index])
    }

    fn add(
        &mut self,
        name: String,
        dims: &[usize],
        mut value: impl FnMut(usize) -> f64,
    ) -> Result<(), PolicyError> {
        let values: Vec<f32> = (0..dims.iter().product()).map(|index| value(index) as f32).collect();
        self.0.insert(name, Var::from_vec(values, dims, &Device::Cpu)?);
        Ok(())
    }

    /// A builder whose layers read these very variables.
    pub(super) fn builder(&self) -> VarBuilder<'static> {
        let tensors: HashMap<String, Tensor> =
            self.0.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// As the bytes of a safetensors file.
    ///
    /// # Errors
    /// When a tensor cannot be read or the file not be formed.
    pub fn save(&self) -> Result<Vec<u8>, PolicyError> {
        let mut raw: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, var) in &self.0 {
            let values = var.flatten_all()?.to_vec1::<f32>()?;
            raw.push((
                name.clone(),
                var.dims().to_vec(),
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ));
        }
        let mut views = Vec::new();
        for (name, dims, bytes) in &raw {
            let view = TensorView::new(Dtype::F32, dims.clone(), bytes)
                .map_err(|error| PolicyError::File(error.to_string()))?;
            views.push((name.clone(), view));
        }
        safetensors::serialize(views, None).map_err(|error| PolicyError::File(error.to_string()))
    }

    /// Sets all values from the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`PolicyError::File`] names the first tensor that is missing, of another shape or not finite; nothing is set then.
    pub fn load(&self, bytes: &[u8]) -> Result<(), PolicyError> {
        let file = |text: String| PolicyError::File(text);
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(file(format!("expected at most {MAX_POLICY_BYTES} bytes, got {}", bytes.len())));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| file(error.to_string()))?;
        if tensors.len() != self.0.len() {
            return Err(file(format!("expected {} tensors, got {}", self.0.len(), tensors.len())));
        }
        let mut values = Vec::with_capacity(self.0.len());
        for (name, var) in &self.0 {
            let view = tensors.tensor(name).map_err(|_| file(format!("tensor `{name}` is missing")))?;
            if view.shape() != var.dims() || view.dtype() != Dtype::F32 {
                let (dims, got) = (var.dims(), view.shape());
                return Err(file(format!(
                    "tensor `{name}`: expected f32 {dims:?}, got {:?} {got:?}",
                    view.dtype()
                )));
            }
            let (chunks, _) = view.data().as_chunks::<4>();
            let numbers: Vec<f32> = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
            if numbers.iter().any(|number| !number.is_finite()) {
                return Err(file(format!("tensor `{name}` holds a value that is not finite")));
            }
            values.push(Tensor::from_vec(numbers, var.dims(), &Device::Cpu)?);
        }
        for (var, value) in self.0.values().zip(&values) {
            var.set(value)?;
        }
        Ok(())
    }
}

/// Uniform in [-1, 1).
fn signed(rng: &mut ChaCha8Rng) -> f64 {
    2.0 * random::uniform(rng) - 1.0
}

/// A recurrent layer on the variables under `prefix`.
pub(super) fn lstm(builder: &VarBuilder<'_>, prefix: &str, inputs: usize) -> Result<LSTM, PolicyError> {
    Ok(candle_nn::rnn::lstm(inputs, HIDDEN, LSTMConfig::default(), builder.pp(prefix))?)
}

/// A linear layer on the variables under `prefix`.
pub(super) fn linear(
    builder: &VarBuilder<'_>,
    prefix: &str,
    inputs: usize,
    outputs: usize,
) -> Result<Linear, PolicyError> {
    let builder = builder.pp(prefix);
    Ok(Linear::new(builder.get((outputs, inputs), "weight")?, Some(builder.get(outputs, "bias")?)))
}

/// Hidden states of a layer over `inputs` (each `[episodes, values]`), in the order of the inputs.
pub(super) fn run(layer: &LSTM, inputs: &[Tensor], reversed: bool) -> Result<Vec<Tensor>, PolicyError> {
    let Some(first) = inputs.first() else { return Ok(Vec::new()) };
    let mut state = layer.zero_state(first.dim(0)?)?;
    let mut hidden = Vec::with_capacity(inputs.len());
    let mut advance = |input: &Tensor| -> Result<(), PolicyError> {
        state = layer.step(input, &state)?;
        hidden.push(state.h.clone());
        Ok(())
    };
    if reversed {
        inputs.iter().rev().try_for_each(&mut advance)?;
        hidden.reverse();
    } else {
        inputs.iter().try_for_each(&mut advance)?;
    }
    Ok(hidden)
}

/// Logits of each hidden state, stacked to `[episodes, steps, actions]`.
pub(super) fn heads(head: &Linear, hidden: &[Tensor]) -> Result<Tensor, PolicyError> {
    let rows = hidden.iter().map(|state| head.forward(state)).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::stack(&rows, 1)?)
}

/// A row of values as a `[1, n]` tensor.
pub(super) fn row(values: &[f32]) -> Result<Tensor, PolicyError> {
    Ok(Tensor::from_slice(values, (1, values.len()), &Device::Cpu)?)
}

/// Draws from the softmax of `logits` over the legal actions.
pub(super) fn draw(logits: &[f32], legal: &[bool], rng: &mut ChaCha8Rng) -> Option<usize> {
    let legal_logits = logits.iter().zip(legal).filter(|(_, legal)| **legal);
    let top = legal_logits.map(|(logit, _)| f64::from(*logit)).fold(f64::NEG_INFINITY, f64::max);
    let weight = |(logit, legal): (&f32, &bool)| if *legal { (f64::from(*logit) - top).exp() } else { 0.0 };
    let weights: Vec<f64> = logits.iter().zip(legal).map(weight).collect();
    random::choose(rng, &weights)
}

/// Log-probabilities over the masked distribution, of one shape with `logits` and `legal` (1 or 0).
pub(super) fn masked_log_probabilities(logits: &Tensor, legal: &Tensor) -> Result<Tensor, PolicyError> {
    let masked = logits.add(&legal.affine(ILLEGAL, -ILLEGAL)?)?;
    Ok(candle_nn::ops::log_softmax(&masked, D::Minus1)?)
}
