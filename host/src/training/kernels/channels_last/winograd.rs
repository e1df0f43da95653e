//! 3x3 windows of stride 1 with 4/9 of the multiplications: Winograd's F(2x2, 3x3).
//!
//! A 4x4 patch of the input gives a 2x2 tile of the output. Input, weight and output pass through small linear maps, and
//! between them lie 16 matrix products, one for each place of the patch: `Y = A' ((G W G') * (B' X B)) A` (Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1). The products run on the tiles of
//! `correlate` and `weight_gradient`. All maps are additions and halvings, so the error stays near the direct one's.
#![allow(unsafe_code)] // As in `correlate`: raw pointers into buffers whose bounds are argued per strip.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::correlate::{self, Finish, Output, Places};
use super::panels::{Block, Taps, blocks, parts};
use super::simd::{Lanes, by_processor, lanes, vectorised};
use super::strips::{Gathered, SCRATCH, SLACK, Strip, Windows, grow};
use super::weight_gradient;

/// Channels whose weights pass through the maps at once.
const GROUP: usize = 8;
/// Edge of a patch of the input.
const PATCH: usize = 4;
/// Edge of a tile of the output.
const TILE: usize = 2;
/// Places of a patch: matrix products.
const PLACES: usize = PATCH * PATCH;
/// Transformed values of a strip, both sides: 256 KiB, half of a second-level cache.
const STRIP_VALUES: usize = 64 * 1024;
/// Fewer tiles in a strip stream the weights too often: 512 channels ran at 65 GFLOP/s with 16 tiles, at 83 with 32.
const FEWEST_TILES: usize = 32;
/// Fewer channels on either side do not pay for the maps. In vectors of eight (Zen 3), 16 ran at 72 GFLOP/s against 85
/// direct, 20 at 83 against 70; in vectors of sixteen (Zen 5), 12 at 117 against 134, 16 to 32 at 260 against 208.
fn fewest_channels() -> usize {
    if lanes() == 16 { 16 } else { 17 }
}

/// Share of the tiles' pixels that lie within the output, at the least; the rest is computed for nothing. A 7x7 map (0.77) ran
/// at 97 GFLOP/s against 83 direct, a 3x3 map (0.56) at 54 against 70 (Zen 3; Zen 5: 153 against 176).
const LEAST_FILLING: f64 = 0.7;
/// Values between the matrices of two places: a cache line, since matrices a power of two apart would share the few lines
/// of one cache set.
const GAP: usize = 16;
/// From so many channel pairs on, the matrix products of one strip are shared out among threads.
const SHARED_PAIRS: usize = 128 * 128;

/// Whether these windows are Winograd's, and it is faster.
pub(super) fn pays(windows: &Windows, outputs: usize) -> bool {
    let fits = (windows.kernel_rows, windows.kernel_columns, windows.stride) == (3, 3, 1);
    let tiles = windows.rows.div_ceil(TILE) * windows.columns.div_ceil(TILE);
    let filling = (windows.rows * windows.columns) as f64 / (tiles * TILE * TILE).max(1) as f64;
    fits && windows.read_channels.min(outputs) >= fewest_channels() && filling >= LEAST_FILLING
}

/// The patches of 3x3 windows.
fn patches(windows: &Windows) -> Windows {
    Windows {
        kernel_rows: PATCH,
        kernel_columns: PATCH,
        stride: TILE,
        rows: windows.rows.div_ceil(TILE),
        columns: windows.columns.div_ceil(TILE),
        ..*windows
    }
}

/// Tiles of a strip for so many channels on both sides.
fn tiles_of_strip(inputs: usize, outputs: usize) -> usize {
    (STRIP_VALUES / (PLACES * (inputs + outputs))).max(FEWEST_TILES)
}

/// Values from one place's matrix to the next, for so many tiles of so many channels.
fn slab(tiles: usize, channels: usize) -> usize {
    tiles * channels + GAP
}

/// Transformed weights: for each block of output channels the matrices of all places.
pub(super) struct Filters {
    blocks: Vec<Block>,
    /// `[block][place][input][lanes of the block]`.
    values: Vec<f32>,
    inputs: usize,
}

impl Filters {
    /// Transforms the 3x3 weights of `channels` output channels and `inputs` inputs.
    pub(super) fn new(channels: usize, inputs: usize, taps: &Taps<'_>) -> Self {
        assert_eq!(taps.places.len(), 9, "expected 3x3 weights");
        let blocks = blocks(channels, PLACES * inputs, inputs);
        let mut values = vec![0.0; blocks.iter().map(|block| PLACES * block.lanes() * inputs).sum()];
        let parts = parts(&blocks, &mut values, |block| PLACES * block.lanes() * inputs);
        parts.into_par_iter().for_each(|(block, part)| {
            let lanes = block.lanes();
            for (input, first) in (0..inputs).flat_map(|i| (0..lanes).step_by(GROUP).map(move |f| (i, f))) {
                let mut weights = [[0.0; GROUP]; 9];
                for lane in 0..GROUP.min(block.channels.saturating_sub(first)) {
                    for (place, values) in weights.iter_mut().enumerate() {
                        values[lane] = taps.at(place, input, block.start + first + lane);
                    }
                }
                let mut transformed = [[0.0; GROUP]; PLACES];
                transform_filter(&weights, &mut transformed);
                for (place, values) in transformed.iter().enumerate() {
                    part[(place * inputs + input) * lanes + first..][..GROUP].copy_from_slice(values);
                }
            }
        });
        Self { blocks, values, inputs }
    }

    /// The matrix of one place and block.
    fn panel(&self, place: usize, block: &Block) -> &[f32] {
        &self.values[block.offset + place * self.inputs * block.lanes()..][..self.inputs * block.lanes()]
    }
}

vectorised! {
    /// `G W G'`.
    fn transform_filter(taps: &[[f32; GROUP]; 9], out: &mut [[f32; GROUP]; PLACES]) {
        for lane in 0..GROUP {
            let mut rows = [[0.0; 3]; PATCH];
            for column in 0..3 {
                let [a, b, c] = [0, 3, 6].map(|row| taps[row + column][lane]);
                let (outer, inner) = (0.5 * (a + c), 0.5 * b);
                (rows[0][column], rows[1][column]) = (a, outer + inner);
                (rows[2][column], rows[3][column]) = (outer - inner, c);
            }
            for (row, [a, b, c]) in rows.into_iter().enumerate() {
                let (outer, inner) = (0.5 * (a + c), 0.5 * b);
                (out[PATCH * row][lane], out[PATCH * row + 1][lane]) = (a, outer + inner);
                (out[PATCH * row + 2][lane], out[PATCH * row + 3][lane]) = (outer - inner, c);
            }
        }
    }
}

vectorised! {
    /// `G' U G`: the gradient of a weight from that of its transform.
    fn gather_filter(places: &[[f32; GROUP]; PLACES], out: &mut [[f32; GROUP]; 9]) {
        for lane in 0..GROUP {
            let mut rows = [[0.0; PATCH]; 3];
            for column in 0..PATCH {
                let [a, b, c, d] = [0, 1, 2, 3].map(|row| places[PATCH * row + column][lane]);
                let (sum, difference) = (0.5 * (b + c), 0.5 * (b - c));
                (rows[0][column], rows[1][column], rows[2][column]) = (a + sum, difference, sum + d);
            }
            for (row, [a, b, c, d]) in rows.into_iter().enumerate() {
                let (sum, difference) = (0.5 * (b + c), 0.5 * (b - c));
                out[3 * row][lane] = a + sum;
                out[3 * row + 1][lane] = difference;
                out[3 * row + 2][lane] = sum + d;
            }
        }
    }
}

/// As [`correlate::correlate`], for windows that [`pays`] approves of.
pub(super) fn correlate(
    source: &[f32],
    windows: &Windows,
    filters: &Filters,
    finish: Finish<'_>,
    output: &mut [MaybeUninit<f32>],
    places: Places,
) {
    let channels = filters.blocks.last().map_or(0, |block| block.start + block.channels);
    if windows.images == 0 || windows.rows == 0 || windows.columns == 0 || channels == 0 {
        return;
    }
    assert_eq!(filters.inputs, windows.read_channels, "weights transformed for other windows");
    windows.assert_within(source);
    assert!(places.last(windows) + channels <= output.len(), "an output pixel lies outside the output");
    let patches = patches(windows);
    let (inputs, outputs) = (filters.inputs.next_multiple_of(lanes()), channels.next_multiple_of(lanes()));
    let mut bias = finish.bias.map_or_else(Vec::new, <[f32]>::to_vec);
    bias.resize(outputs, 0.0);
    let pointer = Output(output.as_mut_ptr().cast());
    let strips = patches.cut(0, windows.images, tiles_of_strip(inputs, outputs));
    strips.into_par_iter().for_each(|strip| {
        SCRATCH.with_borrow_mut(|scratch| {
            patches.fill(source, strip, &mut scratch.input, &mut scratch.offsets);
            let tiles = scratch.offsets.len();
            grow(&mut scratch.transformed, PLACES * slab(tiles, inputs));
            grow(&mut scratch.products, PLACES * slab(tiles, outputs));
            let patch = Patch {
                input: scratch.input.as_ptr(),
                offsets: &scratch.offsets,
                row_values: patches.row_values(),
                channels: filters.inputs,
            };
            // SAFETY: `fill` made the buffer cover every patch of `offsets` and SLACK more; the target was just sized.
            unsafe { transform_input(&patch, inputs, scratch.transformed.as_mut_ptr()) };

            scratch.rows.clear();
            scratch.rows.extend((0..tiles).map(|tile| tile * inputs));
            scratch.places.clear();
            scratch.places.extend((0..tiles).map(|tile| tile * outputs));
            for place in 0..PLACES {
                for block in &filters.blocks {
                    let job = correlate::Job {
                        windows: Gathered::rows(
                            &scratch.transformed[place * slab(tiles, inputs)..],
                            &scratch.rows,
                            filters.inputs,
                        ),
                        panel: filters.panel(place, block).as_ptr(),
                        channels: block.channels,
                        bias: None,
                        bounds: (f32::NEG_INFINITY, f32::INFINITY),
                        output: scratch.products[place * slab(tiles, outputs)..].as_mut_ptr(),
                        places: &scratch.places,
                        channel: block.start,
                    };
                    // SAFETY: every row of both matrices was sized above; the panel holds `inputs` rows of the block.
                    unsafe { correlate::dispatch(&job, block.width) };
                }
            }

            let tile = Tiles {
                products: scratch.products.as_ptr(),
                count: tiles,
                padded: outputs,
                channels,
                bias: bias.as_ptr(),
                bounds: finish.bounds,
                output: pointer.pointer(),
                places,
                windows,
                strip,
            };
            // SAFETY: the products are there; the places were checked above, and belong to this strip alone.
            unsafe { transform_output(&tile) };
        });
    });
}

/// Gradient by a 3x3 weight, `[out][in][3][3]`, for windows that [`pays`] approves of; see
/// [`weight_gradient::weight_sums`].
pub(super) fn weight_gradient(
    source: &[f32],
    windows: &Windows,
    gradient: &[f32],
    width: usize,
    first: usize,
    channels: usize,
    result: &mut [f32],
) {
    let read = windows.read_channels;
    let blocks = blocks(channels, read, read);
    let place = blocks.last().map_or(0, |last| last.offset + last.lanes() * read);
    windows.assert_within(source);
    assert!(gradient.len() >= windows.images * windows.rows * windows.columns * width);
    assert!(first + channels <= width, "channels beyond the gradient's");
    assert_eq!(result.len(), channels * read * 9, "one value for each weight");
    let patches = patches(windows);
    // The output's tiles are the patches of windows of their own, over the gradient.
    let tiles_of_gradient = Windows {
        height: windows.rows,
        width: windows.columns,
        channels: width,
        first_channel: first,
        read_channels: channels,
        kernel_rows: TILE,
        kernel_columns: TILE,
        top: 0,
        left: 0,
        ..patches
    };
    let (inputs, outputs) = (read.next_multiple_of(lanes()), channels.next_multiple_of(lanes()));
    let tiles_at_once = tiles_of_strip(inputs, outputs);
    let sums = weight_gradient::in_chunks(windows.images, PLACES * place, |start, count, sums| {
        let mut buffers = Buffers::default();
        for strip in patches.cut(start, count, tiles_at_once) {
            let tiles = buffers.fill(source, &patches, gradient, &tiles_of_gradient, &blocks, strip);
            let buffers = &buffers;
            let product = |(index, sums): (usize, &mut [f32])| {
                for (block, part) in parts(&blocks, sums, |block| block.lanes() * read) {
                    let job = weight_gradient::Job {
                        windows: Gathered::rows(
                            &buffers.transformed[index * slab(tiles, inputs)..],
                            &buffers.rows,
                            read,
                        ),
                        panel: buffers.products[index * slab(tiles, outputs) + block.start * tiles..]
                            .as_ptr(),
                        sums: part.as_mut_ptr(),
                    };
                    // SAFETY: `transformed` covers a row of `inputs` values for every tile and SLACK more; the panel
                    // holds a vector block per tile; the sums hold `read` rows of the block.
                    unsafe { weight_gradient::dispatch(&job, block.width) };
                }
            };
            if read * channels >= SHARED_PAIRS {
                sums.par_chunks_mut(place).enumerate().for_each(product);
            } else {
                sums.chunks_mut(place).enumerate().for_each(product);
            }
        }
    });
    let parts = parts(&blocks, result, |block| block.channels * read * 9);
    parts.into_par_iter().for_each(|(block, target)| {
        let lanes = block.lanes();
        for input in 0..read {
            for first in (0..block.channels).step_by(GROUP) {
                let at = block.offset + input * lanes + first;
                let mut places = [[0.0; GROUP]; PLACES];
                for (index, values) in places.iter_mut().enumerate() {
                    values.copy_from_slice(&sums[index * place + at..][..GROUP]);
                }
                let mut taps = [[0.0; GROUP]; 9];
                gather_filter(&places, &mut taps);
                for lane in first..block.channels.min(first + GROUP) {
                    let weight = &mut target[(lane * read + input) * 9..][..9];
                    for (weight, values) in weight.iter_mut().zip(&taps) {
                        *weight = values[lane % GROUP];
                    }
                }
            }
        }
    });
}

/// What the weight gradient makes of a strip; not the thread's scratch, since a thread that waits for others' share of
/// this strip may begin another one.
#[derive(Default)]
struct Buffers {
    input: Vec<f32>,
    offsets: Vec<usize>,
    gradient: Vec<f32>,
    gradient_offsets: Vec<usize>,
    rows: Vec<usize>,
    /// `[place][tile][input]`.
    transformed: Vec<f32>,
    /// `[place][block][tile][lanes of the block]`.
    products: Vec<f32>,
}

impl Buffers {
    /// Fills everything from a strip of patches; the number of its tiles.
    fn fill(
        &mut self,
        source: &[f32],
        patches: &Windows,
        gradient: &[f32],
        tiles_of_gradient: &Windows,
        blocks: &[Block],
        strip: Strip,
    ) -> usize {
        patches.fill(source, strip, &mut self.input, &mut self.offsets);
        tiles_of_gradient.fill(gradient, strip, &mut self.gradient, &mut self.gradient_offsets);
        let tiles = self.offsets.len();
        let inputs = patches.read_channels.next_multiple_of(lanes());
        let outputs = tiles_of_gradient.read_channels.next_multiple_of(lanes());
        grow(&mut self.transformed, PLACES * slab(tiles, inputs) + SLACK);
        grow(&mut self.products, PLACES * slab(tiles, outputs));
        self.rows.clear();
        self.rows.extend((0..tiles).map(|tile| tile * inputs));
        let patch = Patch {
            input: self.input.as_ptr(),
            offsets: &self.offsets,
            row_values: patches.row_values(),
            channels: patches.read_channels,
        };
        // SAFETY: `fill` made the buffer cover every patch and SLACK more; the target was just sized.
        unsafe { transform_input(&patch, inputs, self.transformed.as_mut_ptr()) };
        let tile = Patch {
            input: self.gradient.as_ptr(),
            offsets: &self.gradient_offsets,
            row_values: tiles_of_gradient.row_values(),
            channels: tiles_of_gradient.read_channels,
        };
        // SAFETY: as above; the blocks' lanes add up to `outputs`.
        unsafe { transform_gradient(&tile, blocks, outputs, self.products.as_mut_ptr()) };
        tiles
    }
}

/// Patches in a strip's buffer.
struct Patch<'a> {
    input: *const f32,
    offsets: &'a [usize],
    row_values: usize,
    channels: usize,
}

/// Products of a strip on their way to the output.
struct Tiles<'a> {
    /// `[place][tile][padded]`.
    products: *const f32,
    count: usize,
    padded: usize,
    channels: usize,
    /// `padded` values.
    bias: *const f32,
    bounds: (f32, f32),
    output: *mut f32,
    places: Places,
    windows: &'a Windows,
    strip: Strip,
}

by_processor! {
    /// `B' X B` of every patch: `out[place][tile][padded]`.
    ///
    /// # Safety
    /// `patch.input` covers 4 rows of 4 pixels from every offset and a vector more; `out` covers 16 slabs.
    fn transform_input(patch: &Patch<'_>, padded: usize, out: *mut f32) => input_patches
}

by_processor! {
    /// `A Y A'` of every 2x2 tile: `out[place][block][tile][lanes of the block]`.
    ///
    /// # Safety
    /// `tile.input` covers 2 rows of 2 pixels from every offset and a vector more; `out` covers 16 slabs of `padded`
    /// values a tile, which the blocks' lanes do not exceed.
    fn transform_gradient(tile: &Patch<'_>, blocks: &[Block], padded: usize, out: *mut f32) => gradient_tiles
}

by_processor! {
    /// `A' P A` of every tile, with bias and bounds, to the output's pixels.
    ///
    /// # Safety
    /// `products` covers 16 slabs; each place of the strip's windows covers `channels` values of the output.
    fn transform_output(tile: &Tiles<'_>) => output_tiles
}

/// # Safety
/// As [`transform_input`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn input_patches<V: Lanes>(patch: &Patch<'_>, padded: usize, out: *mut f32) {
    let slab = slab(patch.offsets.len(), padded);
    for (tile, &offset) in patch.offsets.iter().enumerate() {
        for channel in (0..patch.channels).step_by(V::COUNT) {
            // SAFETY: the caller's promise.
            unsafe {
                let from = patch.input.add(offset + channel);
                let to = out.add(tile * padded + channel);
                let mut rows = [[V::splat(0.0); PATCH]; PATCH];
                for column in 0..PATCH {
                    let at = |row: usize| V::load(from.add(row * patch.row_values + column * patch.channels));
                    let [a, b, c, d] = [at(0), at(1), at(2), at(3)];
                    (rows[0][column], rows[1][column]) = (a.minus(c), b.plus(c));
                    (rows[2][column], rows[3][column]) = (c.minus(b), b.minus(d));
                }
                for (row, [a, b, c, d]) in rows.into_iter().enumerate() {
                    let values = [a.minus(c), b.plus(c), c.minus(b), b.minus(d)];
                    for (column, value) in values.into_iter().enumerate() {
                        value.store(to.add((row * PATCH + column) * slab));
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`transform_gradient`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn gradient_tiles<V: Lanes>(tile: &Patch<'_>, blocks: &[Block], padded: usize, out: *mut f32) {
    let tiles = tile.offsets.len();
    let slab = slab(tiles, padded);
    for block in blocks {
        let vectors = block.lanes() / V::COUNT;
        for (index, &offset) in tile.offsets.iter().enumerate() {
            for vector in 0..vectors {
                // SAFETY: the caller's promise.
                unsafe {
                    let from = tile.input.add(offset + block.start + vector * V::COUNT);
                    let to = out.add(block.start * tiles + (index * vectors + vector) * V::COUNT);
                    let zero = V::splat(0.0);
                    let mut rows = [[zero; TILE]; PATCH];
                    for column in 0..TILE {
                        let a = V::load(from.add(column * tile.channels));
                        let b = V::load(from.add(tile.row_values + column * tile.channels));
                        (rows[0][column], rows[1][column]) = (a, a.plus(b));
                        (rows[2][column], rows[3][column]) = (a.minus(b), zero.minus(b));
                    }
                    for (row, [a, b]) in rows.into_iter().enumerate() {
                        let values = [a, a.plus(b), a.minus(b), zero.minus(b)];
                        for (column, value) in values.into_iter().enumerate() {
                            value.store(to.add((row * PATCH + column) * slab));
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`transform_output`], and the instructions of `V` exist.
#[inline(always)]
unsafe fn output_tiles<V: Lanes>(tile: &Tiles<'_>) {
    let slab = slab(tile.count, tile.padded);
    let columns = tile.windows.columns.div_ceil(TILE);
    for index in 0..tile.count {
        let (line, column) = (index / columns, TILE * (index % columns));
        let (image, row) = (tile.strip.image + line / tile.strip.rows, line % tile.strip.rows);
        let row = TILE * (tile.strip.row + row);
        let pixel = tile.places.start
            + image * tile.places.image
            + row * tile.places.row
            + column * tile.places.column;
        let (down, across) = (tile.windows.rows - row, tile.windows.columns - column);
        for channel in (0..tile.channels).step_by(V::COUNT) {
            // SAFETY: the caller's promise; only pixels of the output are stored to.
            unsafe {
                let from = tile.products.add(index * tile.padded + channel);
                let mut rows = [[V::splat(0.0); PATCH]; TILE];
                for column in 0..PATCH {
                    let at = |row: usize| V::load(from.add((row * PATCH + column) * slab));
                    let [a, b, c, d] = [at(0), at(1), at(2), at(3)];
                    (rows[0][column], rows[1][column]) = (a.plus(b).plus(c), b.minus(c).minus(d));
                }
                let bias = V::load(tile.bias.add(channel));
                let (low, high) = (V::splat(tile.bounds.0), V::splat(tile.bounds.1));
                for (row, [a, b, c, d]) in rows.into_iter().enumerate().take(down) {
                    let values = [a.plus(b).plus(c), b.minus(c).minus(d)];
                    for (column, value) in values.into_iter().enumerate().take(across) {
                        let at = pixel + row * tile.places.row + column * tile.places.column + channel;
                        let value = value.plus(bias).clip(low, high);
                        correlate::store(value, tile.output.add(at), tile.channels - channel);
                    }
                }
            }
        }
    }
}
