//! Speed of training on this machine: each convolution kernel by layer shape, and whole steps.
//!
//! `cargo bench -p n2n --bench training`. The throughput of a kernel, printed as elements a second, is floating-point
//! operations a second (two a multiply-accumulate); that of a step is images a second.

use std::hint::black_box;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use n2n::network::layer::{Activation, Conv, Input};
use n2n::network::zoo::{Architecture, build};
use n2n::network::{Network, Shape};
use n2n::training::inheritance::initial_weights;
use n2n::training::kernels::{Backend, Batch, ChannelsLast, Kernels, Norm, Terms};
use n2n::training::model::Model;
use n2n::training::optimiser::{Method, Optimiser};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;

fn noise(dims: &[usize]) -> Tensor {
    Tensor::rand(-1f32, 1f32, dims, &Device::Cpu).expect("a random tensor")
}

/// (input channels, output channels, edge of the map, kernel, stride)
const LAYERS: [(usize, usize, usize, usize, usize); 17] = [
    (64, 64, 32, 3, 1),
    (128, 128, 16, 3, 1),
    (256, 256, 8, 3, 1),
    (512, 512, 4, 3, 1),
    (8, 8, 32, 3, 1),
    (20, 20, 32, 3, 1),
    (40, 40, 16, 3, 1),
    (80, 80, 8, 3, 1),
    (3, 20, 32, 3, 1),
    (20, 40, 32, 3, 2),
    (20, 40, 32, 1, 2),
    (1, 16, 28, 3, 1),
    (16, 16, 28, 3, 1),
    (32, 32, 14, 3, 1),
    (64, 64, 7, 3, 1),
    (128, 128, 3, 3, 1),
    (128, 128, 1, 3, 1),
];

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("convolution");
    group.sample_size(20);
    for (ins, outs, edge, kernel, stride) in LAYERS {
        let conv = Conv {
            in_channels: ins,
            out_channels: outs,
            kernel,
            stride,
            padding: kernel / 2,
            groups: 1,
            bias: false,
        };
        let x = noise(&[BATCH, edge, edge, ins]);
        let weight = noise(&[outs, ins, kernel, kernel]);
        let y = ChannelsLast.convolution(&x, &weight, None, &conv, None).expect("forward");
        let operations = 2 * y.elem_count() * ins * kernel * kernel;
        let name = format!("{ins}-{outs} {edge}x{edge} k{kernel} s{stride}");
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.convolution(&x, &weight, None, &conv, None)));
        });
        group.bench_function(BenchmarkId::new("input gradient", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.convolution_input_gradient(&x, &weight, &y, &conv)));
        });
        group.bench_function(BenchmarkId::new("weight gradient", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.convolution_weight_gradient(&x, &y, &conv)));
        });
    }
    group.finish();
}

fn batch_norms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch norm with relu");
    group.sample_size(20);
    for (channels, edge) in [(8, 32), (20, 32), (64, 32), (40, 16)] {
        let x = noise(&[BATCH, edge, edge, channels]);
        let (scale, shift) = (noise(&[channels]), noise(&[channels]));
        let norm = Norm { scale: &scale, shift: &shift, epsilon: 1e-5 };
        let relu = Some(Activation::Relu);
        let (y, statistics) = ChannelsLast.batch_norm(&x, norm, relu).expect("forward");
        group.throughput(Throughput::Elements(x.elem_count() as u64));
        let name = format!("{channels} {edge}x{edge}");
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.batch_norm(&x, norm, relu)));
        });
        group.bench_function(BenchmarkId::new("gradient", &name), |bencher| {
            bencher
                .iter(|| black_box(ChannelsLast.batch_norm_gradient(&x, norm, &statistics, relu, &y, false)));
        });
    }
    group.finish();
}

fn zoo(architecture: Architecture, channels: usize, edge: usize, width: f64) -> Network {
    build(architecture, Input { channels, height: edge, width: edge }, 10, width).expect("a zoo network")
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BATCH as u64));
    let networks = [
        ("resnet18 width 8", zoo(Architecture::Resnet18, 3, 32, 8.0 / 64.0)),
        ("resnet18 width 20", zoo(Architecture::Resnet18, 3, 32, 20.0 / 64.0)),
        ("resnet18 width 64", zoo(Architecture::Resnet18, 3, 32, 1.0)),
        ("vgg13 quarter, 28x28x1", zoo(Architecture::Vgg13, 1, 28, 0.25)),
    ];
    for (name, network) in networks {
        let mut model = Model::new(&network, &initial_weights(&network, 1), ChannelsLast).expect("a model");
        let Shape::Map { channels, height, width } = network.input_shape() else { continue };
        let labels = (0..BATCH).map(|index| (index % 10) as f32).collect();
        let batch = Batch {
            images: noise(&[BATCH, height, width, channels]),
            labels: ChannelsLast.tensor(labels, &[BATCH]).expect("labels"),
            answers: None,
        };
        let method = Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 5e-4 };
        let variables = model.variables().iter().map(|each| (each.tensor.clone(), true));
        let mut optimiser = Optimiser::new(method, ChannelsLast, variables).expect("an optimiser");
        group.bench_function(BenchmarkId::new("training", name), |bencher| {
            bencher.iter(|| {
                let (logits, tape) = model.forward_train(&batch.images).expect("forward");
                let loss = ChannelsLast.loss(&logits, &batch, Terms::default()).expect("loss");
                let gradients = model.backward(tape, &loss.gradient).expect("backward");
                optimiser.step(&gradients, 0.01).expect("a step");
                loss.parts
            });
        });
        group.bench_function(BenchmarkId::new("evaluation", name), |bencher| {
            let folded = model.fold().expect("folded batch norms");
            bencher.iter(|| black_box(model.logits_folded(&folded, &batch.images)));
        });
    }
    group.finish();
}

criterion_group!(benches, convolutions, batch_norms, steps);
criterion_main!(benches);
