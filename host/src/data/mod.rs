//! Data sets: one file per format, all read into memory once as `u8` and normalised per batch.
//!
//! Loaders trust no byte of a file: lengths are checked against named limits before allocation, and an error names
//! the file, what was expected and what was found.

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
}
