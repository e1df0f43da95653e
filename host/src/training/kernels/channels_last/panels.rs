//! Weights packed for the inner loops: output channels in blocks of a few vectors, contiguous along the steps.
//!
//! Packing only: what multiplies them is in `correlate`, what sums into the same layout in `weight_gradient`.

use rayon::prelude::*;

use super::simd::LANES;

/// Output channels in vectors of eight, cut in blocks of one to three vectors, weights contiguous per block.
///
/// Block layout: `[steps][vectors * LANES]`, zero beyond the last channel.
pub(super) struct Panels {
    /// The blocks, in channel order.
    pub(super) blocks: Vec<Block>,
    /// All blocks' values.
    pub(super) values: Vec<f32>,
    /// Steps of the inner loop: `kernel rows * kernel columns * input channels`.
    pub(super) steps: usize,
}

/// One block of output channels.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// First channel.
    pub(super) start: usize,
    /// Channels that exist, at most `vectors * LANES`.
    pub(super) channels: usize,
    /// Vectors, 1 to 3.
    pub(super) vectors: usize,
    /// Where its values start in [`Panels::values`].
    pub(super) offset: usize,
}

/// Cuts `channels` into blocks: threes have the best ratio of loads to products, a lone vector the worst.
pub(super) fn blocks(channels: usize, steps: usize) -> Vec<Block> {
    let vectors = channels.div_ceil(LANES);
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
            let block = Block {
                start,
                channels: (channels - start).min(vectors * LANES),
                vectors,
                offset: start * steps,
            };
            start += vectors * LANES;
            block
        })
        .collect()
}

impl Panels {
    /// Packs `steps x channels` weights, asked for by (step, channel).
    pub(super) fn pack(channels: usize, steps: usize, weight: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let blocks = blocks(channels, steps);
        let total = blocks.last().map_or(0, |last| last.offset + last.vectors * LANES * steps);
        let mut values = vec![0.0; total];
        let mut rest = values.as_mut_slice();
        let mut parts = Vec::with_capacity(blocks.len());
        for block in &blocks {
            let (part, tail) = rest.split_at_mut(block.vectors * LANES * steps);
            parts.push((block, part));
            rest = tail;
        }
        let fill = |(block, part): (&Block, &mut [f32])| {
            let width = block.vectors * LANES;
            // Channel by channel: the source is contiguous along steps.
            for lane in 0..block.channels {
                for (step, row) in part.chunks_exact_mut(width).enumerate() {
                    row[lane] = weight(step, block.start + lane);
                }
            }
        };
        // Below this many values, waking another thread costs more than it saves.
        if total > 64 * 1024 {
            parts.into_par_iter().for_each(fill);
        } else {
            parts.into_iter().for_each(fill);
        }
        Self { blocks, values, steps }
    }
}
