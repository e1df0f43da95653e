//! From a specification to a data set: the format's loader, the cut, the normalisation.

use sha2::{Digest as _, Sha256};

use super::error::DataError;
use super::facts::{self, Facts};
use super::kind::DataKind;
use super::options::LoadOptions;
use super::samples::{Samples, Whole};
use super::spec::DataSpec;
use super::{bundled, cifar, folder, idx, npz, source, split, svhn};
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
    /// Images without labels, for a student to learn from by its teacher's answers alone; often none.
    pub unlabelled: Samples,
    /// Of `train`.
    pub normalisation: Normalisation,
    /// What else is known.
    pub facts: Facts,
}

impl Dataset {
    /// SHA-256 of what is used of it: classes, and shape, labels and pixels of every split; 64 hexadecimal digits. Some
    /// tenths of a second for 60,000 images.
    ///
    /// # Errors
    /// Pixels that lie in a file cannot be read.
    pub fn digest(&self) -> std::io::Result<String> {
        let mut hash = Sha256::new();
        for class in &self.classes {
            hash.update(format!("{class:?}\n"));
        }
        let unlabelled = Some(&self.unlabelled).filter(|samples| !samples.is_empty());
        for samples in self.parts().into_iter().chain(unlabelled) {
            let Samples { channels, height, width, .. } = *samples;
            hash.update(format!("{} of {channels}x{height}x{width}\n", samples.len()));
            let labels: Vec<u8> = samples.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            hash.update(labels);
            for index in 0..samples.len() {
                hash.update(samples.image(index)?);
            }
        }
        Ok(hex::encode(hash.finalize()))
    }

    /// What a student learns from: the training images, and behind them those without labels.
    pub fn learned(&self) -> Samples {
        if self.unlabelled.is_empty() { self.train.clone() } else { self.train.and(&self.unlabelled) }
    }

    /// The four parts, in order.
    pub fn parts(&self) -> [&Samples; 4] {
        [&self.train, &self.validation_search, &self.validation_select, &self.test]
    }

    /// Images by class and part.
    pub fn counts(&self) -> Vec<[usize; 4]> {
        let mut counts = vec![[0; 4]; self.classes.len()];
        for (part, samples) in self.parts().into_iter().enumerate() {
            samples.labels.iter().for_each(|&label| counts[usize::from(label)][part] += 1);
        }
        counts
    }

    /// One line: classes with their images, parts, size.
    pub fn overview(&self) -> String {
        let by_class: Vec<usize> = self.counts().iter().map(|parts| parts.iter().sum()).collect();
        facts::overview(
            &self.classes,
            &by_class,
            self.parts().map(Samples::len),
            self.facts.scaled.as_deref(),
        )
    }

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

/// Reads a data set and cuts it; says in one line what there is.
///
/// # Errors
/// Names the file, what was expected and what was found; see [`DataError::hint`] for what to do.
pub fn load(spec: &DataSpec, options: &LoadOptions) -> Result<Dataset, DataError> {
    load_told(spec, options, &mut |_, _| {})
}

/// Whether a data set is there, without reading its images: in words what there is.
///
/// # Errors
/// As [`load`], as far as names and folders tell.
pub fn look(spec: &DataSpec) -> Result<String, DataError> {
    match spec.kind() {
        DataKind::Folder => Ok(format!("{spec}: {}", folder::look(spec.path())?)),
        DataKind::Bundled => Ok(spec.to_string()),
        kind => source::existing(spec.path(), "the data set", kind).map(|()| spec.to_string()),
    }
}

/// As [`load`]; `tell` hears how many pictures of how many are decoded.
///
/// # Errors
/// As [`load`].
pub fn load_told(
    spec: &DataSpec,
    options: &LoadOptions,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Dataset, DataError> {
    let path = spec.path();
    let plain = |(classes, parts)| (classes, parts, Facts::default());
    let cut = |whole: Whole| split::cut(whole, path, options).map(plain);
    let (classes, mut parts, facts) = match spec.kind() {
        kind @ (DataKind::FashionMnist | DataKind::Mnist | DataKind::Idx) => cut(idx::load(path, kind)?)?,
        DataKind::Cifar10 => cut(cifar::load(path, &cifar::CIFAR_10)?)?,
        DataKind::Cifar100 => cut(cifar::load(path, &cifar::CIFAR_100)?)?,
        DataKind::Svhn => cut(svhn::load(path)?)?,
        DataKind::Folder => folder::load(path, options, tell)?,
        DataKind::Npz => {
            let npz::Archive { whole, validation } = npz::load(path)?;
            match validation {
                Some(validation) => plain(split::given(whole, &validation)),
                None => cut(whole)?,
            }
        }
        DataKind::Bundled => plain(bundled::load()?),
    };
    if let Some(limit) = options.train_limit {
        parts.train = split::balanced(&parts.train, limit, options.seed);
    }
    let unlabelled = match &options.unlabelled {
        Some(folder) => {
            let labelled = [&parts.train, &parts.validation_search, &parts.validation_select, &parts.test];
            let found = folder::unlabelled(folder, labelled, options, tell)?;
            tracing::info!("{} pictures without labels, from {}", found.len(), folder.display());
            found
        }
        None => Samples::default(),
    };
    let normalisation =
        Normalisation::of(&parts.train).map_err(|source| DataError::Io { path: path.into(), source })?;
    let dataset = Dataset {
        name: spec.name(),
        mirrors: spec.kind().mirrors(),
        classes,
        train: parts.train,
        validation_search: parts.validation_search,
        validation_select: parts.validation_select,
        test: parts.test,
        unlabelled,
        normalisation,
        facts,
    };
    // A folder's loader has said it before it began.
    if spec.kind() != DataKind::Folder {
        tracing::info!("{}", dataset.overview());
    }
    Ok(dataset)
}
