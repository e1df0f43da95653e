//! Passes over whole maps: add, activate, multiply, sum per channel. Memory-bound, so each is one pass, in parallel.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::filled;
use super::simd::{clip, vectorised};

/// Values that a thread takes at once: 128 KiB, so that two or three streams stay in a second-level cache.
pub(super) const PIECE: usize = 32 * 1024;

/// Values in a vector of any processor, or a multiple.
const LANES: usize = 16;

/// A length that is a multiple of the channels and of the vectors, so that loops over any width run in whole vectors.
pub(super) fn period(channels: usize) -> usize {
    let mut length = channels;
    while !length.is_multiple_of(LANES) {
        length *= 2;
    }
    // A short period would make the loop around it cost more than the loop.
    while length < 4 * LANES {
        length *= 2;
    }
    length
}

/// `values` over and over, `length` in all.
pub(super) fn tiled(values: &[f32], length: usize) -> Vec<f32> {
    values.iter().copied().cycle().take(length).collect()
}

/// A whole number of periods near [`PIECE`].
pub(super) fn piece_of(period: usize) -> usize {
    (PIECE / period).max(1) * period
}

vectorised! {
    fn add_piece(a: &[f32], b: &[f32], low: f32, high: f32, out: &mut [MaybeUninit<f32>]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            out.write(clip(a + b, low, high));
        }
    }
}

vectorised! {
    fn multiply_piece(a: &[f32], b: &[f32], out: &mut [MaybeUninit<f32>]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            out.write(a * b);
        }
    }
}

vectorised! {
    fn clip_piece(x: &[f32], low: f32, high: f32, out: &mut [MaybeUninit<f32>]) {
        for (out, &x) in out.iter_mut().zip(x) {
            out.write(clip(x, low, high));
        }
    }
}

vectorised! {
    fn mask_piece(y: &[f32], gradient: &[f32], low: f32, high: f32, out: &mut [MaybeUninit<f32>]) {
        for ((out, &y), &gradient) in out.iter_mut().zip(y).zip(gradient) {
            out.write(if y > low && y < high { gradient } else { 0.0 });
        }
    }
}

vectorised! {
    fn sum_piece(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

/// `clip(a + b)`.
pub(super) fn add(a: &[f32], b: &[f32], bounds: (f32, f32)) -> Vec<f32> {
    filled(a.len(), |out| {
        out.par_chunks_mut(PIECE)
            .zip(a.par_chunks(PIECE).zip(b.par_chunks(PIECE)))
            .for_each(|(out, (a, b))| add_piece(a, b, bounds.0, bounds.1, out));
    })
}

/// `a * b`.
pub(super) fn multiply(a: &[f32], b: &[f32]) -> Vec<f32> {
    filled(a.len(), |out| {
        out.par_chunks_mut(PIECE)
            .zip(a.par_chunks(PIECE).zip(b.par_chunks(PIECE)))
            .for_each(|(out, (a, b))| multiply_piece(a, b, out));
    })
}

/// `clip(x)`.
pub(super) fn activate(x: &[f32], bounds: (f32, f32)) -> Vec<f32> {
    filled(x.len(), |out| {
        out.par_chunks_mut(PIECE)
            .zip(x.par_chunks(PIECE))
            .for_each(|(out, x)| clip_piece(x, bounds.0, bounds.1, out));
    })
}

/// The gradient where the activation's output lies strictly inside its bounds, 0 elsewhere.
pub(super) fn mask(y: &[f32], gradient: &[f32], bounds: (f32, f32)) -> Vec<f32> {
    filled(y.len(), |out| {
        out.par_chunks_mut(PIECE)
            .zip(y.par_chunks(PIECE).zip(gradient.par_chunks(PIECE)))
            .for_each(|(out, (y, gradient))| mask_piece(y, gradient, bounds.0, bounds.1, out));
    })
}

/// Folds one period's sums into channels, in f64, and adds them to `totals`.
pub(super) fn fold(sums: &[f32], totals: &mut [f64]) {
    for row in sums.chunks_exact(totals.len()) {
        for (total, &sum) in totals.iter_mut().zip(row) {
            *total += f64::from(sum);
        }
    }
}

/// Sum of each channel.
pub(super) fn channel_sums(x: &[f32], channels: usize) -> Vec<f32> {
    let period = period(channels);
    let pieces: Vec<Vec<f32>> = x
        .par_chunks(piece_of(period))
        .map(|x| {
            let mut sums = vec![0.0; period];
            sum_piece(x, &mut sums);
            sums
        })
        .collect();
    let mut totals = vec![0.0f64; channels];
    for sums in &pieces {
        fold(sums, &mut totals);
    }
    totals.into_iter().map(|total| total as f32).collect()
}
