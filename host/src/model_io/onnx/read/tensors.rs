//! The initialisers of a file: sizes bounded before anything is made of them, then weights or their absence.

use std::collections::HashMap;

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::error::{ReadError, wrong};
use super::limits::{MAX_NODES, at_most, bounded};
use crate::model_io::onnx::MAX_BYTES;
use crate::model_io::{Weights, WeightsError, bytes_of, values_of};
use crate::network::Network;
use crate::network::layer::Activation;

/// Values of all tensors together, as many as the largest file can hold; a file without weights could claim more.
const MAX_VALUES: usize = (MAX_BYTES / 4) as usize;

/// Bounds of a ReLU6, by the suffixes of their initialisers.
pub(super) const RELU6_BOUNDS: [(&str, f32); 2] = [("min", 0.0), ("max", 6.0)];

/// Initialisers by name, sizes checked.
pub(super) struct Tensors<'a>(HashMap<&'a str, (Vec<usize>, &'a [u8])>);

impl<'a> Tensors<'a> {
    pub(super) fn new(initializers: &'a [TensorProto]) -> Result<Self, ReadError> {
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

    pub(super) fn dims<const N: usize>(&self, name: &str) -> Result<[usize; N], ReadError> {
        let place = || format!("tensor `{name}`");
        let (dims, _) = self.0.get(name).ok_or_else(|| wrong(place(), "a tensor", "none"))?;
        dims.as_slice().try_into().map_err(|_| wrong(place(), format!("{N} dimensions"), format!("{dims:?}")))
    }

    pub(super) fn is_scalar(&self, name: &str, value: f32) -> bool {
        self.0.get(name).is_some_and(|(dims, data)| dims.is_empty() && *data == bytes_of(&[value]))
    }

    /// The tensors that belong to layers as parameters.
    fn parameters(&self, network: &Network) -> impl Iterator<Item = (&'a str, &(Vec<usize>, &'a [u8]))> {
        let bounds: Vec<String> = network
            .nodes()
            .iter()
            .filter(|node| node.layer.activation() == Some(Activation::Relu6))
            .flat_map(|node| RELU6_BOUNDS.map(|(suffix, _)| format!("{}.{suffix}", node.name)))
            .collect();
        self.0
            .iter()
            .map(|(name, tensor)| (*name, tensor))
            .filter(move |(name, _)| !bounds.iter().any(|b| b == name))
    }

    pub(super) fn weights(&self, network: &Network) -> Result<Weights, ReadError> {
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
    pub(super) fn verify_empty(&self, network: &Network) -> Result<(), ReadError> {
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
