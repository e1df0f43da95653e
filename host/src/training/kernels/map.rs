//! Shape of a map.

use crate::network::shape::positions;

/// Sizes of a map `[N, H, W, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Map {
    pub(super) fn dims(self) -> [usize; 4] {
        [self.images, self.height, self.width, self.channels]
    }

    /// Of all images.
    pub(super) fn pixels(self) -> usize {
        self.images * self.height * self.width
    }

    /// Values.
    pub(super) fn len(self) -> usize {
        self.pixels() * self.channels
    }

    /// What windows of `kernel` pixels a side make of it, with so many channels; 0 high or wide if they do not fit.
    pub(super) fn slid(self, kernel: usize, stride: usize, padding: usize, channels: usize) -> Self {
        let along = |size| positions(size, kernel, stride, padding);
        Self { images: self.images, height: along(self.height), width: along(self.width), channels }
    }
}
