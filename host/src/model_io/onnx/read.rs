//! ONNX back to network and weights: exactly what `write` writes, and a typed error for anything else.
//!
//! Takes no byte on trust: sizes are bounded before anything is computed from them, names are looked up, never indexed.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto,
};

use super::write::read_back;
use super::{
    FORMAT, Filling, INPUT, MAX_BYTES, Model, ModelInfo, OPSET, OUTPUT, PRODUCER, WEIGHTS_SEED_KEY, key,
};
use crate::data::Normalisation;
use crate::model_io::{Weights, WeightsError, bytes_of, values_of};
use crate::network::layer::{Activation, BatchNorm, Conv, Input, Linear, Pool};
use crate::network::{Layer, Network, NetworkError, Node};

/// Everything in a file but the numbers of its tensors, bytes. Parsing can take some hundred times that much memory; the
/// largest network of the zoo needs 40 KB.
const MAX_STRUCTURE_BYTES: u64 = 2 << 20;
/// Operators: ten times ResNet-152.
const MAX_NODES: usize = 5_000;
/// Any dimension, stride, padding or count in a file: their products stay far inside 64 bits.
const MAX_DIM: usize = 1 << 20;
/// Rows and columns of the image, and all padding of a network together: maps grow by nothing else.
const MAX_EDGE: usize = 1 << 14;
/// Values of all tensors together, as many as the largest file can hold; a file without weights could claim more.
const MAX_VALUES: usize = (MAX_BYTES / 4) as usize;

/// An ONNX file that cannot be read here.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// Too large.
    #[error("{what}: expected at most {limit}, got {got}")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How much there may be.
        limit: u64,
        /// How much there is, or at least is.
        got: u64,
    },
    /// Not ONNX, or damaged.
    #[error("not a whole ONNX file: {0}")]
    Damaged(String),
    /// Another program's.
    #[error(
        "this ONNX was not written by n2n (producer `{producer}`); import of other models is not there yet"
    )]
    Foreign {
        /// Who wrote it, as the file says.
        producer: String,
    },
    /// Another version's.
    #[error("{what}: expected {expected}, got {got}")]
    Version {
        /// Of what.
        what: &'static str,
        /// Ours.
        expected: String,
        /// The file's.
        got: String,
    },
    /// Written by n2n, it says, but not like this.
    #[error("{place}: expected {expected}, got {got}")]
    Structure {
        /// Node, tensor or metadata key.
        place: String,
        /// By the mapping.
        expected: String,
        /// In the file.
        got: String,
    },
    /// The nodes make no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Tensors and network disagree.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl ReadError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => {
                "train a teacher with `n2n teacher train`, which writes a model file that can be read"
            }
            Self::Version { .. } => "read it with the n2n version that wrote it, or write it again",
            _ => "the file is damaged or was changed by another program: write it again",
        }
    }
}

fn wrong(place: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> ReadError {
    ReadError::Structure { place: place.into(), expected: expected.into(), got: got.into() }
}

fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), ReadError> {
    if got <= limit {
        Ok(())
    } else {
        Err(ReadError::TooLarge { what, limit: limit as u64, got: got as u64 })
    }
}

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
    let graph = model.graph.ok_or_else(|| wrong("file", "a graph", "none"))?;
    let seed = metadata
        .get(WEIGHTS_SEED_KEY)
        .map(|text| text.parse().map_err(|_| wrong(format!("metadata `{WEIGHTS_SEED_KEY}`"), "a seed", text)))
        .transpose()?;
    let tensors = Tensors::new(&graph.initializer)?;
    let network = network(&graph, entry(key::INPUT_NODE)?, &tensors)?;
    let filling = match seed {
        Some(seed) => tensors.verify_empty(&network).map(|()| Filling::Seed(seed))?,
        None => Filling::Weights(tensors.weights(&network)?),
    };
    let info = ModelInfo {
        dataset: entry(key::DATASET)?.into(),
        classes: serde_json::from_str(entry(key::CLASSES)?).map_err(|error| {
            wrong(format!("metadata `{}`", key::CLASSES), "a list of names", error.to_string())
        })?,
        normalisation: Normalisation {
            mean: numbers(key::MEAN, entry(key::MEAN)?)?,
            deviation: numbers(key::DEVIATION, entry(key::DEVIATION)?)?,
        },
    };
    if let Some((what, expected, got)) = info.misfit(&network) {
        return Err(wrong(what, expected, got));
    }
    Ok(Model { network, filling, info })
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

/// Initialisers by name, sizes checked.
struct Tensors<'a>(HashMap<&'a str, (Vec<usize>, &'a [u8])>);

impl<'a> Tensors<'a> {
    fn new(initializers: &'a [TensorProto]) -> Result<Self, ReadError> {
        at_most("tensors", initializers.len(), 5 * MAX_NODES)?;
        let mut tensors = HashMap::new();
        let mut total = 0;
        for tensor in initializers {
            let place = || format!("tensor `{}`", tensor.name);
            if tensor.data_type != i32::from(DataType::Float) {
                return Err(wrong(place(), "type FLOAT", tensor.data_type.to_string()));
            }
            let dims = tensor.dims.iter().map(|&dim| bounded(dim, &place)).collect::<Result<Vec<_>, _>>()?;
            let values = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim));
            total = values.and_then(|values| values.checked_add(total)).unwrap_or(usize::MAX);
            at_most("values of all tensors", total, MAX_VALUES)?;
            if tensors.insert(tensor.name.as_str(), (dims, tensor.raw_data.as_slice())).is_some() {
                return Err(wrong(place(), "one of that name", "two"));
            }
        }
        Ok(Self(tensors))
    }

    fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N], ReadError> {
        let place = || format!("tensor `{name}`");
        let (dims, _) = self.0.get(name).ok_or_else(|| wrong(place(), "a tensor", "none"))?;
        dims.as_slice().try_into().map_err(|_| wrong(place(), format!("{N} dimensions"), format!("{dims:?}")))
    }

    fn is_scalar(&self, name: &str, value: f32) -> bool {
        self.0.get(name).is_some_and(|(dims, data)| dims.is_empty() && *data == bytes_of(&[value]))
    }

    /// The tensors that belong to layers as parameters.
    fn parameters(&self, network: &Network) -> impl Iterator<Item = (&'a str, &(Vec<usize>, &'a [u8]))> {
        let bounds: Vec<String> = network
            .nodes()
            .iter()
            .filter(|node| node.layer == Layer::Activation(Activation::Relu6))
            .flat_map(|node| RELU6_BOUNDS.map(|(suffix, _)| format!("{}.{suffix}", node.name)))
            .collect();
        self.0
            .iter()
            .map(|(name, tensor)| (*name, tensor))
            .filter(move |(name, _)| !bounds.iter().any(|b| b == name))
    }

    fn weights(&self, network: &Network) -> Result<Weights, ReadError> {
        let mut weights = Weights::default();
        for (name, (dims, data)) in self.parameters(network) {
            let expected = 4 * dims.iter().product::<usize>();
            if data.len() != expected {
                return Err(wrong(
                    format!("tensor `{name}`"),
                    format!("{expected} bytes"),
                    data.len().to_string(),
                ));
            }
            weights.insert(name, dims.clone(), values_of(data));
        }
        weights.verify(network)?;
        Ok(weights)
    }

    /// As [`Weights::verify`], for a file whose numbers come from a seed.
    fn verify_empty(&self, network: &Network) -> Result<(), ReadError> {
        let parameters = network.parameters();
        for parameter in &parameters {
            let (dims, data) = self
                .0
                .get(parameter.name.as_str())
                .ok_or_else(|| WeightsError::Missing(parameter.name.clone()))?;
            if *dims != parameter.dims {
                let (name, expected) = (parameter.name.clone(), parameter.dims.clone());
                return Err(WeightsError::Dims { name, expected, got: dims.clone() }.into());
            }
            if !data.is_empty() {
                return Err(wrong(format!("tensor `{}`", parameter.name), "no data beside a seed", "data"));
            }
        }
        match self.parameters(network).find(|(name, _)| parameters.iter().all(|p| p.name != *name)) {
            Some((name, _)) => Err(WeightsError::Unknown(name.into()).into()),
            None => Ok(()),
        }
    }
}

const RELU6_BOUNDS: [(&str, f32); 2] = [("min", 0.0), ("max", 6.0)];

fn bounded(value: i64, place: &impl Fn() -> String) -> Result<usize, ReadError> {
    match usize::try_from(value) {
        Ok(value) if value <= MAX_DIM => Ok(value),
        _ => Err(wrong(place(), format!("a number from 0 to {MAX_DIM}"), value.to_string())),
    }
}

fn network(graph: &GraphProto, input_node: &str, tensors: &Tensors<'_>) -> Result<Network, ReadError> {
    at_most("nodes", graph.node.len(), MAX_NODES)?;
    let mut values: HashMap<&str, usize> = HashMap::from([(INPUT, 0)]);
    let mut nodes = vec![Node { name: input_node.into(), layer: image(&graph.input)?, inputs: Vec::new() }];
    let mut padding = 0;
    let mut rest = graph.node.iter();
    while let Some(proto) = rest.next() {
        let operator = Operator { proto, tensors };
        let layer = operator.layer()?;
        padding += match &layer {
            Layer::Conv(conv) => conv.padding,
            Layer::MaxPool(pool) | Layer::AveragePool(pool) => pool.padding,
            _ => 0,
        };
        at_most("padding of all layers", padding, MAX_EDGE)?;
        let mut output = operator.output()?;
        if layer == Layer::GlobalAveragePool {
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

fn image(inputs: &[ValueInfoProto]) -> Result<Layer, ReadError> {
    let place = || format!("input `{INPUT}`");
    let dims = match inputs {
        [ValueInfoProto { name, r#type: Some(r#type), .. }] if name == INPUT => match &r#type.value {
            Some(type_proto::Value::TensorType(type_proto::Tensor { shape: Some(shape), .. })) => &shape.dim,
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

/// One ONNX node on its way to a layer.
struct Operator<'a> {
    proto: &'a NodeProto,
    tensors: &'a Tensors<'a>,
}

impl<'a> Operator<'a> {
    fn place(&self) -> String {
        format!("node `{}` ({})", self.proto.name, self.proto.op_type)
    }

    fn wrong(&self, expected: &str, got: &str) -> ReadError {
        wrong(self.place(), expected, got)
    }

    fn output(&self) -> Result<&'a str, ReadError> {
        match &self.proto.output[..] {
            [output] => Ok(output),
            outputs => Err(self.wrong("one output", &outputs.len().to_string())),
        }
    }

    fn layer(&self) -> Result<Layer, ReadError> {
        let layer = match self.proto.op_type.as_str() {
            "Conv" => self.conv()?,
            "BatchNormalization" => {
                let [channels] = self.tensors.dims(&self.tensor_name("weight"))?;
                self.tensor_inputs(1, &["weight", "bias", "running_mean", "running_var"])?;
                let [epsilon] = self.attributes(["epsilon"])?;
                let epsilon =
                    read_back(epsilon.f).filter(|_| epsilon.r#type == i32::from(AttributeType::Float));
                let epsilon = epsilon.filter(|epsilon| epsilon.is_finite() && *epsilon >= 0.0);
                let epsilon = epsilon.ok_or_else(|| self.wrong("a positive epsilon", "another value"))?;
                Layer::BatchNorm(BatchNorm { channels, epsilon })
            }
            "Relu" => self.plain(Layer::Activation(Activation::Relu))?,
            "Clip" => {
                self.tensor_inputs(1, &RELU6_BOUNDS.map(|(suffix, _)| suffix))?;
                for (suffix, bound) in RELU6_BOUNDS {
                    if !self.tensors.is_scalar(&self.tensor_name(suffix), bound) {
                        return Err(self.wrong("bounds 0 and 6", "others"));
                    }
                }
                let [] = self.attributes([])?;
                Layer::Activation(Activation::Relu6)
            }
            "MaxPool" => {
                self.tensor_inputs(1, &[])?;
                let [kernel, pads, strides] = self.attributes(["kernel_shape", "pads", "strides"])?;
                Layer::MaxPool(self.pool(kernel, pads, strides)?)
            }
            "AveragePool" => {
                self.tensor_inputs(1, &[])?;
                let [kernel, pads, strides, include] =
                    self.attributes(["kernel_shape", "pads", "strides", "count_include_pad"])?;
                self.int(include, 0)?;
                Layer::AveragePool(self.pool(kernel, pads, strides)?)
            }
            "GlobalAveragePool" => self.plain(Layer::GlobalAveragePool)?,
            "Flatten" => self.with_axis(Layer::Flatten)?,
            "Gemm" => {
                let [out_features, in_features] = self.tensors.dims(&self.tensor_name("weight"))?;
                let bias = self.weight_and_bias()?;
                let [trans_b] = self.attributes(["transB"])?;
                self.int(trans_b, 1)?;
                Layer::Linear(Linear { in_features, out_features, bias })
            }
            "Add" => {
                self.tensor_inputs(2, &[])?;
                let [] = self.attributes([])?;
                Layer::Add
            }
            "Softmax" => self.with_axis(Layer::Softmax)?,
            other => return Err(self.wrong("an operator that n2n writes", other)),
        };
        if self.proto.domain.is_empty() {
            Ok(layer)
        } else {
            Err(self.wrong("the standard domain", &self.proto.domain))
        }
    }

    fn conv(&self) -> Result<Layer, ReadError> {
        let [out_channels, group_inputs, rows, columns] = self.tensors.dims(&self.tensor_name("weight"))?;
        let bias = self.weight_and_bias()?;
        let [dilations, group, kernel, pads, strides] =
            self.attributes(["dilations", "group", "kernel_shape", "pads", "strides"])?;
        if self.all_equal::<2>(dilations)? != 1 {
            return Err(self.wrong("dilations of 1", &format!("{:?}", dilations.ints)));
        }
        let Pool { kernel, stride, padding } = self.pool(kernel, pads, strides)?;
        if [rows, columns] != [kernel; 2] {
            return Err(self.wrong(&format!("a {kernel}x{kernel} kernel"), &format!("{rows}x{columns}")));
        }
        let groups = bounded(group.i, &|| self.place())?;
        // Both factors are at most MAX_DIM, so this cannot overflow; the network's own check compares it with its input.
        let in_channels = group_inputs * groups;
        Ok(Layer::Conv(Conv { in_channels, out_channels, kernel, stride, padding, groups, bias }))
    }

    fn pool(
        &self,
        kernel: &AttributeProto,
        pads: &AttributeProto,
        strides: &AttributeProto,
    ) -> Result<Pool, ReadError> {
        let pool = Pool {
            kernel: self.all_equal::<2>(kernel)?,
            stride: self.all_equal::<2>(strides)?,
            padding: self.all_equal::<4>(pads)?,
        };
        if pool.stride == 0 || pool.kernel == 0 {
            return Err(self.wrong("a kernel and a stride of at least 1", &format!("{pool:?}")));
        }
        Ok(pool)
    }

    /// A layer of one operand and nothing else.
    fn plain(&self, layer: Layer) -> Result<Layer, ReadError> {
        self.tensor_inputs(1, &[])?;
        let [] = self.attributes([])?;
        Ok(layer)
    }

    fn with_axis(&self, layer: Layer) -> Result<Layer, ReadError> {
        self.tensor_inputs(1, &[])?;
        let [axis] = self.attributes(["axis"])?;
        self.int(axis, 1)?;
        Ok(layer)
    }

    fn tensor_name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.proto.name)
    }

    fn weight_and_bias(&self) -> Result<bool, ReadError> {
        let bias = self.proto.input.len() > 2;
        self.tensor_inputs(1, if bias { &["weight", "bias"] } else { &["weight"] })?;
        Ok(bias)
    }

    /// That after `operands` values come exactly the layer's own tensors of these suffixes.
    fn tensor_inputs(&self, operands: usize, suffixes: &[&str]) -> Result<(), ReadError> {
        let expected: Vec<String> = suffixes.iter().map(|suffix| self.tensor_name(suffix)).collect();
        match self.proto.input.get(operands..) {
            Some(tensors) if tensors == expected => Ok(()),
            _ => {
                let expected = format!("{operands} operands and tensors [{}]", expected.join(", "));
                Err(self.wrong(&expected, &self.proto.input.join(", ")))
            }
        }
    }

    /// The attributes of these names; no other may be there.
    fn attributes<const N: usize>(&self, names: [&str; N]) -> Result<[&'a AttributeProto; N], ReadError> {
        let attributes = &self.proto.attribute;
        let missing = || {
            let got: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
            self.wrong(&format!("attributes [{}]", names.join(", ")), &got.join(", "))
        };
        if attributes.len() != N {
            return Err(missing());
        }
        let found: Vec<&AttributeProto> = names
            .iter()
            .filter_map(|name| attributes.iter().find(|attribute| attribute.name == *name))
            .collect();
        found.try_into().map_err(|_| missing())
    }

    fn int(&self, attribute: &AttributeProto, expected: i64) -> Result<(), ReadError> {
        if attribute.r#type == i32::from(AttributeType::Int) && attribute.i == expected {
            return Ok(());
        }
        Err(self.wrong(&format!("{} = {expected}", attribute.name), &attribute.i.to_string()))
    }

    /// The one value of an attribute of N equal numbers: windows are square and padding is symmetric here.
    fn all_equal<const N: usize>(&self, attribute: &AttributeProto) -> Result<usize, ReadError> {
        match attribute.ints[..] {
            [first, ..] if attribute.ints == [first; N] => bounded(first, &|| self.place()),
            _ => Err(self.wrong(&format!("{N} equal {}", attribute.name), &format!("{:?}", attribute.ints))),
        }
    }
}
