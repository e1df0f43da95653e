//! The operations that training needs, forward and backward, behind two seams: [`Kernels`], what layers do, and
//! [`Backend`], what a training step needs besides: batches, the loss, the optimiser's step.
//!
//! | implementation | where | layout of a map |
//! |---|---|---|
//! | [`ChannelsLast`] | CPU, f32, on candle's tensors | `[N, H, W, C]`: batch norm and activations stream, a convolution's inner loop is contiguous |
//! | [`Cuda`] | NVIDIA GPU, f32, on arrays of its own | `[N, H, W, C]`: what cuDNN's tensor cores want |
//!
//! A device's tensors are a type of its own, so that a GPU's array never meets a CPU's kernel. Gradients are explicit
//! functions, not an autograd: the network is a list of nodes, so the trainer walks it backwards itself, and no zero
//! tensor is made and added for every operand. To add a device: one folder with the two implementations, and one arm in
//! [`super::Classifier`].
//!
//! This folder is the only place of the trainer with SIMD or `unsafe`. It knows nothing of networks, files or losses
//! over time.

mod backend;
mod channels_last;
mod cuda;
mod host;
pub mod loss;
mod map;
pub(in crate::training) mod memory;
pub mod source;
pub mod update;

use std::fmt::Debug;

use candle_core::Result;

use crate::network::layer::{Activation, Conv, Pool};

pub use backend::{Backend, Batch, Loss, Moving, Terms};
pub use channels_last::ChannelsLast;
pub(crate) use channels_last::{Instructions, instructions, vectorised};
pub use cuda::{Array, Cuda, Gpu, GpuError, MEMORY_IS_FULL, Precision};
/// Per-channel statistics of one batch, both `[C]`.
#[derive(Clone, Debug)]
pub struct BatchStatistics<T> {
    /// Mean over N, H and W.
    pub mean: T,
    /// Mean squared deviation (biased: divided by the count).
    pub variance: T,
}

/// Gradients of a batch norm.
#[derive(Clone, Debug)]
pub struct BatchNormGradient<T> {
    /// Of the input map.
    pub input: T,
    /// Of the scale, `[C]`.
    pub scale: T,
    /// Of the shift, `[C]`.
    pub shift: T,
}

/// The parameters of a batch norm, all `[C]` but the last.
#[derive(Debug)]
pub struct Norm<'a, T> {
    /// Factor.
    pub scale: &'a T,
    /// Term.
    pub shift: &'a T,
    /// Added to the variance.
    pub epsilon: f64,
}

impl<T> Clone for Norm<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Norm<'_, T> {}

/// Running statistics that follow a batch's: `running = old * running + new * newest`.
#[derive(Debug)]
pub struct Blend<'a, T> {
    /// `[C]`.
    pub running: &'a mut T,
    /// `[C]`.
    pub newest: &'a T,
    /// Share of the old value that stays.
    pub old: f64,
    /// Share of the newest value that is added.
    pub new: f64,
}

/// Forward and backward operations over maps in the implementation's own layout.
///
/// Vectors are `[N, features]` everywhere; weights have the shapes that [`crate::network::Parameter`] states. All
/// tensors are f32. Errors are candle's type: shapes that do not fit, no memory, what a driver says.
pub trait Kernels: Send + Sync {
    /// Values on the device, with their dimensions. Clones share them.
    type Tensor: Clone + Debug + Send + Sync;

    /// A vector, or a map or weight in the implementation's own layout, as it is.
    fn tensor(&self, values: Vec<f32>, dims: &[usize]) -> Result<Self::Tensor>;
    /// Values back on the host.
    fn values(&self, tensor: &Self::Tensor) -> Result<Vec<f32>>;
    /// Dimensions in the implementation's own layout.
    fn dims(&self, tensor: &Self::Tensor) -> Vec<usize>;
    /// A convolution's weight `[out, in / groups, height, width]` to the implementation's own layout.
    fn weight_from_oihw(&self, weight: &Self::Tensor) -> Result<Self::Tensor> {
        Ok(weight.clone())
    }
    /// The way back.
    fn weight_to_oihw(&self, weight: &Self::Tensor) -> Result<Self::Tensor> {
        Ok(weight.clone())
    }
    /// `[N, C, H, W]` to a map.
    fn map_from_nchw(&self, images: &Self::Tensor) -> Result<Self::Tensor>;
    /// A map to `[N, C, H, W]`.
    fn map_to_nchw(&self, map: &Self::Tensor) -> Result<Self::Tensor>;
    /// Images, channels, height and width of a map.
    fn map_dims(&self, map: &Self::Tensor) -> Result<[usize; 4]>;

    /// Convolution, plus bias `[out_channels]`, then an activation, each if given.
    fn convolution(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        conv: &Conv,
        activation: Option<Activation>,
    ) -> Result<Self::Tensor>;
    /// Gradient of a convolution (without activation) by its input `x`, of which only the shape is read.
    fn convolution_input_gradient(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        gradient: &Self::Tensor,
        conv: &Conv,
    ) -> Result<Self::Tensor>;
    /// Gradient of a convolution by its weight.
    fn convolution_weight_gradient(
        &self,
        x: &Self::Tensor,
        gradient: &Self::Tensor,
        conv: &Conv,
    ) -> Result<Self::Tensor>;
    /// Sum over everything but channels, `[C]`, of a map: the gradient of a bias.
    fn channel_sums(&self, map: &Self::Tensor) -> Result<Self::Tensor>;

    /// `x W^T + b` on vectors.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Gradient by `x`.
    fn linear_input_gradient(&self, weight: &Self::Tensor, gradient: &Self::Tensor) -> Result<Self::Tensor>;
    /// Gradient by the weight.
    fn linear_weight_gradient(&self, x: &Self::Tensor, gradient: &Self::Tensor) -> Result<Self::Tensor>;

    /// Batch norm by the batch's own statistics, then an activation if given.
    fn batch_norm(
        &self,
        x: &Self::Tensor,
        norm: Norm<'_, Self::Tensor>,
        activation: Option<Activation>,
    ) -> Result<(Self::Tensor, BatchStatistics<Self::Tensor>)>;
    /// Batch norm by given statistics (a map's affine function), then an activation if given.
    fn batch_norm_fixed(
        &self,
        x: &Self::Tensor,
        norm: Norm<'_, Self::Tensor>,
        statistics: &BatchStatistics<Self::Tensor>,
        activation: Option<Activation>,
    ) -> Result<Self::Tensor>;
    /// Gradient of [`Kernels::batch_norm`], or with `fixed` of [`Kernels::batch_norm_fixed`], activation included.
    fn batch_norm_gradient(
        &self,
        x: &Self::Tensor,
        norm: Norm<'_, Self::Tensor>,
        statistics: &BatchStatistics<Self::Tensor>,
        activation: Option<Activation>,
        gradient: &Self::Tensor,
        fixed: bool,
    ) -> Result<BatchNormGradient<Self::Tensor>>;

    /// Follows batches' statistics.
    fn blend(&self, blends: Vec<Blend<'_, Self::Tensor>>) -> Result<()>;
    /// Weight and bias of a convolution with a batch norm of fixed statistics multiplied in.
    fn fold(
        &self,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        norm: Norm<'_, Self::Tensor>,
        statistics: &BatchStatistics<Self::Tensor>,
    ) -> Result<(Self::Tensor, Self::Tensor)>;

    /// Element-wise activation.
    fn activation(&self, x: &Self::Tensor, activation: Activation) -> Result<Self::Tensor>;
    /// Gradient of an activation, from its *output* `y`.
    fn activation_gradient(
        &self,
        y: &Self::Tensor,
        gradient: &Self::Tensor,
        activation: Activation,
    ) -> Result<Self::Tensor>;
    /// `a + b`, then an activation if given.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor, activation: Option<Activation>)
    -> Result<Self::Tensor>;
    /// `a * b`, element by element.
    fn multiply(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Maximum over windows, and what its gradient needs: which tap of the window won (the first of equals).
    fn max_pool(&self, x: &Self::Tensor, pool: &Pool) -> Result<(Self::Tensor, Self::Tensor)>;
    /// Gradient by `x`, of which only the shape is read; `winners` as [`Kernels::max_pool`] gave them.
    fn max_pool_gradient(
        &self,
        x: &Self::Tensor,
        winners: &Self::Tensor,
        gradient: &Self::Tensor,
        pool: &Pool,
    ) -> Result<Self::Tensor>;
    /// Mean over windows; padding does not count.
    fn average_pool(&self, x: &Self::Tensor, pool: &Pool) -> Result<Self::Tensor>;
    /// Gradient by `x`, of which only the shape is read.
    fn average_pool_gradient(
        &self,
        x: &Self::Tensor,
        gradient: &Self::Tensor,
        pool: &Pool,
    ) -> Result<Self::Tensor>;
    /// Mean over the whole map: a vector of C.
    fn global_average(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Gradient by `x`, of which only the shape is read.
    fn global_average_gradient(&self, x: &Self::Tensor, gradient: &Self::Tensor) -> Result<Self::Tensor>;

    /// A map to vectors, channel-major.
    fn flatten(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Gradient by `x`, of which only the shape is read.
    fn flatten_gradient(&self, x: &Self::Tensor, gradient: &Self::Tensor) -> Result<Self::Tensor>;
}

/// The interval that an activation clips to.
fn bounds(activation: Option<Activation>) -> (f32, f32) {
    match activation {
        None => (f32::NEG_INFINITY, f32::INFINITY),
        Some(Activation::Relu) => (0.0, f32::INFINITY),
        Some(Activation::Relu6) => (0.0, 6.0),
    }
}

#[cfg(test)]
pub(in crate::training) mod tests;
