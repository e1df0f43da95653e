//! The engine under every convolution: correlation of padded strips with packed weights, tile by tile.
//!
//! A strip's input stays in the second-level cache; a window row is one contiguous run of `kernel_width * channels`
//! values, and a tile of MR pixels x NV vectors of output channels is accumulated in registers. No im2col matrix is ever
//! written. The order of additions in one output value does not depend on strips, tiles or threads.
#![allow(unsafe_code)] // Raw pointers into buffers whose bounds are argued per strip: bounds checks halve the speed.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::panels::{Panels, Width};
use super::simd::{Lanes, by_processor, lanes};
use super::strips::{Gathered, SCRATCH, Windows};

/// Weights of the inner loop that stay in a 32 KiB first-level cache: 24 KiB.
const INNER_WEIGHTS: usize = 6 * 1024;
/// Where the values of an output pixel go, in values from the start of the output.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Of the first pixel's first channel.
    pub(super) start: usize,
    /// Between images.
    pub(super) image: usize,
    /// Between rows.
    pub(super) row: usize,
    /// Between columns.
    pub(super) column: usize,
}

impl Places {
    /// Of the last window's pixel.
    pub(super) fn last(&self, windows: &Windows) -> usize {
        self.start
            + (windows.images - 1) * self.image
            + (windows.rows - 1) * self.row
            + (windows.columns - 1) * self.column
    }
}

/// The output that several threads write, each its own pixels.
#[derive(Clone, Copy)]
pub(super) struct Output(pub(super) *mut f32);
// SAFETY: strips are disjoint sets of output pixels, and a thread writes only its strip's.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    pub(super) fn pointer(self) -> *mut f32 {
        self.0
    }
}

/// What follows the sum of products.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    /// Added to each output channel.
    pub(super) bias: Option<&'a [f32]>,
    /// Interval that the result is clipped to.
    pub(super) bounds: (f32, f32),
}

/// Writes every window's products with `panels` to its place in `output`.
///
/// `output` must cover each place plus the panels' channels; pixels that no window names are left as they are.
pub(super) fn correlate(
    source: &[f32],
    windows: &Windows,
    panels: &Panels,
    finish: Finish<'_>,
    output: &mut [MaybeUninit<f32>],
    places: Places,
) {
    let channels = panels.blocks.last().map_or(0, |block| block.start + block.channels);
    if windows.images == 0 || windows.rows == 0 || windows.columns == 0 || channels == 0 {
        return;
    }
    assert_eq!(panels.steps, windows.kernel_rows * windows.run(), "weights packed for another window");
    windows.assert_within(source);
    assert!(places.last(windows) + channels <= output.len(), "an output pixel lies outside the output");
    let bias: Option<Vec<f32>> = finish.bias.map(|bias| {
        let mut padded = bias.to_vec();
        padded.resize(channels.next_multiple_of(lanes()) + 3 * lanes(), 0.0);
        padded
    });
    let pointer = Output(output.as_mut_ptr().cast());
    let threads = rayon::current_num_threads();
    let strips = windows.strips(0, windows.images, windows.images.div_ceil(4 * threads));
    strips.into_par_iter().for_each(|strip| {
        SCRATCH.with_borrow_mut(|scratch| {
            windows.fill(source, strip, &mut scratch.input, &mut scratch.offsets);
            scratch.places.clear();
            for image in strip.image..strip.image + strip.images {
                for row in strip.row..strip.row + strip.rows {
                    let base = places.start + image * places.image + row * places.row;
                    scratch.places.extend((0..windows.columns).map(|column| base + column * places.column));
                }
            }
            for block in &panels.blocks {
                let job = Job {
                    windows: Gathered::strip(windows, &scratch.input, &scratch.offsets),
                    panel: panels.values[block.offset..].as_ptr(),
                    channels: block.channels,
                    bias: bias.as_ref().map(|bias| bias[block.start..].as_ptr()),
                    bounds: finish.bounds,
                    output: pointer.pointer(),
                    places: &scratch.places,
                    channel: block.start,
                };
                // SAFETY: `fill` made the buffer cover every window of `offsets`; the places were checked above to
                // lie within the output, and belong to this strip alone; the panel holds `steps` rows.
                unsafe { dispatch(&job, block.width) };
            }
        });
    });
}

/// One block of output channels over one strip.
pub(super) struct Job<'a> {
    pub(super) windows: Gathered<'a>,
    pub(super) panel: *const f32,
    pub(super) channels: usize,
    pub(super) bias: Option<*const f32>,
    pub(super) bounds: (f32, f32),
    pub(super) output: *mut f32,
    pub(super) places: &'a [usize],
    pub(super) channel: usize,
}

by_processor! {
    /// Runs a job.
    ///
    /// # Safety
    /// As [`tiles`], with the width of the job's block.
    pub(super) fn dispatch(job: &Job<'_>, width: Width) => sized_tiles
}

/// Tile heights leave a register spare: with 4 x 3 sums and 7 operands LLVM spills one sum, at half the speed.
///
/// # Safety
/// As [`dispatch`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn sized_tiles<V: Lanes>(job: &Job<'_>, width: Width) {
    // SAFETY: the caller's promise.
    unsafe {
        match (V::REGISTERS, width) {
            (_, Width::Pairs) => tiles::<V::Pairs, 8, 1>(job),
            (_, Width::Vectors(1)) => tiles::<V, 8, 1>(job),
            (32, Width::Vectors(2)) => tiles::<V, 8, 2>(job),
            (32, _) => tiles::<V, 8, 3>(job),
            (_, Width::Vectors(2)) => tiles::<V, 6, 2>(job),
            _ => tiles::<V, 3, 3>(job),
        }
    }
}

/// All tiles of a job. The inner loop is cut so that its weights stay in the first-level cache; between the pieces
/// the sums wait in the output.
///
/// # Safety
/// The instructions of `V` exist; `job.windows.input` covers `kernel_rows` rows of `run` values, `row_values` apart, from
/// every offset; `job.panel` covers `kernel_rows * run * NV` vectors; `job.output` covers `channels` values
/// (at most `NV` vectors) from every place plus `channel`; offsets and places have one length.
#[inline(always)]
unsafe fn tiles<V: Lanes, const MR: usize, const NV: usize>(job: &Job<'_>) {
    let steps = INNER_WEIGHTS / (3 * V::COUNT);
    let whole_rows = (steps / job.windows.run).clamp(1, job.windows.kernel_rows);
    let pieces = job.windows.run.div_ceil(steps);
    let piece = job.windows.run.div_ceil(pieces).next_multiple_of(V::STEPS);
    let mut row = 0;
    while row < job.windows.kernel_rows {
        let rows = whole_rows.min(job.windows.kernel_rows - row);
        let mut column = 0;
        while column < job.windows.run {
            let segment = Segment {
                offset: row * job.windows.row_values + column,
                step: row * job.windows.run + column,
                rows,
                length: piece.min(job.windows.run - column),
                first: row == 0 && column == 0,
                last: row + rows == job.windows.kernel_rows && column + piece >= job.windows.run,
            };
            // SAFETY: the segment lies within the job's rows and run.
            unsafe { segment_tiles::<V, MR, NV>(job, &segment) };
            column += piece;
        }
        row += rows;
    }
}

/// A part of the inner loop; more than one row only with whole runs.
struct Segment {
    offset: usize,
    step: usize,
    rows: usize,
    length: usize,
    first: bool,
    last: bool,
}

/// # Safety
/// As [`tiles`]; the segment lies within the job's rows and run.
#[inline(always)]
unsafe fn segment_tiles<V: Lanes, const MR: usize, const NV: usize>(job: &Job<'_>, segment: &Segment) {
    let pixels = job.windows.offsets.len();
    // SAFETY: every pointer below stays within what the caller promised: a tile's surplus pixels repeat its last
    // real one, and are not stored.
    unsafe {
        let (low, high) = (V::splat(job.bounds.0), V::splat(job.bounds.1));
        let panel = job.panel.add(segment.step * NV * V::COUNT);
        let mut pixel = 0;
        while pixel < pixels {
            let real = (pixels - pixel).min(MR);
            let mut inputs = [std::ptr::null::<f32>(); MR];
            let mut outputs = [std::ptr::null_mut::<f32>(); MR];
            for i in 0..MR {
                let index = pixel + i.min(real - 1);
                inputs[i] = job.windows.input.add(*job.windows.offsets.get_unchecked(index) + segment.offset);
                outputs[i] = job.output.add(*job.places.get_unchecked(index) + job.channel);
            }
            let mut sums = [[V::splat(0.0); NV]; MR];
            if !segment.first {
                for i in 0..MR {
                    for v in 0..NV {
                        sums[i][v] = load::<V>(outputs[i].add(v * V::COUNT), job.channels - v * V::COUNT);
                    }
                }
            } else if let Some(bias) = job.bias {
                for v in 0..NV {
                    let start = V::load(bias.add(v * V::COUNT));
                    for sum in &mut sums {
                        sum[v] = start;
                    }
                }
            }
            sums = products::<V, MR, NV>(sums, inputs, panel, segment, job.windows.row_values);
            for i in 0..MR {
                if i < real {
                    for v in 0..NV {
                        let sum = sums[i][v].summed();
                        let sum = if segment.last { sum.clip(low, high) } else { sum };
                        store(sum, outputs[i].add(v * V::COUNT), job.channels - v * V::COUNT);
                    }
                }
            }
            pixel += MR;
        }
    }
}

/// The inner loop. Its sums are values of its own, never addressed: only so do they stay in registers.
///
/// # Safety
/// As [`tiles`]: from each of `inputs`, the segment's rows can be read; `weights` covers its steps.
#[inline(always)]
unsafe fn products<V: Lanes, const MR: usize, const NV: usize>(
    mut sums: [[V; NV]; MR],
    mut inputs: [*const f32; MR],
    mut weights: *const f32,
    segment: &Segment,
    row_values: usize,
) -> [[V; NV]; MR] {
    for _ in 0..segment.rows {
        for k in (0..segment.length).step_by(V::STEPS) {
            // SAFETY: the caller's promise.
            unsafe {
                let w: [V; NV] =
                    std::array::from_fn(|v| V::load_weights(weights.add(v * V::COUNT * V::STEPS)));
                weights = weights.add(NV * V::COUNT * V::STEPS);
                for i in 0..MR {
                    let x = V::broadcast(inputs[i].add(k));
                    for v in 0..NV {
                        sums[i][v] = sums[i][v].add_product(x, w[v]);
                    }
                }
            }
        }
        for input in &mut inputs {
            // Past the last row this may point outside; it is not read then.
            *input = input.wrapping_add(row_values);
        }
    }
    sums
}

/// # Safety
/// As [`Lanes::load`], for `count` values if that is less than a vector.
#[inline(always)]
pub(super) unsafe fn load<V: Lanes>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if count >= V::COUNT { V::load(from) } else { V::load_first(from, count) } }
}

/// # Safety
/// As [`Lanes::store`], for `count` values if that is less than a vector.
#[inline(always)]
pub(super) unsafe fn store<V: Lanes>(value: V, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if count >= V::COUNT { value.store(to) } else { value.store_first(to, count) } }
}
