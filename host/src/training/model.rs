//! A network with weights on a device: forward, backward, and the weights back.
//!
//! The backward pass walks the plan's steps in reverse and frees each value when it is done with it. The model knows
//! nothing of losses, optimisers or data.

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::kernels::{BatchStatistics, Blend, Kernels, Norm};
use super::plan::{NormStep, Operation, Plan, Step};
use super::{TrainingError, mismatch};
use crate::model_io::{Array, Weights};
use crate::network::{Network, Role};

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
pub struct Variable<T> {
    /// As [`Network::parameters`] names it.
    pub name: String,
    /// What it is; weight decay applies to [`Role::Weight`] alone.
    pub role: Role,
    /// The values, in the layout of the kernels; an optimiser changes them in place.
    pub tensor: T,
}

/// A network that can be trained and evaluated.
pub struct Model<K: Kernels> {
    network: Network,
    plan: Plan,
    kernels: K,
    variables: Vec<Variable<K::Tensor>>,
    /// Node of each batch norm.
    norms: Vec<String>,
    /// Its running statistics.
    running: Vec<BatchStatistics<K::Tensor>>,
    momentum: f64,
    frozen: bool,
    dropout_seed: u64,
    dropout_draws: u64,
}

/// What a training forward pass keeps for the backward pass.
pub struct Tape<T> {
    values: Vec<Option<T>>,
    saved: Vec<Saved<T>>,
}

/// What one step keeps besides values.
enum Saved<T> {
    Nothing,
    Statistics(BatchStatistics<T>),
    Winners(T),
    Mask(T),
}

/// Convolutions of a model with their batch norms multiplied in, as the model was when they were made: by step, weight and
/// bias.
pub struct Folded<T>(Vec<Option<(T, T)>>);

impl<T> std::fmt::Debug for Folded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Folded").field(&self.0.iter().flatten().count()).finish()
    }
}

impl<K: Kernels> std::fmt::Debug for Model<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("steps", &self.plan.steps.len()).finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Tape<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("values", &self.values.iter().flatten().count()).finish_non_exhaustive()
    }
}

impl<K: Kernels> Model<K> {
    /// Puts `weights` where the kernels want them.
    ///
    /// # Errors
    /// Weights that do not fit the network; a softmax that is not last; the kernels'.
    pub fn new(network: &Network, weights: &Weights, kernels: K) -> Result<Self, TrainingError> {
        weights.verify(network)?;
        let plan = Plan::new(network)?;
        let find = |name: &str| {
            let array =
                weights.get(name).ok_or_else(|| crate::model_io::WeightsError::Missing(name.into()))?;
            to_kernels(&kernels, array)
        };
        let (mut variables, mut norms, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for node in network.nodes() {
            for parameter in node.parameters().into_iter().filter(|parameter| parameter.role.is_trained()) {
                let tensor = find(&parameter.name)?;
                variables.push(Variable { name: parameter.name, role: parameter.role, tensor });
            }
            if node.layer.batch_norm().is_some() {
                let of = |role: Role| find(&format!("{}.{}", node.name, role.suffix()));
                running.push(BatchStatistics {
                    mean: of(Role::RunningMean)?,
                    variance: of(Role::RunningVariance)?,
                });
                norms.push(node.name.clone());
            }
        }
        Ok(Self {
            network: network.clone(),
            plan,
            kernels,
            variables,
            norms,
            running,
            momentum: MOMENTUM,
            frozen: false,
            dropout_seed: 0,
            dropout_draws: 0,
        })
    }

    /// What is trained.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What it runs on.
    pub fn kernels(&self) -> &K {
        &self.kernels
    }

    /// Trained tensors, in the network's order.
    pub fn variables(&self) -> &[Variable<K::Tensor>] {
        &self.variables
    }

    /// Freezes batch norm: training then uses the running statistics and leaves them as they are.
    pub fn freeze_batch_norm(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Starts the sequence of dropout masks of a seed, after `draws` masks of it.
    pub fn seed_dropout(&mut self, seed: u64, draws: u64) {
        (self.dropout_seed, self.dropout_draws) = (seed, draws);
    }

    /// Dropout masks drawn since the sequence began.
    pub fn dropout_draws(&self) -> u64 {
        self.dropout_draws
    }

    /// Weight of the newest batch in the running statistics from now on; `None` for PyTorch's 0.1.
    pub(super) fn set_momentum(&mut self, momentum: Option<f64>) {
        self.momentum = momentum.unwrap_or(MOMENTUM);
    }

    /// All tensors, back on the host.
    ///
    /// # Errors
    /// The kernels'.
    pub fn weights(&self) -> Result<Weights, TrainingError> {
        let mut weights = Weights::default();
        let mut put = |name: &str, tensor: &K::Tensor| -> Result<(), TrainingError> {
            let Array { dims, values } = to_host(&self.kernels, tensor)?;
            weights.insert(name, dims, values);
            Ok(())
        };
        for variable in &self.variables {
            put(&variable.name, &variable.tensor)?;
        }
        for (node, running) in self.norms.iter().zip(&self.running) {
            put(&format!("{node}.{}", Role::RunningMean.suffix()), &running.mean)?;
            put(&format!("{node}.{}", Role::RunningVariance.suffix()), &running.variance)?;
        }
        Ok(weights)
    }

    /// Logits `[N, classes]` of a map of normalised images; softmax layers are skipped.
    ///
    /// # Errors
    /// Images of another shape; in training, a batch with one value a channel; the kernels'.
    pub fn forward(&mut self, images: &K::Tensor, mode: Mode) -> Result<K::Tensor, TrainingError> {
        match mode {
            Mode::Train => Ok(self.forward_train(images)?.0),
            Mode::Evaluate => self.logits(images),
        }
    }

    fn start(&self, images: &K::Tensor) -> Result<Vec<Option<K::Tensor>>, TrainingError> {
        let (expected, got) = (self.network.input_shape().dims(), self.kernels.map_dims(images)?);
        if got[1..] != expected || got[0] == 0 {
            return Err(mismatch("images", format!("[N, {expected:?}]"), format!("{got:?}")));
        }
        let mut values = vec![None; self.network.nodes().len()];
        values[0] = Some(images.clone());
        Ok(values)
    }

    fn variable(&self, index: usize) -> &K::Tensor {
        &self.variables[index].tensor
    }

    fn norm(&self, norm: &NormStep) -> Norm<'_, K::Tensor> {
        Norm { scale: self.variable(norm.scale), shift: self.variable(norm.shift), epsilon: norm.epsilon }
    }

    /// Folds batch norms into their convolutions: once for all batches of an evaluation.
    ///
    /// # Errors
    /// The kernels'.
    pub fn fold(&self) -> Result<Folded<K::Tensor>, TrainingError> {
        let folded = self.plan.steps.iter().map(|step| match &step.operation {
            Operation::Convolution { weight, bias, norm_step: Some(norm_step), .. } => {
                let Operation::BatchNorm { norm, .. } = &self.plan.steps[*norm_step].operation else {
                    return Ok(None);
                };
                let bias = bias.map(|bias| self.variable(bias));
                let running = &self.running[norm.statistics];
                Ok(Some(self.kernels.fold(self.variable(*weight), bias, self.norm(norm), running)?))
            }
            Operation::Convolution { norm_step: None, .. }
            | Operation::BatchNorm { .. }
            | Operation::Activation(_)
            | Operation::Add(_)
            | Operation::MaxPool(_)
            | Operation::AveragePool(_)
            | Operation::GlobalAverage
            | Operation::Flatten { .. }
            | Operation::Linear { .. }
            | Operation::Dropout(_) => Ok(None),
        });
        Ok(Folded(folded.collect::<Result<_, TrainingError>>()?))
    }

    /// Logits with running statistics and without dropout: [`Mode::Evaluate`] on a shared model.
    ///
    /// # Errors
    /// Images of another shape; the kernels'.
    pub fn logits(&self, images: &K::Tensor) -> Result<K::Tensor, TrainingError> {
        self.logits_folded(&self.fold()?, images)
    }

    /// As [`Model::logits`], with convolutions that were folded before.
    ///
    /// # Errors
    /// Images of another shape; the kernels'.
    pub fn logits_folded(
        &self,
        folded: &Folded<K::Tensor>,
        images: &K::Tensor,
    ) -> Result<K::Tensor, TrainingError> {
        let kernels = &self.kernels;
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
                        kernels.convolution(x, self.variable(*weight), bias, conv, None)?
                    }
                }
                Operation::BatchNorm { norm, activation } => {
                    let running = &self.running[norm.statistics];
                    kernels.batch_norm_fixed(x, self.norm(norm), running, *activation)?
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
                    kernels.linear(x, self.variable(*weight), bias)?
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

    /// The training forward pass, with what [`Model::backward`] needs.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_train(
        &mut self,
        images: &K::Tensor,
    ) -> Result<(K::Tensor, Tape<K::Tensor>), TrainingError> {
        let kernels = &self.kernels;
        let mut values = self.start(images)?;
        let mut saved = Vec::with_capacity(self.plan.steps.len());
        let mut seen = Vec::new();
        let mut draws = self.dropout_draws;
        for step in &self.plan.steps {
            let x = value(&values, step.inputs[0])?;
            let mut keep = Saved::Nothing;
            let y = match &step.operation {
                Operation::Convolution { conv, weight, bias, .. } => {
                    let bias = bias.map(|bias| self.variable(bias));
                    kernels.convolution(x, self.variable(*weight), bias, conv, None)?
                }
                Operation::BatchNorm { norm, activation } => {
                    if self.frozen {
                        let running = &self.running[norm.statistics];
                        kernels.batch_norm_fixed(x, self.norm(norm), running, *activation)?
                    } else {
                        let (y, batch) = kernels.batch_norm(x, self.norm(norm), *activation)?;
                        let [images, _, height, width] = kernels.map_dims(x)?;
                        seen.push((norm.statistics, batch.clone(), images * height * width));
                        keep = Saved::Statistics(batch);
                        y
                    }
                }
                Operation::Dropout(probability) => {
                    draws += 1;
                    let mask = self.dropout_mask(x, *probability, draws)?;
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
                    kernels.linear(x, self.variable(*weight), bias)?
                }
            };
            saved.push(keep);
            values[step.output] = Some(y);
        }
        let logits = value(&values, self.plan.logits)?.clone();
        self.dropout_draws = draws;
        self.follow(&seen)?;
        Ok((logits, Tape { values, saved }))
    }

    /// Moves running statistics by those of a batch, over so many values a channel.
    fn follow(&mut self, seen: &[(usize, BatchStatistics<K::Tensor>, usize)]) -> Result<(), TrainingError> {
        let mut running: Vec<_> = self.running.iter_mut().map(Some).collect();
        let mut blends = Vec::with_capacity(2 * seen.len());
        for (index, batch, count) in seen {
            if *count < 2 {
                return Err(mismatch("batch norm", "more than one value a channel", count));
            }
            let unbiased = *count as f64 / (count - 1) as f64;
            let (old, new) = (1.0 - self.momentum, self.momentum);
            if let Some(running) = running[*index].take() {
                blends.push(Blend { running: &mut running.mean, newest: &batch.mean, old, new });
                let new = new * unbiased;
                blends.push(Blend { running: &mut running.variance, newest: &batch.variance, old, new });
            }
        }
        Ok(self.kernels.blend(blends)?)
    }

    fn dropout_mask(
        &self,
        like: &K::Tensor,
        probability: f64,
        draw: u64,
    ) -> Result<K::Tensor, TrainingError> {
        let mut generator = ChaCha8Rng::seed_from_u64(self.dropout_seed);
        generator.set_stream(draw);
        let kept = (1.0 / (1.0 - probability)) as f32;
        let dims = self.kernels.dims(like);
        let mask: Vec<f32> = (0..dims.iter().product())
            .map(|_| if generator.random::<f64>() < probability { 0.0 } else { kept })
            .collect();
        Ok(self.kernels.tensor(mask, &dims)?)
    }

    /// Gradients of all variables, in their order, from the gradient of the logits.
    ///
    /// # Errors
    /// A gradient of another shape than the logits; the kernels'.
    pub fn backward(
        &self,
        tape: Tape<K::Tensor>,
        gradient: &K::Tensor,
    ) -> Result<Vec<Option<K::Tensor>>, TrainingError> {
        let kernels = &self.kernels;
        let Tape { mut values, mut saved } = tape;
        let mut of_variables: Vec<Option<K::Tensor>> = vec![None; self.variables.len()];
        let mut of_values: Vec<Option<K::Tensor>> = vec![None; values.len()];
        of_values[self.plan.logits] = Some(gradient.clone());
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
                        .then(|| kernels.convolution_input_gradient(x, weight, &gradient, conv))
                        .transpose()?
                }
                Operation::BatchNorm { norm, activation } => {
                    let (statistics, fixed) = match &keep {
                        Saved::Statistics(batch) => (batch, false),
                        Saved::Nothing | Saved::Winners(_) | Saved::Mask(_) => {
                            (&self.running[norm.statistics], true)
                        }
                    };
                    let all = kernels.batch_norm_gradient(
                        x,
                        self.norm(norm),
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
                    Saved::Nothing | Saved::Statistics(_) | Saved::Mask(_) => {
                        return Err(mismatch("tape", "the winners of a max pool", "none"));
                    }
                },
                Operation::Dropout(_) => match &keep {
                    Saved::Mask(mask) => Some(kernels.multiply(&gradient, mask)?),
                    Saved::Nothing | Saved::Statistics(_) | Saved::Winners(_) => {
                        return Err(mismatch("tape", "the mask of a dropout", "none"));
                    }
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
                        .then(|| kernels.linear_input_gradient(self.variable(*weight), &gradient))
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

/// A tensor of the host, where the kernels want it; a convolution's weight in their own layout.
pub(super) fn to_kernels<K: Kernels>(kernels: &K, array: &Array) -> Result<K::Tensor, TrainingError> {
    let tensor = kernels.tensor(array.values.clone(), &array.dims)?;
    Ok(if array.dims.len() == 4 { kernels.weight_from_oihw(&tensor)? } else { tensor })
}

/// The way back.
pub(super) fn to_host<K: Kernels>(kernels: &K, tensor: &K::Tensor) -> Result<Array, TrainingError> {
    let filters = kernels.dims(tensor).len() == 4;
    let tensor = if filters { kernels.weight_to_oihw(tensor)? } else { tensor.clone() };
    Ok(Array { dims: kernels.dims(&tensor), values: kernels.values(&tensor)? })
}

fn flatten<K: Kernels>(kernels: &K, x: &K::Tensor, is_map: bool) -> candle_core::Result<K::Tensor> {
    if is_map { kernels.flatten(x) } else { Ok(x.clone()) }
}

fn accumulate<K: Kernels>(
    kernels: &K,
    sum: &mut Option<K::Tensor>,
    term: K::Tensor,
) -> candle_core::Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => kernels.add(&sum, &term, None)?,
        None => term,
    });
    Ok(())
}

fn value<T>(values: &[Option<T>], id: usize) -> Result<&T, TrainingError> {
    needed(values[id].as_ref())
}

fn needed<T>(value: Option<&T>) -> Result<&T, TrainingError> {
    value.ok_or_else(|| mismatch("tape", "a value for every operand", "none"))
}
