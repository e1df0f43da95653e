//! Small ONNX models for tests, built by hand.
//!
//! Shared by the unit tests and, by path, the integration tests.
#![allow(dead_code, reason = "each test program uses its own part")]

use n2n_protocol::generator;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

/// Where the weights of [`conv_net`] come from.
pub(crate) enum Weights {
    /// None in the file, a seed in the metadata.
    Seed(u64),
    /// In the file, as the generator makes them.
    GeneratedFrom(u64),
}

/// conv (2x2 kernel, one channel, bias) -> relu -> flatten -> linear, on a 2x2 image: all weights small integers.
pub(crate) fn by_hand() -> ModelProto {
    let nodes = vec![
        node("Conv", &["input", "conv.weight", "conv.bias"], "conv", vec![ints("kernel_shape", &[2, 2])]),
        node("Relu", &["conv"], "relu", vec![]),
        node("Flatten", &["relu"], "flat", vec![]),
        node("Gemm", &["flat", "fc.weight", "fc.bias"], "logits", vec![int("transB", 1)]),
    ];
    let tensors = vec![
        tensor("conv.weight", &[1, 1, 2, 2], &[1.0, -1.0, 2.0, 0.5]),
        tensor("conv.bias", &[1], &[0.5]),
        tensor("fc.weight", &[3, 1], &[1.0, -2.0, 4.0]),
        tensor("fc.bias", &[3], &[0.0, 1.0, -1.0]),
    ];
    model(nodes, tensors, &[1, 1, 2, 2], 3, None)
}

/// The logits of [`by_hand`], computed as one would on paper.
pub(crate) fn by_hand_logits(x: [f32; 4]) -> Vec<f32> {
    let conv = (x[0] - x[1] + 2.0 * x[2] + 0.5 * x[3] + 0.5).max(0.0);
    vec![conv, 1.0 - 2.0 * conv, 4.0 * conv - 1.0]
}

/// conv 3x3 (`channels` in, `width` out) -> relu -> global average -> linear to `classes`, on an 8x8 image.
pub(crate) fn conv_net(channels: i64, width: i64, classes: i64, weights: &Weights) -> ModelProto {
    conv_net_at(8, channels, width, classes, weights)
}

/// [`conv_net`] on a square image of any size.
pub(crate) fn conv_net_at(
    size: i64,
    channels: i64,
    width: i64,
    classes: i64,
    weights: &Weights,
) -> ModelProto {
    let nodes = vec![
        node(
            "Conv",
            &["input", "conv.weight", "conv.bias"],
            "conv",
            vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])],
        ),
        node("Relu", &["conv"], "relu", vec![]),
        node("GlobalAveragePool", &["relu"], "pool", vec![]),
        node("Flatten", &["pool"], "flat", vec![]),
        node("Gemm", &["flat", "fc.weight", "fc.bias"], "logits", vec![int("transB", 1)]),
    ];
    let shapes: [(&str, Vec<i64>); 4] = [
        ("conv.weight", vec![width, channels, 3, 3]),
        ("conv.bias", vec![width]),
        ("fc.weight", vec![classes, width]),
        ("fc.bias", vec![classes]),
    ];
    let tensors = shapes.iter().map(|(name, dims)| match weights {
        Weights::Seed(_) => tensor(name, dims, &[]),
        Weights::GeneratedFrom(seed) => {
            let sizes: Vec<usize> = dims.iter().map(|&dim| dim as usize).collect();
            let mut values = vec![0.0; sizes.iter().product()];
            generator::fill(*seed, name, &sizes, &mut values);
            tensor(name, dims, &values)
        }
    });
    let seed = match weights {
        Weights::Seed(seed) => Some(*seed),
        Weights::GeneratedFrom(_) => None,
    };
    model(nodes, tensors.collect(), &[1, channels, size, size], classes, seed)
}

/// One number, expanded to `numbers` logits: a file of some hundred bytes with an answer of any size.
pub(crate) fn flood(numbers: i64) -> ModelProto {
    let shape = TensorProto {
        dims: vec![2],
        data_type: DataType::Int64 as i32,
        name: "shape".into(),
        raw_data: [1, numbers].iter().flat_map(|value: &i64| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    };
    let nodes = vec![node("Expand", &["input", "shape"], "logits", vec![])];
    model(nodes, vec![shape], &[1, 1], numbers, None)
}

/// A loop that turns 2^62 times: a small file whose one inference never ends.
pub(crate) fn endless() -> ModelProto {
    let typed = |name: &str, dims: &[i64], elem_type: DataType| {
        let mut info = value(name, dims);
        if let Some(type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|it| it.value.as_mut())
        {
            tensor.elem_type = elem_type as i32;
        }
        info
    };
    let body = GraphProto {
        node: vec![node("Identity", &["go"], "go_on", vec![]), node("Add", &["x", "x"], "y", vec![])],
        name: "body".into(),
        input: vec![
            typed("turn", &[], DataType::Int64),
            typed("go", &[], DataType::Bool),
            value("x", &[1, 4]),
        ],
        output: vec![typed("go_on", &[], DataType::Bool), value("y", &[1, 4])],
        ..GraphProto::default()
    };
    let constant = |name: &str, data_type: DataType, raw_data: Vec<u8>| TensorProto {
        data_type: data_type as i32,
        name: name.into(),
        raw_data,
        ..TensorProto::default()
    };
    let tensors = vec![
        constant("turns", DataType::Int64, (1_i64 << 62).to_le_bytes().to_vec()),
        constant("begin", DataType::Bool, vec![1]),
    ];
    let body = AttributeProto {
        name: "body".into(),
        r#type: AttributeType::Graph as i32,
        g: Some(body),
        ..AttributeProto::default()
    };
    model(vec![node("Loop", &["turns", "begin", "input"], "logits", vec![body])], tensors, &[1, 4], 4, None)
}

fn model(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: &[i64],
    classes: i64,
    seed: Option<u64>,
) -> ModelProto {
    let graph = GraphProto {
        node,
        name: "test".into(),
        initializer,
        input: vec![value("input", input)],
        output: vec![value("logits", &[1, classes])],
        ..GraphProto::default()
    };
    let seed = seed.map(|seed| StringStringEntryProto {
        key: generator::WEIGHTS_SEED_KEY.into(),
        value: seed.to_string(),
    });
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        metadata_props: seed.into_iter().collect(),
        ..ModelProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        name: format!("{op}.{output}"),
        op_type: op.into(),
        attribute,
        ..NodeProto::default()
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        name: name.into(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&dim| Dimension { denotation: String::new(), value: Some(dimension::Value::DimValue(dim)) })
        .collect();
    let tensor =
        type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            denotation: String::new(),
            value: Some(type_proto::Value::TensorType(tensor)),
        }),
        doc_string: String::new(),
    }
}

/// Dimensions of the model's input, to change in a test.
pub(crate) fn input_dims(model: &mut ModelProto) -> &mut Vec<Dimension> {
    let input = &mut model.graph.as_mut().unwrap().input[0];
    let type_proto::Value::TensorType(tensor) = input.r#type.as_mut().unwrap().value.as_mut().unwrap();
    &mut tensor.shape.as_mut().unwrap().dim
}
