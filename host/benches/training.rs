//! Speed of training on this machine: each kernel by layer shape, the parts of a step, whole steps, five students.
//!
//! `cargo bench -p n2n --bench training`. Throughput is printed as elements a second. They are: of a convolution,
//! floating-point operations (two a multiply-accumulate); of batch norms and pools, values of the input map; of the
//! optimiser, weights; of everything else, images.

use std::hint::black_box;
use std::ops::ControlFlow;

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use n2n::data::{Normalisation, Samples};
use n2n::network::layer::{Activation, Conv, Input, Pool};
use n2n::network::zoo::{Architecture, build};
use n2n::network::{Network, Shape};
use n2n::training::DeviceChoice;
use n2n::training::TrainingJob;
use n2n::training::batches::{self, Augmentation, Pick};
use n2n::training::device;
use n2n::training::inheritance::initial_weights;
use n2n::training::kernels::{Backend, Batch, ChannelsLast, Kernels, Norm, Terms};
use n2n::training::model::Model;
use n2n::training::optimiser::{Method, Optimiser};
use n2n::training::recipe::{Length, Recipe};
use n2n::training::trainer::train;
use rayon::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;

fn noise(dims: &[usize]) -> Tensor {
    Tensor::rand(-1f32, 1f32, dims, &Device::Cpu).expect("a random tensor")
}

/// (input channels, output channels, edge of the map, kernel, stride)
const LAYERS: [(usize, usize, usize, usize, usize); 19] = [
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
    (12, 12, 28, 3, 1),
    (16, 32, 14, 3, 1),
];

/// First of all: what a training process does before it trains.
fn opening(_: &mut Criterion) {
    let _cpu = device::open(DeviceChoice::Cpu).expect("a CPU");
}

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

fn pools(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    group.sample_size(20);
    for (channels, edge, kernel, stride, padding) in
        [(16, 28, 2, 2, 0), (64, 32, 2, 2, 0), (64, 56, 3, 2, 1), (20, 32, 3, 1, 1)]
    {
        let pool = Pool { kernel, stride, padding };
        let x = noise(&[BATCH, edge, edge, channels]);
        let name = format!("{channels} {edge}x{edge} k{kernel} s{stride}");
        group.throughput(Throughput::Elements(x.elem_count() as u64));
        let (y, winners) = ChannelsLast.max_pool(&x, &pool).expect("forward");
        group.bench_function(BenchmarkId::new("max forward", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.max_pool(&x, &pool)));
        });
        group.bench_function(BenchmarkId::new("max gradient", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.max_pool_gradient(&x, &winners, &y, &pool)));
        });
        group.bench_function(BenchmarkId::new("average forward", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.average_pool(&x, &pool)));
        });
        group.bench_function(BenchmarkId::new("average gradient", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.average_pool_gradient(&x, &y, &pool)));
        });
    }
    for (channels, edge) in [(512, 4), (160, 4), (64, 8)] {
        let x = noise(&[BATCH, edge, edge, channels]);
        let y = ChannelsLast.global_average(&x).expect("forward");
        let name = format!("{channels} {edge}x{edge}");
        group.throughput(Throughput::Elements(x.elem_count() as u64));
        group.bench_function(BenchmarkId::new("global forward", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.global_average(&x)));
        });
        group.bench_function(BenchmarkId::new("global gradient", &name), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.global_average_gradient(&x, &y)));
        });
    }
    group.finish();
}

fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("loss");
    group.throughput(Throughput::Elements(BATCH as u64));
    let terms = Terms { label_smoothing: 0.1, lambda: 0.5 };
    for classes in [10, 100, 1000] {
        let logits = noise(&[BATCH, classes]);
        let labels = (0..BATCH).map(|index| (index % classes) as f32).collect();
        let plain = Batch {
            images: noise(&[BATCH, 1, 1, 1]),
            labels: ChannelsLast.tensor(labels, &[BATCH]).expect("labels"),
            answers: None,
        };
        let taught = Batch { answers: Some(noise(&[BATCH, classes])), ..plain.clone() };
        group.bench_function(BenchmarkId::new("cross-entropy", classes), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.loss(&logits, &plain, terms)));
        });
        group.bench_function(BenchmarkId::new("cross-entropy and distillation", classes), |bencher| {
            bencher.iter(|| black_box(ChannelsLast.loss(&logits, &taught, terms)));
        });
    }
    group.finish();
}

/// As many images as asked for; pixels that look like nothing, labels in turn.
fn samples(images: usize, channels: usize, edge: usize) -> (Samples, Normalisation) {
    let pixels = (0..images * channels * edge * edge).map(|index| (index * 31 % 256) as u8).collect();
    let labels = (0..images).map(|image| (image % 10) as u16).collect();
    let normalisation = Normalisation { mean: vec![0.5; channels], deviation: vec![0.25; channels] };
    (Samples { channels, height: edge, width: edge, pixels, labels }, normalisation)
}

fn assembly(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    let augmentation = Augmentation { padding: 2, flip: true };
    for (channels, edge) in [(1, 28), (3, 32)] {
        let (samples, normalisation) = samples(4 * BATCH, channels, edge);
        let source = batches::source(&samples, &normalisation).expect("a source");
        let source = ChannelsLast.source(source).expect("a source");
        for (name, augmentation) in [("plain", Augmentation::NONE), ("shifted, mirrored", augmentation)] {
            let picks: Vec<Pick> =
                (0..BATCH).map(|image| Pick::of(3 * image, augmentation.view(1, image, 0))).collect();
            group.bench_function(BenchmarkId::new(name, format!("{channels} {edge}x{edge}")), |bencher| {
                bencher.iter(|| black_box(ChannelsLast.batch(&source, &picks)));
            });
        }
    }
    group.finish();
}

fn optimisers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("optimiser");
    group.sample_size(20);
    let network = zoo(Architecture::Resnet18, 3, 32, 20.0 / 64.0);
    let model = Model::new(&network, &initial_weights(&network, 1), ChannelsLast).expect("a model");
    let variables = || model.variables().iter().map(|each| (each.tensor.clone(), true));
    let weights: usize = variables().map(|(tensor, _)| tensor.elem_count()).sum();
    group.throughput(Throughput::Elements(weights as u64));
    let gradients: Vec<_> = variables().map(|(tensor, _)| Some(noise(tensor.dims()))).collect();
    for (name, method) in [
        ("sgd", Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 5e-4 }),
        ("adamw", Method::AdamW { weight_decay: 5e-4 }),
    ] {
        let mut optimiser = Optimiser::new(method, ChannelsLast, variables()).expect("an optimiser");
        group.bench_function(BenchmarkId::new(name, "resnet18 width 20"), |bencher| {
            bencher.iter(|| optimiser.step(&gradients, 1e-6).expect("a step"));
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
        // In the kernels' own pool, as `Classifier` trains.
        group.bench_function(BenchmarkId::new("training", name), |bencher| {
            let mut step = || {
                let (logits, tape) = model.forward_train(&batch.images).expect("forward");
                let loss = ChannelsLast.loss(&logits, &batch, Terms::default()).expect("loss");
                let gradients = model.backward(tape, &loss.gradient).expect("backward");
                optimiser.step(&gradients, 0.01).expect("a step");
                loss.parts
            };
            rayon::scope(|_| bencher.iter(&mut step));
        });
        group.bench_function(BenchmarkId::new("evaluation", name), |bencher| {
            let folded = model.fold().expect("folded batch norms");
            rayon::scope(|_| bencher.iter(|| black_box(model.logits_folded(&folded, &batch.images))));
        });
    }
    group.finish();
}

/// The candidates of one policy update, as the search trains them: at once, as tasks of the kernels' own pool.
fn candidates(criterion: &mut Criterion) {
    const STEPS: usize = 10;
    let mut group = criterion.benchmark_group("five students");
    group.sample_size(10);
    let (samples, normalisation) = samples(STEPS * BATCH, 1, 28);
    let recipe = Recipe { length: Length::Steps(STEPS), ..Recipe::proxy() };
    // Unlike each other, as an update's candidates are: from an eighth to a quarter of VGG-13's width.
    let networks: Vec<Network> = [0.125, 0.15, 0.175, 0.2, 0.25]
        .into_iter()
        .map(|width| zoo(Architecture::Vgg13, 1, 28, width))
        .collect();
    group.throughput(Throughput::Elements((networks.len() * STEPS * BATCH) as u64));
    let one = |network: &Network| {
        let mut model = Model::new(network, &initial_weights(network, 1), ChannelsLast).expect("a model");
        train(&mut model, TrainingJob::new(&samples, &normalisation, None, &recipe), &mut |_, _| {
            ControlFlow::Continue(())
        })
        .expect("a training")
    };
    group.bench_function("one by one", |bencher| {
        rayon::scope(|_| bencher.iter(|| black_box(networks.iter().map(one).collect::<Vec<_>>())));
    });
    group.bench_function("at once", |bencher| {
        bencher.iter(|| black_box(networks.par_iter().with_max_len(1).map(one).collect::<Vec<_>>()));
    });
    group.finish();
}

criterion_group!(
    benches,
    opening,
    convolutions,
    batch_norms,
    pools,
    losses,
    assembly,
    optimisers,
    steps,
    candidates
);
criterion_main!(benches);
