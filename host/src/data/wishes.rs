//! What a user wishes of a folder's pictures, and what is left to the teacher or to the defaults.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::options::LoadOptions;
use super::series::Series;
use crate::scaling::Fit;

/// How pictures are read and dealt, as far as the user says; kept with a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wishes {
    /// Rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<(u32, u32)>,
    /// 1 or 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// What happens to other proportions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Which pictures go to one part together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// Decides with its name which part a picture goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_salt: Option<String>,
    /// Leave out pictures that cannot be read, if they are few.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad: bool,
    /// Folder of pictures without classes, for a student to learn from by its teacher's answers alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<PathBuf>,
}

impl Wishes {
    /// Whether nothing is wished.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }

    /// These, and where they say nothing those of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            image_size: self.image_size.or(other.image_size),
            channels: self.channels.or(other.channels),
            fit: self.fit.or(other.fit),
            series: self.series.or(other.series),
            split_salt: self.split_salt.or(other.split_salt),
            skip_bad: self.skip_bad || other.skip_bad,
            unlabelled: self.unlabelled.or(other.unlabelled),
        }
    }

    /// Where they say nothing, the defaults.
    pub fn options(self) -> LoadOptions {
        let default = LoadOptions::default();
        LoadOptions {
            image_size: self.image_size.unwrap_or(default.image_size),
            channels: self.channels.unwrap_or(default.channels),
            fit: self.fit.unwrap_or(default.fit),
            series: self.series.unwrap_or(default.series),
            split_salt: self.split_salt.unwrap_or(default.split_salt),
            skip_bad: self.skip_bad,
            unlabelled: self.unlabelled,
            ..LoadOptions::default()
        }
    }
}
