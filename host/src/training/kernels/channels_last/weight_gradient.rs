//! Weight gradient of a convolution: outer products of input windows and output gradients, summed over pixels.
//!
//! The same padded strips as `correlate`, the sums of a tile (MR rows of the weight x NV vectors of output
//! channels) in registers over all pixels of a strip. Images are cut into chunks by shape alone, each chunk has its own
//! sums, and they are added in order: the result does not depend on the number of threads.
#![allow(unsafe_code)] // As in `correlate`: raw pointers into buffers whose bounds are argued per strip.

use rayon::prelude::*;

use super::correlate;
use super::panels::{Block, Width, blocks, parts};
use super::simd::{Lanes, by_processor};
use super::strips::{Gathered, SCRATCH, SLACK, Strip, Windows, grow};

/// Values that all chunks' sums may take together: 16 MiB.
const SUM_VALUES: usize = 4 * 1024 * 1024;
/// More chunks than this balance nothing any more.
const CHUNKS: usize = 16;
/// Output pixels in a strip: their gradient panel (at most 3 vectors each) and input lines share the first-level cache.
const STRIP_PIXELS: usize = 160;

/// Sums of products, `[steps][channels]` in the blocks of [`blocks`]: `steps` as in the packed weights.
pub(super) struct Sums {
    pub(super) blocks: Vec<Block>,
    pub(super) values: Vec<f32>,
}

/// The gradient's part for output channels `first..first + channels` of `gradient`, which has `width` channels a pixel.
pub(super) fn weight_sums(
    source: &[f32],
    windows: &Windows,
    gradient: &[f32],
    width: usize,
    first: usize,
    channels: usize,
) -> Sums {
    let steps = windows.kernel_rows * windows.run();
    let blocks = blocks(channels, steps, windows.run());
    let total = blocks.last().map_or(0, |last| last.offset + last.lanes() * steps);
    windows.assert_within(source);
    assert!(gradient.len() >= windows.images * windows.rows * windows.columns * width);
    assert!(first + channels <= width, "channels beyond the gradient's");
    let per_chunk = images_of_chunk(windows.images, total);
    let mut partial = empty_sums(windows.images, total);
    // Fewer than eight chunks (large weights): blocks are shared out among threads as well.
    let pieces: Vec<(usize, Block, &mut [f32])> = partial
        .iter_mut()
        .flat_map(|(start, values)| {
            let parts = parts(&blocks, values, |block| block.lanes() * steps);
            parts.into_iter().map(|(block, part)| (*start, block, part))
        })
        .collect();
    let mut jobs: Vec<Vec<(usize, Block, &mut [f32])>> = Vec::new();
    let together = if total * 8 > SUM_VALUES { 4 } else { blocks.len() };
    for piece in pieces {
        match jobs.last_mut() {
            Some(job) if job[0].0 == piece.0 && job.len() < together => job.push(piece),
            _ => jobs.push(vec![piece]),
        }
    }
    jobs.into_par_iter().for_each(|mut job| {
        let start = job[0].0;
        let count = per_chunk.min(windows.images - start);
        let images = STRIP_PIXELS.div_ceil(windows.rows * windows.columns);
        for strip in strips(windows, start, count, images) {
            SCRATCH.with_borrow_mut(|scratch| {
                windows.fill(source, strip, &mut scratch.input, &mut scratch.offsets);
                let pixels = scratch.offsets.len();
                let base = (strip.image * windows.rows + strip.row) * windows.columns;
                for (_, block, sums) in &mut job {
                    let (lanes, rows) = (block.lanes(), &gradient[base * width..(base + pixels) * width]);
                    // A block that is all of a pixel's channels is a panel as it lies there.
                    let panel = if block.channels == width && lanes == width {
                        rows.as_ptr()
                    } else {
                        grow(&mut scratch.panel, pixels * lanes);
                        let part = Part { rows, width, at: first + block.start, channels: block.channels };
                        // SAFETY: every row holds the block's channels; the panel was just sized.
                        unsafe { copy_part(&part, block.width, scratch.panel.as_mut_ptr()) };
                        scratch.panel.as_ptr()
                    };
                    let job = Job {
                        windows: Gathered::strip(windows, &scratch.input, &scratch.offsets),
                        panel,
                        sums: sums.as_mut_ptr(),
                    };
                    // SAFETY: `fill` made the buffer cover every window and SLACK more; the panel holds a vector block
                    // per pixel; the sums hold `steps` rows of the block.
                    unsafe { dispatch(&job, block.width) };
                }
            });
        }
    });
    Sums { blocks, values: added(partial, total) }
}

/// Images whose products go into the same `total` sums; by shape alone.
fn images_of_chunk(images: usize, total: usize) -> usize {
    let chunks = (SUM_VALUES / total.max(1)).clamp(2, CHUNKS).min(images.max(1));
    images.div_ceil(chunks).max(1)
}

/// First image and zeroed sums of each chunk.
fn empty_sums(images: usize, total: usize) -> Vec<(usize, Vec<f32>)> {
    let starts = (0..images).step_by(images_of_chunk(images, total));
    starts.map(|start| (start, vec![0.0; total])).collect()
}

/// `total` sums over all images: `work` adds those of `count` images from `start` on, several chunks at once.
pub(super) fn in_chunks(
    images: usize,
    total: usize,
    work: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let count = images_of_chunk(images, total);
    let mut partial = empty_sums(images, total);
    partial.par_iter_mut().for_each(|(start, sums)| work(*start, count.min(images - *start), sums));
    added(partial, total)
}

/// The chunks' sums, added in order for every value, so threads change nothing.
fn added(partial: Vec<(usize, Vec<f32>)>, total: usize) -> Vec<f32> {
    let mut partial = partial.into_iter().map(|(_, values)| values);
    let mut values = partial.next().unwrap_or_else(|| vec![0.0; total]);
    let others: Vec<Vec<f32>> = partial.collect();
    let piece = 16 * 1024;
    values.par_chunks_mut(piece).enumerate().for_each(|(index, sums)| {
        for other in &others {
            add_to(sums, &other[index * piece..index * piece + sums.len()]);
        }
    });
    values
}

super::simd::vectorised! {
    fn add_to(sums: &mut [f32], other: &[f32]) {
        for (sum, value) in sums.iter_mut().zip(other) {
            *sum += value;
        }
    }
}

/// Strips of at most about [`STRIP_PIXELS`] pixels: those of the correlation, cut further.
fn strips(windows: &Windows, start: usize, count: usize, images: usize) -> Vec<Strip> {
    let rows_at_most = (STRIP_PIXELS / windows.columns).max(1);
    windows
        .strips(start, count, images)
        .into_iter()
        .flat_map(|strip| {
            let rows = if strip.images == 1 { rows_at_most.min(strip.rows) } else { strip.rows };
            (0..strip.rows).step_by(rows).map(move |row| Strip {
                row: strip.row + row,
                rows: rows.min(strip.rows - row),
                ..strip
            })
        })
        .collect()
}

/// Some channels of every pixel.
struct Part<'a> {
    rows: &'a [f32],
    /// Channels of a row.
    width: usize,
    /// The first one wanted.
    at: usize,
    /// How many are wanted.
    channels: usize,
}

by_processor! {
    /// Copies a part to whole vectors, zero beyond the last channel.
    ///
    /// # Safety
    /// Every row has `at + channels` values at the least; `to` covers whole vectors for each.
    fn copy_part(part: &Part<'_>, width: Width, to: *mut f32) => sized_part
}

/// # Safety
/// As [`copy_part`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn sized_part<V: Lanes>(part: &Part<'_>, width: Width, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match width {
            Width::Vectors(_) => part_of_rows::<V>(part, to),
            Width::Pairs => part_of_rows::<V::Pairs>(part, to),
        }
    }
}

/// # Safety
/// As [`copy_part`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn part_of_rows<V: Lanes>(part: &Part<'_>, mut to: *mut f32) {
    for row in part.rows.chunks_exact(part.width) {
        for channel in (0..part.channels).step_by(V::COUNT) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = row.as_ptr().add(part.at + channel);
                correlate::load::<V>(from, part.channels - channel).store(to);
                to = to.add(V::COUNT);
            }
        }
    }
}

/// One block of output channels over one strip.
pub(super) struct Job<'a> {
    pub(super) windows: Gathered<'a>,
    pub(super) panel: *const f32,
    pub(super) sums: *mut f32,
}

by_processor! {
    /// Runs a job.
    ///
    /// # Safety
    /// As [`tiles`], with the width of the block.
    pub(super) fn dispatch(job: &Job<'_>, width: Width) => sized_tiles
}

/// Of heights that leave a register spare, the one that takes the least time over a run: the last tile's surplus rows are
/// computed for nothing, and every tile loads its operands anew, which takes as long as some 4 rows.
///
/// Without the spare register LLVM spills a sum (4 x 3 sums and 7 operands of 16 registers), at half the speed.
///
/// # Safety
/// As [`dispatch`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn sized_tiles<V: Lanes>(job: &Job<'_>, width: Width) {
    let best = |heights: &[usize]| {
        let cost = |height: &usize| job.windows.run.div_ceil(*height) * (*height + 4);
        heights.iter().copied().min_by_key(cost)
    };
    // SAFETY: the caller's promise.
    unsafe {
        match (V::REGISTERS, width) {
            (_, Width::Pairs) => match best(&[24, 16, 12, 8]) {
                Some(24) => tiles::<V::Pairs, 12, 1>(job),
                Some(16) => tiles::<V::Pairs, 8, 1>(job),
                Some(12) => tiles::<V::Pairs, 6, 1>(job),
                _ => tiles::<V::Pairs, 4, 1>(job),
            },
            (32, Width::Vectors(1)) => match best(&[16, 12, 8, 4]) {
                Some(16) => tiles::<V, 16, 1>(job),
                Some(12) => tiles::<V, 12, 1>(job),
                Some(8) => tiles::<V, 8, 1>(job),
                _ => tiles::<V, 4, 1>(job),
            },
            (32, Width::Vectors(2)) => match best(&[12, 10, 8]) {
                Some(12) => tiles::<V, 12, 2>(job),
                Some(10) => tiles::<V, 10, 2>(job),
                _ => tiles::<V, 8, 2>(job),
            },
            (32, Width::Vectors(_)) => tiles::<V, 8, 3>(job),
            (_, Width::Vectors(1)) => match best(&[12, 8, 4]) {
                Some(12) => tiles::<V, 12, 1>(job),
                Some(8) => tiles::<V, 8, 1>(job),
                _ => tiles::<V, 4, 1>(job),
            },
            (_, Width::Vectors(2)) => match best(&[6, 5]) {
                Some(6) => tiles::<V, 6, 2>(job),
                _ => tiles::<V, 5, 2>(job),
            },
            (_, Width::Vectors(_)) => tiles::<V, 3, 3>(job),
        }
    }
}

/// # Safety
/// The instructions of `V` exist; from every offset, `job.windows.input` covers `kernel_rows` rows of `run` values,
/// `row_values` apart, and a tile's rows more; `job.panel` covers NV vectors per offset; `job.sums` covers
/// `kernel_rows * run * NV` vectors.
#[inline(always)]
unsafe fn tiles<V: Lanes, const MR: usize, const NV: usize>(job: &Job<'_>) {
    const { assert!(MR * V::STEPS <= SLACK) };
    for kernel_row in 0..job.windows.kernel_rows {
        let mut k = 0;
        while k < job.windows.run {
            let real = (job.windows.run - k).min(MR * V::STEPS);
            // SAFETY: reads stay within a window and a tile past it; only real rows of the sums are touched.
            unsafe {
                let input = job.windows.input.add(kernel_row * job.windows.row_values + k);
                let sums = products::<V, MR, NV>(input, job);
                let one = V::splat(1.0);
                let out = job.sums.add((kernel_row * job.windows.run + k) * NV * V::COUNT);
                for i in 0..MR {
                    for step in 0..V::STEPS {
                        let row = i * V::STEPS + step;
                        if row < real {
                            for v in 0..NV {
                                let at = out.add((row * NV + v) * V::COUNT);
                                V::load(at).add_product(sums[i][v].of_step(step), one).store(at);
                            }
                        }
                    }
                }
            }
            k += MR * V::STEPS;
        }
    }
}

/// The inner loop, over a strip's pixels; as in `correlate`, its sums are never addressed.
///
/// # Safety
/// As [`tiles`], with `input` moved to a row and run position of the window.
#[inline(always)]
unsafe fn products<V: Lanes, const MR: usize, const NV: usize>(
    input: *const f32,
    job: &Job<'_>,
) -> [[V; NV]; MR] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(0.0); NV]; MR];
        let mut gradient = job.panel;
        for &offset in job.windows.offsets {
            let x = input.add(offset);
            let g: [V; NV] = std::array::from_fn(|v| V::load_for_steps(gradient.add(v * V::COUNT)));
            gradient = gradient.add(NV * V::COUNT);
            for i in 0..MR {
                let x = V::broadcast(x.add(i * V::STEPS));
                for v in 0..NV {
                    sums[i][v] = sums[i][v].add_product(x, g[v]);
                }
            }
        }
        sums
    }
}
