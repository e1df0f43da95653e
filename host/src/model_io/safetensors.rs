//! Weights as a safetensors file, tied to their network by its digest.
//!
//! Holds no structure: the network itself is in the ONNX file beside it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};

use super::{Weights, WeightsError, atomic_file, bytes_of, values_of};
use crate::network::Network;

/// Key of the digest in the file's metadata.
const DIGEST_KEY: &str = "n2n.network";
/// As large as a model file may be.
const MAX_BYTES: u64 = super::onnx::MAX_BYTES;

/// A safetensors file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// No safetensors file.
    #[error("{path}: not a whole safetensors file: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: SafeTensorError,
    },
    /// Too large to be a model for a board.
    #[error("{path}: expected at most {MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A tensor of another type.
    #[error("{path}: tensor `{name}`: expected F32, got {got}")]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        got: String,
    },
    /// Weights of another network.
    #[error("{path}: expected weights of network {expected}, got {got}")]
    Network {
        /// The file.
        path: PathBuf,
        /// Digest of the network.
        expected: String,
        /// Digest in the file, or that there is none.
        got: String,
    },
    /// Tensors and network disagree.
    #[error("{path}: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// How.
        source: WeightsError,
    },
}

/// Writes the file, atomically.
///
/// # Errors
/// When the weights are not this network's, or the system refuses.
pub fn save(path: &Path, network: &Network, weights: &Weights) -> Result<(), SafetensorsError> {
    weights.verify(network).map_err(|source| SafetensorsError::Weights { path: path.into(), source })?;
    let format = |source| SafetensorsError::Format { path: path.into(), source };
    let raw: Vec<(&str, Vec<usize>, Vec<u8>)> =
        weights.iter().map(|(name, array)| (name, array.dims.clone(), bytes_of(&array.values))).collect();
    let views: Vec<(&str, TensorView<'_>)> = raw
        .iter()
        .map(|(name, dims, bytes)| Ok((*name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
        .collect::<Result<_, SafeTensorError>>()
        .map_err(format)?;
    // One key only: the order of a hash map would make the file differ from run to run.
    let metadata = HashMap::from([(DIGEST_KEY.to_owned(), network.digest())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(format)?;
    atomic_file::write(path, &bytes).map_err(|source| SafetensorsError::Io { path: path.into(), source })
}

/// Reads the weights of this network.
///
/// # Errors
/// When the file is none, is damaged, or holds another network's weights.
pub fn load(path: &Path, network: &Network) -> Result<Weights, SafetensorsError> {
    let io = |source| SafetensorsError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(SafetensorsError::TooLarge { path: path.into() });
    }
    let format = |source| SafetensorsError::Format { path: path.into(), source };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
    let digest = header.metadata().as_ref().and_then(|metadata| metadata.get(DIGEST_KEY));
    if digest.is_none_or(|digest| *digest != network.digest()) {
        return Err(SafetensorsError::Network {
            path: path.into(),
            expected: network.digest(),
            got: digest.cloned().unwrap_or_else(|| "a file that names no network".into()),
        });
    }
    let mut weights = Weights::default();
    for (name, view) in SafeTensors::deserialize(&bytes).map_err(format)?.iter() {
        if view.dtype() != Dtype::F32 {
            let got = format!("{:?}", view.dtype());
            return Err(SafetensorsError::Type { path: path.into(), name: name.into(), got });
        }
        weights.insert(name, view.shape().to_vec(), values_of(view.data()));
    }
    weights.verify(network).map_err(|source| SafetensorsError::Weights { path: path.into(), source })?;
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_io::filled;
    use crate::model_io::onnx::tests::{residual, sequential};
    use std::fs;

    #[test]
    fn reads_back_what_was_written_and_writes_the_same_bytes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let weights = filled(&residual(), 3);
        save(&path, &residual(), &weights).unwrap();
        let first = fs::read(&path).unwrap();
        assert_eq!(load(&path, &residual()).unwrap(), weights);
        save(&path, &residual(), &weights).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn another_network_and_damage_are_typed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        save(&path, &residual(), &filled(&residual(), 3)).unwrap();
        assert!(matches!(load(&path, &sequential()), Err(SafetensorsError::Network { .. })));
        assert!(matches!(
            save(&path, &sequential(), &filled(&residual(), 3)),
            Err(SafetensorsError::Weights { .. })
        ));
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 8, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = load(&path, &residual()).unwrap_err();
            assert!(matches!(error, SafetensorsError::Format { .. }), "{error}");
        }
        assert!(matches!(load(folder.path(), &residual()), Err(SafetensorsError::Io { .. })));
    }
}
