//! Data sets: one file per format, all read into memory once as `u8` and normalised per batch.
//!
//! | module | what it holds |
//! |---|---|
//! | `spec` | `--data KIND:PATH`, checked; the table of kinds |
//! | `idx` | MNIST and Fashion-MNIST |
//! | `cifar` | CIFAR-10 and CIFAR-100, binary version |
//! | `svhn`, `matlab` | SVHN cropped digits, and the MATLAB v5 files they come in |
//! | `image_folder` | a folder a class, PNG and JPEG |
//! | `bundled` | the subset of Fashion-MNIST inside this program |
//! | `split` | validation halves, cut from the training data |
//! | `source` | bounded reading of plain and gzip files |
//!
//! Loaders trust no byte of a file: lengths are checked against named limits before allocation, and an error names
//! the file, what was expected and what was found.
//!
//! To add a format: one file with a `load` that returns `Whole` or `split::Parts`, one row in `spec::KINDS`, one arm in
//! [`load`].

mod bundled;
mod cifar;
mod error;
mod idx;
mod image_folder;
mod matlab;
mod source;
mod spec;
mod split;
mod svhn;

use std::path::Path;

pub use error::DataError;
pub use spec::{DataKind, DataSpec};

/// Images and labels of one split. Pixels are channels x height x width per image, row-major, 0-255.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Samples {
    /// Colour planes.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `len() * channels * height * width` bytes.
    pub pixels: Vec<u8>,
    /// Class of each image, below the data set's class count.
    pub labels: Vec<u16>,
}

/// Per-channel mean and deviation of the training pixels, on the 0-1 scale; part of what a model file states.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalisation {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, above 0.
    pub deviation: Vec<f32>,
}

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

impl Samples {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values per image.
    pub fn image_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The pixels of one image.
    ///
    /// # Panics
    /// When there is no image of that index.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_len()..(index + 1) * self.image_len()]
    }

    /// Copies of the images of these indices, in that order.
    ///
    /// # Panics
    /// When there is no image of one of the indices.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            pixels.extend_from_slice(self.image(index));
        }
        Self { pixels, labels: indices.iter().map(|&index| self.labels[index]).collect(), ..*self }
    }
}

impl Normalisation {
    /// Smallest deviation stated: a channel that never changes must not be divided by zero.
    const MIN_DEVIATION: f64 = 1e-3;

    /// Of all pixels, per channel. Of no images: mean 0, deviation 1.
    pub fn of(samples: &Samples) -> Self {
        let plane = samples.height * samples.width;
        // Whole numbers: sums are exact, so the result does not depend on any order.
        let mut sums = vec![(0_u64, 0_u64); samples.channels];
        if plane > 0 && samples.channels > 0 {
            for (index, pixels) in samples.pixels.chunks_exact(plane).enumerate() {
                let (sum, squares) = &mut sums[index % samples.channels];
                *sum += pixels.iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
                *squares += pixels.iter().map(|&pixel| u64::from(pixel).pow(2)).sum::<u64>();
            }
        }
        let count = (samples.len() * plane) as f64;
        let (mean, deviation) = sums
            .into_iter()
            .map(|(sum, squares)| {
                if count == 0.0 {
                    return (0.0, 1.0);
                }
                let mean = sum as f64 / count / 255.0;
                let variance = squares as f64 / count / (255.0 * 255.0) - mean * mean;
                (mean as f32, variance.max(0.0).sqrt().max(Self::MIN_DEVIATION) as f32)
            })
            .unzip();
        Self { mean, deviation }
    }
}

/// What the loaders of formats with a published training and test part return.
#[derive(Debug)]
struct Whole {
    classes: Vec<String>,
    train: Samples,
    test: Samples,
}

/// How much of a data set to take, and how to cut it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Seed of the cut between training and validation images. A folder's cut and the bundled one are fixed.
    pub seed: u64,
    /// Validation images, both halves together; `None` for a tenth of the published training part.
    pub validation: Option<usize>,
    /// Most training images to keep, balanced over the classes; `None` for all.
    pub train_limit: Option<usize>,
    /// Edge to which the images of a folder are scaled, pixels.
    pub image_edge: u32,
    /// Take only this many classes of a folder, those with the most images; `None` for all.
    pub largest_classes: Option<usize>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { seed: 0, validation: None, train_limit: None, image_edge: 32, largest_classes: None }
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
        classes,
        train: parts.train,
        validation_search: parts.validation_search,
        validation_select: parts.validation_select,
        test: parts.test,
        normalisation,
    })
}

/// The path of a format's file or folder, if it is there.
fn existing(path: &Path, what: &'static str, kind: DataKind) -> Result<(), DataError> {
    if path.exists() { Ok(()) } else { Err(DataError::Missing { path: path.into(), what, kind }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_is_per_channel_and_exact() {
        let samples = Samples {
            channels: 2,
            height: 1,
            width: 2,
            pixels: vec![0, 255, 255, 255, 0, 255, 255, 255],
            labels: vec![0, 1],
        };
        let normalisation = Normalisation::of(&samples);
        assert_eq!(normalisation.mean, [0.5, 1.0]);
        assert_eq!(normalisation.deviation, [0.5, 1e-3]);
        assert_eq!(Normalisation::of(&Samples { channels: 1, ..Samples::default() }).deviation, [1.0]);
    }

    #[test]
    fn select_copies_in_the_order_asked_for() {
        let samples = Samples {
            channels: 1,
            height: 1,
            width: 2,
            pixels: vec![1, 2, 3, 4, 5, 6],
            labels: vec![7, 8, 9],
        };
        let some = samples.select(&[2, 0]);
        assert_eq!((some.pixels, some.labels), (vec![5, 6, 1, 2], vec![9, 7]));
    }
}
