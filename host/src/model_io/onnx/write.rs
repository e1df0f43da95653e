//! Network and weights to ONNX. Same input, same bytes: a file is known by its digest.

use prost::Message as _;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use super::head::Head;
use super::{
    BATCH, FORMAT, Filling, INPUT, IR_VERSION, ModelInfo, OPSET, OUTPUT, PRODUCER, WEIGHTS_SEED_KEY, key,
};
use crate::data::Split;
use crate::exit::Diagnostic;
use crate::model_io::{Weights, WeightsError, bytes_of};
use crate::network::fold::without_dropout;
use crate::network::layer::{Activation, Conv, Pool};
use crate::network::{Layer, Network, Node, Shape};
use crate::normalisation::InputForm;

/// A model that cannot be written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// The weights are not this network's.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// What it was trained on does not fit the network.
    #[error("{what}: expected {expected}, got {got}")]
    Info {
        /// What part.
        what: &'static str,
        /// By the network.
        expected: String,
        /// Given.
        got: String,
    },
    /// ONNX keeps this number in 32 bits, and it would not come back the same.
    #[error("node `{node}`: epsilon {epsilon:e} has more digits than a 32-bit number")]
    Epsilon {
        /// The batch norm.
        node: String,
        /// Its epsilon.
        epsilon: f64,
    },
}

impl Diagnostic for WriteError {}

/// Bytes of the model file. Dropout is left out; batch norm is written as it is: fold a student's before.
///
/// # Errors
/// When weights or info do not fit the network.
pub fn write(network: &Network, filling: Filling<&Weights>, info: &ModelInfo) -> Result<Vec<u8>, WriteError> {
    if let Filling::Weights(weights) = filling {
        weights.verify(network)?;
    }
    if let Some((what, expected, got)) = info.misfit(network) {
        return Err(WriteError::Info { what, expected, got });
    }
    let network = without_dropout(network);
    let head = Head::new(info.input, &info.normalisation);
    let mut values: Vec<String> = (0..network.nodes().len()).map(|id| value_name(&network, id)).collect();
    head.value().clone_into(&mut values[0]);
    let Head { mut nodes, constants: mut initializer } = head;
    for (id, node) in network.nodes().iter().enumerate() {
        let operands: Vec<&str> = node.inputs.iter().map(|&input| values[input].as_str()).collect();
        operators(node, &operands, &values[id], &mut nodes, &mut initializer)?;
        for parameter in node.parameters() {
            let raw_data = match filling {
                Filling::Weights(weights) => {
                    weights.get(&parameter.name).map(|array| bytes_of(&array.values))
                }
                Filling::Seed(_) => None,
            };
            initializer.push(tensor(parameter.name, &parameter.dims, raw_data.unwrap_or_default()));
        }
    }
    let graph = GraphProto {
        name: PRODUCER.into(),
        node: nodes,
        initializer,
        input: vec![value_info(INPUT, network.input_shape(), Head::element(info.input))],
        output: vec![value_info(OUTPUT, Shape::Vector { features: network.classes() }, DataType::Float)],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: PRODUCER.into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(&network, filling, info),
        graph: Some(graph),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

/// Name of a node's output. Only tensors of layers end otherwise, so no two values can share a name.
fn value_name(network: &Network, id: usize) -> String {
    if id == 0 {
        INPUT.into()
    } else if id + 1 == network.nodes().len() {
        OUTPUT.into()
    } else {
        format!("{}.out", network.nodes()[id].name)
    }
}

/// Appends the ONNX nodes of one layer, and the initialisers that are no parameters.
fn operators(
    node: &Node,
    operands: &[&str],
    output: &str,
    nodes: &mut Vec<NodeProto>,
    initializer: &mut Vec<TensorProto>,
) -> Result<(), WriteError> {
    let mut inputs: Vec<String> = operands.iter().map(|&operand| operand.to_owned()).collect();
    inputs.extend(node.parameters().into_iter().map(|parameter| parameter.name));
    let mut push = |name: String, op_type: &str, input: Vec<String>, output: String, attribute| {
        nodes.push(NodeProto {
            name,
            op_type: op_type.into(),
            input,
            output: vec![output],
            attribute,
            ..NodeProto::default()
        });
    };
    let (op_type, attributes) = match &node.layer {
        Layer::Input(_) | Layer::Dropout(_) => return Ok(()),
        Layer::Conv(conv) => ("Conv", conv_attributes(conv)),
        Layer::BatchNorm(norm) => {
            let epsilon = norm.epsilon as f32;
            if !read_back(epsilon).is_some_and(|read| read == norm.epsilon) {
                return Err(WriteError::Epsilon { node: node.name.clone(), epsilon: norm.epsilon });
            }
            ("BatchNormalization", vec![float("epsilon", epsilon)])
        }
        Layer::Activation(Activation::Relu) => ("Relu", vec![]),
        Layer::Activation(Activation::Relu6) => {
            for (suffix, bound) in [("min", 0.0), ("max", 6.0)] {
                let name = format!("{}.{suffix}", node.name);
                initializer.push(tensor(name.clone(), &[], bytes_of(&[bound])));
                inputs.push(name);
            }
            ("Clip", vec![])
        }
        Layer::MaxPool(pool) => ("MaxPool", pool_attributes(pool)),
        Layer::AveragePool(pool) => {
            let mut attributes = pool_attributes(pool);
            attributes.push(int("count_include_pad", 0));
            ("AveragePool", attributes)
        }
        Layer::GlobalAveragePool => {
            let map = format!("{}.map", node.name);
            push(node.name.clone(), "GlobalAveragePool", inputs, map.clone(), vec![]);
            push(format!("{}.flatten", node.name), "Flatten", vec![map], output.into(), vec![int("axis", 1)]);
            return Ok(());
        }
        Layer::Flatten => ("Flatten", vec![int("axis", 1)]),
        Layer::Linear(_) => ("Gemm", vec![int("transB", 1)]),
        Layer::Add => ("Add", vec![]),
        Layer::Softmax => ("Softmax", vec![int("axis", 1)]),
    };
    push(node.name.clone(), op_type, inputs, output.into(), attributes);
    Ok(())
}

/// The 64-bit number that a reader takes a 32-bit one for: of the shortest decimal that names it.
pub(super) fn read_back(value: f32) -> Option<f64> {
    value.to_string().parse().ok()
}

fn conv_attributes(conv: &Conv) -> Vec<AttributeProto> {
    let window = Pool { kernel: conv.kernel, stride: conv.stride, padding: conv.padding };
    let mut attributes = vec![ints("dilations", &[1, 1]), int("group", conv.groups)];
    attributes.extend(pool_attributes(&window));
    attributes
}

fn pool_attributes(pool: &Pool) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", &[pool.kernel; 2]),
        ints("pads", &[pool.padding; 4]),
        ints("strides", &[pool.stride; 2]),
    ]
}

fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int.into(),
        i: value as i64,
        ..AttributeProto::default()
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints.into(),
        ints: values.iter().map(|&value| value as i64).collect(),
        ..AttributeProto::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Float.into(),
        f: value,
        ..AttributeProto::default()
    }
}

fn tensor(name: String, dims: &[usize], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name,
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: DataType::Float.into(),
        raw_data,
        ..TensorProto::default()
    }
}

fn value_info(name: &str, shape: Shape, element: DataType) -> ValueInfoProto {
    let batch = dimension::Value::DimParam(BATCH.into());
    let sizes = shape.dims().into_iter().map(|dim| dimension::Value::DimValue(dim as i64));
    let dim = std::iter::once(batch)
        .chain(sizes)
        .map(|value| Dimension { value: Some(value), ..Dimension::default() })
        .collect();
    let tensor = type_proto::Tensor { elem_type: element.into(), shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

fn metadata(network: &Network, filling: Filling<&Weights>, info: &ModelInfo) -> Vec<StringStringEntryProto> {
    let classes = serde_json::Value::from(info.classes.clone()).to_string();
    // What may be absent does not come last: a file that is cut short then lacks something else.
    let mut entries = vec![(key::FORMAT, FORMAT.to_owned())];
    if info.input != InputForm::Normalised {
        entries.push((key::INPUT, info.input.to_string()));
    }
    if let Some(fit) = info.fit {
        entries.push((key::RESIZE, fit.to_string()));
    }
    if let Some(Split { series, salt }) = &info.split {
        entries.push((key::SERIES, series.to_string()));
        entries.push((key::SALT, salt.clone()));
    }
    entries.extend([
        (key::INPUT_NODE, network.nodes()[0].name.clone()),
        (key::DATASET, info.dataset.clone()),
        (key::CLASSES, classes),
        (key::MEAN, numbers(&info.normalisation.mean)),
        (key::DEVIATION, numbers(&info.normalisation.deviation)),
    ]);
    if let Filling::Seed(seed) = filling {
        entries.push((WEIGHTS_SEED_KEY, seed.to_string()));
    }
    entries.into_iter().map(|(key, value)| StringStringEntryProto { key: key.into(), value }).collect()
}

/// Decimals that read back to the same bits.
fn numbers(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")
}
