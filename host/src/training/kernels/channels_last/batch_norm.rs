//! Batch norm with its activation on channels-last maps: two streaming passes forward, two backward.
//!
//! The backward pass recomputes the normalised value and the activation's mask from the input, so the output is
//! not read again. Sums are taken per fixed piece in f32 and joined in f64, in order: thread count changes nothing.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::filled;
use super::pointwise::{fold, period, piece_of, tiled};
use super::simd::{clip, vectorised};

/// Per-channel numbers of a batch norm, each `channels` long.
pub(super) struct Channels<'a> {
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) variance: &'a [f32],
    pub(super) epsilon: f64,
}

impl Channels<'_> {
    fn inverse_deviation(&self, channel: usize) -> f64 {
        1.0 / (f64::from(self.variance[channel]) + self.epsilon).sqrt()
    }

    /// Factor and term of the affine function that the norm is, once its statistics are known.
    fn affine(&self) -> (Vec<f32>, Vec<f32>) {
        (0..self.scale.len())
            .map(|c| {
                let factor = f64::from(self.scale[c]) * self.inverse_deviation(c);
                (factor as f32, (f64::from(self.shift[c]) - f64::from(self.mean[c]) * factor) as f32)
            })
            .unzip()
    }
}

vectorised! {
    /// Sums of `x - origin` and of its square. The origin, some pixel's values, keeps the squares from cancelling.
    fn moments_piece(x: &[f32], origin: &[f32], sums: &mut [f32], squares: &mut [f32]) {
        for row in x.chunks(origin.len()) {
            for (((x, origin), sum), square) in row.iter().zip(origin).zip(sums.iter_mut()).zip(squares.iter_mut()) {
                let distance = x - origin;
                *sum += distance;
                *square += distance * distance;
            }
        }
    }
}

vectorised! {
    fn affine_piece(
        x: &[f32],
        factor: &[f32],
        term: &[f32],
        low: f32,
        high: f32,
        out: &mut [MaybeUninit<f32>],
    ) {
        for (out, x) in out.chunks_mut(factor.len()).zip(x.chunks(factor.len())) {
            for (((out, x), factor), term) in out.iter_mut().zip(x).zip(factor).zip(term) {
                out.write(clip(x * factor + term, low, high));
            }
        }
    }
}

/// What both backward passes read per value of a period.
struct Tiled {
    factor: Vec<f32>,
    term: Vec<f32>,
    mean: Vec<f32>,
    bounds: (f32, f32),
}

vectorised! {
    /// Sums of the gradient that passes the activation, and of its product with `x - mean`.
    fn gradient_sums_piece(x: &[f32], gradient: &[f32], t: &Tiled, sums: &mut [f32], products: &mut [f32]) {
        let (period, (low, high)) = (t.factor.len(), t.bounds);
        for (x, gradient) in x.chunks(period).zip(gradient.chunks(period)) {
            let parameters = t.factor.iter().zip(&t.term).zip(&t.mean);
            let totals = sums.iter_mut().zip(products.iter_mut());
            for (((&x, &gradient), ((factor, term), mean)), (sum, product)) in
                x.iter().zip(gradient).zip(parameters).zip(totals)
            {
                let output = x * factor + term;
                let passed = if output > low && output < high { gradient } else { 0.0 };
                *sum += passed;
                *product += passed * (x - mean);
            }
        }
    }
}

vectorised! {
    /// `factor * passed + slope * x + constant`.
    fn input_gradient_piece(
        x: &[f32],
        gradient: &[f32],
        t: &Tiled,
        slope: &[f32],
        constant: &[f32],
        out: &mut [MaybeUninit<f32>],
    ) {
        let (period, (low, high)) = (t.factor.len(), t.bounds);
        for ((x, gradient), out) in x.chunks(period).zip(gradient.chunks(period)).zip(out.chunks_mut(period)) {
            let parameters = t.factor.iter().zip(&t.term).zip(slope.iter().zip(constant));
            for (((&x, &gradient), ((factor, term), (slope, constant))), out) in
                x.iter().zip(gradient).zip(parameters).zip(out)
            {
                let output = x * factor + term;
                let passed = if output > low && output < high { gradient } else { 0.0 };
                out.write(factor * passed + (slope * x + constant));
            }
        }
    }
}

/// Mean and biased variance per channel.
pub(super) fn statistics(x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let count = (x.len() / channels) as f64;
    let period = period(channels);
    let origin = tiled(&x[..channels], period);
    let pieces: Vec<(Vec<f32>, Vec<f32>)> = x
        .par_chunks(piece_of(period))
        .map(|x| {
            let (mut sums, mut squares) = (vec![0.0; period], vec![0.0; period]);
            moments_piece(x, &origin, &mut sums, &mut squares);
            (sums, squares)
        })
        .collect();
    let (mut sums, mut squares) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    for (piece_sums, piece_squares) in &pieces {
        fold(piece_sums, &mut sums);
        fold(piece_squares, &mut squares);
    }
    (0..channels)
        .map(|c| {
            let offset = sums[c] / count;
            let variance = (squares[c] / count - offset * offset).max(0.0);
            ((f64::from(x[c]) + offset) as f32, variance as f32)
        })
        .unzip()
}

/// Normalises, scales, shifts and clips.
pub(super) fn normalise(x: &[f32], channels: &Channels<'_>, bounds: (f32, f32)) -> Vec<f32> {
    let period = period(channels.scale.len());
    let (factor, term) = channels.affine();
    let (factor, term) = (tiled(&factor, period), tiled(&term, period));
    let piece = piece_of(period);
    filled(x.len(), |out| {
        out.par_chunks_mut(piece)
            .zip(x.par_chunks(piece))
            .for_each(|(out, x)| affine_piece(x, &factor, &term, bounds.0, bounds.1, out));
    })
}

/// Gradients by input, scale and shift; with `fixed`, the statistics are constants.
pub(super) fn gradient(
    x: &[f32],
    channels: &Channels<'_>,
    gradient: &[f32],
    bounds: (f32, f32),
    fixed: bool,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = channels.scale.len();
    let (period, count) = (period(width), (x.len() / width) as f64);
    let piece = piece_of(period);
    let (factor, term) = channels.affine();
    let t = Tiled {
        factor: tiled(&factor, period),
        term: tiled(&term, period),
        mean: tiled(channels.mean, period),
        bounds,
    };
    let pieces: Vec<(Vec<f32>, Vec<f32>)> = x
        .par_chunks(piece)
        .zip(gradient.par_chunks(piece))
        .map(|(x, gradient)| {
            let (mut sums, mut products) = (vec![0.0; period], vec![0.0; period]);
            gradient_sums_piece(x, gradient, &t, &mut sums, &mut products);
            (sums, products)
        })
        .collect();
    let (mut sums, mut products) = (vec![0.0f64; width], vec![0.0f64; width]);
    for (piece_sums, piece_products) in &pieces {
        fold(piece_sums, &mut sums);
        fold(piece_products, &mut products);
    }
    let (slope, constant): (Vec<f32>, Vec<f32>) = (0..width)
        .map(|c| {
            if fixed {
                return (0.0, 0.0);
            }
            // d x = factor * (g - mean(g) - x_hat * mean(g * x_hat)), with x_hat = (x - mean) * inverse deviation.
            let inverse = channels.inverse_deviation(c);
            let factor = f64::from(factor[c]);
            let curve = products[c] * inverse * inverse / count;
            let constant = factor * (f64::from(channels.mean[c]) * curve - sums[c] / count);
            ((-factor * curve) as f32, constant as f32)
        })
        .unzip();
    let (slope, constant) = (tiled(&slope, period), tiled(&constant, period));
    let input = filled(x.len(), |out| {
        out.par_chunks_mut(piece)
            .zip(x.par_chunks(piece).zip(gradient.par_chunks(piece)))
            .for_each(|(out, (x, gradient))| input_gradient_piece(x, gradient, &t, &slope, &constant, out));
    });
    let scale = (0..width).map(|c| (products[c] * channels.inverse_deviation(c)) as f32).collect();
    (input, scale, sums.into_iter().map(|sum| sum as f32).collect())
}
