//! From a file to a file: checks, and weights for a candidate that travelled without them.
//!
//! A candidate is the very ONNX that would ship, with empty initialisers and a seed in its metadata. Filling them before
//! any engine sees the file means that every engine gets what it would get from a shipped one. Bytes are untrusted: nothing
//! is allocated for a tensor before its size was checked. It must not know an engine.

use crate::outside::outside;
use n2n_protocol::generator;
use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, TensorProto};

/// Bytes of one f32.
const F32_BYTES: u64 = 4;

/// Why bytes are not a model.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Not ONNX, or inconsistent.
    #[error("not a usable ONNX file: {0}")]
    Malformed(String),
    /// The weights alone are above the memory limit.
    #[error("the weights take {weights_bytes} bytes, the memory limit is {limit_bytes}")]
    TooLarge {
        /// What the initialisers take.
        weights_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
}

/// The file with its weights: as it came if it has them, else filled by the seed in its metadata.
///
/// # Errors
/// [`ModelError::TooLarge`] when the weights cannot fit in `limit_bytes`; [`ModelError::Malformed`] for all else.
pub fn whole(file: Vec<u8>, limit_bytes: u64) -> Result<Vec<u8>, ModelError> {
    let malformed = |why: String| ModelError::Malformed(why);
    let mut model = ModelProto::decode(file.as_slice()).map_err(|error| malformed(error.to_string()))?;
    let seed = seed(&model)?;
    if let Some(tensor) = outside(&model) {
        return Err(malformed(format!("tensor `{tensor}` lies in another file")));
    }
    let graph = model.graph.as_mut().ok_or_else(|| malformed("it has no graph".into()))?;

    let mut weights_bytes = 0_u64;
    for tensor in &graph.initializer {
        let bytes =
            if is_empty(tensor) { values(tensor)?.saturating_mul(F32_BYTES) } else { held_bytes(tensor) };
        weights_bytes = weights_bytes.saturating_add(bytes);
    }
    if weights_bytes > limit_bytes {
        return Err(ModelError::TooLarge { weights_bytes, limit_bytes });
    }

    let mut filled = false;
    for tensor in &mut graph.initializer {
        if !is_empty(tensor) || values(tensor)? == 0 {
            continue;
        }
        let Some(seed) = seed else {
            return Err(malformed(format!(
                "initialiser `{}` has no data, and the metadata has no `{}`",
                tensor.name,
                generator::WEIGHTS_SEED_KEY
            )));
        };
        fill(tensor, seed)?;
        filled = true;
    }
    if !filled {
        return Ok(file);
    }
    drop(file);
    // Or a second filling would find weights and a seed, and so would a reader of the file.
    model.metadata_props.retain(|entry| entry.key != generator::WEIGHTS_SEED_KEY);
    Ok(model.encode_to_vec())
}

/// The seed in the metadata, if there is one.
fn seed(model: &ModelProto) -> Result<Option<u64>, ModelError> {
    let entry = model.metadata_props.iter().find(|entry| entry.key == generator::WEIGHTS_SEED_KEY);
    entry
        .map(|entry| {
            entry.value.parse().map_err(|_| {
                ModelError::Malformed(format!("`{}`: expected a number, got {:?}", entry.key, entry.value))
            })
        })
        .transpose()
}

fn fill(tensor: &mut TensorProto, seed: u64) -> Result<(), ModelError> {
    if tensor.data_type != DataType::Float as i32 {
        return Err(ModelError::Malformed(format!(
            "initialiser `{}` has no data and is not f32: only f32 can be generated",
            tensor.name
        )));
    }
    let dims: Vec<usize> = tensor.dims.iter().map(|&dim| dim as usize).collect();
    let mut weights = vec![0.0; dims.iter().product()];
    generator::fill(seed, &tensor.name, &dims, &mut weights);
    tensor.raw_data = weights.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(())
}

/// Whether name and dimensions travelled alone.
fn is_empty(tensor: &TensorProto) -> bool {
    held_bytes(tensor) == 0 && tensor.string_data.is_empty()
}

/// Bytes of data that the file itself holds for a tensor.
fn held_bytes(tensor: &TensorProto) -> u64 {
    let words = tensor.float_data.len() + tensor.int32_data.len();
    let longs = tensor.int64_data.len() + tensor.double_data.len() + tensor.uint64_data.len();
    (tensor.raw_data.len() + words * 4 + longs * 8) as u64
}

/// How many values the dimensions ask for.
fn values(tensor: &TensorProto) -> Result<u64, ModelError> {
    tensor
        .dims
        .iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?))
        .ok_or_else(|| {
            ModelError::Malformed(format!(
                "initialiser `{}` has impossible dimensions {:?}",
                tensor.name, tensor.dims
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_models::{Weights, conv_net};
    use tract_onnx::pb::tensor_proto::DataLocation;

    const LIMIT: u64 = 1 << 20;

    #[test]
    fn an_emptied_file_becomes_the_filled_one() {
        let empty = conv_net(3, 64, 4, &Weights::Seed(7)).encode_to_vec();
        let filled = conv_net(3, 64, 4, &Weights::GeneratedFrom(7)).encode_to_vec();
        assert!(empty.len() * 4 < filled.len());
        assert_eq!(whole(empty, LIMIT).unwrap(), filled);
        assert_eq!(whole(filled.clone(), LIMIT).unwrap(), filled, "a whole file stays as it is");
    }

    #[test]
    fn sizes_are_checked_before_anything_is_allocated() {
        let mut model = conv_net(3, 8, 4, &Weights::Seed(7));
        let weights = |model: &mut ModelProto, dims: &[i64]| {
            model.graph.as_mut().unwrap().initializer[0].dims = dims.to_vec();
            whole(model.encode_to_vec(), LIMIT).unwrap_err()
        };
        assert!(matches!(
            weights(&mut model, &[1 << 40, 2]),
            ModelError::TooLarge { limit_bytes: LIMIT, .. }
        ));
        for impossible in [&[i64::MAX, i64::MAX][..], &[-1, 3]] {
            let error = weights(&mut model, impossible);
            assert!(error.to_string().contains("impossible dimensions"), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(whole(b"\xffnot a model".to_vec(), LIMIT), Err(ModelError::Malformed(_))));
        assert!(whole(Vec::new(), LIMIT).unwrap_err().to_string().contains("no graph"));

        let mut model = conv_net(3, 8, 4, &Weights::Seed(7));
        model.metadata_props.clear();
        let error = whole(model.encode_to_vec(), LIMIT).unwrap_err().to_string();
        assert!(error.contains("has no data") && error.contains(generator::WEIGHTS_SEED_KEY), "{error}");

        let mut model = conv_net(3, 8, 4, &Weights::Seed(7));
        model.metadata_props[0].value = "seven".into();
        assert!(whole(model.encode_to_vec(), LIMIT).unwrap_err().to_string().contains("\"seven\""));

        let mut model = conv_net(3, 8, 4, &Weights::Seed(7));
        model.graph.as_mut().unwrap().initializer[0].data_location = Some(DataLocation::External as i32);
        assert!(whole(model.encode_to_vec(), LIMIT).unwrap_err().to_string().contains("another file"));
    }
}
