//! A GPU's kernels on candle's CPU tensors, copied there and back for every call: so one suite serves both.

use candle_core::{Result, Tensor};

use super::super::cuda::Array;
use super::super::{BatchNormGradient, BatchStatistics, Blend, Cuda, Kernels, Norm, host};
use crate::network::layer::{Activation, Conv, Pool};

#[derive(Clone)]
pub(in crate::training) struct Ferried(pub(in crate::training) Cuda);

impl Ferried {
    fn there(&self, tensor: &Tensor) -> Result<Array> {
        self.0.tensor(host::values(tensor)?, tensor.dims())
    }

    fn weight(&self, weight: &Tensor) -> Result<Array> {
        self.0.weight_from_oihw(&self.there(weight)?)
    }

    fn back(&self, array: &Array) -> Result<Tensor> {
        host::tensor(self.0.values(array)?, &self.0.dims(array))
    }

    fn statistics(&self, statistics: &BatchStatistics<Tensor>) -> Result<BatchStatistics<Array>> {
        Ok(BatchStatistics {
            mean: self.there(&statistics.mean)?,
            variance: self.there(&statistics.variance)?,
        })
    }
}

impl Kernels for Ferried {
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
        self.back(&self.0.map_from_nchw(&self.there(images)?)?)
    }
    fn map_to_nchw(&self, map: &Tensor) -> Result<Tensor> {
        self.back(&self.0.map_to_nchw(&self.there(map)?)?)
    }
    fn map_dims(&self, map: &Tensor) -> Result<[usize; 4]> {
        self.0.map_dims(&self.there(map)?)
    }

    fn convolution(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let bias = bias.map(|bias| self.there(bias)).transpose()?;
        self.back(&self.0.convolution(
            &self.there(x)?,
            &self.weight(weight)?,
            bias.as_ref(),
            conv,
            activation,
        )?)
    }
    fn convolution_input_gradient(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
        conv: &Conv,
    ) -> Result<Tensor> {
        let (x, weight, gradient) = (self.there(x)?, self.weight(weight)?, self.there(gradient)?);
        self.back(&self.0.convolution_input_gradient(&x, &weight, &gradient, conv)?)
    }
    fn convolution_weight_gradient(&self, x: &Tensor, gradient: &Tensor, conv: &Conv) -> Result<Tensor> {
        let of_weight = self.0.convolution_weight_gradient(&self.there(x)?, &self.there(gradient)?, conv)?;
        self.back(&self.0.weight_to_oihw(&of_weight)?)
    }
    fn channel_sums(&self, map: &Tensor) -> Result<Tensor> {
        self.back(&self.0.channel_sums(&self.there(map)?)?)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let bias = bias.map(|bias| self.there(bias)).transpose()?;
        self.back(&self.0.linear(&self.there(x)?, &self.there(weight)?, bias.as_ref())?)
    }
    fn linear_input_gradient(&self, weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.back(&self.0.linear_input_gradient(&self.there(weight)?, &self.there(gradient)?)?)
    }
    fn linear_weight_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.back(&self.0.linear_weight_gradient(&self.there(x)?, &self.there(gradient)?)?)
    }

    fn batch_norm(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        activation: Option<Activation>,
    ) -> Result<(Tensor, BatchStatistics<Tensor>)> {
        let (scale, shift) = (self.there(norm.scale)?, self.there(norm.shift)?);
        let norm = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
        let (y, statistics) = self.0.batch_norm(&self.there(x)?, norm, activation)?;
        let (mean, variance) = (self.back(&statistics.mean)?, self.back(&statistics.variance)?);
        Ok((self.back(&y)?, BatchStatistics { mean, variance }))
    }
    fn batch_norm_fixed(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        statistics: &BatchStatistics<Tensor>,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let (scale, shift) = (self.there(norm.scale)?, self.there(norm.shift)?);
        let norm = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
        self.back(&self.0.batch_norm_fixed(
            &self.there(x)?,
            norm,
            &self.statistics(statistics)?,
            activation,
        )?)
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
        let (scale, shift) = (self.there(norm.scale)?, self.there(norm.shift)?);
        let norm = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
        let (x, gradient, statistics) = (self.there(x)?, self.there(gradient)?, self.statistics(statistics)?);
        let all = self.0.batch_norm_gradient(&x, norm, &statistics, activation, &gradient, fixed)?;
        Ok(BatchNormGradient {
            input: self.back(&all.input)?,
            scale: self.back(&all.scale)?,
            shift: self.back(&all.shift)?,
        })
    }
    fn blend(&self, blends: Vec<Blend<'_, Tensor>>) -> Result<()> {
        for Blend { running, newest, old, new } in blends {
            let (mut array, newest) = (self.there(running)?, self.there(newest)?);
            self.0.blend(vec![Blend { running: &mut array, newest: &newest, old, new }])?;
            *running = self.back(&array)?;
        }
        Ok(())
    }
    fn fold(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        norm: Norm<'_, Tensor>,
        statistics: &BatchStatistics<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let (scale, shift) = (self.there(norm.scale)?, self.there(norm.shift)?);
        let norm = Norm { scale: &scale, shift: &shift, epsilon: norm.epsilon };
        let bias = bias.map(|bias| self.there(bias)).transpose()?;
        let statistics = self.statistics(statistics)?;
        let (weight, bias) = self.0.fold(&self.weight(weight)?, bias.as_ref(), norm, &statistics)?;
        Ok((self.back(&self.0.weight_to_oihw(&weight)?)?, self.back(&bias)?))
    }

    fn activation(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.back(&self.0.activation(&self.there(x)?, activation)?)
    }
    fn activation_gradient(&self, y: &Tensor, gradient: &Tensor, activation: Activation) -> Result<Tensor> {
        self.back(&self.0.activation_gradient(&self.there(y)?, &self.there(gradient)?, activation)?)
    }
    fn add(&self, a: &Tensor, b: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        self.back(&self.0.add(&self.there(a)?, &self.there(b)?, activation)?)
    }
    fn multiply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.back(&self.0.multiply(&self.there(a)?, &self.there(b)?)?)
    }

    fn max_pool(&self, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
        let (y, winners) = self.0.max_pool(&self.there(x)?, pool)?;
        // Winners are bits: their values only have to survive the way there and back.
        Ok((self.back(&y)?, self.back(&winners)?))
    }
    fn max_pool_gradient(
        &self,
        x: &Tensor,
        winners: &Tensor,
        gradient: &Tensor,
        pool: &Pool,
    ) -> Result<Tensor> {
        let (x, winners, gradient) = (self.there(x)?, self.there(winners)?, self.there(gradient)?);
        self.back(&self.0.max_pool_gradient(&x, &winners, &gradient, pool)?)
    }
    fn average_pool(&self, x: &Tensor, pool: &Pool) -> Result<Tensor> {
        self.back(&self.0.average_pool(&self.there(x)?, pool)?)
    }
    fn average_pool_gradient(&self, x: &Tensor, gradient: &Tensor, pool: &Pool) -> Result<Tensor> {
        self.back(&self.0.average_pool_gradient(&self.there(x)?, &self.there(gradient)?, pool)?)
    }
    fn global_average(&self, x: &Tensor) -> Result<Tensor> {
        self.back(&self.0.global_average(&self.there(x)?)?)
    }
    fn global_average_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.back(&self.0.global_average_gradient(&self.there(x)?, &self.there(gradient)?)?)
    }
    fn flatten(&self, x: &Tensor) -> Result<Tensor> {
        self.back(&self.0.flatten(&self.there(x)?)?)
    }
    fn flatten_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.back(&self.0.flatten_gradient(&self.there(x)?, &self.there(gradient)?)?)
    }
}
