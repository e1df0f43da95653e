//! How much of a data set is wanted, and how it is cut.

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
