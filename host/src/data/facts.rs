//! What is known about a data set beside its images: how they were made, dealt and left out.

use super::series::{Series, Split};
use crate::scaling::Fit;
use crate::units;

/// Classes named in a line.
const SHOWN: usize = 10;

/// What a loader found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Which pictures were kept together; `None` for formats without names. Never [`Series::Auto`].
    pub series: Option<Series>,
    /// Of the names that decide the parts.
    pub split_salt: String,
    /// What pictures were made into, `32x32 RGB (crop)`; `None` where they are as published.
    pub scaled: Option<String>,
    /// What happened to other proportions; `None` where images are as published.
    pub fit: Option<Fit>,
    /// Sizes of the pictures as they lie in the folder.
    pub sizes: Option<Sizes>,
    /// Pictures that could not be read.
    pub skipped: Option<Skipped>,
    /// Copies that were left out.
    pub duplicates: usize,
}

/// Widths and heights of pictures, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The one with fewest pixels.
    pub smallest: (u32, u32),
    /// By number of pixels.
    pub median: (u32, u32),
    /// The one with most pixels.
    pub largest: (u32, u32),
}

/// Pictures that were left out because they could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub pictures: usize,
    /// Of how many.
    pub of: usize,
}

impl Facts {
    /// How the pictures were dealt; `None` where names do not decide.
    pub fn split(&self) -> Option<Split> {
        let series = self.series.clone()?;
        Some(Split { series, salt: self.split_salt.clone() })
    }
}

impl Sizes {
    /// `None` of no pictures.
    pub(super) fn of(sizes: impl Iterator<Item = (u32, u32)>) -> Option<Self> {
        let mut sizes: Vec<(u32, u32)> = sizes.collect();
        sizes.sort_by_key(|&(width, height)| (u64::from(width) * u64::from(height), width));
        Some(Self { smallest: *sizes.first()?, median: sizes[sizes.len() / 2], largest: *sizes.last()? })
    }
}

/// One line: classes with their images, parts, size.
pub(super) fn overview(
    classes: &[String],
    by_class: &[usize],
    parts: [usize; 4],
    scaled: Option<&str>,
) -> String {
    let named: Vec<String> =
        classes.iter().zip(by_class).map(|(class, count)| format!("{class} {count}")).collect();
    let [train, search, select, test] = parts;
    let scaled = scaled.map_or_else(String::new, |scaled| format!(", scaled to {scaled}"));
    format!(
        "{} classes ({}), {train} train / {search} + {select} validation / {test} test{scaled}",
        classes.len(),
        units::listed(&named, SHOWN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_there_is() {
        let classes = ["circle", "square"].map(String::from);
        assert_eq!(
            overview(&classes, &[160, 150], [217, 23, 23, 47], Some("32x32 RGB (crop)")),
            "2 classes (circle 160, square 150), 217 train / 23 + 23 validation / 47 test, scaled to 32x32 RGB (crop)"
        );
    }

    #[test]
    fn sizes_go_by_pixels() {
        let sizes = Sizes::of([(10, 10), (1, 20), (100, 3)].into_iter()).unwrap();
        assert_eq!((sizes.smallest, sizes.median, sizes.largest), ((1, 20), (10, 10), (100, 3)));
    }
}
