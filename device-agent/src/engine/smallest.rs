//! The smallest model that there is, relu of one number: what an engine starts itself with.

use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    type_proto,
};

/// Version of ONNX's file format: 2021, which all engines of today read.
const IR_VERSION: i64 = 8;

/// The file.
pub(super) fn smallest_model() -> Vec<u8> {
    let value = |name: &str| {
        let dim = Dimension { value: Some(dimension::Value::DimValue(1)), ..Dimension::default() };
        let shape = Some(TensorShapeProto { dim: vec![dim] });
        let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
        let value = Some(type_proto::Value::TensorType(tensor));
        let r#type = Some(TypeProto { value, ..TypeProto::default() });
        ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
    };
    let relu = NodeProto {
        op_type: "Relu".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: "smallest".into(),
        node: vec![relu],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() };
    let model = ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    };
    model.encode_to_vec()
}
