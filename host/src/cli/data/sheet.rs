//! A contact sheet: the first training images of every class, a row a class, as the network sees them.

use std::io::{self, Cursor};
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use crate::data::{Dataset, Samples};
use crate::exit::Failure;
use crate::model_io::atomic_file;

/// Images of a class.
const COLUMNS: usize = 12;
/// Classes on a sheet: more do not fit a screen.
const ROWS: usize = 40;
/// Between images, pixels.
const GAP: usize = 2;

/// Writes the sheet.
///
/// # Errors
/// The file cannot be written, or images cannot be read.
pub(super) fn write(dataset: &Dataset, path: &Path) -> Result<(), Failure> {
    let mut bytes = Cursor::new(Vec::new());
    drawn(dataset)?.write_to(&mut bytes, ImageFormat::Png).map_err(Failure::failed)?;
    Ok(atomic_file::write(path, &bytes.into_inner())?)
}

fn drawn(dataset: &Dataset) -> io::Result<RgbImage> {
    let samples = &dataset.train;
    let (height, width) = (samples.height, samples.width);
    let rows = dataset.classes.len().min(ROWS);
    let side = |count: usize, size: usize| (GAP + count * (size + GAP)) as u32;
    let mut sheet = RgbImage::from_pixel(side(COLUMNS, width), side(rows, height), Rgb([255; 3]));
    for class in 0..rows {
        let members = (0..samples.len()).filter(|&index| usize::from(samples.labels[index]) == class);
        for (column, index) in members.take(COLUMNS).enumerate() {
            let (left, top) = (GAP + column * (width + GAP), GAP + class * (height + GAP));
            draw(samples, index, &mut sheet, left, top)?;
        }
    }
    Ok(sheet)
}

fn draw(samples: &Samples, index: usize, sheet: &mut RgbImage, left: usize, top: usize) -> io::Result<()> {
    let image = samples.image(index)?;
    let plane = samples.height * samples.width;
    for row in 0..samples.height {
        for column in 0..samples.width {
            // Grey is every colour.
            let value = |colour: usize| {
                image[colour.min(samples.channels - 1) * plane + row * samples.width + column]
            };
            sheet.put_pixel((left + column) as u32, (top + row) as u32, Rgb([value(0), value(1), value(2)]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, DataSpec, LoadOptions};

    #[test]
    fn a_sheet_shows_each_class_in_a_row() {
        let dataset = data::load(&DataSpec::bundled(), &LoadOptions::default()).unwrap();
        let sheet = drawn(&dataset).unwrap();
        assert_eq!(sheet.dimensions(), (2 + 12 * 30, 2 + 10 * 30));
        let third = (0..dataset.train.len()).find(|&index| dataset.train.labels[index] == 3).unwrap();
        let image = dataset.train.image(third).unwrap();
        assert_eq!(sheet.get_pixel(2 + 14, 2 + 3 * 30 + 14).0, [image[14 * 28 + 14]; 3]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        write(&dataset, &path).unwrap();
        assert_eq!(image::open(&path).unwrap().into_rgb8(), sheet);
    }
}
