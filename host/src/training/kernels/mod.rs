//! The operations that training needs, forward and backward, behind one seam: [`Kernels`].
//!
//! | implementation | where | layout of a map |
//! |---|---|---|
//! | [`ChannelsLast`] | CPU, f32 | `[N, H, W, C]`: batch norm and activations stream, a convolution's inner loop is contiguous |
//! | [`Stock`] | any candle device | `[N, C, H, W]`: candle's own operations, composed so that their gradients are right |
//!
//! Gradients are explicit functions, not candle's autograd: the network is a list of nodes, so the trainer walks it
//! backwards itself, and no zero tensor is made and added for every operand. To add a device's own kernels (cuDNN):
//! one file with one more implementation, and one arm in [`for_device`].
//!
//! This folder is the only place of the trainer with SIMD or `unsafe`. It knows nothing of networks, data or losses
//! over time.

mod channels_last;
pub mod loss;
mod stock;
pub mod update;

use candle_core::{Device, Result, Tensor};

use crate::network::layer::{Activation, Conv, Pool};

pub use channels_last::ChannelsLast;
#[cfg(target_arch = "x86_64")]
pub(crate) use channels_last::simd_available;
pub(crate) use channels_last::vectorised;
pub use stock::Stock;

/// Per-channel statistics of one batch, both `[C]`.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// Mean over N, H and W.
    pub mean: Tensor,
    /// Mean squared deviation (biased: divided by the count).
    pub variance: Tensor,
}

/// Gradients of a batch norm.
#[derive(Clone, Debug)]
pub struct BatchNormGradient {
    /// Of the input map.
    pub input: Tensor,
    /// Of the scale, `[C]`.
    pub scale: Tensor,
    /// Of the shift, `[C]`.
    pub shift: Tensor,
}

/// The parameters of a batch norm, all `[C]` but the last.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Factor.
    pub scale: &'a Tensor,
    /// Term.
    pub shift: &'a Tensor,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Forward and backward operations over maps in the implementation's own layout.
///
/// Vectors are `[N, features]` everywhere; weights have the shapes that [`crate::network::Parameter`] states. All
/// tensors are f32. Errors are candle's: shapes that do not fit, a tensor on another device, no memory.
pub trait Kernels: Send + Sync {
    /// `[N, C, H, W]` to a map.
    fn map_from_nchw(&self, images: &Tensor) -> Result<Tensor>;
    /// A map to `[N, C, H, W]`.
    fn map_to_nchw(&self, map: &Tensor) -> Result<Tensor>;
    /// Channels of a map.
    fn channels(&self, map: &Tensor) -> Result<usize>;

    /// Convolution, plus bias `[out_channels]`, then an activation, each if given.
    fn convolution(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        activation: Option<Activation>,
    ) -> Result<Tensor>;
    /// Gradient of a convolution (without activation) by its input `x`, of which only the shape is read.
    fn convolution_input_gradient(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
        conv: &Conv,
    ) -> Result<Tensor>;
    /// Gradient of a convolution by its weight.
    fn convolution_weight_gradient(&self, x: &Tensor, gradient: &Tensor, conv: &Conv) -> Result<Tensor>;
    /// Sum over everything but channels, `[C]`, of a map: the gradient of a bias.
    fn channel_sums(&self, map: &Tensor) -> Result<Tensor>;

    /// `x W^T + b` on vectors.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor>;
    /// Gradient by `x`.
    fn linear_input_gradient(&self, weight: &Tensor, gradient: &Tensor) -> Result<Tensor>;
    /// Gradient by the weight.
    fn linear_weight_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor>;

    /// Batch norm by the batch's own statistics, then an activation if given.
    fn batch_norm(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        activation: Option<Activation>,
    ) -> Result<(Tensor, BatchStatistics)>;
    /// Batch norm by given statistics (a map's affine function), then an activation if given.
    fn batch_norm_fixed(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        statistics: &BatchStatistics,
        activation: Option<Activation>,
    ) -> Result<Tensor>;
    /// Gradient of [`Kernels::batch_norm`], or with `fixed` of [`Kernels::batch_norm_fixed`], activation included.
    fn batch_norm_gradient(
        &self,
        x: &Tensor,
        norm: Norm<'_>,
        statistics: &BatchStatistics,
        activation: Option<Activation>,
        gradient: &Tensor,
        fixed: bool,
    ) -> Result<BatchNormGradient>;

    /// Element-wise activation.
    fn activation(&self, x: &Tensor, activation: Activation) -> Result<Tensor>;
    /// Gradient of an activation, from its *output* `y`.
    fn activation_gradient(&self, y: &Tensor, gradient: &Tensor, activation: Activation) -> Result<Tensor>;
    /// `a + b`, then an activation if given.
    fn add(&self, a: &Tensor, b: &Tensor, activation: Option<Activation>) -> Result<Tensor>;
    /// `a * b`, element by element.
    fn multiply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// Maximum over windows, and what its gradient needs: which tap of the window won (the first of equals).
    fn max_pool(&self, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)>;
    /// Gradient by `x`, of which only the shape is read; `winners` as [`Kernels::max_pool`] gave them.
    fn max_pool_gradient(
        &self,
        x: &Tensor,
        winners: &Tensor,
        gradient: &Tensor,
        pool: &Pool,
    ) -> Result<Tensor>;
    /// Mean over windows; padding does not count.
    fn average_pool(&self, x: &Tensor, pool: &Pool) -> Result<Tensor>;
    /// Gradient by `x`, of which only the shape is read.
    fn average_pool_gradient(&self, x: &Tensor, gradient: &Tensor, pool: &Pool) -> Result<Tensor>;
    /// Mean over the whole map: a vector of C.
    fn global_average(&self, x: &Tensor) -> Result<Tensor>;
    /// Gradient by `x`, of which only the shape is read.
    fn global_average_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor>;

    /// A map to vectors, channel-major.
    fn flatten(&self, x: &Tensor) -> Result<Tensor> {
        self.map_to_nchw(x)?.flatten_from(1)
    }
    /// Gradient by `x`, of which only the shape is read.
    fn flatten_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor>;
}

/// The kernels of a device.
pub fn for_device(device: &Device) -> &'static dyn Kernels {
    if device.is_cpu() { &ChannelsLast } else { &Stock }
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
mod tests;
