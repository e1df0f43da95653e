//! How much of a data set is wanted, how its pictures are read, and how it is cut.

use std::path::PathBuf;

use super::series::Series;
use crate::scaling::Fit;

/// How much of a data set to take, and how to read and cut it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Seed of the cut between training and validation images. A folder's cut and the bundled one are fixed.
    pub seed: u64,
    /// Validation images, both halves together; `None` for a tenth of the published training part.
    pub validation: Option<usize>,
    /// Most training images to keep, balanced over the classes; `None` for all.
    pub train_limit: Option<usize>,
    /// Rows and columns that the pictures of a folder are scaled to.
    pub image_size: (u32, u32),
    /// Channels of a folder's pictures: 1 for grey, 3 for colour.
    pub channels: usize,
    /// What happens to pictures of a folder in other proportions.
    pub fit: Fit,
    /// Which pictures of a folder go to one part together.
    pub series: Series,
    /// Decides with its name which part a picture of a folder goes to.
    pub split_salt: String,
    /// Leave out pictures that cannot be read, if they are few.
    pub skip_bad: bool,
    /// Folder of pictures without classes, for a student to learn from by its teacher's answers alone.
    pub unlabelled: Option<PathBuf>,
    /// Where decoded pictures are kept; `None` keeps none.
    pub cache: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            validation: None,
            train_limit: None,
            image_size: (32, 32),
            channels: 3,
            fit: Fit::default(),
            series: Series::default(),
            split_salt: String::new(),
            skip_bad: false,
            unlabelled: None,
            cache: None,
        }
    }
}
