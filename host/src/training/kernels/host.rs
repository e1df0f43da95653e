//! What implementations on candle's CPU tensors have in common: small per-channel work, composed of candle's operations.

use candle_core::{Device, Result, Tensor};

use super::{BatchStatistics, Blend, Norm};

pub(super) fn tensor(values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &Device::Cpu)
}

pub(super) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

pub(super) fn blend(blends: Vec<Blend<'_, Tensor>>) -> Result<()> {
    for Blend { running, newest, old, new } in blends {
        *running = ((&*running * old)? + (newest * new)?)?;
    }
    Ok(())
}

pub(super) fn fold(
    weight: &Tensor,
    bias: Option<&Tensor>,
    norm: Norm<'_, Tensor>,
    statistics: &BatchStatistics<Tensor>,
) -> Result<(Tensor, Tensor)> {
    let factor = (norm.scale / (&statistics.variance + norm.epsilon)?.sqrt()?)?;
    let outputs = factor.elem_count();
    let centre = match bias {
        Some(bias) => (bias - &statistics.mean)?,
        None => statistics.mean.neg()?,
    };
    let bias = ((centre * &factor)? + norm.shift)?;
    Ok((weight.broadcast_mul(&factor.reshape((outputs, 1, 1, 1))?)?, bias))
}
