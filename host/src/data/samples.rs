//! Images and labels, as every loader returns them and every trainer reads them.

use std::borrow::Cow;
use std::io;

use super::pixels::Pixels;

/// Class of an image that nobody named: only a teacher's answer is learned from it.
pub const UNLABELLED: u16 = u16::MAX;

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
    pub pixels: Pixels,
    /// Class of each image, below the data set's class count; or [`UNLABELLED`].
    pub labels: Vec<u16>,
}

/// What the loaders of formats with a published training and test part return.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) classes: Vec<String>,
    pub(super) train: Samples,
    pub(super) test: Samples,
}

impl Samples {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The first so many, or all.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        self.select(&(0..count.min(self.len())).collect::<Vec<_>>())
    }

    /// These, then those; both of one shape. No pixel is copied.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            pixels: self.pixels.and(&other.pixels, self.image_len()),
            labels: [self.labels.as_slice(), &other.labels].concat(),
            channels: self.channels,
            height: self.height,
            width: self.width,
        }
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
    /// # Errors
    /// There is no image of that index, or its file cannot be read.
    pub fn image(&self, index: usize) -> io::Result<Cow<'_, [u8]>> {
        self.pixels.image(index, self.image_len())
    }

    /// Copies of the images of these indices, in that order.
    ///
    /// # Panics
    /// When there is no image of one of the indices.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let pixels = self.pixels.select(indices, self.image_len());
        Self {
            pixels,
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            channels: self.channels,
            height: self.height,
            width: self.width,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn select_copies_in_the_order_asked_for() {
        let samples = Samples {
            channels: 1,
            height: 1,
            width: 2,
            pixels: vec![1, 2, 3, 4, 5, 6].into(),
            labels: vec![7, 8, 9],
        };
        let some = samples.select(&[2, 0]);
        assert_eq!((some.pixels, some.labels), (vec![5, 6, 1, 2].into(), vec![9, 7]));
        let more =
            samples.and(&Samples { pixels: vec![7, 8].into(), labels: vec![UNLABELLED], ..samples.clone() });
        assert_eq!((more.len(), more.labels[3]), (4, UNLABELLED));
        assert_eq!(*more.select(&[3, 1]).image(0).unwrap(), [7, 8]);
    }
}
