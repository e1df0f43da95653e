//! Pooling on channels-last maps, any kernel, stride and padding, with gradients that add up to what came in.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::filled;
use super::convolution::Map;
use super::simd::vectorised;
use crate::network::layer::Pool;
use crate::network::shape::positions;

/// Shape that `pool` makes of `input`.
pub(super) fn output_map(input: Map, pool: &Pool) -> Map {
    let along = |size| positions(size, pool.kernel, pool.stride, pool.padding);
    Map { height: along(input.height), width: along(input.width), ..input }
}

/// Source positions under window `index` along one axis: (tap, position).
fn taps(index: usize, size: usize, pool: &Pool) -> impl Iterator<Item = (usize, usize)> + Clone {
    let (start, padding) = (index * pool.stride, pool.padding);
    (0..pool.kernel).filter_map(move |tap| {
        (start + tap).checked_sub(padding).filter(|&position| position < size).map(|position| (tap, position))
    })
}

/// Calls `visit(output pixel, tap, source pixel)` for every real tap of every window of one image, in order.
fn windows(input: Map, output: Map, pool: &Pool, mut visit: impl FnMut(usize, usize, usize)) {
    for row in 0..output.height {
        for column in 0..output.width {
            for (down, source_row) in taps(row, input.height, pool) {
                for (across, source_column) in taps(column, input.width, pool) {
                    visit(
                        row * output.width + column,
                        down * pool.kernel + across,
                        source_row * input.width + source_column,
                    );
                }
            }
        }
    }
}

vectorised! {
    fn take_larger(x: &[f32], tap: u32, best: &mut [f32], winner: &mut [u32]) {
        for ((&x, best), winner) in x.iter().zip(best).zip(winner) {
            // Not-a-number wins, so that a divergence is seen.
            let larger = x > *best || x.is_nan();
            *best = if larger { x } else { *best };
            *winner = if larger { tap } else { *winner };
        }
    }
}

vectorised! {
    fn give_winner(gradient: &[f32], winner: &[u32], tap: u32, to: &mut [f32]) {
        for ((&gradient, &winner), to) in gradient.iter().zip(winner).zip(to) {
            *to += if winner == tap { gradient } else { 0.0 };
        }
    }
}

vectorised! {
    fn add_scaled(x: &[f32], factor: f32, to: &mut [f32]) {
        for (&x, to) in x.iter().zip(to) {
            *to += x * factor;
        }
    }
}

/// Maximum and the winning tap (row-major in the window; the first of equals).
pub(super) fn max(x: &[f32], input: Map, pool: &Pool) -> (Vec<f32>, Vec<u32>) {
    let (output, width) = (output_map(input, pool), input.channels);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let mut best = vec![f32::NEG_INFINITY; output.len()];
    let mut winner = vec![u32::MAX; output.len()];
    best.par_chunks_mut(to).zip(winner.par_chunks_mut(to)).zip(x.par_chunks(from)).for_each(
        |((best, winner), x)| {
            windows(input, output, pool, |pixel, tap, source| {
                let here = pixel * width..(pixel + 1) * width;
                let x = &x[source * width..(source + 1) * width];
                if winner[here.start] == u32::MAX {
                    // The first real tap: taken as it is, minus infinity included.
                    best[here.clone()].copy_from_slice(x);
                    winner[here].fill(tap as u32);
                } else {
                    take_larger(x, tap as u32, &mut best[here.clone()], &mut winner[here]);
                }
            });
        },
    );
    (best, winner)
}

/// Each window's gradient goes to its winner.
pub(super) fn max_gradient(input: Map, winner: &[u32], gradient: &[f32], pool: &Pool) -> Vec<f32> {
    let (output, width) = (output_map(input, pool), input.channels);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let mut result = vec![0.0; input.len()];
    result.par_chunks_mut(from).zip(winner.par_chunks(to)).zip(gradient.par_chunks(to)).for_each(
        |((result, winner), gradient)| {
            windows(input, output, pool, |pixel, tap, source| {
                let here = pixel * width..(pixel + 1) * width;
                let result = &mut result[source * width..(source + 1) * width];
                give_winner(&gradient[here.clone()], &winner[here], tap as u32, result);
            });
        },
    );
    result
}

/// One over the number of real taps of each window of an image.
fn shares(input: Map, output: Map, pool: &Pool) -> Vec<f32> {
    let mut counts = vec![0u32; output.height * output.width];
    windows(input, output, pool, |pixel, _, _| counts[pixel] += 1);
    counts.into_iter().map(|count| 1.0 / count.max(1) as f32).collect()
}

/// Mean over the real taps.
pub(super) fn average(x: &[f32], input: Map, pool: &Pool) -> Vec<f32> {
    let (output, width) = (output_map(input, pool), input.channels);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let shares = shares(input, output, pool);
    let mut result = vec![0.0; output.len()];
    result.par_chunks_mut(to).zip(x.par_chunks(from)).for_each(|(result, x)| {
        windows(input, output, pool, |pixel, _, source| {
            let result = &mut result[pixel * width..(pixel + 1) * width];
            add_scaled(&x[source * width..(source + 1) * width], shares[pixel], result);
        });
    });
    result
}

/// Each real tap gets its share.
pub(super) fn average_gradient(input: Map, gradient: &[f32], pool: &Pool) -> Vec<f32> {
    let (output, width) = (output_map(input, pool), input.channels);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let shares = shares(input, output, pool);
    let mut result = vec![0.0; input.len()];
    result.par_chunks_mut(from).zip(gradient.par_chunks(to)).for_each(|(result, gradient)| {
        windows(input, output, pool, |pixel, _, source| {
            let result = &mut result[source * width..(source + 1) * width];
            add_scaled(&gradient[pixel * width..(pixel + 1) * width], shares[pixel], result);
        });
    });
    result
}

/// Mean of each channel of each image.
pub(super) fn global_average(x: &[f32], input: Map) -> Vec<f32> {
    let (area, width) = (input.height * input.width, input.channels);
    let mut result = vec![0.0; input.images * width];
    result.par_chunks_mut(width).zip(x.par_chunks(area * width)).for_each(|(result, x)| {
        let share = 1.0 / area as f32;
        for pixel in x.chunks_exact(width) {
            add_scaled(pixel, share, result);
        }
    });
    result
}

/// Every pixel gets an equal share.
pub(super) fn global_average_gradient(input: Map, gradient: &[f32]) -> Vec<f32> {
    let (area, width) = (input.height * input.width, input.channels);
    filled(input.len(), |out: &mut [MaybeUninit<f32>]| {
        out.par_chunks_mut(area * width).zip(gradient.par_chunks(width)).for_each(|(out, gradient)| {
            let share = 1.0 / area as f32;
            for pixel in out.chunks_exact_mut(width) {
                for (out, gradient) in pixel.iter_mut().zip(gradient) {
                    out.write(gradient * share);
                }
            }
        });
    })
}
