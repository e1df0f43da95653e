//! Pooling on channels-last maps, any kernel, stride and padding, with gradients that add up to what came in.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::buffer::filled;
use super::simd::vectorised;
use crate::network::layer::Pool;
use crate::training::kernels::map::Map;

/// Shape that `pool` makes of `input`.
pub(super) fn output_map(input: Map, pool: &Pool) -> Map {
    input.slid(pool.kernel, pool.stride, pool.padding, input.channels)
}

/// Source positions under window `index` along one axis: (tap, position).
fn taps(index: usize, size: usize, pool: &Pool) -> impl Iterator<Item = (usize, usize)> + Clone {
    let (start, padding) = (index * pool.stride, pool.padding);
    (0..pool.kernel).filter_map(move |tap| {
        (start + tap).checked_sub(padding).filter(|&position| position < size).map(|position| (tap, position))
    })
}

/// A row of windows seen through one tap.
struct Run {
    /// Output pixels.
    pixels: Range<usize>,
    /// The tap, row-major in the window.
    tap: usize,
    /// Source pixel of the first output pixel; those of the others are the pool's stride apart.
    source: usize,
}

/// Calls `visit` for every row of windows of one image and every tap with a real pixel under it; taps in order.
fn runs(input: Map, output: Map, pool: &Pool, mut visit: impl FnMut(Run)) {
    for row in 0..output.height {
        for (down, source_row) in taps(row, input.height, pool) {
            for across in 0..pool.kernel {
                let first = pool.padding.saturating_sub(across).div_ceil(pool.stride);
                let beyond = (input.width + pool.padding).saturating_sub(across).div_ceil(pool.stride);
                let end = beyond.min(output.width);
                if first < end {
                    visit(Run {
                        pixels: row * output.width + first..row * output.width + end,
                        tap: down * pool.kernel + across,
                        source: source_row * input.width + first * pool.stride + across - pool.padding,
                    });
                }
            }
        }
    }
}

impl Run {
    /// Values of the run's output pixels.
    fn values(&self, width: usize) -> Range<usize> {
        self.pixels.start * width..self.pixels.end * width
    }
}

vectorised! {
    /// Larger values and their tap, over pixels of `width` values; source pixels are `step` values apart.
    fn take_larger(x: &[f32], step: usize, width: usize, tap: u32, best: &mut [f32], winner: &mut [u32]) {
        let pixels = best.chunks_exact_mut(width).zip(winner.chunks_exact_mut(width));
        for ((best, winner), x) in pixels.zip(x.chunks(step)) {
            for ((&x, best), winner) in x[..width].iter().zip(best).zip(winner) {
                // The first real tap is taken as it is, minus infinity included; not-a-number wins, so that a
                // divergence is seen.
                let larger = x > *best || x.is_nan() || *winner == u32::MAX;
                *best = if larger { x } else { *best };
                *winner = if larger { tap } else { *winner };
            }
        }
    }
}

vectorised! {
    fn give_winner(gradient: &[f32], winner: &[u32], tap: u32, step: usize, width: usize, to: &mut [f32]) {
        let pixels = gradient.chunks_exact(width).zip(winner.chunks_exact(width));
        for ((gradient, winner), to) in pixels.zip(to.chunks_mut(step)) {
            for ((&gradient, &winner), to) in gradient.iter().zip(winner).zip(&mut to[..width]) {
                *to += if winner == tap { gradient } else { 0.0 };
            }
        }
    }
}

vectorised! {
    /// Adds `shares[i]` times pixel i of `x` to pixel i of `to`; pixels are so many values apart.
    fn add_shares(x: &[f32], x_step: usize, shares: &[f32], width: usize, to: &mut [f32], to_step: usize) {
        for ((x, &share), to) in x.chunks(x_step).zip(shares).zip(to.chunks_mut(to_step)) {
            for (&x, to) in x[..width].iter().zip(&mut to[..width]) {
                *to += x * share;
            }
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
            runs(input, output, pool, |run| {
                let (x, here) = (&x[run.source * width..], run.values(width));
                let (best, winner) = (&mut best[here.clone()], &mut winner[here]);
                take_larger(x, pool.stride * width, width, run.tap as u32, best, winner);
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
            runs(input, output, pool, |run| {
                let (here, to) = (run.values(width), &mut result[run.source * width..]);
                let (gradient, winner) = (&gradient[here.clone()], &winner[here]);
                give_winner(gradient, winner, run.tap as u32, pool.stride * width, width, to);
            });
        },
    );
    result
}

/// One over the number of real taps of each window of an image.
fn shares(input: Map, output: Map, pool: &Pool) -> Vec<f32> {
    let mut counts = vec![0u32; output.height * output.width];
    runs(input, output, pool, |run| counts[run.pixels].iter_mut().for_each(|count| *count += 1));
    counts.into_iter().map(|count| 1.0 / count.max(1) as f32).collect()
}

/// Mean over the real taps.
pub(super) fn average(x: &[f32], input: Map, pool: &Pool) -> Vec<f32> {
    let (output, width) = (output_map(input, pool), input.channels);
    let (from, to) = (input.height * input.width * width, output.height * output.width * width);
    let shares = shares(input, output, pool);
    let mut result = vec![0.0; output.len()];
    result.par_chunks_mut(to).zip(x.par_chunks(from)).for_each(|(result, x)| {
        runs(input, output, pool, |run| {
            let (x, shares) = (&x[run.source * width..], &shares[run.pixels.clone()]);
            add_shares(x, pool.stride * width, shares, width, &mut result[run.values(width)], width);
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
        runs(input, output, pool, |run| {
            let (to, shares) = (&mut result[run.source * width..], &shares[run.pixels.clone()]);
            add_shares(&gradient[run.values(width)], width, shares, width, to, pool.stride * width);
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
