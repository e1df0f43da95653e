//! The subset of Fashion-MNIST inside this program; see `host/src/assets/fashion-mnist-subset/README.md`.
//!
//! Its cut is fixed, so that everybody's quickstart trains, validates and tests on the same images.

use std::path::Path;

use super::error::DataError;
use super::idx::{self, CLOTHES};
use super::samples::Samples;
use super::source;
use super::split::Parts;

const TRAIN_IMAGES: &[u8] = include_bytes!("../assets/fashion-mnist-subset/train-images-idx3-ubyte.gz");
const TRAIN_LABELS: &[u8] = include_bytes!("../assets/fashion-mnist-subset/train-labels-idx1-ubyte.gz");
const TEST_IMAGES: &[u8] = include_bytes!("../assets/fashion-mnist-subset/t10k-images-idx3-ubyte.gz");
const TEST_LABELS: &[u8] = include_bytes!("../assets/fashion-mnist-subset/t10k-labels-idx1-ubyte.gz");

/// Images of the training file that are for learning, all classes in turn; validation images follow.
const TRAIN_LEN: usize = 5_000;
const CLASSES: usize = 10;

/// Unpacks the images.
pub(super) fn load() -> Result<(Vec<String>, Parts), DataError> {
    let train = unpack("train", TRAIN_IMAGES, TRAIN_LABELS)?;
    let test = unpack("t10k", TEST_IMAGES, TEST_LABELS)?;
    // The classes stand in turn, so whole turns of ten are dealt to the two halves.
    let half = |wanted: usize| -> Samples {
        let indices: Vec<usize> =
            (TRAIN_LEN..train.len()).filter(|index| index / CLASSES % 2 == wanted).collect();
        train.select(&indices)
    };
    let parts = Parts {
        validation_search: half(0),
        validation_select: half(1),
        train: train.select(&(0..TRAIN_LEN.min(train.len())).collect::<Vec<_>>()),
        test,
    };
    Ok((CLOTHES.map(String::from).into(), parts))
}

fn unpack(name: &str, images: &[u8], labels: &[u8]) -> Result<Samples, DataError> {
    let path = Path::new("bundled").join(name);
    let open = |bytes| source::decoder(bytes).map_err(|source| DataError::Io { path: path.clone(), source });
    idx::samples((open(images)?, &path), (open(labels)?, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_stated_sizes_and_is_balanced() {
        let (classes, parts) = load().unwrap();
        assert_eq!(classes.len(), CLASSES);
        let sizes = [
            (&parts.train, 500),
            (&parts.validation_search, 50),
            (&parts.validation_select, 50),
            (&parts.test, 200),
        ];
        for (samples, per_class) in sizes {
            assert_eq!((samples.channels, samples.height, samples.width), (1, 28, 28));
            for class in 0..CLASSES {
                let count = samples.labels.iter().filter(|&&label| usize::from(label) == class).count();
                assert_eq!(count, per_class, "class {class}");
            }
        }
    }

    /// The documented cut, done again from the published files.
    #[test]
    #[ignore = "needs the published files: apt install dataset-fashion-mnist"]
    fn is_the_documented_cut_of_the_published_files() {
        let folder = Path::new("/usr/share/datasets/fashion-mnist");
        let whole = idx::load(folder, crate::data::DataKind::FashionMnist).unwrap();
        let turns = |samples: &Samples, turns: usize| {
            let mut members = vec![Vec::new(); CLASSES];
            samples
                .labels
                .iter()
                .enumerate()
                .for_each(|(index, &label)| members[usize::from(label)].push(index));
            let indices: Vec<usize> =
                (0..turns).flat_map(|turn| members.iter().map(move |member| member[turn])).collect();
            samples.select(&indices)
        };
        assert_eq!(unpack("train", TRAIN_IMAGES, TRAIN_LABELS).unwrap(), turns(&whole.train, 600));
        assert_eq!(unpack("t10k", TEST_IMAGES, TEST_LABELS).unwrap(), turns(&whole.test, 200));
    }
}
