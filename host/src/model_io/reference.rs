//! A slow, obvious forward pass: the oracle for surgery, training and export, and the source of golden outputs.
//!
//! It must stay plain: no engine, no threads, no reordering of layers. Activations and sums are f64 throughout, so that what an
//! engine's result differs by is the engine's own rounding.

use super::{Weights, WeightsError};
use crate::exit::Diagnostic;
use crate::network::layer::{Activation, Conv, Layer, Linear, Pool};
use crate::network::{Network, Node, Role, Shape};

/// Why there are no logits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The weights are not the network's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The image has another size.
    #[error("expected an image of {expected} values ({shape}), got {got}")]
    Image {
        /// Values the network reads.
        expected: usize,
        /// Channels x height x width.
        shape: String,
        /// Values given.
        got: usize,
    },
}

impl Diagnostic for ReferenceError {}

/// Logits (or probabilities, where the network ends in a softmax) of one normalised image `[channels, height, width]`.
/// Batch norm uses its running statistics, dropout is the identity.
///
/// # Errors
/// Weights or an image that do not fit the network.
pub fn forward(network: &Network, weights: &Weights, image: &[f32]) -> Result<Vec<f32>, ReferenceError> {
    weights.verify(network)?;
    let input = network.input_shape();
    if image.len() != input.elements() {
        return Err(ReferenceError::Image {
            expected: input.elements(),
            shape: input.to_string(),
            got: image.len(),
        });
    }
    let readers = network.consumers();
    let mut values: Vec<Vec<f64>> = Vec::with_capacity(network.nodes().len());
    for (id, node) in network.nodes().iter().enumerate() {
        let output = if id == 0 {
            image.iter().map(|&value| f64::from(value)).collect()
        } else {
            compute(network, weights, node, &values, network.shapes()[id])?
        };
        values.push(output);
        for &input in &node.inputs {
            if readers[input].iter().all(|&reader| reader <= id) {
                values[input] = Vec::new();
            }
        }
    }
    Ok(values.pop().unwrap_or_default().into_iter().map(|value| value as f32).collect())
}

fn compute(
    network: &Network,
    weights: &Weights,
    node: &Node,
    values: &[Vec<f64>],
    output: Shape,
) -> Result<Vec<f64>, WeightsError> {
    let from = node.inputs[0];
    let x = &values[from];
    let tensor = |role| tensor(weights, node, role);
    let input = Map::of(network.shapes()[from]);
    let output = Map::of(output);
    Ok(match &node.layer {
        Layer::Conv(hyper) => {
            let bias = if hyper.bias { tensor(Role::Bias)? } else { &[] };
            conv(x, input, output, hyper, tensor(Role::Weight)?, bias)
        }
        Layer::Linear(hyper) => {
            let bias = if hyper.bias { tensor(Role::Bias)? } else { &[] };
            linear(x, hyper, tensor(Role::Weight)?, bias)
        }
        Layer::BatchNorm(hyper) => {
            let [scale, shift, mean, variance] =
                [Role::Scale, Role::Shift, Role::RunningMean, Role::RunningVariance].map(tensor);
            let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
            let normalise = |(index, &x): (usize, &f64)| {
                let channel = index / (input.height * input.width);
                let deviation = (f64::from(variance[channel]) + hyper.epsilon).sqrt();
                (x - f64::from(mean[channel])) / deviation * f64::from(scale[channel])
                    + f64::from(shift[channel])
            };
            x.iter().enumerate().map(normalise).collect()
        }
        Layer::Activation(Activation::Relu) => x.iter().map(|x| x.max(0.0)).collect(),
        Layer::Activation(Activation::Relu6) => x.iter().map(|x| x.clamp(0.0, 6.0)).collect(),
        Layer::MaxPool(hyper) => {
            pool(x, input, output, hyper, |window| window.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        Layer::AveragePool(hyper) => pool(x, input, output, hyper, mean),
        Layer::GlobalAveragePool => x.chunks(input.height * input.width).map(mean).collect(),
        Layer::Add => x.iter().zip(&values[node.inputs[1]]).map(|(left, right)| left + right).collect(),
        Layer::Softmax => {
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
        Layer::Input(_) | Layer::Flatten | Layer::Dropout(_) => x.clone(),
    })
}

/// A shape with three dimensions; a vector is a map of single pixels.
#[derive(Clone, Copy)]
struct Map {
    channels: usize,
    height: usize,
    width: usize,
}

impl Map {
    fn of(shape: Shape) -> Self {
        match shape {
            Shape::Map { channels, height, width } => Self { channels, height, width },
            Shape::Vector { features } => Self { channels: features, height: 1, width: 1 },
        }
    }
}

fn tensor<'a>(weights: &'a Weights, node: &Node, role: Role) -> Result<&'a [f32], WeightsError> {
    let name = format!("{}.{}", node.name, role.suffix());
    match weights.get(&name) {
        Some(array) => Ok(&array.values),
        None => Err(WeightsError::Missing(name)),
    }
}

fn mean(window: &[f64]) -> f64 {
    window.iter().sum::<f64>() / window.len() as f64
}

/// Adds one weight's contribution to a whole output row at a time, which the compiler vectorises.
fn conv(x: &[f64], input: Map, output: Map, hyper: &Conv, weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let &Conv { in_channels, out_channels, kernel, stride, padding, groups, .. } = hyper;
    let (ins, outs) = (in_channels / groups, out_channels / groups);
    let mut y = vec![0.0; output.channels * output.height * output.width];
    for (out, plane) in y.chunks_mut(output.height * output.width).enumerate() {
        plane.fill(bias.get(out).map_or(0.0, |&bias| f64::from(bias)));
        for inner in 0..ins {
            let channel = out / outs * ins + inner;
            let source = &x[channel * input.height * input.width..][..input.height * input.width];
            for (row_offset, column_offset) in (0..kernel * kernel).map(|at| (at / kernel, at % kernel)) {
                let w =
                    f64::from(weight[((out * ins + inner) * kernel + row_offset) * kernel + column_offset]);
                let columns = inside(input.width, output.width, stride, padding, column_offset);
                for row in inside(input.height, output.height, stride, padding, row_offset) {
                    let from = (row * stride + row_offset - padding) * input.width;
                    let line = &source[from..from + input.width];
                    let into = &mut plane[row * output.width..(row + 1) * output.width][columns.clone()];
                    let first = (columns.start * stride + column_offset).saturating_sub(padding);
                    if stride == 1 {
                        into.iter_mut()
                            .zip(line.get(first..).unwrap_or_default())
                            .for_each(|(y, x)| *y += w * x);
                    } else {
                        let taken = line.iter().skip(first).step_by(stride);
                        into.iter_mut().zip(taken).for_each(|(y, x)| *y += w * x);
                    }
                }
            }
        }
    }
    y
}

/// Output positions whose tap at `offset` falls on a real pixel.
fn inside(
    input: usize,
    output: usize,
    stride: usize,
    padding: usize,
    offset: usize,
) -> std::ops::Range<usize> {
    let first = padding.saturating_sub(offset).div_ceil(stride);
    let end = (input + padding).saturating_sub(offset).div_ceil(stride).min(output);
    first.min(end)..end
}

fn linear(x: &[f64], hyper: &Linear, weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let row = |(index, row): (usize, &[f32])| {
        let sum: f64 = row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum();
        sum + bias.get(index).map_or(0.0, |&bias| f64::from(bias))
    };
    weight.chunks(hyper.in_features).enumerate().map(row).collect()
}

/// Padding is no part of a window. A window that lies in the padding alone gives 0.
fn pool(x: &[f64], input: Map, output: Map, hyper: &Pool, reduce: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let clip = |position: usize, size: usize| {
        let start = position * hyper.stride;
        start.saturating_sub(hyper.padding).min(size)
            ..(start + hyper.kernel).saturating_sub(hyper.padding).min(size)
    };
    let mut y = Vec::with_capacity(output.channels * output.height * output.width);
    let mut window = Vec::with_capacity(hyper.kernel * hyper.kernel);
    for plane in x.chunks(input.height * input.width) {
        for (row, column) in
            (0..output.height * output.width).map(|at| (at / output.width, at % output.width))
        {
            window.clear();
            for line in clip(row, input.height) {
                window.extend(clip(column, input.width).map(|column| plane[line * input.width + column]));
            }
            y.push(if window.is_empty() { 0.0 } else { reduce(&window) });
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::arbitrary::{image, lively_weights, small_resnet};
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::Input;

    /// Input -> one layer -> mean or flatten.
    fn one(input: Input, layer: Layer, flat: bool) -> Network {
        let mut b = Builder::new(input).unwrap();
        let id = b.push("layer", layer, &[0]).unwrap();
        let head = if flat { Layer::Flatten } else { Layer::GlobalAveragePool };
        b.push("head", head, &[id]).unwrap();
        b.finish().unwrap()
    }

    const ROW: Input = Input { channels: 1, height: 3, width: 3 };
    const PIXELS: [f32; 9] = [1., 2., 3., 4., 5., 6., 7., 8., 9.];

    #[test]
    fn convolution_by_hand() {
        let hyper =
            Conv { in_channels: 1, out_channels: 1, kernel: 3, stride: 2, padding: 1, groups: 1, bias: true };
        let network = one(ROW, Layer::Conv(hyper), true);
        let mut weights = Weights::default();
        // Not symmetric, so a flipped kernel would show.
        weights.insert("layer.weight", vec![1, 1, 3, 3], vec![0., 0., 0., 0., 1., 10., 0., 0., 100.]);
        weights.insert("layer.bias", vec![1], vec![0.5]);
        let logits = forward(&network, &weights, &PIXELS).unwrap();
        assert_eq!(logits, [1. + 20. + 500. + 0.5, 3.5, 7. + 80. + 0.5, 9.5]);
    }

    #[test]
    fn grouped_convolution_reads_its_own_channels() {
        let hyper = Conv {
            in_channels: 2,
            out_channels: 4,
            kernel: 1,
            stride: 1,
            padding: 0,
            groups: 2,
            bias: false,
        };
        let network = one(Input { channels: 2, height: 1, width: 1 }, Layer::Conv(hyper), true);
        let mut weights = Weights::default();
        weights.insert("layer.weight", vec![4, 1, 1, 1], vec![1., 2., 3., 4.]);
        assert_eq!(forward(&network, &weights, &[10., 100.]).unwrap(), [10., 20., 300., 400.]);
    }

    #[test]
    fn a_kernel_wider_than_the_image_reads_only_real_pixels() {
        let hyper = Conv {
            in_channels: 1,
            out_channels: 1,
            kernel: 7,
            stride: 1,
            padding: 3,
            groups: 1,
            bias: false,
        };
        let network = one(ROW, Layer::Conv(hyper), true);
        let mut weights = Weights::default();
        weights.insert("layer.weight", vec![1, 1, 7, 7], vec![1.0; 49]);
        assert_eq!(forward(&network, &weights, &PIXELS).unwrap(), [45.0; 9]);
    }

    #[test]
    fn pools_leave_padding_out() {
        let hyper = Pool { kernel: 2, stride: 2, padding: 1 };
        let negative = PIXELS.map(|x| -x);
        let max = one(ROW, Layer::MaxPool(hyper), true);
        assert_eq!(forward(&max, &Weights::default(), &negative).unwrap(), [-1., -2., -4., -5.]);
        let average = one(ROW, Layer::AveragePool(hyper), true);
        assert_eq!(forward(&average, &Weights::default(), &PIXELS).unwrap(), [1., 2.5, 5.5, 7.]);
    }

    #[test]
    fn batch_norm_uses_running_statistics() {
        let network = one(
            Input { channels: 1, height: 1, width: 2 },
            Layer::BatchNorm(crate::network::layer::BatchNorm { channels: 1, epsilon: 1.0 }),
            true,
        );
        let mut weights = Weights::default();
        for (suffix, value) in [("weight", 6.0), ("bias", 0.5), ("running_mean", 2.0), ("running_var", 3.0)] {
            weights.insert(format!("layer.{suffix}"), vec![1], vec![value]);
        }
        assert_eq!(forward(&network, &weights, &[2.0, 4.0]).unwrap(), [0.5, 6.5]);
    }

    #[test]
    fn softmax_sums_to_one_and_survives_large_logits() {
        let mut b = Builder::new(Input { channels: 3, height: 1, width: 1 }).unwrap();
        let flat = b.push("flat", Layer::Flatten, &[0]).unwrap();
        b.push("softmax", Layer::Softmax, &[flat]).unwrap();
        let network = b.finish().unwrap();
        let out = forward(&network, &Weights::default(), &[1000.0, 1000.0, 0.0]).unwrap();
        assert_eq!(out, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let network = small_resnet();
        let weights = lively_weights(&network, 1);
        let short = forward(&network, &weights, &[0.0; 5]).unwrap_err();
        assert_eq!(short.to_string(), "expected an image of 192 values (3x8x8), got 5");
        let none = forward(&network, &Weights::default(), &image(&network, 1)).unwrap_err();
        assert!(matches!(none, ReferenceError::Weights(WeightsError::Missing(_))));
    }

    #[test]
    fn hundreds_of_millions_of_macs_take_a_moment() {
        // 302 M MACs. The limit is generous: it is there to catch a loop that stopped being vectorised.
        let mut b = Builder::new(Input { channels: 64, height: 32, width: 32 }).unwrap();
        let choice = ConvChoice { out_channels: 512, kernel: 3, stride: 1, padding: 1, bias: false };
        let id = b.conv("conv", 0, choice).unwrap();
        let pool = b.push("pool", Layer::GlobalAveragePool, &[id]).unwrap();
        b.linear("fc", pool, 10).unwrap();
        let network = b.finish().unwrap();
        let weights = lively_weights(&network, 1);
        let image = image(&network, 1);
        let start = std::time::Instant::now();
        forward(&network, &weights, &image).unwrap();
        assert!(start.elapsed().as_secs_f64() < 5.0, "{:?}", start.elapsed());
    }
}
