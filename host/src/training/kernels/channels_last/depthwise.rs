//! Depthwise convolution on channels-last maps: one filter a channel, vectors run along channels.

use rayon::prelude::*;

use super::convolution::output_map;
use super::simd::vectorised;
use crate::network::layer::Conv;
use crate::training::kernels::map::Map;

/// Whether a convolution is one filter a channel.
pub(super) fn is_depthwise(conv: &Conv) -> bool {
    conv.groups == conv.in_channels && conv.out_channels == conv.in_channels && conv.groups > 1
}

/// `[C][k][k]` to `[k][k][C]`, or back with the sizes swapped.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Calls `visit(output pixel, tap, source pixel)` for every tap inside one image.
fn taps(input: Map, output: Map, conv: &Conv, mut visit: impl FnMut(usize, usize, usize)) {
    let along = |window: usize, tap: usize, size: usize| {
        (window * conv.stride + tap).checked_sub(conv.padding).filter(|&position| position < size)
    };
    for row in 0..output.height {
        for column in 0..output.width {
            for down in 0..conv.kernel {
                let Some(source_row) = along(row, down, input.height) else { continue };
                for across in 0..conv.kernel {
                    let Some(source_column) = along(column, across, input.width) else { continue };
                    visit(
                        row * output.width + column,
                        down * conv.kernel + across,
                        source_row * input.width + source_column,
                    );
                }
            }
        }
    }
}

vectorised! {
    fn add_product(a: &[f32], b: &[f32], to: &mut [f32]) {
        for ((&a, &b), to) in a.iter().zip(b).zip(to) {
            *to += a * b;
        }
    }
}

fn part(values: &[f32], index: usize, width: usize) -> &[f32] {
    &values[index * width..(index + 1) * width]
}

/// Values of the output map, before any activation.
pub(super) fn forward(x: &[f32], input: Map, weight: &[f32], bias: Option<&[f32]>, conv: &Conv) -> Vec<f32> {
    let (output, width) = (output_map(input, conv), input.channels);
    let weight = transposed(weight, width, conv.kernel * conv.kernel);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let mut result = vec![0.0; output.len()];
    result.par_chunks_mut(to).zip(x.par_chunks(from)).for_each(|(result, x)| {
        if let Some(bias) = bias {
            result.chunks_exact_mut(width).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        taps(input, output, conv, |pixel, tap, source| {
            let result = &mut result[pixel * width..(pixel + 1) * width];
            add_product(part(x, source, width), part(&weight, tap, width), result);
        });
    });
    result
}

/// Gradient by the input.
pub(super) fn input_gradient(input: Map, weight: &[f32], gradient: &[f32], conv: &Conv) -> Vec<f32> {
    let (output, width) = (output_map(input, conv), input.channels);
    let weight = transposed(weight, width, conv.kernel * conv.kernel);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let mut result = vec![0.0; input.len()];
    result.par_chunks_mut(from).zip(gradient.par_chunks(to)).for_each(|(result, gradient)| {
        taps(input, output, conv, |pixel, tap, source| {
            let result = &mut result[source * width..(source + 1) * width];
            add_product(part(gradient, pixel, width), part(&weight, tap, width), result);
        });
    });
    result
}

/// Gradient by the weight, `[C][k][k]`; images are summed one by one, in order.
pub(super) fn weight_gradient(x: &[f32], input: Map, gradient: &[f32], conv: &Conv) -> Vec<f32> {
    let (output, width) = (output_map(input, conv), input.channels);
    let area = conv.kernel * conv.kernel;
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let per_image: Vec<Vec<f32>> = x
        .par_chunks(from)
        .zip(gradient.par_chunks(to))
        .map(|(x, gradient)| {
            let mut sums = vec![0.0; area * width];
            taps(input, output, conv, |pixel, tap, source| {
                let sums = &mut sums[tap * width..(tap + 1) * width];
                add_product(part(x, source, width), part(gradient, pixel, width), sums);
            });
            sums
        })
        .collect();
    let mut total = vec![0.0; area * width];
    for sums in &per_image {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    transposed(&total, area, width)
}
