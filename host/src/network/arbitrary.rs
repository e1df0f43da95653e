//! Random small networks, weights and images for property tests.

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::builder::{Builder, ConvChoice};
use super::layer::{Activation, Conv, Input, Layer, Pool};
use super::surgery::{Source, Surgery};
use super::{Network, NodeId, Role, Shape};
use crate::model_io::Weights;
use crate::training::inheritance::initial_weights;

/// Plain chains, residual nets and depthwise nets, small enough for the reference forward pass.
pub(crate) fn any_network() -> impl Strategy<Value = Network> {
    let input = (1_usize..4, 3_usize..9, 3_usize..9).prop_map(|(channels, height, width)| Input {
        channels,
        height,
        width,
    });
    let steps = prop::collection::vec((0_u8..13, 1_usize..6, any::<u8>()), 1..9);
    (input, steps, 0_u8..4, 1_usize..4)
        .prop_map(|(input, steps, head, classes)| chain(input, &steps, head, classes))
}

/// ResNet-18's form with 4, 6, 8 and 10 channels, on 8x8 images.
pub(crate) fn small_resnet() -> Network {
    let image = Input { channels: 3, height: 8, width: 8 };
    let mut b = Builder::new(image).unwrap();
    let mut last = relu_of(&mut b, 0, "conv1", "bn1", "relu1", conv(4, 3, 1));
    for (stage, channels) in (1..).zip([4, 6, 8, 10]) {
        for index in 0..2 {
            let stride = if stage > 1 && index == 0 { 2 } else { 1 };
            last = residual(&mut b, &format!("layer{stage}.{index}"), last, channels, stride, true).unwrap();
        }
    }
    let pool = b.push("pool", Layer::GlobalAveragePool, &[last]).unwrap();
    b.linear("fc", pool, 4).unwrap();
    b.finish().unwrap()
}

/// Initial weights with every vector (biases, batch-norm parameters and statistics) drawn at random too.
pub(crate) fn lively_weights(network: &Network, seed: u64) -> Weights {
    let mut weights = initial_weights(network, seed);
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    for parameter in network.parameters() {
        let around = match parameter.role {
            Role::Weight => continue,
            Role::Scale | Role::RunningVariance => 1.0,
            Role::Bias | Role::Shift | Role::RunningMean => 0.0,
        };
        let values = (0..parameter.dims[0]).map(|_| around + (uniform(&mut generator) - 0.5)).collect();
        weights.insert(parameter.name, parameter.dims, values);
    }
    weights
}

/// An image for that network, values in -1..1.
pub(crate) fn image(network: &Network, seed: u64) -> Vec<f32> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    (0..network.input_shape().elements()).map(|_| uniform(&mut generator) * 2.0 - 1.0).collect()
}

/// What every surgery must satisfy: one source per student tensor, each in range and of the tensor's dimensions, names
/// kept, and costs no higher.
pub(crate) fn assert_sound(teacher: &Network, surgery: &Surgery) {
    let student = &surgery.network;
    assert_eq!(Network::new(student.nodes().to_vec()).as_ref(), Ok(student));
    assert_eq!(student.classes(), teacher.classes());
    assert_eq!(student.input_shape(), teacher.input_shape());
    assert!(student.nodes().iter().all(|node| teacher.find(&node.name).is_some()));
    let (before, after) = (teacher.cost(), student.cost());
    assert!(after.macs <= before.macs && after.params <= before.params, "{before:?} to {after:?}");
    let theirs = teacher.parameters();
    let ours = student.parameters();
    assert_eq!(ours.len(), surgery.inheritance.iter().count());
    for parameter in ours {
        let Some(Source::Slice { tensor, axes }) = surgery.inheritance.get(&parameter.name) else {
            assert_eq!(surgery.inheritance.get(&parameter.name), Some(&Source::Fresh), "{}", parameter.name);
            continue;
        };
        let source = theirs.iter().find(|their| their.name == *tensor).unwrap();
        assert_eq!((source.role, axes.len()), (parameter.role, source.dims.len()));
        for (axis, indices) in axes.iter().enumerate() {
            let taken = indices.as_ref().map_or(source.dims[axis], Vec::len);
            assert_eq!(taken, parameter.dims[axis], "{} axis {axis}", parameter.name);
            assert!(indices.iter().flatten().all(|&index| index < source.dims[axis]));
        }
    }
}

/// In 0..1.
fn uniform(generator: &mut ChaCha8Rng) -> f32 {
    (generator.next_u32() >> 8) as f32 / (1 << 24) as f32
}

fn conv(out_channels: usize, kernel: usize, stride: usize) -> ConvChoice {
    ConvChoice { out_channels, kernel, stride, padding: kernel / 2, bias: false }
}

fn relu_of(b: &mut Builder, from: NodeId, conv: &str, norm: &str, relu: &str, choice: ConvChoice) -> NodeId {
    let id = b.conv(conv, from, choice).unwrap();
    let id = b.batch_norm(norm, id).unwrap();
    b.relu(relu, id).unwrap()
}

/// A basic block; `None` where it does not fit.
fn residual(
    b: &mut Builder,
    name: &str,
    from: NodeId,
    channels: usize,
    stride: usize,
    relu_after: bool,
) -> Option<NodeId> {
    let first = conv(channels, 3, stride);
    let main =
        relu_of(b, from, &format!("{name}.conv1"), &format!("{name}.bn1"), &format!("{name}.relu1"), first);
    let main = b.conv(format!("{name}.conv2"), main, conv(channels, 3, 1)).ok()?;
    join(b, name, from, main, channels, stride, relu_after)
}

/// MobileNet's inverted block: wider by a 1x1 convolution, depthwise with the stride, narrow again, no activation.
fn inverted(b: &mut Builder, name: &str, from: NodeId, channels: usize, stride: usize) -> Option<NodeId> {
    let wide = conv(channels + 2, 1, 1);
    let main =
        relu_of(b, from, &format!("{name}.expand"), &format!("{name}.bn1"), &format!("{name}.relu1"), wide);
    let main = b.depthwise(format!("{name}.dw"), main, stride).ok()?;
    let main = b.relu(format!("{name}.dwrelu"), main).ok()?;
    let main = b.conv(format!("{name}.project"), main, conv(channels, 1, 1)).ok()?;
    join(b, name, from, main, channels, stride, false)
}

/// Batch norm of the main branch, plus the input or its projection.
fn join(
    b: &mut Builder,
    name: &str,
    from: NodeId,
    main: NodeId,
    channels: usize,
    stride: usize,
    relu_after: bool,
) -> Option<NodeId> {
    let main = b.batch_norm(format!("{name}.bn2"), main).ok()?;
    let mut shortcut = from;
    if b.shape(main) != b.shape(from) {
        shortcut = b.conv(format!("{name}.shortcut.conv"), from, conv(channels, 1, stride)).ok()?;
        shortcut = b.batch_norm(format!("{name}.shortcut.bn"), shortcut).ok()?;
    }
    let add = b.push(format!("{name}.add"), Layer::Add, &[main, shortcut]).ok()?;
    if relu_after { b.relu(format!("{name}.relu2"), add).ok() } else { Some(add) }
}

/// One step per (operation, channels, variant); a step that does not fit is left out.
fn chain(input: Input, steps: &[(u8, usize, u8)], head: u8, classes: usize) -> Network {
    let mut b = Builder::new(input).unwrap();
    let mut last = b.conv("stem", 0, conv(3, 3, 1)).unwrap();
    for (index, &(operation, channels, variant)) in steps.iter().enumerate() {
        let name = format!("s{index}");
        let flag = |bit: u8| variant >> bit & 1 == 1;
        let stride = 1 + usize::from(flag(0));
        let stepped = match operation {
            0..=2 => {
                let kernel = [1, 2, 3][usize::from(variant / 4) % 3];
                let choice = ConvChoice { bias: flag(1), ..conv(channels, kernel, stride) };
                b.conv(format!("{name}.conv"), last, choice).and_then(|mut id| {
                    if flag(2) {
                        id = b.batch_norm(format!("{name}.bn"), id)?;
                    }
                    if flag(3) {
                        let relu = if flag(4) { Activation::Relu } else { Activation::Relu6 };
                        id = b.push(format!("{name}.act"), Layer::Activation(relu), &[id])?;
                    }
                    Ok(id)
                })
            }
            3 | 4 => b
                .depthwise(format!("{name}.dw"), last, stride)
                .and_then(|id| b.batch_norm(format!("{name}.dwbn"), id))
                .and_then(|id| b.conv(format!("{name}.pw"), id, conv(channels, 1, 1))),
            5 => {
                let pool =
                    Pool { kernel: 2 + usize::from(flag(1)), stride: 2, padding: usize::from(flag(2)) };
                let layer = if flag(3) { Layer::MaxPool(pool) } else { Layer::AveragePool(pool) };
                b.push(format!("{name}.pool"), layer, &[last])
            }
            6 => b.dropout(format!("{name}.drop"), last, 0.5),
            7 => {
                let in_channels = b.shape(last).map_or(0, Shape::channels);
                let groups = if in_channels.is_multiple_of(2) { 2 } else { 1 };
                let grouped = Conv {
                    in_channels,
                    out_channels: 2 * channels,
                    kernel: 3,
                    stride: 1,
                    padding: 1,
                    groups,
                    bias: true,
                };
                b.push(format!("{name}.grouped"), Layer::Conv(grouped), &[last])
            }
            // A block within a block: the outer add belongs to no unit.
            8 => {
                let channels = b.shape(last).map_or(1, Shape::channels);
                let inner =
                    residual(&mut b, &format!("{name}.inner"), last, channels, 1, flag(1)).unwrap_or(last);
                b.push(format!("{name}.outer"), Layer::Add, &[last, inner])
            }
            // Two in a row, so that a block that changes the shape has one after it that can take over.
            _ => Ok([(0, stride), (1, 1)].into_iter().fold(last, |from, (part, stride)| {
                let channels = if flag(1) { b.shape(from).map_or(1, Shape::channels) } else { channels };
                let name = format!("{name}.{part}");
                let block = if operation < 11 {
                    residual(&mut b, &name, from, channels, stride, flag(2))
                } else {
                    inverted(&mut b, &name, from, channels, stride)
                };
                block.unwrap_or(from)
            })),
        };
        last = stepped.unwrap_or(last);
    }
    if head == 0 {
        last = b.push("mean", Layer::GlobalAveragePool, &[last]).unwrap();
    } else {
        last = b.push("flatten", Layer::Flatten, &[last]).unwrap();
    }
    if head >= 2 {
        last = b.linear("hidden", last, 5).unwrap();
        last = b.relu("hidden.relu", last).unwrap();
    }
    last = b.linear("classifier", last, classes).unwrap();
    if head == 3 {
        b.push("softmax", Layer::Softmax, &[last]).unwrap();
    }
    b.finish().unwrap()
}
