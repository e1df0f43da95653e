//! The same operations from candle's own: what ours are compared with, where candle is right.
//!
//! Slow and plain. Maps are `[N, C, H, W]`. A gradient replays the forward pass under candle's autograd, for operations
//! whose gradient candle gets right; its pooling gradients are wrong or limited, so pooling is composed of selections.

use candle_core::{D, DType, Result, Tensor, Var};

use super::super::{BatchNormGradient, BatchStatistics, Blend, Kernels, Norm, host};
use crate::network::layer::{Activation, Conv, Pool};
use crate::network::shape::positions;

/// candle's own operations, composed.
#[derive(Clone, Copy, Debug)]
pub(in crate::training) struct Stock;

/// Gradients of `forward(inputs)` by each input, given the gradient of its output.
fn replay<const N: usize>(
    inputs: [&Tensor; N],
    gradient: &Tensor,
    forward: impl FnOnce(&[Tensor; N]) -> Result<Tensor>,
) -> Result<[Tensor; N]> {
    let variables = inputs.map(|input| Var::from_tensor(&input.detach()));
    let mut tensors = Vec::with_capacity(N);
    for variable in variables {
        tensors.push(variable?.as_tensor().clone());
    }
    let tensors: [Tensor; N] = std::array::from_fn(|i| tensors[i].clone());
    let store = (forward(&tensors)? * gradient)?.sum_all()?.backward()?;
    let mut gradients = Vec::with_capacity(N);
    for tensor in &tensors {
        gradients.push(match store.get(tensor) {
            Some(found) => found.detach(),
            None => tensor.zeros_like()?,
        });
    }
    Ok(std::array::from_fn(|i| gradients[i].clone()))
}

fn activate(x: Tensor, activation: Option<Activation>) -> Result<Tensor> {
    match activation {
        None => Ok(x),
        Some(Activation::Relu) => x.relu(),
        Some(Activation::Relu6) => x.clamp(0f32, 6f32),
    }
}

/// A vector of C beside a map.
fn beside(vector: &Tensor) -> Result<Tensor> {
    let channels = vector.elem_count();
    vector.reshape((1, channels, 1, 1))
}

/// Padding is made explicit, and the map cut to what the windows cover: candle takes the remainder of a stride from
/// the height alone, and its gradient fails where the width has another.
fn convolve(x: &Tensor, weight: &Tensor, conv: &Conv) -> Result<Tensor> {
    let padded =
        x.pad_with_zeros(2, conv.padding, conv.padding)?.pad_with_zeros(3, conv.padding, conv.padding)?;
    let covered = |size: usize| {
        (positions(size, conv.kernel, conv.stride, conv.padding) - 1) * conv.stride + conv.kernel
    };
    let (height, width) = (covered(x.dim(2)?), covered(x.dim(3)?));
    padded.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()?.conv2d(
        weight,
        0,
        conv.stride,
        1,
        conv.groups,
    )
}

fn normalise(
    x: &Tensor,
    norm: Norm<'_, Tensor>,
    mean: &Tensor,
    variance: &Tensor,
    activation: Option<Activation>,
) -> Result<Tensor> {
    let deviation = beside(&(variance + norm.epsilon)?.sqrt()?)?;
    let y = x
        .broadcast_sub(&beside(mean)?)?
        .broadcast_div(&deviation)?
        .broadcast_mul(&beside(norm.scale)?)?
        .broadcast_add(&beside(norm.shift)?)?;
    activate(y, activation)
}

fn moments(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let channels = x.dim(1)?;
    let rows = x.transpose(0, 1)?.reshape((channels, ()))?;
    let mean = rows.mean(D::Minus1)?;
    let variance = rows.broadcast_sub(&mean.reshape((channels, 1))?)?.sqr()?.mean(D::Minus1)?;
    Ok((mean, variance))
}

/// One slice per tap of the window, each of the output's shape; places outside the map hold `outside`.
fn tap_slices(x: &Tensor, pool: &Pool, outside: f32) -> Result<Vec<Tensor>> {
    let (n, channels, height, width) = x.dims4()?;
    let p = pool.padding;
    let mut padded = x.clone();
    if p > 0 {
        let side = Tensor::full(outside, (n, channels, height, p), x.device())?;
        padded = Tensor::cat(&[&side, &padded, &side], 3)?;
        let edge = Tensor::full(outside, (n, channels, p, width + 2 * p), x.device())?;
        padded = Tensor::cat(&[&edge, &padded, &edge], 2)?;
    }
    let indices = |tap: usize, size: usize| {
        let count = positions(size, pool.kernel, pool.stride, pool.padding);
        let all: Vec<u32> = (0..count).map(|index| (index * pool.stride + tap) as u32).collect();
        Tensor::new(all, x.device())
    };
    let mut slices = Vec::with_capacity(pool.kernel * pool.kernel);
    for down in 0..pool.kernel {
        let rows = padded.index_select(&indices(down, height)?, 2)?;
        for across in 0..pool.kernel {
            slices.push(rows.index_select(&indices(across, width)?, 3)?);
        }
    }
    Ok(slices)
}

/// Mean over the real taps of every window.
fn average(x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let sum = |map: &Tensor| -> Result<Tensor> { Tensor::stack(&tap_slices(map, pool, 0.0)?, 0)?.sum(0) };
    let counts = sum(&x.detach().ones_like()?)?;
    sum(x)? / counts
}

impl Kernels for Stock {
    type Tensor = Tensor;

    fn tensor(&self, values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
        host::tensor(values, dims)
    }
    fn values(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        host::values(tensor)
    }
    fn dims(&self, tensor: &Tensor) -> Vec<usize> {
        tensor.dims().to_vec()
    }
    fn map_from_nchw(&self, images: &Tensor) -> Result<Tensor> {
        images.contiguous()
    }
    fn map_to_nchw(&self, map: &Tensor) -> Result<Tensor> {
        Ok(map.clone())
    }
    fn map_dims(&self, map: &Tensor) -> Result<[usize; 4]> {
        map.dims4().map(|(images, channels, height, width)| [images, channels, height, width])
    }

    fn convolution(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let mut y = convolve(x, weight, conv)?;
        if let Some(bias) = bias {
            y = y.broadcast_add(&beside(bias)?)?;
        }
        activate(y, activation)
    }
    fn convolution_input_gradient(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
        conv: &Conv,
    ) -> Result<Tensor> {
        let [input] = replay([x], gradient, |[x]| convolve(x, weight, conv))?;
        Ok(input)
    }
    fn convolution_weight_gradient(&self, x: &Tensor, gradient: &Tensor, conv: &Conv) -> Result<Tensor> {
        let shape = (conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel);
        // The gradient is linear in the weight's place only: any weight of the shape serves.
        let weight = Tensor::zeros(shape, DType::F32, x.device())?;
        let [weight] = replay([&weight], gradient, |[weight]| convolve(x, weight, conv))?;
        Ok(weight)
    }
    fn channel_sums(&self, map: &Tensor) -> Result<Tensor> {
        match map.rank() {
            4 => map.sum((0, 2, 3)),
            _ => map.sum(0),
        }
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let y = x.matmul(&weight.t()?)?;
        match bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
    fn linear_input_gradient(&self, weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        gradient.matmul(weight)
    }
    fn linear_weight_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        gradient.t()?.matmul(x)
    }

    fn batch_norm(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        activation: Option<Activation>,
    ) -> Result<(Tensor, BatchStatistics<Tensor>)> {
        let (mean, variance) = moments(x)?;
        let y = normalise(x, norm, &mean, &variance, activation)?;
        Ok((y, BatchStatistics { mean, variance }))
    }
    fn batch_norm_fixed(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        statistics: &BatchStatistics<Tensor>,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        normalise(x, norm, &statistics.mean, &statistics.variance, activation)
    }
    fn batch_norm_gradient(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        statistics: &BatchStatistics<Tensor>,
        activation: Option<Activation>,
        gradient: &Tensor,
        fixed: bool,
    ) -> Result<BatchNormGradient<Tensor>> {
        let [input, scale, shift] = replay([x, norm.scale, norm.shift], gradient, |[x, scale, shift]| {
            let (mean, variance) =
                if fixed { (statistics.mean.clone(), statistics.variance.clone()) } else { moments(x)? };
            normalise(x, Norm { scale, shift, epsilon: norm.epsilon }, &mean, &variance, activation)
        })?;
        Ok(BatchNormGradient { input, scale, shift })
    }

    fn blend(&self, blends: Vec<Blend<'_, Tensor>>) -> Result<()> {
        host::blend(blends)
    }
    fn fold(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        norm: Norm<'_, Tensor>,
        statistics: &BatchStatistics<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        host::fold(weight, bias, norm, statistics)
    }

    fn activation(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        activate(x.clone(), Some(activation))
    }
    fn activation_gradient(&self, y: &Tensor, gradient: &Tensor, activation: Activation) -> Result<Tensor> {
        let mut inside = y.gt(0f32)?.to_dtype(DType::F32)?;
        if activation == Activation::Relu6 {
            inside = (inside * y.lt(6f32)?.to_dtype(DType::F32)?)?;
        }
        gradient * inside
    }
    fn add(&self, a: &Tensor, b: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        activate((a + b)?, activation)
    }
    fn multiply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a * b
    }

    fn max_pool(&self, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
        let taps = Tensor::stack(&tap_slices(x, pool, f32::NEG_INFINITY)?, D::Minus1)?.contiguous()?;
        Ok((taps.max(D::Minus1)?, taps.argmax(D::Minus1)?))
    }
    fn max_pool_gradient(
        &self,
        x: &Tensor,
        winners: &Tensor,
        gradient: &Tensor,
        pool: &Pool,
    ) -> Result<Tensor> {
        let zero = x.zeros_like()?;
        let [input] = replay([&zero], gradient, |[x]| {
            let slices = tap_slices(x, pool, 0.0)?;
            let mut sum = slices[0].zeros_like()?;
            for (tap, slice) in slices.iter().enumerate() {
                sum = (sum + (slice * winners.eq(tap as u32)?.to_dtype(DType::F32)?)?)?;
            }
            Ok(sum)
        })?;
        Ok(input)
    }
    fn average_pool(&self, x: &Tensor, pool: &Pool) -> Result<Tensor> {
        average(x, pool)
    }
    fn average_pool_gradient(&self, x: &Tensor, gradient: &Tensor, pool: &Pool) -> Result<Tensor> {
        let [input] = replay([x], gradient, |[x]| average(x, pool))?;
        Ok(input)
    }
    fn global_average(&self, x: &Tensor) -> Result<Tensor> {
        x.mean((2, 3))
    }
    fn global_average_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (n, channels, height, width) = x.dims4()?;
        (gradient.reshape((n, channels, 1, 1))?.broadcast_as((n, channels, height, width))?
            / (height * width) as f64)?
            .contiguous()
    }
    fn flatten(&self, x: &Tensor) -> Result<Tensor> {
        x.flatten_from(1)
    }
    fn flatten_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        gradient.reshape(x.shape())
    }
}
