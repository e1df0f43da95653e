//! Convolution on channels-last maps: forward, input gradient and weight gradient as calls of the two engines.
//!
//! The input gradient of a convolution with stride s is s x s convolutions of stride 1, one for each phase of the
//! input's pixels, each with the taps of the kernel that reach that phase: no product with an inserted zero is made.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::buffer::filled;
use super::correlate::{Finish, Places, correlate};
use super::panels::{Panels, Taps, parts};
use super::strips::Windows;
use super::weight_gradient::weight_sums;
use super::winograd::{self, Filters};
use crate::network::layer::Conv;
use crate::training::kernels::map::Map;

/// Shape that `conv` makes of `input`.
pub(super) fn output_map(input: Map, conv: &Conv) -> Map {
    input.slid(conv.kernel, conv.stride, conv.padding, conv.out_channels)
}

fn windows(input: Map, output: Map, conv: &Conv, group: usize) -> Windows {
    let inputs = conv.in_channels / conv.groups;
    Windows {
        images: input.images,
        height: input.height,
        width: input.width,
        channels: input.channels,
        first_channel: group * inputs,
        read_channels: inputs,
        kernel_rows: conv.kernel,
        kernel_columns: conv.kernel,
        stride: conv.stride,
        top: conv.padding as isize,
        left: conv.padding as isize,
        rows: output.height,
        columns: output.width,
    }
}

/// Every window's products with the weights, by the faster of two ways.
fn apply(
    source: &[f32],
    windows: &Windows,
    channels: usize,
    mut taps: Taps<'_>,
    finish: Finish<'_>,
    out: &mut [MaybeUninit<f32>],
    places: Places,
) {
    let (windows, kept) = windows.trimmed();
    taps.places = kept.into_iter().map(|place| taps.places[place]).collect();
    if winograd::pays(&windows, channels) {
        let filters = Filters::new(channels, windows.read_channels, &taps);
        winograd::correlate(source, &windows, &filters, finish, out, places);
    } else {
        let panels = Panels::pack(channels, windows.read_channels, windows.run(), &taps);
        correlate(source, &windows, &panels, finish, out, places);
    }
}

/// Values of the output map.
pub(super) fn forward(
    x: &[f32],
    input: Map,
    weight: &[f32],
    bias: Option<&[f32]>,
    conv: &Conv,
    bounds: (f32, f32),
) -> Vec<f32> {
    let output = output_map(input, conv);
    let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let area = conv.kernel * conv.kernel;
    filled(output.len(), |out: &mut [MaybeUninit<f32>]| {
        for group in 0..conv.groups {
            let taps = Taps {
                weight,
                first: group * outputs * inputs * area,
                channel: inputs * area,
                input: area,
                places: (0..area).collect(),
            };
            let places = Places {
                start: group * outputs,
                image: output.height * output.width * output.channels,
                row: output.width * output.channels,
                column: output.channels,
            };
            let bias = bias.map(|bias| &bias[group * outputs..(group + 1) * outputs]);
            let windows = windows(input, output, conv, group);
            apply(x, &windows, outputs, taps, Finish { bias, bounds }, out, places);
        }
    })
}

/// Along one axis: how a phase of the input's pixels sees the gradient.
struct Phase {
    /// Taps of the kernel that reach this phase.
    taps: usize,
    /// The first of them.
    first: usize,
    /// Zero rows before the gradient.
    before: isize,
    /// Input pixels of this phase.
    count: usize,
}

fn phase(index: usize, size: usize, conv: &Conv) -> Phase {
    let stride = conv.stride;
    let first = (index + conv.padding) % stride;
    let taps = conv.kernel.saturating_sub(first).div_ceil(stride);
    let shift = (index + conv.padding - first) / stride;
    Phase {
        taps,
        first,
        before: taps as isize - 1 - shift as isize,
        count: size.saturating_sub(index).div_ceil(stride),
    }
}

/// Gradient by the input, given the gradient of the output.
pub(super) fn input_gradient(input: Map, weight: &[f32], gradient: &[f32], conv: &Conv) -> Vec<f32> {
    let output = output_map(input, conv);
    let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let area = conv.kernel * conv.kernel;
    let stride = conv.stride;
    filled(input.len(), |out: &mut [MaybeUninit<f32>]| {
        if stride > conv.kernel {
            // Some phases have no tap: no window reaches those pixels.
            out.fill(MaybeUninit::new(0.0));
        }
        for (row, column) in (0..stride).flat_map(|row| (0..stride).map(move |column| (row, column))) {
            let (down, across) = (phase(row, input.height, conv), phase(column, input.width, conv));
            if down.taps * across.taps == 0 || down.count * across.count == 0 {
                continue;
            }
            for group in 0..conv.groups {
                // The correlation runs over the taps backwards.
                let back = |phase: &Phase, place: usize| phase.first + stride * (phase.taps - 1 - place);
                let places = (0..down.taps * across.taps).map(|place| {
                    back(&down, place / across.taps) * conv.kernel + back(&across, place % across.taps)
                });
                let taps = Taps {
                    weight,
                    first: group * outputs * inputs * area,
                    channel: area,
                    input: inputs * area,
                    places: places.collect(),
                };
                let windows = Windows {
                    images: output.images,
                    height: output.height,
                    width: output.width,
                    channels: output.channels,
                    first_channel: group * outputs,
                    read_channels: outputs,
                    kernel_rows: down.taps,
                    kernel_columns: across.taps,
                    stride: 1,
                    top: down.before,
                    left: across.before,
                    rows: down.count,
                    columns: across.count,
                };
                let places = Places {
                    start: (row * input.width + column) * input.channels + group * inputs,
                    image: input.height * input.width * input.channels,
                    row: stride * input.width * input.channels,
                    column: stride * input.channels,
                };
                let finish = Finish { bias: None, bounds: (f32::NEG_INFINITY, f32::INFINITY) };
                apply(gradient, &windows, inputs, taps, finish, out, places);
            }
        }
    })
}

/// Gradient by the weight, `[out][in / groups][kernel][kernel]`.
pub(super) fn weight_gradient(x: &[f32], input: Map, gradient: &[f32], conv: &Conv) -> Vec<f32> {
    let output = output_map(input, conv);
    let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let area = conv.kernel * conv.kernel;
    let mut result = vec![0.0; conv.out_channels * inputs * area];
    for group in 0..conv.groups {
        let (windows, kept) = windows(input, output, conv, group).trimmed();
        let target = &mut result[group * outputs * inputs * area..(group + 1) * outputs * inputs * area];
        if winograd::pays(&windows, outputs) {
            let first = group * outputs;
            winograd::weight_gradient(x, &windows, gradient, output.channels, first, outputs, target);
            continue;
        }
        let sums = weight_sums(x, &windows, gradient, output.channels, group * outputs, outputs);
        // From `[place][input][channel]` in blocks to `[channel][input][place]`.
        let parts = parts(&sums.blocks, target, |block| block.channels * inputs * area);
        parts.into_par_iter().for_each(|(block, target)| {
            let lanes = block.lanes();
            for input in 0..inputs {
                for (index, place) in kept.iter().enumerate() {
                    let row = &sums.values[block.offset + (index * inputs + input) * lanes..];
                    for (lane, &value) in row[..block.channels].iter().enumerate() {
                        target[(lane * inputs + input) * area + place] = value;
                    }
                }
            }
        });
    }
    result
}
