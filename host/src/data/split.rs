//! Cuts the two validation halves out of the published training part: per class, by seed, never touching the test part.
//!
//! Two halves against the winner's curse: the search's rewards see one, the choice among finalists the other.

use std::path::Path;

use super::error::DataError;
use super::options::LoadOptions;
use super::samples::{Samples, Whole};

/// Without a wish, one image in so many of the training part is for validation.
const VALIDATION_SHARE: usize = 10;

/// A data set in its four parts.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) train: Samples,
    pub(super) validation_search: Samples,
    pub(super) validation_select: Samples,
    pub(super) test: Samples,
}

/// Cuts `options.validation` images, as evenly over the classes as the training part itself, into two halves.
pub(super) fn cut(
    whole: Whole,
    path: &Path,
    options: &LoadOptions,
) -> Result<(Vec<String>, Parts), DataError> {
    let Whole { classes, train, test } = whole;
    let validation = options.validation.unwrap_or(train.len() / VALIDATION_SHARE);
    // Two halves, and something left to learn from.
    if validation < 2 || validation >= train.len() || test.is_empty() {
        return Err(DataError::TooFew {
            path: path.into(),
            class: None,
            expected: validation.max(2) + 1,
            got: train.len(),
        });
    }
    let order = interleaved(&train.labels, options.seed);
    let (validation, rest) = order.split_at(validation);
    // Dealt alternately class by class, so that no class falls into one half.
    let mut validation = validation.to_vec();
    validation.sort_by_key(|&index| train.labels[index]);
    let halves = [0, 1].map(|half| validation.iter().copied().skip(half).step_by(2).collect::<Vec<_>>());
    let parts = Parts {
        validation_search: train.select(&sorted(&halves[0])),
        validation_select: train.select(&sorted(&halves[1])),
        train: train.select(&sorted(rest)),
        test,
    };
    Ok((classes, parts))
}

/// The published validation part, dealt alternately class by class to the two halves.
pub(super) fn given(whole: Whole, validation: &Samples) -> (Vec<String>, Parts) {
    let mut order: Vec<usize> = (0..validation.len()).collect();
    order.sort_by_key(|&index| validation.labels[index]);
    let half = |half: usize| {
        validation.select(&sorted(&order.iter().copied().skip(half).step_by(2).collect::<Vec<_>>()))
    };
    let Whole { classes, train, test } = whole;
    (classes, Parts { train, validation_search: half(0), validation_select: half(1), test })
}

/// At most `limit` images, as evenly over the classes as `samples` itself.
pub(super) fn balanced(samples: &Samples, limit: usize, seed: u64) -> Samples {
    let mut order = interleaved(&samples.labels, seed);
    order.truncate(limit);
    samples.select(&sorted(&order))
}

/// All indices in an order in which every prefix holds each class in proportion: the k-th of a class's n images,
/// shuffled by the seed, stands at (k + 1/2) / n.
///
/// Not by a library's shuffle: the cut must stay the same for a seed when the library changes.
fn interleaved(labels: &[u16], seed: u64) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let mut members = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(index, &label)| members[usize::from(label)].push(index));
    let mut places = Vec::with_capacity(labels.len());
    for (class, indices) in members.iter_mut().enumerate() {
        indices.sort_by_key(|&index| (mixed(seed, index as u64), index));
        let count = indices.len() as f64;
        places.extend(
            indices.iter().enumerate().map(|(rank, &index)| ((rank as f64 + 0.5) / count, class, index)),
        );
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    places.into_iter().map(|(_, _, index)| index).collect()
}

/// SplitMix64 of (seed, index): Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
fn mixed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn sorted(indices: &[usize]) -> Vec<usize> {
    let mut indices = indices.to_vec();
    indices.sort_unstable();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `counts[c]` images of class c, one pixel each, all different.
    fn whole(counts: &[usize]) -> Whole {
        let labels: Vec<u16> =
            counts.iter().enumerate().flat_map(|(class, &count)| vec![class as u16; count]).collect();
        let pixels = (0..labels.len()).map(|index| index as u8).collect();
        let train = Samples { channels: 1, height: 1, width: 1, pixels, labels };
        Whole { classes: Vec::new(), test: train.select(&[0]), train }
    }

    fn counts(samples: &Samples, classes: usize) -> Vec<usize> {
        (0..classes)
            .map(|class| samples.labels.iter().filter(|&&label| usize::from(label) == class).count())
            .collect()
    }

    #[test]
    fn halves_are_stratified_and_nothing_is_lost_or_used_twice() {
        for seed in 0..20 {
            let options = LoadOptions { seed, validation: Some(60), ..LoadOptions::default() };
            let (_, parts) = cut(whole(&[100, 50, 50]), Path::new("x"), &options).unwrap();
            assert_eq!(counts(&parts.train, 3), [70, 35, 35]);
            for half in [&parts.validation_search, &parts.validation_select] {
                assert_eq!(half.len(), 30);
                for (got, fair) in counts(half, 3).into_iter().zip([15.0, 7.5, 7.5]) {
                    assert!((got as f64 - fair).abs() <= 1.0, "seed {seed}: {:?}", counts(half, 3));
                }
            }
            let mut all = [&parts.train, &parts.validation_search, &parts.validation_select]
                .map(|part| part.pixels.bytes().unwrap().into_owned())
                .concat();
            all.sort_unstable();
            assert_eq!(all, (0..200).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let with = |seed| {
            let options = LoadOptions { seed, ..LoadOptions::default() };
            cut(whole(&[100, 100]), Path::new("x"), &options).unwrap().1
        };
        assert_eq!(with(1).validation_search, with(1).validation_search);
        assert_ne!(with(1).validation_search, with(2).validation_search);
        assert_eq!(with(1).validation_search.len() + with(1).validation_select.len(), 20);
        // Pinned: a run of last year is cut the same way.
        assert_eq!(
            *with(0).validation_search.pixels.bytes().unwrap(),
            [41, 42, 43, 53, 94, 127, 147, 148, 170, 183]
        );
    }

    #[test]
    fn a_limit_keeps_the_balance() {
        assert_eq!(counts(&balanced(&whole(&[100, 50]).train, 30, 5), 2), [20, 10]);
        assert_eq!(balanced(&whole(&[3, 3]).train, 100, 5).len(), 6);
    }

    #[test]
    fn too_few_images_are_an_error() {
        for validation in [Some(0), Some(1), Some(6), Some(7), None] {
            let options = LoadOptions { validation, ..LoadOptions::default() };
            let error = cut(whole(&[3, 3]), Path::new("x"), &options).unwrap_err();
            assert!(matches!(error, DataError::TooFew { got: 6, .. }), "{error}");
        }
    }
}
