//! Shapes checked and grids laid out, before anything is launched. Pure.

use candle_core::{Result, bail};
use cudarc::driver::LaunchConfig;

use super::Array;
use super::dnn::Shape;
use super::lane::{BLOCK, Window};
use crate::network::layer::{Conv, Pool};
use crate::training::kernels::map::Map;

/// Most blocks that share a channel's sum.
const CHUNKS: usize = 256;
/// Rows that a thread adds up at least, before more blocks are asked for.
const ROWS: usize = 8;
/// Threads that finish a channel's sum.
const FINISH: u32 = 128;

pub(super) fn map(x: &Array) -> Result<Map> {
    match *x.dims.as_slice() {
        [images, height, width, channels] => Ok(Map { images, height, width, channels }),
        _ => bail!("expected a map, got dimensions {:?}", x.dims),
    }
}

pub(super) fn expect(what: &str, got: &Array, expected: &[usize]) -> Result<()> {
    if got.dims != expected {
        bail!("{what}: expected {expected:?}, got {:?}", got.dims);
    }
    Ok(())
}

pub(super) fn matrix(what: &str, x: &Array) -> Result<(usize, usize)> {
    match *x.dims.as_slice() {
        [rows, columns] => Ok((rows, columns)),
        _ => bail!("{what}: expected a matrix, got dimensions {:?}", x.dims),
    }
}

/// What `kernel` pixels a side make of `input`.
pub(super) fn slide(
    what: &str,
    input: Map,
    channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Result<Map> {
    let output = input.slid(kernel, stride, padding, channels);
    if output.height * output.width == 0 {
        bail!("{what}: a {}x{} map is smaller than the window {kernel}", input.height, input.width);
    }
    Ok(output)
}

pub(super) fn window(input: Map, output: Map, kernel: usize, stride: usize, padding: usize) -> Window {
    let [kernel, stride, padding, height, width, rows, columns, channels] =
        [kernel, stride, padding, input.height, input.width, output.height, output.width, input.channels]
            .map(|number| number as i32);
    Window { kernel, stride, padding, height, width, rows, columns, channels }
}

pub(super) fn pooled(x: &Array, pool: &Pool) -> Result<(Map, Map, Window)> {
    let input = map(x)?;
    let output = slide("pool", input, input.channels, pool.kernel, pool.stride, pool.padding)?;
    Ok((input, output, window(input, output, pool.kernel, pool.stride, pool.padding)))
}

pub(super) fn shape(input: Map, output: Map, conv: &Conv) -> Shape {
    let of = |map: Map| [map.channels as i32, map.height as i32, map.width as i32];
    Shape {
        images: input.images as i32,
        input: of(input),
        output: of(output),
        kernel: conv.kernel as i32,
        stride: conv.stride as i32,
        padding: conv.padding as i32,
    }
}

/// A weight in memory: `[outputs, kernel, kernel, inputs]`.
pub(super) fn weight_dims(conv: &Conv) -> [usize; 4] {
    [conv.out_channels, conv.kernel, conv.kernel, conv.in_channels / conv.groups]
}

pub(super) fn convolved(x: &Array, weight: Option<&Array>, conv: &Conv) -> Result<(Map, Map)> {
    let input = map(x)?;
    if input.channels != conv.in_channels {
        bail!("convolution: expected {} channels, got {}", conv.in_channels, input.channels);
    }
    if let Some(weight) = weight {
        expect("convolution weight", weight, &weight_dims(conv))?;
    }
    Ok((input, slide("convolution", input, conv.out_channels, conv.kernel, conv.stride, conv.padding)?))
}

/// A linear layer as the convolution of maps of one pixel.
pub(super) fn dense(inputs: usize, outputs: usize) -> Conv {
    Conv {
        in_channels: inputs,
        out_channels: outputs,
        kernel: 1,
        stride: 1,
        padding: 0,
        groups: 1,
        bias: false,
    }
}

/// A grid for sums per channel, and in how many chunks they come.
pub(super) fn sum_grid(rows: usize, channels: usize) -> (LaunchConfig, usize) {
    let across = channels.min(64) as u32;
    let lanes = BLOCK / across;
    let chunks = rows.div_ceil(lanes as usize * ROWS).clamp(1, CHUNKS);
    let grid = LaunchConfig {
        grid_dim: ((channels as u32).div_ceil(across), chunks as u32, 1),
        block_dim: (across, lanes, 1),
        shared_mem_bytes: 0,
    };
    (grid, chunks)
}

/// A block for each of so many sums.
pub(super) fn block_each(count: usize) -> LaunchConfig {
    LaunchConfig { grid_dim: (count as u32, 1, 1), block_dim: (FINISH, 1, 1), shared_mem_bytes: 0 }
}

pub(super) fn four(x: &Array) -> Result<[usize; 4]> {
    match *x.dims.as_slice() {
        [a, b, c, d] => Ok([a, b, c, d]),
        _ => bail!("expected four dimensions, got {:?}", x.dims),
    }
}
