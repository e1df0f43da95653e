//! Named weights of a network, on the host, engine-neutral.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::bytes_of;
use crate::network::Network;

/// A dense f32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Dimensions.
    pub dims: Vec<usize>,
    /// `dims.iter().product()` values.
    pub values: Vec<f32>,
}

/// Tensors by name, as [`Network::parameters`] names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(BTreeMap<String, Array>);

/// How weights and network disagree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// The network needs a tensor that is not there.
    #[error("tensor `{0}` is missing")]
    Missing(String),
    /// There is one that the network does not have.
    #[error("tensor `{0}` belongs to no layer")]
    Unknown(String),
    /// Dimensions differ.
    #[error("tensor `{name}`: expected {expected:?}, got {got:?}")]
    Dims {
        /// The tensor.
        name: String,
        /// By the network.
        expected: Vec<usize>,
        /// In the file.
        got: Vec<usize>,
    },
    /// A value is infinite or not a number.
    #[error("tensor `{0}` holds a value that is not finite")]
    NotFinite(String),
}

impl Weights {
    /// Adds or replaces one tensor.
    pub fn insert(&mut self, name: impl Into<String>, dims: Vec<usize>, values: Vec<f32>) {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        self.0.insert(name.into(), Array { dims, values });
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.0.get(name)
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// SHA-256 of names, shapes and values, as 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, array) in self.iter() {
            hash.update(format!("{name} {:?}\n", array.dims));
            hash.update(bytes_of(&array.values));
        }
        hex::encode(hash.finalize())
    }

    /// That these are the network's tensors, all of them and no other, and finite.
    pub fn verify(&self, network: &Network) -> Result<(), WeightsError> {
        let parameters = network.parameters();
        for parameter in &parameters {
            let array =
                self.get(&parameter.name).ok_or_else(|| WeightsError::Missing(parameter.name.clone()))?;
            if array.dims != parameter.dims || array.values.len() != array.dims.iter().product::<usize>() {
                return Err(WeightsError::Dims {
                    name: parameter.name.clone(),
                    expected: parameter.dims.clone(),
                    got: array.dims.clone(),
                });
            }
            if array.values.iter().any(|value| !value.is_finite()) {
                return Err(WeightsError::NotFinite(parameter.name.clone()));
            }
        }
        let known: std::collections::HashSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        match self.0.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(WeightsError::Unknown(name.clone())),
            None => Ok(()),
        }
    }
}
