//! One suite for every implementation of [`Kernels`]: values against a naive f64 reference, gradients against central
//! differences of that reference. Errors are relative to the largest value of the tensor compared.

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::loss::{Target, loss};
use super::*;

mod emulated;
mod ferried;
mod fewer_instructions;
pub(in crate::training) mod stock;

use crate::data::UNLABELLED;
use crate::network::shape::positions;
pub(in crate::training) use emulated::gpu;
use ferried::Ferried;
use stock::Stock;

const TOLERANCE: f64 = 1e-5;
/// Step of the central differences; f64 leaves some nine digits at it.
const STEP: f64 = 1e-5;
/// Elements of each gradient that are checked.
const PROBES: usize = 10;

/// A tensor in f64, its values representable in f32; maps are `[N, C, H, W]`.
#[derive(Clone, Debug)]
struct Reference {
    dims: Vec<usize>,
    values: Vec<f64>,
}

impl Reference {
    fn random(generator: &mut ChaCha8Rng, dims: &[usize]) -> Self {
        let values =
            (0..dims.iter().product()).map(|_| f64::from(generator.random_range(-1.0f32..1.0))).collect();
        Self { dims: dims.to_vec(), values }
    }

    fn tensor(&self) -> Tensor {
        let values: Vec<f32> = self.values.iter().map(|&value| value as f32).collect();
        Tensor::from_vec(values, self.dims.as_slice(), &Device::Cpu).unwrap()
    }

    fn at(&self, n: usize, c: usize, h: usize, w: usize) -> f64 {
        self.values[((n * self.dims[1] + c) * self.dims[2] + h) * self.dims[3] + w]
    }
}

fn implementations() -> Vec<(&'static str, Box<dyn Kernels<Tensor = Tensor>>)> {
    let mut all: Vec<(_, Box<dyn Kernels<Tensor = Tensor>>)> =
        vec![("channels last", Box::new(ChannelsLast)), ("stock", Box::new(Stock))];
    if let Some(gpu) = gpu() {
        all.push(("gpu", Box::new(Ferried(Cuda::new(gpu).unwrap()))));
    }
    all
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn assert_close(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3, |largest: f64, value| largest.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs() / scale;
        assert!(
            error < TOLERANCE,
            "{what}[{index}]: expected {expected}, got {got}, error {error:.1e} of the largest"
        );
    }
}

/// Checks `gradients` of `sum(upstream * forward(inputs))` by central differences.
fn assert_gradients(
    what: &str,
    inputs: &[Reference],
    upstream: &Reference,
    gradients: &[Tensor],
    forward: impl Fn(&[Reference]) -> Vec<f64>,
) {
    let value = |inputs: &[Reference]| -> f64 {
        forward(inputs).iter().zip(&upstream.values).map(|(output, weight)| output * weight).sum()
    };
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    for (index, gradient) in gradients.iter().enumerate() {
        let got = flat(gradient);
        assert_eq!(got.len(), inputs[index].values.len(), "{what}: gradient {index}");
        let scale = got.iter().fold(1e-3, |largest: f64, value| largest.max(value.abs()));
        let mut places: Vec<usize> = (0..got.len()).collect();
        places.shuffle(&mut generator);
        for &place in places.iter().take(PROBES) {
            let mut moved = inputs.to_vec();
            moved[index].values[place] += STEP;
            let above = value(&moved);
            moved[index].values[place] -= 2.0 * STEP;
            let slope = (above - value(&moved)) / (2.0 * STEP);
            let error = (got[place] - slope).abs() / scale;
            let got = got[place];
            assert!(
                error < TOLERANCE,
                "{what}: gradient {index} at {place}: expected {slope}, got {got} ({error:.1e})"
            );
        }
    }
}

fn convolution(inputs: &[Reference], conv: &Conv) -> Vec<f64> {
    let (x, weight) = (&inputs[0], &inputs[1]);
    let [n, _, height, width] = x.dims[..] else { unreachable!() };
    let along = |size| positions(size, conv.kernel, conv.stride, conv.padding);
    let (ins, outs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let mut result = Vec::new();
    for n in 0..n {
        for output in 0..conv.out_channels {
            for row in 0..along(height) {
                for column in 0..along(width) {
                    let mut sum = inputs.get(2).map_or(0.0, |bias| bias.values[output]);
                    for input in 0..ins {
                        for (down, across) in
                            (0..conv.kernel).flat_map(|d| (0..conv.kernel).map(move |a| (d, a)))
                        {
                            let h = (row * conv.stride + down).wrapping_sub(conv.padding);
                            let w = (column * conv.stride + across).wrapping_sub(conv.padding);
                            if h < height && w < width {
                                let channel = output / outs * ins + input;
                                sum += x.at(n, channel, h, w) * weight.at(output, input, down, across);
                            }
                        }
                    }
                    result.push(sum);
                }
            }
        }
    }
    result
}

fn check_convolution(seed: u64, images: usize, height: usize, width: usize, conv: &Conv) {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut random = |dims: &[usize]| Reference::random(&mut generator, dims);
    let along = |size| positions(size, conv.kernel, conv.stride, conv.padding);
    let inputs = [
        random(&[images, conv.in_channels, height, width]),
        random(&[conv.out_channels, conv.in_channels / conv.groups, conv.kernel, conv.kernel]),
        random(&[conv.out_channels]),
    ];
    let upstream = random(&[images, conv.out_channels, along(height), along(width)]);
    for (name, kernels) in implementations() {
        let what = format!("{name} {conv:?} on {images}x{height}x{width}");
        let x = kernels.map_from_nchw(&inputs[0].tensor()).unwrap();
        let (weight, bias) = (inputs[1].tensor(), inputs[2].tensor());
        let y = kernels.convolution(&x, &weight, Some(&bias), conv, None).unwrap();
        let expected = convolution(&inputs, conv);
        assert_close(&what, &flat(&kernels.map_to_nchw(&y).unwrap()), &expected);
        let clipped = kernels.convolution(&x, &weight, Some(&bias), conv, Some(Activation::Relu)).unwrap();
        let expected: Vec<f64> = expected.iter().map(|value| value.max(0.0)).collect();
        assert_close(&what, &flat(&kernels.map_to_nchw(&clipped).unwrap()), &expected);
        let gradient = kernels.map_from_nchw(&upstream.tensor()).unwrap();
        let of_input = kernels.convolution_input_gradient(&x, &weight, &gradient, conv).unwrap();
        let gradients = [
            kernels.map_to_nchw(&of_input).unwrap(),
            kernels.convolution_weight_gradient(&x, &gradient, conv).unwrap(),
            kernels.channel_sums(&gradient).unwrap(),
        ];
        assert_gradients(&what, &inputs, &upstream, &gradients, |inputs| convolution(inputs, conv));
    }
}

fn conv(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
) -> Conv {
    Conv { in_channels, out_channels, kernel, stride, padding, groups, bias: true }
}

#[test]
fn convolutions_of_every_block_size_and_inner_cut_match() {
    // Output channels: one vector, a part of one, two, three, four and seven vectors.
    for (index, outputs) in [8, 5, 16, 20, 31, 56].into_iter().enumerate() {
        check_convolution(index as u64, 2, 5, 6, &conv(3, outputs, 3, 1, 1, 1));
    }
    // Inner loops longer than one piece: over rows, and within a row.
    check_convolution(10, 1, 4, 4, &conv(40, 9, 3, 1, 1, 1));
    check_convolution(11, 1, 3, 4, &conv(100, 6, 3, 2, 1, 1));
    // Strips: several images, and rows of one image.
    check_convolution(12, 70, 2, 2, &conv(4, 3, 3, 1, 1, 1));
    check_convolution(13, 1, 70, 70, &conv(16, 2, 3, 1, 1, 1));
    // Windows that skip pixels, padding beyond the window, depthwise with and without a stride.
    check_convolution(14, 2, 7, 7, &conv(3, 4, 1, 2, 0, 1));
    check_convolution(15, 1, 3, 3, &conv(2, 3, 1, 1, 1, 1));
    check_convolution(16, 2, 6, 5, &conv(10, 10, 3, 1, 1, 10));
    check_convolution(17, 2, 6, 5, &conv(10, 10, 3, 2, 1, 10));
}

/// Runs of every length that a tile's height is chosen for, by blocks of every width (pairs, one to three vectors, several).
#[test]
fn convolutions_of_every_tile_height_match() {
    for (inputs, kernel) in [(1, 3), (5, 1), (8, 1), (10, 1), (4, 3), (16, 1), (8, 3), (15, 3)] {
        for outputs in [8, 16, 20, 40, 88] {
            check_convolution(outputs as u64, 2, 4, 5, &conv(inputs, outputs, kernel, 1, kernel / 2, 1));
        }
    }
}

/// Shapes that the CPU kernels leave to Winograd's algorithm.
#[test]
fn convolutions_by_patches_match() {
    // Whole tiles; cut tiles, and parts of a vector of channels on both sides.
    check_convolution(20, 2, 8, 8, &conv(24, 24, 3, 1, 1, 1));
    check_convolution(21, 3, 7, 6, &conv(17, 29, 3, 1, 1, 1));
    // No padding, and more than the kernel needs.
    check_convolution(22, 2, 9, 10, &conv(18, 32, 3, 1, 0, 1));
    check_convolution(23, 2, 6, 6, &conv(25, 17, 3, 1, 2, 1));
    check_convolution(24, 2, 6, 4, &conv(36, 40, 3, 1, 1, 2));
    // Strips of many images, and of some rows of one; chunks of images.
    check_convolution(25, 70, 4, 4, &conv(17, 18, 3, 1, 1, 1));
    check_convolution(26, 1, 40, 62, &conv(17, 17, 3, 1, 1, 1));
    // Products that threads share.
    check_convolution(27, 2, 2, 2, &conv(128, 130, 3, 1, 1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn convolutions_by_patches_of_random_shapes_match(
        seed in 0u64..1000, images in 1usize..4, height in 2usize..9, width in 2usize..9,
        groups in 1usize..3, ins in 17usize..26, outs in 17usize..36, padding in 0usize..3,
    ) {
        let fits = |size: usize| size + 2 * padding >= 3;
        prop_assume!(fits(height) && fits(width));
        let conv = conv(groups * ins, groups * outs, 3, 1, padding, groups);
        check_convolution(seed, images, height, width, &conv);
    }

    #[test]
    fn convolutions_of_random_shapes_match(
        seed in 0u64..1000, images in 1usize..4, height in 1usize..9, width in 1usize..9,
        (groups, ins, outs) in (1usize..4, 1usize..6, 1usize..12),
        (kernel, stride, padding) in (1usize..5, 1usize..4, 0usize..3),
    ) {
        let fits = |size: usize| size + 2 * padding >= kernel;
        prop_assume!(fits(height) && fits(width));
        check_convolution(seed, images, height, width, &conv(groups * ins, groups * outs, kernel, stride, padding, groups));
    }

    #[test]
    fn pools_of_random_shapes_match(
        seed in 0u64..1000, images in 1usize..3, channels in 1usize..12, height in 1usize..8, width in 1usize..8,
        kernel in 1usize..4, stride in 1usize..4, padding in 0usize..2,
    ) {
        prop_assume!(padding < kernel && height + 2 * padding >= kernel && width + 2 * padding >= kernel);
        check_pools(seed, &[images, channels, height, width], &Pool { kernel, stride, padding });
    }
}

/// Values under each window, in order, real taps only.
fn windows(x: &Reference, pool: &Pool) -> Vec<Vec<f64>> {
    let [n, channels, height, width] = x.dims[..] else { unreachable!() };
    let along = |size| positions(size, pool.kernel, pool.stride, pool.padding);
    let mut all = Vec::new();
    for n in 0..n {
        for c in 0..channels {
            for row in 0..along(height) {
                for column in 0..along(width) {
                    let mut window = Vec::new();
                    for (down, across) in (0..pool.kernel).flat_map(|d| (0..pool.kernel).map(move |a| (d, a)))
                    {
                        let h = (row * pool.stride + down).wrapping_sub(pool.padding);
                        let w = (column * pool.stride + across).wrapping_sub(pool.padding);
                        if h < height && w < width {
                            window.push(x.at(n, c, h, w));
                        }
                    }
                    all.push(window);
                }
            }
        }
    }
    all
}

fn check_pools(seed: u64, dims: &[usize; 4], pool: &Pool) {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    // Distinct by more than the differences' step: a maximum has no slope at a tie.
    let mut values: Vec<f64> =
        (0..dims.iter().product::<usize>()).map(|index| index as f64 / 64.0 - 2.0).collect();
    values.shuffle(&mut generator);
    let x = Reference { dims: dims.to_vec(), values };
    let along = |size| positions(size, pool.kernel, pool.stride, pool.padding);
    let upstream = Reference::random(&mut generator, &[dims[0], dims[1], along(dims[2]), along(dims[3])]);
    let max = |inputs: &[Reference]| -> Vec<f64> {
        windows(&inputs[0], pool)
            .iter()
            .map(|window| window.iter().copied().fold(f64::MIN, f64::max))
            .collect()
    };
    let mean = |inputs: &[Reference]| -> Vec<f64> {
        windows(&inputs[0], pool)
            .iter()
            .map(|window| window.iter().sum::<f64>() / window.len() as f64)
            .collect()
    };
    let inputs = [x];
    for (name, kernels) in implementations() {
        let what = format!("{name} {pool:?} on {dims:?}");
        let map = kernels.map_from_nchw(&inputs[0].tensor()).unwrap();
        let gradient = kernels.map_from_nchw(&upstream.tensor()).unwrap();
        let nchw = |map: &Tensor| kernels.map_to_nchw(map).unwrap();

        let (y, winners) = kernels.max_pool(&map, pool).unwrap();
        assert_close(&what, &flat(&nchw(&y)), &max(&inputs));
        let of_input = nchw(&kernels.max_pool_gradient(&map, &winners, &gradient, pool).unwrap());
        assert_gradients(&format!("max {what}"), &inputs, &upstream, &[of_input], max);

        let y = kernels.average_pool(&map, pool).unwrap();
        assert_close(&what, &flat(&nchw(&y)), &mean(&inputs));
        let of_input = nchw(&kernels.average_pool_gradient(&map, &gradient, pool).unwrap());
        assert_gradients(&format!("mean {what}"), &inputs, &upstream, &[of_input], mean);
    }
}

#[test]
fn the_gradient_of_a_max_pool_goes_to_one_winner_whole() {
    let pool = Pool { kernel: 2, stride: 2, padding: 0 };
    // candle 0.11.1 gives 0.25 for the first and four ones for the second.
    for (values, expected) in
        [([1.0f32, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]), ([5.0; 4], [1.0, 0.0, 0.0, 0.0])]
    {
        for (name, kernels) in implementations() {
            let x = Tensor::from_vec(values.to_vec(), (1, 1, 2, 2), &Device::Cpu).unwrap();
            let x = kernels.map_from_nchw(&x).unwrap();
            let (y, winners) = kernels.max_pool(&x, &pool).unwrap();
            let gradient = kernels.max_pool_gradient(&x, &winners, &y.ones_like().unwrap(), &pool).unwrap();
            assert_eq!(flat(&gradient), expected, "{name}");
        }
    }
}

fn activate(value: f64, activation: Option<Activation>) -> f64 {
    match activation {
        None => value,
        Some(Activation::Relu) => value.max(0.0),
        Some(Activation::Relu6) => value.clamp(0.0, 6.0),
    }
}

/// Mean and biased variance of one channel.
fn moments(x: &Reference, channel: usize) -> (f64, f64) {
    let area = x.dims[2] * x.dims[3];
    let values: Vec<f64> =
        x.values.chunks(area).skip(channel).step_by(x.dims[1]).flatten().copied().collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64)
}

fn batch_norm(
    inputs: &[Reference],
    fixed: Option<(&Reference, &Reference)>,
    act: Option<Activation>,
) -> Vec<f64> {
    let (x, area) = (&inputs[0], inputs[0].dims[2] * inputs[0].dims[3]);
    let statistics: Vec<(f64, f64)> = (0..x.dims[1])
        .map(|c| fixed.map_or_else(|| moments(x, c), |(mean, variance)| (mean.values[c], variance.values[c])))
        .collect();
    x.values
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let c = index / area % x.dims[1];
            let (mean, variance) = statistics[c];
            activate(
                (value - mean) / (variance + 1e-5).sqrt() * inputs[1].values[c] + inputs[2].values[c],
                act,
            )
        })
        .collect()
}

#[test]
fn batch_norm_with_activation_matches_by_batch_and_fixed_statistics() {
    let cases = [
        ([3, 5, 4, 3], None),
        ([4, 8, 5, 5], Some(Activation::Relu)),
        ([2, 20, 3, 7], Some(Activation::Relu6)),
    ];
    for (seed, (dims, activation)) in cases.into_iter().enumerate() {
        let mut generator = ChaCha8Rng::seed_from_u64(seed as u64);
        let mut random = |dims: &[usize]| Reference::random(&mut generator, dims);
        let mut inputs = [random(&dims), random(&[dims[1]]), random(&[dims[1]])];
        // A mean far from 0 must not cost digits; a large scale reaches Relu6's upper bound.
        inputs[0].values.iter_mut().for_each(|value| *value = f64::from((*value + 8.0) as f32));
        inputs[1].values.iter_mut().for_each(|value| *value *= 4.0);
        let upstream = random(&dims);
        let (mean, mut variance) = (random(&[dims[1]]), random(&[dims[1]]));
        variance.values.iter_mut().for_each(|value| *value = f64::from((value.abs() + 60.0) as f32));
        for (name, kernels) in implementations() {
            let what = format!("{name} batch norm {activation:?}");
            let nchw = |map: &Tensor| kernels.map_to_nchw(map).unwrap();
            let x = kernels.map_from_nchw(&inputs[0].tensor()).unwrap();
            let (scale, shift) = (inputs[1].tensor(), inputs[2].tensor());
            let norm = Norm { scale: &scale, shift: &shift, epsilon: 1e-5 };
            let gradient = kernels.map_from_nchw(&upstream.tensor()).unwrap();

            let (y, statistics) = kernels.batch_norm(&x, norm, activation).unwrap();
            assert_close(&what, &flat(&nchw(&y)), &batch_norm(&inputs, None, activation));
            let (means, variances): (Vec<f64>, Vec<f64>) =
                (0..dims[1]).map(|c| moments(&inputs[0], c)).unzip();
            assert_close(&what, &flat(&statistics.mean), &means);
            assert_close(&what, &flat(&statistics.variance), &variances);
            let all =
                kernels.batch_norm_gradient(&x, norm, &statistics, activation, &gradient, false).unwrap();
            assert_gradients(
                &what,
                &inputs,
                &upstream,
                &[nchw(&all.input), all.scale, all.shift],
                |inputs| batch_norm(inputs, None, activation),
            );

            let what = format!("{what}, fixed");
            let fixed = BatchStatistics { mean: mean.tensor(), variance: variance.tensor() };
            let y = kernels.batch_norm_fixed(&x, norm, &fixed, activation).unwrap();
            assert_close(&what, &flat(&nchw(&y)), &batch_norm(&inputs, Some((&mean, &variance)), activation));
            let all = kernels.batch_norm_gradient(&x, norm, &fixed, activation, &gradient, true).unwrap();
            assert_gradients(
                &what,
                &inputs,
                &upstream,
                &[nchw(&all.input), all.scale, all.shift],
                |inputs| batch_norm(inputs, Some((&mean, &variance)), activation),
            );
        }
    }
}

#[test]
fn pointwise_operations_match() {
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let dims = [2, 3, 4, 5];
    let mut inputs = [Reference::random(&mut generator, &dims), Reference::random(&mut generator, &dims)];
    for input in &mut inputs {
        input.values.iter_mut().for_each(|value| *value *= 8.0);
    }
    let upstream = Reference::random(&mut generator, &dims);
    for (name, kernels) in implementations() {
        let nchw = |map: &Tensor| kernels.map_to_nchw(map).unwrap();
        let [a, b] = [0, 1].map(|index| kernels.map_from_nchw(&inputs[index].tensor()).unwrap());
        let gradient = kernels.map_from_nchw(&upstream.tensor()).unwrap();
        for activation in [Activation::Relu, Activation::Relu6] {
            let what = format!("{name} {activation:?}");
            let sum = |inputs: &[Reference]| -> Vec<f64> {
                let pairs = inputs[0].values.iter().zip(&inputs[1].values);
                pairs.map(|(a, b)| activate(a + b, Some(activation))).collect()
            };
            let y = kernels.add(&a, &b, Some(activation)).unwrap();
            assert_close(&what, &flat(&nchw(&y)), &sum(&inputs));
            let passed = nchw(&kernels.activation_gradient(&y, &gradient, activation).unwrap());
            assert_gradients(&what, &inputs, &upstream, &[passed.clone(), passed], sum);

            let one = |inputs: &[Reference]| -> Vec<f64> {
                inputs[0].values.iter().map(|&value| activate(value, Some(activation))).collect()
            };
            let y = kernels.activation(&a, activation).unwrap();
            assert_close(&what, &flat(&nchw(&y)), &one(&inputs));
            let passed = nchw(&kernels.activation_gradient(&y, &gradient, activation).unwrap());
            assert_gradients(&what, &inputs, &upstream, &[passed], one);
        }
        let product = |inputs: &[Reference]| -> Vec<f64> {
            inputs[0].values.iter().zip(&inputs[1].values).map(|(a, b)| a * b).collect()
        };
        assert_close(name, &flat(&nchw(&kernels.multiply(&a, &b).unwrap())), &product(&inputs));
        let gradients = [kernels.multiply(&gradient, &b).unwrap(), kernels.multiply(&gradient, &a).unwrap()];
        assert_gradients(name, &inputs, &upstream, &gradients.map(|each| nchw(&each)), product);
    }
}

#[test]
fn linear_flatten_and_global_average_match() {
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    let mut random = |dims: &[usize]| Reference::random(&mut generator, dims);
    let inputs = [random(&[9, 37]), random(&[10, 37]), random(&[10])];
    let upstream = random(&[9, 10]);
    let linear = |inputs: &[Reference]| -> Vec<f64> {
        let rows = inputs[0].values.chunks(37);
        let dot = |row: &[f64], out: usize| -> f64 {
            row.iter().zip(&inputs[1].values[out * 37..]).map(|(x, w)| x * w).sum::<f64>()
                + inputs[2].values[out]
        };
        rows.flat_map(|row| (0..10).map(move |out| (row, out))).map(|(row, out)| dot(row, out)).collect()
    };
    let map = [random(&[3, 5, 4, 2])];
    let of_average = random(&[3, 5]);
    let average = |inputs: &[Reference]| -> Vec<f64> {
        inputs[0].values.chunks(8).map(|plane| plane.iter().sum::<f64>() / 8.0).collect()
    };
    for (name, kernels) in implementations() {
        let (x, weight, bias) = (inputs[0].tensor(), inputs[1].tensor(), inputs[2].tensor());
        let gradient = upstream.tensor();
        assert_close(name, &flat(&kernels.linear(&x, &weight, Some(&bias)).unwrap()), &linear(&inputs));
        let gradients = [
            kernels.linear_input_gradient(&weight, &gradient).unwrap(),
            kernels.linear_weight_gradient(&x, &gradient).unwrap(),
            kernels.channel_sums(&gradient).unwrap(),
        ];
        assert_gradients(name, &inputs, &upstream, &gradients, linear);

        let x = kernels.map_from_nchw(&map[0].tensor()).unwrap();
        assert_close(name, &flat(&kernels.global_average(&x).unwrap()), &average(&map));
        let gradient = kernels.global_average_gradient(&x, &of_average.tensor()).unwrap();
        assert_gradients(name, &map, &of_average, &[kernels.map_to_nchw(&gradient).unwrap()], average);

        let vector = kernels.flatten(&x).unwrap();
        assert_eq!(flat(&vector), map[0].values, "{name}: flatten is channel-major");
        let back = kernels.flatten_gradient(&x, &vector).unwrap();
        assert_eq!(flat(&kernels.map_to_nchw(&back).unwrap()), map[0].values, "{name}");
    }
}

#[test]
fn the_loss_and_its_gradient_match_an_f64_reference() {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let mut logits = [Reference::random(&mut generator, &[4, 6])];
    logits[0].values.iter_mut().for_each(|value| *value *= 5.0);
    let teacher: Vec<f32> = (0..24).map(|index| (index % 7) as f32 - 3.0).collect();
    let labels = [5u16, 0, UNLABELLED, 3];
    let (smoothing, lambda) = (0.1, 0.7);
    let total = |inputs: &[Reference]| -> Vec<f64> {
        let mut sum = 0.0;
        for (image, row) in inputs[0].values.chunks(6).enumerate() {
            let normaliser = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            for (class, logit) in row.iter().enumerate() {
                let hit = f64::from(u8::from(class == usize::from(labels[image])));
                let named = f64::from(u8::from(labels[image] != UNLABELLED));
                sum -= named * (hit * (1.0 - smoothing) + smoothing / 6.0) * (logit - normaliser) / 4.0;
                sum += lambda * (logit - f64::from(teacher[image * 6 + class])).powi(2) / 24.0;
            }
        }
        vec![sum]
    };
    let target = Target { labels: &labels, label_smoothing: smoothing, teacher: Some((&teacher, lambda)) };
    let rows: Vec<f32> = logits[0].values.iter().map(|&value| value as f32).collect();
    let got = loss(&rows, 6, target).unwrap();
    assert_close("loss", &[got.total], &total(&logits));
    let one = Reference { dims: vec![1], values: vec![1.0] };
    let gradient = host::tensor(got.gradient, &[4, 6]).unwrap();
    assert_gradients("loss", &logits, &one, &[gradient], total);

    let broken = Target { labels: &labels[..3], label_smoothing: 0.0, teacher: None };
    assert!(loss(&rows, 6, broken).unwrap_err().to_string().contains("expected 4 labels, got 3"));
    // Logits far beyond what exp can take.
    let plain = Target { labels: &[1], label_smoothing: 0.0, teacher: None };
    assert_eq!(loss(&[1000.0, 0.0], 2, plain).unwrap().total, 1000.0);
}

#[test]
fn not_a_number_is_never_hidden() {
    for (name, kernels) in implementations() {
        let x = Tensor::from_vec(vec![f32::NAN, -1.0, -1.0, -1.0], (1, 1, 2, 2), &Device::Cpu).unwrap();
        let x = kernels.map_from_nchw(&x).unwrap();
        let relu = kernels.activation(&x, Activation::Relu).unwrap();
        // candle's own ReLU turns not-a-number into 0, and its maximum may: only ours promise.
        if name != "stock" {
            assert!(flat(&relu)[0].is_nan());
            let pool = Pool { kernel: 2, stride: 2, padding: 0 };
            assert!(flat(&kernels.max_pool(&x, &pool).unwrap().0)[0].is_nan());
        }
        assert!(flat(&kernels.global_average(&x).unwrap())[0].is_nan(), "{name}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let x = Tensor::zeros((1, 4, 4, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let weight = Tensor::zeros((8, 2, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = ChannelsLast.convolution(&x, &weight, None, &conv(3, 8, 3, 1, 1, 1), None).unwrap_err();
    assert!(
        error.to_string().contains("convolution weight: expected [8, 3, 3, 3], got [8, 2, 3, 3]"),
        "{error}"
    );
    let error = ChannelsLast.convolution(&x, &weight, None, &conv(2, 8, 3, 1, 1, 1), None).unwrap_err();
    assert!(error.to_string().contains("expected 2 channels, got 3"), "{error}");
}
