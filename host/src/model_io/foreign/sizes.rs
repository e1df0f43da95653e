//! One input of fixed size: batch 1, whatever it is called, and open sizes as the user says.

use std::collections::HashMap;
use std::path::Path;

use n2n_protocol::Element;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value};
use tract_onnx::pb::{GraphProto, TensorShapeProto, ValueInfoProto, type_proto};

use super::error::ForeignError;

/// Numbers of one input: 4096 x 4096 RGB, far above any picture that a board looks at.
const MAX_VALUES: usize = 3 * 4096 * 4096;

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Without the batch.
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
}

/// Fixes the sizes of the one input in `graph`, everywhere they are named; `wish` fills what is open. Tells whether anything
/// had to be changed.
pub(super) fn fix(
    graph: &mut GraphProto,
    path: &Path,
    wish: Option<&[usize]>,
) -> Result<(Given, bool), ForeignError> {
    let wrong = |expected: &str, got: String, hint: &str| ForeignError::Shape {
        path: path.into(),
        expected: expected.into(),
        got,
        hint: hint.into(),
    };
    let free: Vec<usize> = (0..graph.input.len())
        .filter(|&index| !graph.initializer.iter().any(|it| it.name == graph.input[index].name))
        .collect();
    let named =
        |values: &[ValueInfoProto]| values.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ");
    let [index] = free[..] else {
        let inputs: Vec<ValueInfoProto> = free.iter().map(|&index| graph.input[index].clone()).collect();
        return Err(wrong("one input, a picture", format!("{}: {}", free.len(), named(&inputs)), ONE));
    };
    if graph.output.len() != 1 {
        let got = format!("{}: {}", graph.output.len(), named(&graph.output));
        return Err(wrong("one output, a row of logits", got, DETECTOR));
    }
    let name = graph.input[index].name.clone();
    let Some(type_proto::Value::TensorType(tensor)) =
        graph.input[index].r#type.as_ref().and_then(|it| it.value.as_ref())
    else {
        return Err(wrong("a tensor as input", format!("`{name}`, which is none"), ONE));
    };
    let element = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Float) => Element::F32,
        Ok(DataType::Uint8) => Element::U8,
        other => {
            let got = other.map_or_else(|_| "an unknown type".into(), |it| format!("{it:?}").to_lowercase());
            return Err(wrong(
                "an input of 32-bit floats or bytes",
                format!("`{name}` of {got}"),
                "export it with float32 inputs; weights may stay as they are",
            ));
        }
    };
    let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim).to_vec();
    if dims.len() < 2 {
        return Err(wrong(
            "an input of a batch of pictures",
            format!("`{name}` of {} axes", dims.len()),
            ONE,
        ));
    }
    let known = |dim: &Dimension| match dim.value {
        Some(Value::DimValue(value)) if value > 0 => usize::try_from(value).ok(),
        _ => None,
    };
    let mut shape = Vec::with_capacity(dims.len());
    for (axis, dim) in dims.iter().enumerate().skip(1) {
        let asked = wish.and_then(|wish| wish.get(axis - 1).copied());
        match (known(dim), asked) {
            (Some(size), Some(asked)) if size != asked => {
                let sizes: Vec<String> =
                    dims.iter().skip(1).map(|it| known(it).map_or("?".into(), |it| it.to_string())).collect();
                return Err(wrong(
                    &format!("--input {}", sizes.join("x")),
                    wish.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
                    "sizes that the file fixes cannot be changed: export it with the size that you want",
                ));
            }
            (Some(size), _) | (None, Some(size)) => shape.push(size),
            (None, None) => {
                let sizes: Vec<String> = dims
                    .iter()
                    .skip(1)
                    .map(|it| known(it).map_or_else(|| open_name(it), |it| it.to_string()))
                    .collect();
                return Err(wrong(
                    "an input of fixed size",
                    format!("`{name}` of {}", sizes.join("x")),
                    "say the size, in the order of the file's axes, as in --input 3x96x96",
                ));
            }
        }
    }
    if wish.is_some_and(|wish| wish.len() + 1 != dims.len()) {
        return Err(wrong(
            &format!("--input with {} sizes", dims.len() - 1),
            wish.unwrap_or_default().len().to_string(),
            "write one size for each axis of the input but the batch, as in --input 3x96x96",
        ));
    }
    let values = shape.iter().try_fold(1_usize, |values, &size| values.checked_mul(size));
    if values.is_none_or(|values| values > MAX_VALUES) {
        return Err(wrong(
            &format!("an input of at most {MAX_VALUES} values"),
            format!("{shape:?}"),
            "use smaller pictures",
        ));
    }
    let fixed: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
    let changed = dims.iter().zip(&fixed).any(|(dim, &size)| known(dim) != Some(size));
    if changed {
        apply(graph, index, &dims, &fixed);
    }
    Ok((Given { shape, element }, changed))
}

const ONE: &str = "n2n measures networks that take one picture and give one row of numbers";
const DETECTOR: &str = "a detector, or another network that is no classifier: n2n measures networks with one output; \
                        export the part that classifies";

fn open_name(dim: &Dimension) -> String {
    match &dim.value {
        Some(Value::DimParam(name)) if !name.is_empty() => format!("`{name}`"),
        _ => "?".into(),
    }
}

/// Writes the sizes in, and for every name of an open size wherever else it stands. What the file says of values in between
/// is forgotten: it may be about other sizes.
fn apply(graph: &mut GraphProto, index: usize, dims: &[Dimension], fixed: &[usize]) {
    let names: HashMap<String, usize> = dims
        .iter()
        .zip(fixed)
        .filter_map(|(dim, &size)| match &dim.value {
            Some(Value::DimParam(name)) if !name.is_empty() => Some((name.clone(), size)),
            _ => None,
        })
        .collect();
    let set = |dim: &mut Dimension, size: usize| dim.value = Some(Value::DimValue(size as i64));
    if let Some(shape) = shape_of(&mut graph.input[index]) {
        shape.dim.iter_mut().zip(fixed).for_each(|(dim, &size)| set(dim, size));
    }
    for output in &mut graph.output {
        let Some(shape) = shape_of(output) else { continue };
        for (axis, dim) in shape.dim.iter_mut().enumerate() {
            match &dim.value {
                Some(Value::DimValue(value)) if *value > 0 => {}
                Some(Value::DimParam(name)) if names.contains_key(name) => {
                    let size = names[name];
                    set(dim, size);
                }
                _ if axis == 0 => set(dim, 1),
                _ => dim.value = None,
            }
        }
    }
    graph.value_info.clear();
}

fn shape_of(value: &mut ValueInfoProto) -> Option<&mut TensorShapeProto> {
    match value.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => tensor.shape.as_mut(),
    }
}
