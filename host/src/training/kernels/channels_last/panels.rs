//! Weights as the inner loops want them: output channels in blocks of a few vectors, contiguous along the steps.
//!
//! Views and packing only: what multiplies them is in `correlate` and `winograd`, what sums into the same layout in
//! `weight_gradient`.

use rayon::prelude::*;

use super::simd::lanes;

/// Inputs packed together.
const INPUTS_AT_ONCE: usize = 16;

/// A view of a convolution's weights: which one multiplies which place of a window, input and output channel. It is linear
/// in the channels, so that loops over it divide nothing.
pub(super) struct Taps<'a> {
    pub(super) weight: &'a [f32],
    /// Of the first output channel and input.
    pub(super) first: usize,
    /// From one output channel to the next.
    pub(super) channel: usize,
    /// From one input to the next.
    pub(super) input: usize,
    /// Of each place of the window, row by row.
    pub(super) places: Vec<usize>,
}

impl Taps<'_> {
    #[inline(always)]
    pub(super) fn at(&self, place: usize, input: usize, channel: usize) -> f32 {
        self.weight[self.first + channel * self.channel + input * self.input + self.places[place]]
    }
}

/// Output channels in blocks of one to three vectors, weights contiguous per block.
///
/// Block layout: `[steps][lanes]`, zero beyond the last channel; of pairs `[steps / 2][lanes][2]`.
pub(super) struct Panels {
    /// The blocks, in channel order.
    pub(super) blocks: Vec<Block>,
    /// All blocks' values.
    pub(super) values: Vec<f32>,
    /// Steps of the inner loop: `kernel rows * kernel columns * input channels`.
    pub(super) steps: usize,
}

/// How wide a block of weights is.
#[derive(Clone, Copy)]
pub(super) enum Width {
    /// So many vectors.
    Vectors(usize),
    /// One of [`super::simd::Lanes::Pairs`].
    Pairs,
}

/// One block of output channels.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// First channel.
    pub(super) start: usize,
    /// Channels that exist, at most [`Block::lanes`].
    pub(super) channels: usize,
    /// Its weights of one step, or of two.
    pub(super) width: Width,
    /// Where its values start in [`Panels::values`].
    pub(super) offset: usize,
}

impl Block {
    /// Values of one step: those of real channels, and zeros up to whole vectors.
    pub(super) fn lanes(&self) -> usize {
        match self.width {
            Width::Vectors(vectors) => vectors * lanes(),
            Width::Pairs => lanes() / 2,
        }
    }
}

/// Cuts `channels` into blocks: threes have the best ratio of loads to products, a lone vector the worst. So few channels
/// that they would leave half of a wide vector idle take two steps of a `run` at once; a pair must not reach into the next
/// run.
pub(super) fn blocks(channels: usize, steps: usize, run: usize) -> Vec<Block> {
    if lanes() == 16 && channels <= 8 && run.is_multiple_of(2) {
        return vec![Block { start: 0, channels, width: Width::Pairs, offset: 0 }];
    }
    let vectors = channels.div_ceil(lanes());
    let (threes, twos, ones) = match vectors {
        1 => (0, 0, 1),
        _ => match vectors % 3 {
            0 => (vectors / 3, 0, 0),
            1 => ((vectors - 4) / 3, 2, 0),
            _ => (vectors / 3, 1, 0),
        },
    };
    let sizes = std::iter::repeat_n(3, threes)
        .chain(std::iter::repeat_n(2, twos))
        .chain(std::iter::repeat_n(1, ones));
    let mut start = 0;
    sizes
        .map(|vectors| {
            let channels = (channels - start).min(vectors * lanes());
            let block = Block { start, channels, width: Width::Vectors(vectors), offset: start * steps };
            start += vectors * lanes();
            block
        })
        .collect()
}

/// Cuts `values` into each block's part, of a length that the block says.
pub(super) fn parts<'a>(
    blocks: &[Block],
    values: &'a mut [f32],
    length: impl Fn(&Block) -> usize,
) -> Vec<(Block, &'a mut [f32])> {
    let mut rest = values;
    let cut = |block: &Block| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(length(block));
        rest = tail;
        (*block, part)
    };
    blocks.iter().map(cut).collect()
}

impl Panels {
    /// Packs the weights of `channels` output channels and `inputs` inputs, for windows whose rows are runs of `run` steps.
    pub(super) fn pack(channels: usize, inputs: usize, run: usize, taps: &Taps<'_>) -> Self {
        let steps = taps.places.len() * inputs;
        let blocks = blocks(channels, steps, run);
        let total = blocks.last().map_or(0, |last| last.offset + last.lanes() * steps);
        let mut values = vec![0.0; total];
        let fill = |(block, part): (Block, &mut [f32])| {
            let width = block.lanes();
            let at_once = if matches!(block.width, Width::Pairs) { 2 } else { 1 };
            // A few inputs of all channels at a time: both what is read and what is written then stay in the first-level cache.
            for first in (0..inputs).step_by(INPUTS_AT_ONCE) {
                for lane in 0..block.channels {
                    for place in 0..taps.places.len() {
                        for input in first..inputs.min(first + INPUTS_AT_ONCE) {
                            let step = place * inputs + input;
                            let first = (step - step % at_once) * width;
                            part[first + lane * at_once + step % at_once] =
                                taps.at(place, input, block.start + lane);
                        }
                    }
                }
            }
        };
        let parts = parts(&blocks, &mut values, |block| block.lanes() * steps);
        // Below this many values, waking another thread costs more than it saves.
        if total > 16 * 1024 {
            parts.into_par_iter().for_each(fill);
        } else {
            parts.into_iter().for_each(fill);
        }
        Self { blocks, values, steps }
    }
}
