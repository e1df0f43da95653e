//! A network with weights on a device: forward, backward, and the weights back.
//!
//! The backward pass walks the plan's steps in reverse and frees each value when it is done with it. The model knows
//! nothing of losses, optimisers or data.

use candle_core::{Device, Tensor, Var};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::kernels::{BatchStatistics, Kernels, Norm, for_device};
use super::plan::{NormStep, Operation, Plan, Step};
use super::{TrainingError, mismatch};
use crate::model_io::Weights;
use crate::network::{Layer, Network, Role};

/// Weight of the newest batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// How batch norm and dropout behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, running statistics updated, dropout on.
    Train,
    /// Running statistics, dropout off.
    Evaluate,
}

/// A trained tensor.
#[derive(Clone, Debug)]
pub struct Variable {
    /// As [`Network::parameters`] names it.
    pub name: String,
    /// What it is; weight decay applies to [`Role::Weight`] alone.
    pub role: Role,
    /// The values.
    pub var: Var,
}

/// A network that can be trained and evaluated.
pub struct Model {
    network: Network,
    plan: Plan,
    kernels: &'static dyn Kernels,
    device: Device,
    variables: Vec<Variable>,
    /// Running statistics of each batch norm, with its node's name.
    statistics: Vec<(String, BatchStatistics)>,
    momentum: f64,
    frozen: bool,
    dropout_seed: u64,
    dropout_draws: u64,
}

/// What a training forward pass keeps for the backward pass.
pub struct Tape {
    values: Vec<Option<Tensor>>,
    saved: Vec<Saved>,
}

/// What one step keeps besides values.
enum Saved {
    Nothing,
    Statistics(BatchStatistics),
    Winners(Tensor),
    Mask(Tensor),
}

/// Convolutions of a model with their batch norms multiplied in, as the model was when they were made: by step, weight and
/// bias.
pub struct Folded(Vec<Option<(Tensor, Tensor)>>);

impl std::fmt::Debug for Folded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Folded").field(&self.0.iter().flatten().count()).finish()
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("steps", &self.plan.steps.len())
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("values", &self.values.iter().flatten().count()).finish_non_exhaustive()
    }
}

impl Model {
    /// Puts `weights` on `device`.
    ///
    /// # Errors
    /// Weights that do not fit the network; a softmax that is not last; candle's.
    pub fn new(network: &Network, weights: &Weights, device: &Device) -> Result<Self, TrainingError> {
        weights.verify(network)?;
        let plan = Plan::new(network)?;
        let find = |name: &str| {
            let array =
                weights.get(name).ok_or_else(|| crate::model_io::WeightsError::Missing(name.into()))?;
            Ok::<_, TrainingError>(Tensor::from_vec(array.values.clone(), array.dims.as_slice(), device)?)
        };
        let mut variables = Vec::new();
        let mut statistics = Vec::new();
        for node in network.nodes() {
            for parameter in node.parameters().into_iter().filter(|parameter| parameter.role.is_trained()) {
                let var = Var::from_tensor(&find(&parameter.name)?)?;
                variables.push(Variable { name: parameter.name, role: parameter.role, var });
            }
            if matches!(node.layer, Layer::BatchNorm(_)) {
                let of = |role: Role| find(&format!("{}.{}", node.name, role.suffix()));
                let running =
                    BatchStatistics { mean: of(Role::RunningMean)?, variance: of(Role::RunningVariance)? };
                statistics.push((node.name.clone(), running));
            }
        }
        Ok(Self {
            network: network.clone(),
            plan,
            kernels: for_device(device),
            device: device.clone(),
            variables,
            statistics,
            momentum: MOMENTUM,
            frozen: false,
            dropout_seed: 0,
            dropout_draws: 0,
        })
    }

    /// The same model on other kernels: tests compare them.
    #[cfg(test)]
    pub(super) fn with_kernels(self, kernels: &'static dyn Kernels) -> Self {
        Self { kernels, ..self }
    }

    /// What is trained.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where it is trained.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Trained tensors, in the network's order.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// Freezes batch norm: training then uses the running statistics and leaves them as they are.
    pub fn freeze_batch_norm(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Starts the sequence of dropout masks anew.
    pub fn seed_dropout(&mut self, seed: u64) {
        (self.dropout_seed, self.dropout_draws) = (seed, 0);
    }

    /// Weight of the newest batch in the running statistics from now on; `None` for PyTorch's 0.1.
    pub(super) fn set_momentum(&mut self, momentum: Option<f64>) {
        self.momentum = momentum.unwrap_or(MOMENTUM);
    }

    /// All tensors, back on the host.
    ///
    /// # Errors
    /// Candle's.
    pub fn weights(&self) -> Result<Weights, TrainingError> {
        let mut weights = Weights::default();
        let mut put = |name: &str, tensor: &Tensor| -> Result<(), TrainingError> {
            weights.insert(name, tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?);
            Ok(())
        };
        for variable in &self.variables {
            put(&variable.name, variable.var.as_tensor())?;
        }
        for (node, running) in &self.statistics {
            put(&format!("{node}.{}", Role::RunningMean.suffix()), &running.mean)?;
            put(&format!("{node}.{}", Role::RunningVariance.suffix()), &running.variance)?;
        }
        Ok(weights)
    }

    /// Logits `[N, classes]` of normalised images `[N, C, H, W]`; softmax layers are skipped.
    ///
    /// # Errors
    /// Images of another shape; in training, a batch with one value a channel; candle's.
    pub fn forward(&mut self, images: &Tensor, mode: Mode) -> Result<Tensor, TrainingError> {
        match mode {
            Mode::Train => Ok(self.forward_train(images)?.0),
            Mode::Evaluate => self.logits(images),
        }
    }

    fn start(&self, images: &Tensor) -> Result<Vec<Option<Tensor>>, TrainingError> {
        let expected = self.network.input_shape().dims();
        if images.rank() != 4 || images.dims()[1..] != expected || images.dims()[0] == 0 {
            return Err(mismatch("images", format!("[N, {expected:?}]"), format!("{:?}", images.dims())));
        }
        let mut values = vec![None; self.network.nodes().len()];
        values[0] = Some(self.kernels.map_from_nchw(&images.detach())?);
        Ok(values)
    }

    fn variable(&self, index: usize) -> Tensor {
        self.variables[index].var.as_detached_tensor()
    }

    /// Folds batch norms into their convolutions: once for all batches of an evaluation.
    ///
    /// # Errors
    /// Candle's.
    pub fn fold(&self) -> Result<Folded, TrainingError> {
        let folded = self.plan.steps.iter().map(|step| match &step.operation {
            Operation::Convolution { weight, bias, norm_step: Some(norm_step), .. } => {
                let Operation::BatchNorm { norm, .. } = &self.plan.steps[*norm_step].operation else {
                    return Ok(None);
                };
                let bias = bias.map(|bias| self.variable(bias));
                self.folded(&self.variable(*weight), bias, *norm).map(Some)
            }
            _ => Ok(None),
        });
        Ok(Folded(folded.collect::<Result<_, TrainingError>>()?))
    }

    /// Logits with running statistics and without dropout: [`Mode::Evaluate`] on a shared model.
    ///
    /// # Errors
    /// Images of another shape; candle's.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor, TrainingError> {
        self.logits_folded(&self.fold()?, images)
    }

    /// As [`Model::logits`], with convolutions that were folded before.
    ///
    /// # Errors
    /// Images of another shape; candle's.
    pub fn logits_folded(&self, folded: &Folded, images: &Tensor) -> Result<Tensor, TrainingError> {
        let kernels = self.kernels;
        let mut values = self.start(images)?;
        for (index, step) in self.plan.steps.iter().enumerate() {
            if values[step.output].is_some() {
                continue; // A batch norm that its convolution took along.
            }
            let x = value(&values, step.inputs[0])?;
            let mut output = step.output;
            let y = match &step.operation {
                Operation::Convolution { conv, weight, bias, norm_step } => {
                    let normed = norm_step.map(|step| &self.plan.steps[step]);
                    if let Some((weight, bias)) = &folded.0[index]
                        && let Some(Step {
                            operation: Operation::BatchNorm { activation, .. },
                            output: normed,
                            ..
                        }) = normed
                    {
                        output = *normed;
                        kernels.convolution(x, weight, Some(bias), conv, *activation)?
                    } else {
                        let bias = bias.map(|bias| self.variable(bias));
                        kernels.convolution(x, &self.variable(*weight), bias.as_ref(), conv, None)?
                    }
                }
                Operation::BatchNorm { norm, activation } => {
                    let (scale, shift) = (self.variable(norm.scale), self.variable(norm.shift));
                    let parameters = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
                    kernels.batch_norm_fixed(
                        x,
                        parameters,
                        &self.statistics[norm.statistics].1,
                        *activation,
                    )?
                }
                Operation::Dropout(_) => x.clone(),
                Operation::Activation(activation) => kernels.activation(x, *activation)?,
                Operation::Add(activation) => kernels.add(x, value(&values, step.inputs[1])?, *activation)?,
                Operation::MaxPool(pool) => kernels.max_pool(x, pool)?.0,
                Operation::AveragePool(pool) => kernels.average_pool(x, pool)?,
                Operation::GlobalAverage => kernels.global_average(x)?,
                Operation::Flatten { is_map } => flatten(kernels, x, *is_map)?,
                Operation::Linear { weight, bias } => {
                    let bias = bias.map(|bias| self.variable(bias));
                    kernels.linear(x, &self.variable(*weight), bias.as_ref())?
                }
            };
            values[output] = Some(y);
            for &input in &step.inputs {
                if self.plan.last_read[input] == index {
                    values[input] = None;
                }
            }
        }
        Ok(value(&values, self.plan.logits)?.clone())
    }

    /// Weight and bias of a convolution with its batch norm multiplied in.
    fn folded(
        &self,
        weight: &Tensor,
        bias: Option<Tensor>,
        norm: NormStep,
    ) -> Result<(Tensor, Tensor), TrainingError> {
        let running = &self.statistics[norm.statistics].1;
        let factor = (self.variable(norm.scale) / (&running.variance + norm.epsilon)?.sqrt()?)?;
        let outputs = factor.elem_count();
        let centre = match bias {
            Some(bias) => (bias - &running.mean)?,
            None => running.mean.neg()?,
        };
        let bias = ((centre * &factor)? + self.variable(norm.shift))?;
        Ok((weight.broadcast_mul(&factor.reshape((outputs, 1, 1, 1))?)?, bias))
    }

    /// The training forward pass, with what [`Model::backward`] needs.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_train(&mut self, images: &Tensor) -> Result<(Tensor, Tape), TrainingError> {
        let kernels = self.kernels;
        let mut values = self.start(images)?;
        let mut saved = Vec::with_capacity(self.plan.steps.len());
        for index in 0..self.plan.steps.len() {
            let step = self.plan.steps[index].clone();
            let x = value(&values, step.inputs[0])?;
            let mut keep = Saved::Nothing;
            let y = match &step.operation {
                Operation::Convolution { conv, weight, bias, .. } => {
                    let bias = bias.map(|bias| self.variable(bias));
                    kernels.convolution(x, &self.variable(*weight), bias.as_ref(), conv, None)?
                }
                Operation::BatchNorm { norm, activation } => {
                    let (scale, shift) = (self.variable(norm.scale), self.variable(norm.shift));
                    let parameters = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
                    if self.frozen {
                        let running = &self.statistics[norm.statistics].1;
                        kernels.batch_norm_fixed(x, parameters, running, *activation)?
                    } else {
                        let (y, batch) = kernels.batch_norm(x, parameters, *activation)?;
                        let count = x.elem_count() / kernels.channels(x)?;
                        self.update_running(norm.statistics, &batch, count)?;
                        keep = Saved::Statistics(batch);
                        y
                    }
                }
                Operation::Dropout(probability) => {
                    let mask = self.dropout_mask(x, *probability)?;
                    let y = kernels.multiply(x, &mask)?;
                    keep = Saved::Mask(mask);
                    y
                }
                Operation::MaxPool(pool) => {
                    let (y, winners) = kernels.max_pool(x, pool)?;
                    keep = Saved::Winners(winners);
                    y
                }
                Operation::Activation(activation) => kernels.activation(x, *activation)?,
                Operation::Add(activation) => kernels.add(x, value(&values, step.inputs[1])?, *activation)?,
                Operation::AveragePool(pool) => kernels.average_pool(x, pool)?,
                Operation::GlobalAverage => kernels.global_average(x)?,
                Operation::Flatten { is_map } => flatten(kernels, x, *is_map)?,
                Operation::Linear { weight, bias } => {
                    let bias = bias.map(|bias| self.variable(bias));
                    kernels.linear(x, &self.variable(*weight), bias.as_ref())?
                }
            };
            saved.push(keep);
            values[step.output] = Some(y);
        }
        Ok((value(&values, self.plan.logits)?.clone(), Tape { values, saved }))
    }

    fn update_running(
        &mut self,
        index: usize,
        batch: &BatchStatistics,
        count: usize,
    ) -> Result<(), TrainingError> {
        if count < 2 {
            return Err(mismatch("batch norm", "more than one value a channel", count));
        }
        let unbiased = count as f64 / (count - 1) as f64;
        let (old, new) = (1.0 - self.momentum, self.momentum);
        let running = &mut self.statistics[index].1;
        running.mean = ((&running.mean * old)? + (&batch.mean * new)?)?;
        running.variance = ((&running.variance * old)? + (&batch.variance * (new * unbiased))?)?;
        Ok(())
    }

    fn dropout_mask(&mut self, like: &Tensor, probability: f64) -> Result<Tensor, TrainingError> {
        self.dropout_draws += 1;
        let mut generator = ChaCha8Rng::seed_from_u64(self.dropout_seed);
        generator.set_stream(self.dropout_draws);
        let kept = (1.0 / (1.0 - probability)) as f32;
        let mask: Vec<f32> = (0..like.elem_count())
            .map(|_| if generator.random::<f64>() < probability { 0.0 } else { kept })
            .collect();
        Ok(Tensor::from_vec(mask, like.shape(), &self.device)?)
    }

    /// Gradients of all variables, in their order, from the gradient of the logits.
    ///
    /// # Errors
    /// A gradient of another shape than the logits; candle's.
    pub fn backward(&self, tape: Tape, gradient: &Tensor) -> Result<Vec<Option<Tensor>>, TrainingError> {
        let kernels = self.kernels;
        let Tape { mut values, mut saved } = tape;
        let mut of_variables: Vec<Option<Tensor>> = vec![None; self.variables.len()];
        let mut of_values: Vec<Option<Tensor>> = vec![None; values.len()];
        of_values[self.plan.logits] = Some(gradient.detach());
        for step in self.plan.steps.iter().rev() {
            let keep = saved.pop().unwrap_or(Saved::Nothing);
            let output = values[step.output].take();
            let Some(gradient) = of_values[step.output].take() else { continue };
            let x = value(&values, step.inputs[0])?;
            // Nothing asks for the gradient of the images.
            let wanted = step.inputs[0] != 0;
            let input = match &step.operation {
                Operation::Convolution { conv, weight, bias, .. } => {
                    of_variables[*weight] = Some(kernels.convolution_weight_gradient(x, &gradient, conv)?);
                    if let Some(bias) = bias {
                        of_variables[*bias] = Some(kernels.channel_sums(&gradient)?);
                    }
                    let weight = self.variable(*weight);
                    wanted
                        .then(|| kernels.convolution_input_gradient(x, &weight, &gradient, conv))
                        .transpose()?
                }
                Operation::BatchNorm { norm, activation } => {
                    let (scale, shift) = (self.variable(norm.scale), self.variable(norm.shift));
                    let parameters = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
                    let (statistics, fixed) = match &keep {
                        Saved::Statistics(batch) => (batch, false),
                        _ => (&self.statistics[norm.statistics].1, true),
                    };
                    let all = kernels.batch_norm_gradient(
                        x,
                        parameters,
                        statistics,
                        *activation,
                        &gradient,
                        fixed,
                    )?;
                    of_variables[norm.scale] = Some(all.scale);
                    of_variables[norm.shift] = Some(all.shift);
                    Some(all.input)
                }
                Operation::Activation(activation) => {
                    Some(kernels.activation_gradient(needed(output.as_ref())?, &gradient, *activation)?)
                }
                Operation::Add(activation) => {
                    let passed = match activation {
                        Some(activation) => {
                            kernels.activation_gradient(needed(output.as_ref())?, &gradient, *activation)?
                        }
                        None => gradient,
                    };
                    accumulate(kernels, &mut of_values[step.inputs[1]], passed.clone())?;
                    Some(passed)
                }
                Operation::MaxPool(pool) => match &keep {
                    Saved::Winners(winners) => Some(kernels.max_pool_gradient(x, winners, &gradient, pool)?),
                    _ => return Err(mismatch("tape", "the winners of a max pool", "none")),
                },
                Operation::Dropout(_) => match &keep {
                    Saved::Mask(mask) => Some(kernels.multiply(&gradient, mask)?),
                    _ => return Err(mismatch("tape", "the mask of a dropout", "none")),
                },
                Operation::AveragePool(pool) => Some(kernels.average_pool_gradient(x, &gradient, pool)?),
                Operation::GlobalAverage => Some(kernels.global_average_gradient(x, &gradient)?),
                Operation::Flatten { is_map: true } => Some(kernels.flatten_gradient(x, &gradient)?),
                Operation::Flatten { is_map: false } => Some(gradient),
                Operation::Linear { weight, bias } => {
                    of_variables[*weight] = Some(kernels.linear_weight_gradient(x, &gradient)?);
                    if let Some(bias) = bias {
                        of_variables[*bias] = Some(kernels.channel_sums(&gradient)?);
                    }
                    wanted
                        .then(|| kernels.linear_input_gradient(&self.variable(*weight), &gradient))
                        .transpose()?
                }
            };
            if let Some(input) = input.filter(|_| wanted) {
                accumulate(kernels, &mut of_values[step.inputs[0]], input)?;
            }
        }
        Ok(of_variables)
    }
}

fn flatten(kernels: &dyn Kernels, x: &Tensor, is_map: bool) -> candle_core::Result<Tensor> {
    if is_map { kernels.flatten(x) } else { Ok(x.clone()) }
}

fn accumulate(kernels: &dyn Kernels, sum: &mut Option<Tensor>, term: Tensor) -> candle_core::Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => kernels.add(&sum, &term, None)?,
        None => term,
    });
    Ok(())
}

fn value(values: &[Option<Tensor>], id: usize) -> Result<&Tensor, TrainingError> {
    needed(values[id].as_ref())
}

fn needed(value: Option<&Tensor>) -> Result<&Tensor, TrainingError> {
    value.ok_or_else(|| mismatch("tape", "a value for every operand", "none"))
}
