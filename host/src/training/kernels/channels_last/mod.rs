//! The CPU kernels: f32, channels last, AVX-512 or AVX2 where the processor has it, all threads of rayon's pool.
//!
//! | file | what |
//! |---|---|
//! | `simd` | vectors, run-time choice |
//! | `buffer` | tensors to slices and back |
//! | `panels`, `strips` | packed weights; padded input |
//! | `correlate` | padded strips x packed weights: forward and input gradient of every convolution |
//! | `weight_gradient` | the outer products |
//! | `winograd` | both for 3x3 windows of stride 1, with 4/9 of the multiplications |
//! | `convolution` | geometry: which correlation a convolution, a phase, a group is |
//! | `depthwise` | one filter a channel |
//! | `batch_norm`, `pointwise`, `pool` | the memory-bound rest |
//!
//! Results do not depend on the number of threads.
// Inner loops must end up inside the function that has the vector instructions, or every operation is a call.
#![allow(clippy::inline_always)]
// Register tiles are indexed by constants so that they unroll; iterators over them do not always.
#![allow(clippy::needless_range_loop)]

mod batch_norm;
mod buffer;
mod convolution;
mod correlate;
mod depthwise;
mod panels;
mod pointwise;
mod pool;
mod simd;
mod strips;
mod weight_gradient;
mod winograd;

use candle_core::{CpuStorage, Device, Result, Storage, Tensor, bail};

use super::loss::{Target, loss};
use super::map::Map;
use super::source::{Pick, Source};
use super::update::{HostMemory, Rule, update};
use super::{
    Backend, Batch, BatchNormGradient, BatchStatistics, Blend, Kernels, Loss, Moving, Norm, Terms, bounds,
    host,
};
use crate::network::layer::{Activation, Conv, Pool};
use buffer::{tensor, values};

#[cfg(test)]
pub(super) use simd::FEWER_INSTRUCTIONS;
pub(crate) use simd::{Instructions, instructions, vectorised};

/// Maps are `[N, H, W, C]`, contiguous, on the CPU.
#[derive(Clone, Copy, Debug)]
pub struct ChannelsLast;

fn map(x: &Tensor) -> Result<Map> {
    let (images, height, width, channels) = x.dims4()?;
    if x.elem_count() == 0 {
        bail!("expected a map with at least one value, got {:?}", x.dims());
    }
    Ok(Map { images, height, width, channels })
}

fn expect(what: &str, got: &Tensor, expected: impl Into<candle_core::Shape>) -> Result<()> {
    let expected = expected.into();
    if got.shape() != &expected {
        bail!("{what}: expected {expected:?}, got {:?}", got.shape());
    }
    Ok(())
}

fn expect_conv(input: Map, weight: Option<&Tensor>, conv: &Conv) -> Result<Map> {
    if input.channels != conv.in_channels {
        bail!("convolution: expected {} channels, got {}", conv.in_channels, input.channels);
    }
    if let Some(weight) = weight {
        let inputs = conv.in_channels / conv.groups;
        expect("convolution weight", weight, (conv.out_channels, inputs, conv.kernel, conv.kernel))?;
    }
    let output = convolution::output_map(input, conv);
    if output.height * output.width == 0 {
        bail!(
            "convolution: a {}x{} map is smaller than the window {}",
            input.height,
            input.width,
            conv.kernel
        );
    }
    Ok(output)
}

/// A linear layer as the convolution of a 1x1 map.
fn dense(inputs: usize, outputs: usize, bias: bool) -> Conv {
    Conv { in_channels: inputs, out_channels: outputs, kernel: 1, stride: 1, padding: 0, groups: 1, bias }
}

fn vector(x: &Tensor) -> Result<Map> {
    let (images, channels) = x.dims2()?;
    Ok(Map { images, height: 1, width: 1, channels })
}

fn with_channels<T>(
    norm: Norm<'_, Tensor>,
    statistics: &BatchStatistics<Tensor>,
    channels: usize,
    run: impl FnOnce(&batch_norm::Channels<'_>) -> T,
) -> Result<T> {
    let all = [norm.scale, norm.shift, &statistics.mean, &statistics.variance];
    for each in all {
        expect("batch norm parameter", each, channels)?;
    }
    let [scale, shift, mean, variance] = all.map(|each| values(each, "batch norm parameter"));
    Ok(run(&batch_norm::Channels {
        scale: &scale?,
        shift: &shift?,
        mean: &mean?,
        variance: &variance?,
        epsilon: norm.epsilon,
    }))
}

impl Kernels for ChannelsLast {
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
        let (n, channels, height, width) = images.dims4()?;
        if channels == 1 || height * width == 1 {
            return images.contiguous()?.reshape((n, height, width, channels));
        }
        images.permute((0, 2, 3, 1))?.contiguous()
    }

    fn map_to_nchw(&self, map: &Tensor) -> Result<Tensor> {
        let (n, height, width, channels) = map.dims4()?;
        if channels == 1 || height * width == 1 {
            return map.reshape((n, channels, height, width));
        }
        map.permute((0, 3, 1, 2))?.contiguous()
    }

    fn map_dims(&self, map: &Tensor) -> Result<[usize; 4]> {
        let (images, height, width, channels) = map.dims4()?;
        Ok([images, channels, height, width])
    }

    fn convolution(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let input = map(x)?;
        let output = expect_conv(input, Some(weight), conv)?;
        if let Some(bias) = bias {
            expect("convolution bias", bias, conv.out_channels)?;
        }
        let bias = bias.map(|bias| values(bias, "convolution bias")).transpose()?;
        let (x, weight) = (values(x, "convolution")?, values(weight, "convolution weight")?);
        let result = if depthwise::is_depthwise(conv) {
            let plain = depthwise::forward(&x, input, &weight, bias.as_deref(), conv);
            if activation.is_some() { pointwise::activate(&plain, bounds(activation)) } else { plain }
        } else {
            convolution::forward(&x, input, &weight, bias.as_deref(), conv, bounds(activation))
        };
        tensor(result, &output.dims())
    }

    fn convolution_input_gradient(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
        conv: &Conv,
    ) -> Result<Tensor> {
        let input = map(x)?;
        let output = expect_conv(input, Some(weight), conv)?;
        expect("convolution gradient", gradient, &output.dims())?;
        let (weight, gradient) =
            (values(weight, "convolution weight")?, values(gradient, "convolution gradient")?);
        let result = if depthwise::is_depthwise(conv) {
            depthwise::input_gradient(input, &weight, &gradient, conv)
        } else {
            convolution::input_gradient(input, &weight, &gradient, conv)
        };
        tensor(result, &input.dims())
    }

    fn convolution_weight_gradient(&self, x: &Tensor, gradient: &Tensor, conv: &Conv) -> Result<Tensor> {
        let input = map(x)?;
        let output = expect_conv(input, None, conv)?;
        expect("convolution gradient", gradient, &output.dims())?;
        let (x, gradient) = (values(x, "convolution")?, values(gradient, "convolution gradient")?);
        let result = if depthwise::is_depthwise(conv) {
            depthwise::weight_gradient(&x, input, &gradient, conv)
        } else {
            convolution::weight_gradient(&x, input, &gradient, conv)
        };
        tensor(result, (conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel))
    }

    fn channel_sums(&self, map: &Tensor) -> Result<Tensor> {
        let channels = map.dim(map.rank() - 1)?;
        tensor(pointwise::channel_sums(&values(map, "channel sums")?, channels), channels)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let input = vector(x)?;
        let (outputs, inputs) = weight.dims2()?;
        expect("linear", x, (input.images, inputs))?;
        if let Some(bias) = bias {
            expect("linear bias", bias, outputs)?;
        }
        let bias = bias.map(|bias| values(bias, "linear bias")).transpose()?;
        let conv = dense(inputs, outputs, bias.is_some());
        let (x, weight) = (values(x, "linear")?, values(weight, "linear weight")?);
        let result = convolution::forward(&x, input, &weight, bias.as_deref(), &conv, bounds(None));
        tensor(result, (input.images, outputs))
    }

    fn linear_input_gradient(&self, weight: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (outputs, inputs) = weight.dims2()?;
        let images = gradient.dim(0)?;
        expect("linear gradient", gradient, (images, outputs))?;
        let input = Map { images, height: 1, width: 1, channels: inputs };
        let (weight, gradient) = (values(weight, "linear weight")?, values(gradient, "linear gradient")?);
        let conv = dense(inputs, outputs, false);
        tensor(convolution::input_gradient(input, &weight, &gradient, &conv), (images, inputs))
    }

    fn linear_weight_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let input = vector(x)?;
        let outputs = gradient.dim(1)?;
        expect("linear gradient", gradient, (input.images, outputs))?;
        let (x, gradient) = (values(x, "linear")?, values(gradient, "linear gradient")?);
        let conv = dense(input.channels, outputs, false);
        tensor(convolution::weight_gradient(&x, input, &gradient, &conv), (outputs, input.channels))
    }

    fn batch_norm(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        activation: Option<Activation>,
    ) -> Result<(Tensor, BatchStatistics<Tensor>)> {
        let input = map(x)?;
        let (mean, variance) = batch_norm::statistics(&values(x, "batch norm")?, input.channels);
        let statistics = BatchStatistics {
            mean: tensor(mean, input.channels)?,
            variance: tensor(variance, input.channels)?,
        };
        Ok((self.batch_norm_fixed(x, norm, &statistics, activation)?, statistics))
    }

    fn batch_norm_fixed(
        &self,
        x: &Tensor,
        norm: Norm<'_, Tensor>,
        statistics: &BatchStatistics<Tensor>,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        let input = map(x)?;
        let x = values(x, "batch norm")?;
        let result = with_channels(norm, statistics, input.channels, |channels| {
            batch_norm::normalise(&x, channels, bounds(activation))
        })?;
        tensor(result, &input.dims())
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
        let input = map(x)?;
        expect("batch norm gradient", gradient, &input.dims())?;
        let (x, gradient) = (values(x, "batch norm")?, values(gradient, "batch norm gradient")?);
        let (input_gradient, scale, shift) = with_channels(norm, statistics, input.channels, |channels| {
            batch_norm::gradient(&x, channels, &gradient, bounds(activation), fixed)
        })?;
        Ok(BatchNormGradient {
            input: tensor(input_gradient, &input.dims())?,
            scale: tensor(scale, input.channels)?,
            shift: tensor(shift, input.channels)?,
        })
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
        tensor(pointwise::activate(&values(x, "activation")?, bounds(Some(activation))), x.shape())
    }

    fn activation_gradient(&self, y: &Tensor, gradient: &Tensor, activation: Activation) -> Result<Tensor> {
        expect("activation gradient", gradient, y.shape())?;
        let result = pointwise::mask(
            &values(y, "activation")?,
            &values(gradient, "activation gradient")?,
            bounds(Some(activation)),
        );
        tensor(result, y.shape())
    }

    fn add(&self, a: &Tensor, b: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        expect("add", b, a.shape())?;
        tensor(pointwise::add(&values(a, "add")?, &values(b, "add")?, bounds(activation)), a.shape())
    }

    fn multiply(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        expect("multiply", b, a.shape())?;
        tensor(pointwise::multiply(&values(a, "multiply")?, &values(b, "multiply")?), a.shape())
    }

    fn max_pool(&self, x: &Tensor, window: &Pool) -> Result<(Tensor, Tensor)> {
        let input = map(x)?;
        let output = pool::output_map(input, window);
        let (best, winners) = pool::max(&values(x, "max pool")?, input, window);
        Ok((tensor(best, &output.dims())?, Tensor::from_vec(winners, &output.dims(), &Device::Cpu)?))
    }

    fn max_pool_gradient(
        &self,
        x: &Tensor,
        winners: &Tensor,
        gradient: &Tensor,
        window: &Pool,
    ) -> Result<Tensor> {
        let input = map(x)?;
        let output = pool::output_map(input, window);
        expect("max pool gradient", gradient, &output.dims())?;
        expect("max pool winners", winners, &output.dims())?;
        let (storage, layout) = winners.storage_and_layout();
        let (Storage::Cpu(CpuStorage::U32(taps)), Some((0, _))) = (&*storage, layout.contiguous_offsets())
        else {
            bail!("max pool winners: expected u32 as the forward pass made them, got {:?}", winners.dtype());
        };
        let gradient = values(gradient, "max pool gradient")?;
        tensor(pool::max_gradient(input, taps, &gradient, window), &input.dims())
    }

    fn average_pool(&self, x: &Tensor, window: &Pool) -> Result<Tensor> {
        let input = map(x)?;
        let result = pool::average(&values(x, "average pool")?, input, window);
        tensor(result, &pool::output_map(input, window).dims())
    }

    fn average_pool_gradient(&self, x: &Tensor, gradient: &Tensor, window: &Pool) -> Result<Tensor> {
        let input = map(x)?;
        expect("average pool gradient", gradient, &pool::output_map(input, window).dims())?;
        let gradient = values(gradient, "average pool gradient")?;
        tensor(pool::average_gradient(input, &gradient, window), &input.dims())
    }

    fn global_average(&self, x: &Tensor) -> Result<Tensor> {
        let input = map(x)?;
        let result = pool::global_average(&values(x, "global average")?, input);
        tensor(result, (input.images, input.channels))
    }

    fn global_average_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let input = map(x)?;
        expect("global average gradient", gradient, (input.images, input.channels))?;
        let gradient = values(gradient, "global average gradient")?;
        tensor(pool::global_average_gradient(input, &gradient), &input.dims())
    }

    fn flatten(&self, x: &Tensor) -> Result<Tensor> {
        self.map_to_nchw(x)?.flatten_from(1)
    }

    fn flatten_gradient(&self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let (images, height, width, channels) = x.dims4()?;
        self.map_from_nchw(&gradient.reshape((images, channels, height, width))?)
    }
}

impl Backend for ChannelsLast {
    type Source<'a> = Source<'a>;
    type Memory = HostMemory;

    fn source<'a>(&self, source: Source<'a>) -> Result<Source<'a>> {
        Ok(source)
    }

    fn batch(&self, source: &Source<'_>, picks: &[Pick]) -> Result<Batch<Tensor>> {
        let dims = [picks.len(), source.samples.height, source.samples.width, source.samples.channels];
        let labels = picks.iter().map(|pick| source.label(pick).map(f32::from));
        let answers = source.answers.map(|answers| {
            let rows = picks.iter().map(|pick| Source::answer(answers, pick));
            host::tensor(rows.collect::<Result<Vec<_>>>()?.concat(), &[picks.len(), answers.classes])
        });
        Ok(Batch {
            images: host::tensor(source.values(picks)?, &dims)?,
            labels: host::tensor(labels.collect::<Result<_>>()?, &[picks.len()])?,
            answers: answers.transpose()?,
        })
    }

    fn loss(&self, logits: &Tensor, batch: &Batch<Tensor>, terms: Terms) -> Result<Loss<Tensor>> {
        let (images, classes) = logits.dims2()?;
        let labels: Vec<u16> = host::values(&batch.labels)?.into_iter().map(|label| label as u16).collect();
        let answers = batch.answers.as_ref().map(host::values).transpose()?;
        let teacher = answers.as_deref().map(|answers| (answers, terms.lambda));
        let target = Target { labels: &labels, label_smoothing: terms.label_smoothing, teacher };
        let loss = loss(&host::values(logits)?, classes, target)?;
        Ok(Loss {
            gradient: host::tensor(loss.gradient, &[images, classes])?,
            parts: host::tensor(vec![loss.cross_entropy as f32, loss.distillation as f32], &[2])?,
        })
    }

    fn memory(&self, variable: &Tensor) -> Result<HostMemory> {
        Ok(HostMemory::new(variable.elem_count()))
    }

    fn moments(&self, memory: &HostMemory, variable: &Tensor) -> Result<[Tensor; 2]> {
        let [first, second] = memory.moments();
        Ok([host::tensor(first.to_vec(), variable.dims())?, host::tensor(second.to_vec(), variable.dims())?])
    }

    fn memory_of(&self, [first, second]: [Tensor; 2]) -> Result<HostMemory> {
        Ok(HostMemory::of(host::values(&first)?, host::values(&second)?))
    }

    fn update(
        &self,
        moving: &mut [Moving<Tensor, HostMemory>],
        gradients: &[Option<Tensor>],
        rule: Rule,
    ) -> Result<()> {
        for (each, gradient) in moving.iter_mut().zip(gradients) {
            if let Some(gradient) = gradient {
                let rule = if each.decays { rule } else { rule.without_decay() };
                update(&each.variable, gradient, &mut each.memory, rule)?;
            }
        }
        Ok(())
    }
}
