//! Writer and reader against each other, against damage, and against ONNX Runtime.

use proptest::prelude::*;
use prost::Message as _;
use tract_onnx::pb::ModelProto;

use super::*;
use crate::data::Series;
use crate::model_io::fold::fold_batch_norm;
use crate::model_io::{filled, reference};
use crate::network::arbitrary::{any_network, image, lively_weights, small_resnet};
use crate::network::builder::Builder;
use crate::network::fold::without_dropout;
use crate::network::layer::{Activation, BatchNorm, Conv, Dropout, Input, Linear, Pool};
use crate::network::zoo::{self, Architecture};
use crate::network::{Layer, NodeId, Shape};

/// Appends nodes in a chain, named by kind and number.
struct Chain(Builder, NodeId);

impl Chain {
    fn new(channels: usize, height: usize, width: usize) -> Self {
        Self(Builder::new(Input { channels, height, width }).unwrap(), 0)
    }

    fn then(&mut self, layer: Layer) -> NodeId {
        let last = self.1;
        self.reading(layer, &[last])
    }

    fn reading(&mut self, layer: Layer, inputs: &[NodeId]) -> NodeId {
        let name = format!("{}_{}", layer.kind().replace(' ', "_"), self.1 + 1);
        self.1 = self.0.push(name, layer, inputs).unwrap();
        self.1
    }

    fn finish(self) -> Network {
        self.0.finish().unwrap()
    }
}

fn conv(in_channels: usize, out_channels: usize, kernel: usize, groups: usize, bias: bool) -> Layer {
    Layer::Conv(Conv { in_channels, out_channels, kernel, stride: 1, padding: kernel / 2, groups, bias })
}

fn norm(channels: usize) -> Layer {
    Layer::BatchNorm(BatchNorm { channels, epsilon: 1e-5 })
}

fn linear(in_features: usize, out_features: usize, bias: bool) -> Layer {
    Layer::Linear(Linear { in_features, out_features, bias })
}

const RELU: Layer = Layer::Activation(Activation::Relu);
const RELU6: Layer = Layer::Activation(Activation::Relu6);

/// Every layer that stands in a chain.
pub(crate) fn sequential() -> Network {
    let mut chain = Chain::new(3, 12, 10);
    chain.then(conv(3, 8, 3, 1, true));
    chain.then(norm(8));
    chain.then(RELU6);
    chain.then(Layer::MaxPool(Pool { kernel: 2, stride: 2, padding: 0 }));
    chain.then(conv(8, 12, 5, 4, false));
    chain.then(RELU);
    chain.then(Layer::AveragePool(Pool { kernel: 3, stride: 2, padding: 1 }));
    chain.then(Layer::Flatten);
    chain.then(Layer::Dropout(Dropout { probability: 0.5 }));
    chain.then(linear(12 * 3 * 3, 9, false));
    chain.then(RELU);
    chain.then(linear(9, 5, true));
    chain.then(Layer::Softmax);
    chain.finish()
}

/// Residual, depthwise, global pooling.
pub(crate) fn residual() -> Network {
    let mut chain = Chain::new(1, 9, 9);
    chain.then(conv(1, 6, 3, 1, false));
    chain.then(norm(6));
    let skip = chain.then(RELU);
    chain.then(conv(6, 6, 3, 6, true));
    chain.then(norm(6));
    chain.then(RELU6);
    let branch = chain.then(conv(6, 6, 1, 1, true));
    chain.reading(Layer::Add, &[branch, skip]);
    chain.then(RELU);
    chain.then(Layer::GlobalAveragePool);
    chain.then(linear(6, 4, true));
    chain.finish()
}

pub(crate) fn info(network: &Network) -> ModelInfo {
    ModelInfo {
        fit: Some(Fit::Letterbox),
        input: InputForm::Normalised,
        split: Some(Split { series: Series::Off, salt: "7".into() }),
        dataset: "some data".into(),
        classes: (0..network.classes()).map(|class| format!("class \"{class}\", ünï")).collect(),
        normalisation: Normalisation {
            mean: (0..network.input_shape().channels()).map(|c| 0.286_040_6 + c as f32).collect(),
            deviation: vec![0.353_024_2; network.input_shape().channels()],
        },
    }
}

fn trained(network: &Network) -> Vec<u8> {
    write(network, Filling::Weights(&filled(network, 9)), &info(network)).unwrap()
}

#[test]
fn reads_back_exactly_what_was_written() {
    for network in [sequential(), residual()] {
        let model = read(&trained(&network)).unwrap();
        assert_eq!(model.network, without_dropout(&network));
        assert_eq!(model.info, info(&network));
        assert_eq!(model.filling, Filling::Weights(filled(&network, 9)));
        assert_eq!(trained(&network), trained(&network));
    }
}

#[test]
fn the_weightless_file_is_the_trained_one_emptied() {
    let network = sequential();
    let empty = write(&network, Filling::Seed(9), &info(&network)).unwrap();
    assert!(empty.len() < 4000, "{}", empty.len());
    let model = read(&empty).unwrap();
    assert_eq!(model.filling, Filling::Seed(9));
    assert_eq!(*model.weights(), filled(&network, 9));
    // Filling it gives the trained file, but for the seed.
    let mut refilled = ModelProto::decode(empty.as_slice()).unwrap();
    refilled.metadata_props.retain(|entry| entry.key != WEIGHTS_SEED_KEY);
    for tensor in &mut refilled.graph.as_mut().unwrap().initializer {
        if let Some(array) = filled(&network, 9).get(&tensor.name) {
            assert!(tensor.raw_data.is_empty());
            tensor.raw_data = crate::model_io::bytes_of(&array.values);
        }
    }
    assert_eq!(refilled.encode_to_vec(), trained(&network));
}

#[test]
fn a_candidate_travels_in_some_kilobytes() {
    let image = Input { channels: 3, height: 32, width: 32 };
    for (architecture, most) in [(Architecture::Vgg19, 15_000), (Architecture::Resnet34, 40_000)] {
        let network = zoo::build(architecture, image, 10, 1.0).unwrap();
        let file = write(&network, Filling::Seed(1), &info(&network)).unwrap();
        assert!(file.len() < most, "{architecture}: {} bytes", file.len());
    }
}

#[test]
fn what_does_not_fit_is_not_written() {
    let network = residual();
    let mut wrong = info(&network);
    wrong.classes.pop();
    let error = write(&network, Filling::Seed(1), &wrong).unwrap_err();
    assert_eq!(error.to_string(), "class names: expected 4, got 3");
    let weights = filled(&sequential(), 1);
    assert!(matches!(
        write(&network, Filling::Weights(&weights), &info(&network)),
        Err(WriteError::Weights(_))
    ));
    let mut chain = Chain::new(1, 2, 2);
    chain.then(Layer::BatchNorm(BatchNorm { channels: 1, epsilon: 1e-5 + 1e-14 }));
    chain.then(Layer::Flatten);
    let network = chain.finish();
    assert!(matches!(write(&network, Filling::Seed(1), &info(&network)), Err(WriteError::Epsilon { .. })));
}

/// A trained file after a change to its protobuf form.
fn changed(change: impl FnOnce(&mut ModelProto)) -> Result<Model, ReadError> {
    let mut proto = ModelProto::decode(trained(&residual()).as_slice()).unwrap();
    change(&mut proto);
    read(&proto.encode_to_vec())
}

#[test]
fn other_programs_and_other_versions_are_told_apart() {
    let error = changed(|model| model.producer_name = "pytorch".into()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "this ONNX was not written by n2n (producer `pytorch`); import of other models is not there yet"
    );
    assert!(error.hint().contains("teacher train"));
    let error = changed(|model| model.metadata_props[0].value = "2".into()).unwrap_err();
    assert_eq!(error.to_string(), "model file format: expected 1, got 2");
    let error = changed(|model| model.opset_import[0].version = 18).unwrap_err();
    assert_eq!(error.to_string(), "operator set: expected 17, got [18]");
}

#[test]
fn changed_files_are_refused_with_the_place() {
    type Change = fn(&mut ModelProto);
    let graph: [(Change, &str); 10] = [
        (
            |m| m.graph.as_mut().unwrap().node[0].op_type = "Gelu".into(),
            "(Gelu): expected an operator that n2n writes",
        ),
        (|m| m.graph.as_mut().unwrap().node[0].attribute[0].ints = vec![2, 2], "expected dilations of 1"),
        (|m| m.graph.as_mut().unwrap().node[0].attribute[3].ints = vec![1, 1, 0, 1], "4 equal pads"),
        (|m| m.graph.as_mut().unwrap().node[0].attribute[4].ints = vec![0, 0], "stride of at least 1"),
        (|m| m.graph.as_mut().unwrap().node[0].attribute[1].i = 5, "expected 5 channels, got 1"),
        (|m| drop(m.graph.as_mut().unwrap().initializer.pop()), "tensor `linear_11.bias` is missing"),
        (
            |m| m.graph.as_mut().unwrap().initializer[0].dims = vec![6, 1, 9],
            "expected 4 dimensions, got [6, 1, 9]",
        ),
        (|m| m.graph.as_mut().unwrap().initializer[0].dims[1] = i64::MAX, "expected a number from 0 to"),
        (|m| m.graph.as_mut().unwrap().initializer[0].raw_data.truncate(215), "expected 216 bytes, got 215"),
        (
            |m| m.graph.as_mut().unwrap().output[0].name = "probabilities".into(),
            "expected `logits` from the last node",
        ),
    ];
    for (change, expected) in graph {
        let error = changed(change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_without_weights_cannot_claim_a_huge_network() {
    let network = residual();
    let mut proto =
        ModelProto::decode(write(&network, Filling::Seed(1), &info(&network)).unwrap().as_slice()).unwrap();
    proto.graph.as_mut().unwrap().initializer[0].dims = vec![1 << 20, 1 << 20, 1 << 20, 1 << 20];
    let error = read(&proto.encode_to_vec()).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { what: "values of all tensors", .. }), "{error}");
}

#[test]
fn a_structure_that_would_explode_in_memory_is_refused_unparsed() {
    // Each empty node takes 2 bytes in the file and more than a hundred in memory.
    let nodes = [0x0a, 0].repeat(2 << 20);
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut file);
    file.extend(nodes);
    let error = read(&file).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { what: "bytes of a model's structure", .. }), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let whole = trained(&residual());
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length} of {}", whole.len());
    }
}

/// What engines are compared on: both families of the zoo, teacher and folded student, and the small ones above.
fn networks_to_run() -> Vec<(&'static str, Network, Weights)> {
    let grey = Input { channels: 1, height: 28, width: 28 };
    let colour = Input { channels: 3, height: 32, width: 32 };
    let vgg = zoo::build(Architecture::Vgg13, grey, 10, 0.125).unwrap();
    let resnet = zoo::build(Architecture::Resnet18, colour, 10, 0.125).unwrap();
    let lively = |name, network: Network| (name, lively_weights(&network, 5), network);
    let mut all: Vec<(&str, Network, Weights)> = [
        lively("vgg13", vgg),
        lively("resnet18", resnet),
        lively("small resnet", small_resnet()),
        lively("depthwise", residual()),
        lively("every layer in a chain", sequential()),
    ]
    .map(|(name, weights, network)| (name, network, weights))
    .into();
    let folded: Vec<_> = all
        .iter()
        .take(2)
        .map(|(name, network, weights)| (*name, fold_batch_norm(network, weights)))
        .map(|(name, (network, weights))| (name, network, weights))
        .collect();
    all.extend(folded);
    all
}

/// Largest difference from the reference, relative to the largest logit (at least 1), as golden checks count it.
fn difference(expected: &[f32], got: &[f32]) -> f32 {
    assert_eq!(expected.len(), got.len());
    let largest = expected.iter().fold(1.0_f32, |largest, logit| largest.max(logit.abs()));
    // A value that is no number stays: `f32::max` would drop it.
    let worst = |worst: f32, next: f32| if next > worst || next.is_nan() { next } else { worst };
    expected.iter().zip(got).map(|(e, g)| (e - g).abs()).fold(0.0, worst) / largest
}

/// Largest difference allowed between engines and the reference.
const TOLERANCE: f32 = 1e-4;

#[test]
fn tract_gives_the_logits_of_the_reference() {
    use tract_onnx::prelude::*;
    for (name, network, weights) in networks_to_run() {
        let file = write(&network, Filling::Weights(&weights), &info(&network)).unwrap();
        let image = image(&network, 11);
        let shape: Vec<usize> = std::iter::once(1).chain(network.input_shape().dims()).collect();
        let model = tract_onnx::onnx().model_for_read(&mut file.as_slice()).unwrap();
        let model = model.with_input_fact(0, f32::fact(&shape).into()).unwrap();
        let model = model.into_optimized().unwrap().into_runnable().unwrap();
        let input = Tensor::from_shape(&shape, &image).unwrap();
        let output = model.run(tvec!(input.into())).unwrap();
        let logits = output[0].to_plain_array_view::<f32>().unwrap();
        let expected = reference::forward(&network, &weights, &image).unwrap();
        let difference = difference(&expected, logits.as_slice().unwrap());
        assert!(difference < TOLERANCE, "{name}: {difference}");
    }
}

/// Runs each file on a batch of two images and writes the logits as raw f32; `full_check` infers every shape.
const ONNX_RUNTIME: &str = r"
import sys, numpy, onnx, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
for stem in sys.argv[1:]:
    onnx.checker.check_model(onnx.load(stem + '.onnx'), full_check=True)
    session = onnxruntime.InferenceSession(stem + '.onnx', options, providers=['CPUExecutionProvider'])
    (given,) = session.get_inputs()
    assert given.name == 'input' and given.shape[0] == 'N', (given.name, given.shape)
    images = numpy.fromfile(stem + '.images', dtype='<f4').reshape([2] + given.shape[1:])
    (logits,) = session.run(['logits'], {'input': images})
    logits.astype('<f4').tofile(stem + '.logits')
";

#[test]
#[ignore = "needs a python (N2N_PYTHON names it) with numpy, onnx and onnxruntime"]
fn onnx_runtime_gives_the_logits_of_the_reference() {
    let python = std::env::var("N2N_PYTHON").unwrap_or_else(|_| "python3".into());
    let folder = tempfile::tempdir().unwrap();
    let networks = networks_to_run();
    let stems: Vec<_> = (0..networks.len()).map(|index| folder.path().join(index.to_string())).collect();
    let images = |network: &Network| [image(network, 11), image(network, 12)];
    for ((_, network, weights), stem) in networks.iter().zip(&stems) {
        let file = write(network, Filling::Weights(weights), &info(network)).unwrap();
        std::fs::write(stem.with_extension("onnx"), file).unwrap();
        let images = images(network).map(|image| crate::model_io::bytes_of(&image)).concat();
        std::fs::write(stem.with_extension("images"), images).unwrap();
    }
    let run = std::process::Command::new(&python).args(["-c", ONNX_RUNTIME]).args(&stems).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for ((name, network, weights), stem) in networks.iter().zip(&stems) {
        let logits = crate::model_io::values_of(&std::fs::read(stem.with_extension("logits")).unwrap());
        assert_eq!(logits.len(), 2 * network.classes(), "{name}");
        for (image, got) in images(network).iter().zip(logits.chunks(network.classes())) {
            let expected = reference::forward(network, weights, image).unwrap();
            let difference = difference(&expected, got);
            assert!(difference < TOLERANCE, "{name}: {difference}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_network_reads_back(network in any_network(), seed: u64, trained: bool) {
        let expected = without_dropout(&network);
        let weights = lively_weights(&network, seed);
        let filling = if trained { Filling::Weights(&weights) } else { Filling::Seed(seed) };
        let model = read(&write(&network, filling, &info(&network)).unwrap()).unwrap();
        prop_assert_eq!(&model.network, &expected);
        prop_assert_eq!(&model.info, &info(&network));
        prop_assert_eq!(&*model.weights(), &if trained { weights } else { filled(&network, seed) });
    }

    #[test]
    fn damaged_bytes_never_panic(flips in proptest::collection::vec((any::<usize>(), 0_u8..8), 1..6), seeded: bool) {
        let network = sequential();
        let weights = filled(&network, 1);
        let filling = if seeded { Filling::Seed(1) } else { Filling::Weights(&weights) };
        let mut file = write(&network, filling, &info(&network)).unwrap();
        for (place, bit) in flips {
            let place = place % file.len();
            file[place] ^= 1 << bit;
        }
        let _ = read(&file);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(read(&bytes).is_err());
    }
}

/// Logits of a file by tract, an engine that knows nothing of ours, for one input in the file's own values.
fn by_tract(bytes: &[u8], shape: [usize; 3], form: InputForm, values: &[f32]) -> Vec<f32> {
    use tract_onnx::prelude::*;
    let proto = ModelProto::decode(bytes).unwrap();
    let mut model = tract_onnx::onnx().model_for_proto_model(&proto).unwrap();
    let dims = [1, shape[0], shape[1], shape[2]];
    let (fact, tensor) = if form == InputForm::Uint8 {
        let bytes: Vec<u8> = values.iter().map(|&value| value as u8).collect();
        (u8::fact(dims), Tensor::from_shape(&dims, &bytes).unwrap())
    } else {
        (f32::fact(dims), Tensor::from_shape(&dims, values).unwrap())
    };
    model.set_input_fact(0, fact.into()).unwrap();
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    let outputs = plan.run(tvec!(tensor.into())).unwrap();
    outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

/// Constant pictures, and such with a border alone: what a mean in a bias behind zero padding would get wrong.
#[test]
fn a_file_that_normalises_answers_as_one_that_is_fed_normalised_values() {
    let network = small_resnet();
    let Shape::Map { channels, height, width } = network.input_shape() else { panic!("a map") };
    let weights = lively_weights(&network, 3);
    let normalisation = Normalisation {
        mean: (0..channels).map(|it| 0.4 + 0.1 * it as f32).collect(),
        deviation: (0..channels).map(|it| 0.2 + 0.05 * it as f32).collect(),
    };
    let file = |input| {
        let info = ModelInfo { input, normalisation: normalisation.clone(), ..info(&network) };
        let bytes = write(&network, Filling::Weights(&weights), &info).unwrap();
        assert_eq!(
            read(&bytes).unwrap(),
            Model { network: network.clone(), filling: Filling::Weights(weights.clone()), info }
        );
        bytes
    };
    let files = InputForm::ALL.map(|form| (form, file(form)));
    let border =
        |row: usize, column: usize| row == 0 || column == 0 || row + 1 == height || column + 1 == width;
    let picture = |value: &dyn Fn(usize, usize) -> u8| -> Vec<u8> {
        (0..channels * height * width).map(|it| value(it / width % height, it % width)).collect()
    };
    for pixels in [
        picture(&|_, _| 0),
        picture(&|_, _| 255),
        picture(&|_, _| 90),
        picture(&|row, column| if border(row, column) { 255 } else { 0 }),
        picture(&|row, column| if border(row, column) { 0 } else { 200 }),
    ] {
        let answers = files.each_ref().map(|(form, bytes)| {
            by_tract(bytes, [channels, height, width], *form, &form.of_pixels(&pixels, &normalisation))
        });
        let scale = answers[2].iter().fold(1.0_f32, |most, logit| most.max(logit.abs()));
        for answer in &answers[..2] {
            for (ours, wanted) in answer.iter().zip(&answers[2]) {
                assert!((ours - wanted).abs() <= 1e-4 * scale, "{ours} for {wanted}");
            }
        }
    }
}

#[test]
fn a_head_that_is_not_the_facts_is_refused() {
    let network = small_resnet();
    let info = ModelInfo { input: InputForm::Plain, ..info(&network) };
    let bytes = write(&network, Filling::Seed(1), &info).unwrap();
    let whole = ModelProto::decode(bytes.as_slice()).unwrap();
    let mut other = whole.clone();
    let constant = other.graph.as_mut().unwrap().initializer.iter_mut().find(|it| it.name == "input.scale");
    constant.unwrap().raw_data[2] ^= 1;
    let mut without = whole.clone();
    without.metadata_props.retain(|entry| entry.key != "n2n.input");
    for changed in [other, without] {
        assert!(read(&changed.encode_to_vec()).is_err());
    }
}
