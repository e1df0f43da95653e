//! What normalises inside a file: Cast of bytes, then Mul and Add by channel. Written and recognised in one place.
//!
//! It stands before the first convolution and so before its padding: folded into weights and bias it would change every pixel
//! at the border, where a convolution sees zeros that no mean was taken from.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

use super::INPUT;
use crate::model_io::bytes_of;
use crate::normalisation::{InputForm, Normalisation};

/// Nodes by channel: name of the node and of its constant, operator.
const STEPS: [(&str, &str); 2] = [("input.scale", "Mul"), ("input.shift", "Add")];
/// The node that makes floats of bytes.
const CAST: &str = "input.cast";

/// A head, as it stands in a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Head {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<TensorProto>,
}

impl Head {
    /// Of a file that takes `form`; empty where whoever runs it normalises.
    pub(super) fn new(form: InputForm, normalisation: &Normalisation) -> Self {
        let Some((scale, shift)) = form.head(normalisation) else { return Self::default() };
        let mut head = Self::default();
        let mut value = INPUT.to_owned();
        if form == InputForm::Uint8 {
            let to = AttributeProto {
                name: "to".into(),
                r#type: AttributeType::Int.into(),
                i: i64::from(i32::from(DataType::Float)),
                ..AttributeProto::default()
            };
            value = head.push(CAST, "Cast", vec![value], vec![to]);
        }
        for ((name, operator), numbers) in STEPS.into_iter().zip([scale, shift]) {
            head.constants.push(TensorProto {
                name: name.into(),
                dims: vec![1, numbers.len() as i64, 1, 1],
                data_type: DataType::Float.into(),
                raw_data: bytes_of(&numbers),
                ..TensorProto::default()
            });
            value = head.push(name, operator, vec![value, name.into()], Vec::new());
        }
        head
    }

    /// The value that the first layer reads.
    pub(super) fn value(&self) -> &str {
        self.nodes.last().and_then(|node| node.output.first()).map_or(INPUT, String::as_str)
    }

    /// Type of the file's input.
    pub(super) fn element(form: InputForm) -> DataType {
        match form {
            InputForm::Plain | InputForm::Normalised => DataType::Float,
            InputForm::Uint8 => DataType::Uint8,
        }
    }

    /// Whether a tensor is a head's, by its name.
    pub(super) fn owns(name: &str) -> bool {
        STEPS.iter().any(|(step, _)| *step == name)
    }

    fn push(
        &mut self,
        name: &str,
        operator: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = format!("{name}.out");
        self.nodes.push(NodeProto {
            name: name.into(),
            op_type: operator.into(),
            input,
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }
}
