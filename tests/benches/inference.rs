//! Speed of engines on this machine: one inference at batch 1, on the file that would ship. The agent's own, ONNX Runtime where the
//! environment variable `N2N_ONNXRUNTIME` names its library, and the kernels that n2n trains with, forward only.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p n2n-tests --bench inference`: the training kernels take all cores otherwise. The throughput, printed as elements a second, is floating-point operations a
//! second (two a multiply-accumulate). No worker process, no link: what `n2n measure` adds to this is its protocol.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use n2n::data::{Normalisation, Samples};
use n2n::model_io::filled;
use n2n::model_io::onnx::{Filling, ModelInfo, write};
use n2n::network::layer::Input;
use n2n::network::zoo::{Architecture, build};
use n2n::network::{Network, fold};
use n2n::training::{Classifier, Classify as _, DeviceChoice, device};
use n2n_agent::engine::{Engines, Library, OnnxRuntime};
use n2n_protocol::{Digest, Execution, Model};

fn zoo(architecture: Architecture, channels: usize, edge: usize, width: f64) -> (Network, usize) {
    let input = Input { channels, height: edge, width: edge };
    (fold::folded(&build(architecture, input, 10, width).expect("a zoo network")), edge)
}

/// Those of this machine.
fn engines() -> Engines {
    let Some(path) = std::env::var_os("N2N_ONNXRUNTIME") else { return Engines::default() };
    let library = Library { path: path.into(), providers: vec![], cache: std::env::temp_dir() };
    Engines::with(OnnxRuntime::open(library).expect("a library that is ONNX Runtime"))
}

fn inferences(criterion: &mut Criterion) {
    let engines = engines();
    let mut group = criterion.benchmark_group("inference");
    let networks = [
        ("resnet18 width 8", zoo(Architecture::Resnet18, 3, 32, 8.0 / 64.0)),
        ("resnet18 width 20", zoo(Architecture::Resnet18, 3, 32, 20.0 / 64.0)),
        ("resnet18 width 64", zoo(Architecture::Resnet18, 3, 32, 1.0)),
        ("vgg13 quarter, 28x28x1", zoo(Architecture::Vgg13, 1, 28, 0.25)),
    ];
    for (name, (network, edge)) in networks {
        let weights = filled(&network, 1);
        let file = write(&network, Filling::Weights(&weights), &ModelInfo::untrained(&network))
            .expect("a model file");
        group.throughput(Throughput::Elements(2 * network.cost().macs));
        for id in engines.ids() {
            let engine_name = id.name;
            let engine = engines.find(&engine_name).expect("an engine").engine();
            let execution = Execution { engine: engine_name.clone(), threads: 1, batch: 1, pace_us: 0 };
            let model = Model::onnx(Digest::of(&file));
            let mut session = engine.load(file.clone(), &model, &execution).expect("a session");
            let values = (0..session.input_len()).map(|index| (index % 7) as f32 / 7.0);
            let input: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            group.bench_function(BenchmarkId::new(engine_name, name), |bencher| {
                bencher.iter(|| black_box(session.run(&input)));
            });
        }
        let shape = network.input_shape();
        let image = Samples {
            channels: shape.channels(),
            height: edge,
            width: edge,
            pixels: vec![100; shape.elements()].into(),
            labels: vec![0],
        };
        let model = Classifier::new(&network, &weights, &device::open(DeviceChoice::Cpu).expect("a CPU"))
            .expect("a model");
        let normalisation =
            Normalisation { mean: vec![0.5; shape.channels()], deviation: vec![0.25; shape.channels()] };
        group.bench_function(BenchmarkId::new("training kernels", name), |bencher| {
            bencher.iter(|| black_box(model.logits(&image, &normalisation)));
        });
    }
    group.finish();
}

criterion_group!(benches, inferences);
criterion_main!(benches);
