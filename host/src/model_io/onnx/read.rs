//! ONNX back to network and weights: exactly what `write` writes, and a typed error for anything else.
//!
//! Takes no byte on trust: sizes are bounded before anything is computed from them, names are looked up, never indexed.

mod error;
mod limits;
mod operator;
mod tensors;

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto, type_proto};

pub use error::ReadError;
use error::wrong;
use limits::{MAX_EDGE, MAX_NODES, MAX_STRUCTURE_BYTES, at_most, bounded};
use operator::Operator;
use tensors::Tensors;

use super::head::Head;
use super::{
    FORMAT, Filling, INPUT, MAX_BYTES, Model, ModelInfo, OPSET, OUTPUT, PRODUCER, WEIGHTS_SEED_KEY, key,
};
use crate::data::Split;
use crate::network::layer::Input;
use crate::network::{Layer, Network, Node};
use crate::normalisation::{InputForm, Normalisation};

/// Reads a model file's bytes.
///
/// # Errors
/// Says what was expected where, and what was found.
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    let model = parse(bytes)?;
    if model.producer_name != PRODUCER {
        return Err(ReadError::Foreign { producer: model.producer_name });
    }
    let metadata: BTreeMap<String, String> =
        model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    let entry = |key: &str| {
        metadata
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| wrong(format!("metadata `{key}`"), "a value", "none"))
    };
    let format = entry(key::FORMAT)?;
    if format != FORMAT {
        return Err(ReadError::Version {
            what: "model file format",
            expected: FORMAT.into(),
            got: format.into(),
        });
    }
    let opsets: Vec<i64> = model.opset_import.iter().map(|opset| opset.version).collect();
    if opsets != [OPSET] {
        let got = format!("{opsets:?}");
        return Err(ReadError::Version { what: "operator set", expected: OPSET.to_string(), got });
    }
    let mut graph = model.graph.ok_or_else(|| wrong("file", "a graph", "none"))?;
    let seed = metadata
        .get(WEIGHTS_SEED_KEY)
        .map(|text| text.parse().map_err(|_| wrong(format!("metadata `{WEIGHTS_SEED_KEY}`"), "a seed", text)))
        .transpose()?;
    let info = ModelInfo {
        dataset: entry(key::DATASET)?.into(),
        classes: serde_json::from_str(entry(key::CLASSES)?).map_err(|error| {
            wrong(format!("metadata `{}`", key::CLASSES), "a list of names", error.to_string())
        })?,
        normalisation: Normalisation {
            mean: numbers(key::MEAN, entry(key::MEAN)?)?,
            deviation: numbers(key::DEVIATION, entry(key::DEVIATION)?)?,
        },
        fit: optional(key::RESIZE, metadata.get(key::RESIZE))?,
        split: optional(key::SERIES, metadata.get(key::SERIES))?
            .map(|series| Split { series, salt: metadata.get(key::SALT).cloned().unwrap_or_default() }),
        input: optional(key::INPUT, metadata.get(key::INPUT))?.unwrap_or(InputForm::Normalised),
    };
    let head = take_head(&mut graph, &info)?;
    let tensors = Tensors::new(&graph.initializer)?;
    let network = network(&graph, entry(key::INPUT_NODE)?, &tensors, &head, info.input)?;
    let filling = match seed {
        Some(seed) => tensors.verify_empty(&network).map(|()| Filling::Seed(seed))?,
        None => Filling::Weights(tensors.weights(&network)?),
    };
    if let Some((what, expected, got)) = info.misfit(&network) {
        return Err(wrong(what, expected, got));
    }
    Ok(Model { network, filling, info })
}

fn optional<T: FromStr<Err = String>>(key: &str, text: Option<&String>) -> Result<Option<T>, ReadError> {
    text.map(|text| {
        text.parse().map_err(|expected: String| wrong(format!("metadata `{key}`"), expected, text))
    })
    .transpose()
}

fn parse(bytes: &[u8]) -> Result<ModelProto, ReadError> {
    at_most("bytes of a model file", bytes.len(), MAX_BYTES as usize)?;
    // Field numbers of ModelProto.graph, GraphProto.initializer, TensorProto.raw_data.
    let numbers =
        payload_bytes(bytes, &[7, 5, 9]).ok_or_else(|| ReadError::Damaged("a field is cut short".into()))?;
    at_most("bytes of a model's structure", bytes.len() - numbers, MAX_STRUCTURE_BYTES as usize)?;
    ModelProto::decode(bytes).map_err(|error| ReadError::Damaged(error.to_string()))
}

/// Length of all byte fields that the path of protobuf field numbers leads to; `None` when the encoding is broken.
fn payload_bytes(mut bytes: &[u8], path: &[u64]) -> Option<usize> {
    let mut total = 0;
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let field = bytes.split_off(..length)?;
        if tag & 7 == 2 && path.first() == Some(&(tag >> 3)) {
            total += if path.len() == 1 { field.len() } else { payload_bytes(field, &path[1..])? };
        }
    }
    Some(total)
}

/// A protobuf variable-length number, taken off the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let &byte = bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn numbers(key: &str, text: &str) -> Result<Vec<f32>, ReadError> {
    text.split_whitespace()
        .map(|number| number.parse().map_err(|_| wrong(format!("metadata `{key}`"), "numbers", number)))
        .collect()
}

/// Takes what normalises out of a file, if it is what the file's own facts say; the value that the first layer reads.
fn take_head(graph: &mut GraphProto, info: &ModelInfo) -> Result<String, ReadError> {
    let Normalisation { mean, deviation } = &info.normalisation;
    if mean.len() != deviation.len() {
        return Err(wrong(
            "normalisation",
            format!("{} deviations", mean.len()),
            deviation.len().to_string(),
        ));
    }
    let head = Head::new(info.input, &info.normalisation);
    let count = head.nodes.len();
    let same = graph.initializer.iter().filter(|it| Head::owns(&it.name)).eq(&head.constants);
    if graph.node.get(..count) != Some(&head.nodes[..]) || !same {
        return Err(wrong("input", format!("what normalises {} pixels", info.input), "something else"));
    }
    graph.node.drain(..count);
    graph.initializer.retain(|it| !Head::owns(&it.name));
    Ok(head.value().to_owned())
}

fn network(
    graph: &GraphProto,
    input_node: &str,
    tensors: &Tensors<'_>,
    head: &str,
    form: InputForm,
) -> Result<Network, ReadError> {
    at_most("nodes", graph.node.len(), MAX_NODES)?;
    let mut values: HashMap<&str, usize> = HashMap::from([(head, 0)]);
    let mut nodes =
        vec![Node { name: input_node.into(), layer: image(&graph.input, form)?, inputs: Vec::new() }];
    let mut padding = 0;
    let mut rest = graph.node.iter();
    while let Some(proto) = rest.next() {
        let operator = Operator { proto, tensors };
        let layer = operator.layer()?;
        padding += layer.window().map_or(0, |window| window.padding);
        at_most("padding of all layers", padding, MAX_EDGE)?;
        let mut output = operator.output()?;
        if operator.is_followed_by_flatten() {
            output = flattened(proto, output, rest.next())?;
        }
        let inputs = proto
            .input
            .iter()
            .take(layer.arity())
            .map(|input| {
                values.get(input.as_str()).copied().ok_or_else(|| operator.wrong("earlier values", input))
            })
            .collect::<Result<_, _>>()?;
        if values.insert(output, nodes.len()).is_some() {
            return Err(operator.wrong("an output of its own", output));
        }
        nodes.push(Node { name: proto.name.clone(), layer, inputs });
    }
    if let [output] = &graph.output[..]
        && output.name == OUTPUT
        && values.get(OUTPUT) == Some(&(nodes.len() - 1))
    {
        return Ok(Network::new(nodes)?);
    }
    let got: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    Err(wrong("output", format!("`{OUTPUT}` from the last node"), got.join(", ")))
}

/// The output of the Flatten that follows a GlobalAveragePool.
fn flattened<'a>(pool: &NodeProto, map: &str, next: Option<&'a NodeProto>) -> Result<&'a str, ReadError> {
    let name = format!("{}.flatten", pool.name);
    match next {
        Some(NodeProto { name: next, op_type, input, output, .. })
            if *next == name && op_type == "Flatten" && *input == [map] && output.len() == 1 =>
        {
            Ok(&output[0])
        }
        _ => Err(wrong(format!("node `{}`", pool.name), format!("`{name}` after it"), "another or none")),
    }
}

fn image(inputs: &[ValueInfoProto], form: InputForm) -> Result<Layer, ReadError> {
    let place = || format!("input `{INPUT}`");
    let dims = match inputs {
        [ValueInfoProto { name, r#type: Some(r#type), .. }] if name == INPUT => match &r#type.value {
            Some(type_proto::Value::TensorType(type_proto::Tensor { shape: Some(shape), elem_type }))
                if *elem_type == i32::from(Head::element(form)) =>
            {
                &shape.dim
            }
            None | Some(_) => return Err(wrong(place(), "a tensor with a shape", "none")),
        },
        _ => return Err(wrong("inputs", format!("`{INPUT}` alone"), format!("{} inputs", inputs.len()))),
    };
    let size = |index: usize| match dims.get(index).and_then(|dim| dim.value.as_ref()) {
        Some(dimension::Value::DimValue(value)) => bounded(*value, &place),
        _ => Err(wrong(place(), "[N, channels, height, width]", "a dimension without a size")),
    };
    if dims.len() != 4 {
        return Err(wrong(place(), "4 dimensions", dims.len().to_string()));
    }
    let input = Input { channels: size(1)?, height: size(2)?, width: size(3)? };
    if input.height > MAX_EDGE || input.width > MAX_EDGE || input.channels == 0 {
        let got = format!("{}x{}x{}", input.channels, input.height, input.width);
        return Err(wrong(place(), format!("an image of at most {MAX_EDGE}x{MAX_EDGE}"), got));
    }
    Ok(Layer::Input(input))
}
