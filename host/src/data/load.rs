//! From a specification to a data set in memory: the format's loader, the cut, the normalisation.

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
    /// The same images with the classes in this order; `None` where the names are not the same ones, each once.
    pub fn ordered_as(&self, classes: &[String]) -> Option<Self> {
        let place = |name: &String| {
            let mut places = classes.iter().enumerate().filter(|(_, other)| *other == name);
            let place = places.next()?.0;
            places.next().is_none().then_some(place as u16)
        };
        let places: Vec<u16> = self.classes.iter().map(place).collect::<Option<_>>()?;
        if places.len() != classes.len() || (0..classes.len()).any(|it| !places.contains(&(it as u16))) {
            return None;
        }
        let ordered = |samples: &Samples| Samples {
            labels: samples.labels.iter().map(|&label| places[usize::from(label)]).collect(),
            ..samples.clone()
        };
        Some(Self {
            classes: classes.to_vec(),
            train: ordered(&self.train),
            validation_search: ordered(&self.validation_search),
            validation_select: ordered(&self.validation_select),
            test: ordered(&self.test),
            ..self.clone()
        })
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
        kind @ (DataKind::FashionMnist | DataKind::Mnist | DataKind::Idx) => cut(idx::load(path, kind)?)?,
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
        classes,
        train: parts.train,
        validation_search: parts.validation_search,
        validation_select: parts.validation_select,
        test: parts.test,
        normalisation,
    })
}
