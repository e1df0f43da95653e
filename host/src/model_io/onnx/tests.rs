//! Writer and reader against each other, against damage, and against ONNX Runtime.

use proptest::prelude::*;
use prost::Message as _;
use tract_onnx::pb::ModelProto;

use super::*;
use crate::model_io::filled;
use crate::network::layer::{Activation, BatchNorm, Conv, Dropout, Input, Linear, Pool};
use crate::network::{Layer, Node, NodeId};

/// Puts networks together, node by node.
pub(crate) struct Builder(Vec<Node>);

impl Builder {
    pub(crate) fn new(channels: usize, height: usize, width: usize) -> Self {
        let layer = Layer::Input(Input { channels, height, width });
        Self(vec![Node { name: "image".into(), layer, inputs: vec![] }])
    }

    /// Appends a node that reads the last one.
    pub(crate) fn then(&mut self, layer: Layer) -> NodeId {
        let last = self.0.len() - 1;
        self.reading(layer, vec![last])
    }

    pub(crate) fn reading(&mut self, layer: Layer, inputs: Vec<NodeId>) -> NodeId {
        let name = format!("{}_{}", layer.kind().replace(' ', "_"), self.0.len());
        self.0.push(Node { name, layer, inputs });
        self.0.len() - 1
    }

    pub(crate) fn build(self) -> Network {
        Network::new(self.0).unwrap()
    }
}

pub(crate) fn conv(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    bias: bool,
) -> Layer {
    Layer::Conv(Conv { in_channels, out_channels, kernel, stride, padding: kernel / 2, groups, bias })
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
    let mut b = Builder::new(3, 12, 10);
    b.then(conv(3, 8, 3, 1, 1, true));
    b.then(norm(8));
    b.then(RELU6);
    b.then(Layer::MaxPool(Pool { kernel: 2, stride: 2, padding: 0 }));
    b.then(conv(8, 12, 5, 1, 4, false));
    b.then(RELU);
    b.then(Layer::AveragePool(Pool { kernel: 3, stride: 2, padding: 1 }));
    b.then(Layer::Flatten);
    b.then(Layer::Dropout(Dropout { probability: 0.5 }));
    b.then(linear(12 * 3 * 3, 9, false));
    b.then(RELU);
    b.then(linear(9, 5, true));
    b.then(Layer::Softmax);
    b.build()
}

/// Residual, depthwise, global pooling.
pub(crate) fn residual() -> Network {
    let mut b = Builder::new(1, 9, 9);
    b.then(conv(1, 6, 3, 1, 1, false));
    b.then(norm(6));
    let skip = b.then(RELU);
    b.then(conv(6, 6, 3, 1, 6, true));
    b.then(norm(6));
    b.then(RELU6);
    let branch = b.then(conv(6, 6, 1, 1, 1, true));
    b.reading(Layer::Add, vec![branch, skip]);
    b.then(RELU);
    b.then(Layer::GlobalAveragePool);
    b.then(linear(6, 4, true));
    b.build()
}

pub(crate) fn info(network: &Network) -> ModelInfo {
    ModelInfo {
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
        assert_eq!(model.network, without_dropout(&network).unwrap());
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
    let mut b = Builder::new(1, 2, 2);
    b.then(Layer::BatchNorm(BatchNorm { channels: 1, epsilon: 1e-5 + 1e-14 }));
    b.then(Layer::Flatten);
    let network = b.build();
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

/// A legal network out of arbitrary numbers.
fn arbitrary_network(choices: &[(u8, u8)]) -> Network {
    let (mut channels, mut edge) = (2, 8);
    let mut b = Builder::new(channels, edge, edge);
    let mut last_same = None;
    for &(what, detail) in choices {
        let before = b.0.len() - 1;
        let wide = usize::from(detail % 7) + 1;
        match what % 8 {
            0 | 1 => {
                let kernel = [1, 3, 5][usize::from(detail) % 3];
                let layer = conv(channels, wide, kernel, 1, 1, detail & 64 != 0);
                b.then(layer);
                channels = wide;
            }
            2 => drop(b.then(conv(channels, channels * 2, 3, 1, channels, true))),
            3 => drop(b.then(norm(channels))),
            4 => drop(b.then(if detail & 1 == 0 { RELU } else { RELU6 })),
            5 if edge >= 4 => {
                let pool = Pool { kernel: 2, stride: 2, padding: 0 };
                b.then(if detail & 1 == 0 { Layer::MaxPool(pool) } else { Layer::AveragePool(pool) });
                edge /= 2;
            }
            6 => {
                let (branch, skip) = (b.0.len() - 1, last_same.unwrap_or(b.0.len() - 1));
                b.reading(Layer::Add, vec![branch, skip]);
            }
            _ => drop(b.then(Layer::Dropout(Dropout { probability: 0.25 }))),
        }
        if what % 8 == 2 {
            channels *= 2;
        }
        // A skip is possible where the shape stays.
        last_same = matches!(what % 8, 3 | 4 | 6 | 7).then_some(before);
        if channels > 64 {
            break;
        }
    }
    let features = if choices.len() % 2 == 0 {
        b.then(Layer::GlobalAveragePool);
        channels
    } else {
        b.then(Layer::Flatten);
        channels * edge * edge
    };
    b.then(linear(features, 3, true));
    b.build()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_network_reads_back(choices: Vec<(u8, u8)>, seed: u64) {
        let network = arbitrary_network(&choices);
        let expected = without_dropout(&network).unwrap();
        let model = read(&write(&network, Filling::Seed(seed), &info(&network)).unwrap()).unwrap();
        prop_assert_eq!(model, Model { network: expected, filling: Filling::Seed(seed), info: info(&network) });
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
