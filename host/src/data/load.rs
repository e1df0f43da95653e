//! From a specification to a data set in memory: the format's loader, the cut, the normalisation.

use sha2::{Digest as _, Sha256};

use super::error::DataError;
use super::kind::DataKind;
use super::options::LoadOptions;
use super::samples::{Samples, Whole};
use super::spec::DataSpec;
use super::{bundled, cifar, idx, image_folder, split, svhn};
use crate::normalisation::Normalisation;

/// A whole data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What users call it, for example `fashion-mnist`.
    pub name: String,
    /// Whether a mirrored image still shows its class.
    pub mirrors: bool,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// What teachers and students learn from.
    pub train: Samples,
    /// Cut from the training data; the search's rewards use this one.
    pub validation_search: Samples,
    /// Cut from the training data; finalists are chosen on this one.
    pub validation_select: Samples,
    /// Touched once, at the end.
    pub test: Samples,
    /// Of `train`.
    pub normalisation: Normalisation,
}

impl Dataset {
    /// SHA-256 of what is used of it: classes, and shape, labels and pixels of every split; 64 hexadecimal digits. Some
    /// tenths of a second for 60,000 images.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for class in &self.classes {
            hash.update(format!("{class:?}\n"));
        }
        for samples in [&self.train, &self.validation_search, &self.validation_select, &self.test] {
            let Samples { channels, height, width, .. } = *samples;
            hash.update(format!("{} of {channels}x{height}x{width}\n", samples.len()));
            let labels: Vec<u8> = samples.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            hash.update(labels);
            hash.update(&samples.pixels);
        }
        hex::encode(hash.finalize())
    }
}

/// Reads a data set into memory and cuts it.
///
/// # Errors
/// Names the file, what was expected and what was found; see [`DataError::hint`] for what to do.
pub fn load(spec: &DataSpec, options: &LoadOptions) -> Result<Dataset, DataError> {
    let path = spec.path();
    let cut = |whole: Whole| split::cut(whole, path, options);
    let (classes, mut parts) = match spec.kind() {
        DataKind::FashionMnist => cut(idx::load(path, &idx::FASHION_MNIST)?)?,
        DataKind::Mnist => cut(idx::load(path, &idx::MNIST)?)?,
        DataKind::Cifar10 => cut(cifar::load(path, &cifar::CIFAR_10)?)?,
        DataKind::Cifar100 => cut(cifar::load(path, &cifar::CIFAR_100)?)?,
        DataKind::Svhn => cut(svhn::load(path)?)?,
        DataKind::Folder => image_folder::load(path, options)?,
        DataKind::Bundled => bundled::load()?,
    };
    if let Some(limit) = options.train_limit {
        parts.train = split::balanced(&parts.train, limit, options.seed);
    }
    let normalisation = Normalisation::of(&parts.train);
    Ok(Dataset {
        name: spec.name(),
        mirrors: spec.kind().mirrors(),
        classes,
        train: parts.train,
        validation_search: parts.validation_search,
        validation_select: parts.validation_select,
        test: parts.test,
        normalisation,
    })
}
