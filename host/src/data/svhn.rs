//! SVHN, cropped digits: `train_32x32.mat` and `test_32x32.mat`, each with `X` [32, 32, 3, N] and `y` [N, 1].
//!
//! Format: ufldl.stanford.edu/housenumbers. Label 10 means digit 0.

use std::path::Path;

use super::error::DataError;
use super::kind::DataKind;
use super::matlab::{self, MatArray};
use super::samples::{Samples, Whole};
use super::source::{self, MAX_PART_BYTES, existing};

const EDGE: usize = 32;
const CHANNELS: usize = 3;
const CLASSES: u8 = 10;

/// Reads both files of a folder.
pub(super) fn load(folder: &Path) -> Result<Whole, DataError> {
    let part = |name: &str| {
        let path = folder.join(name);
        existing(&path, "a MATLAB file of SVHN", DataKind::Svhn)?;
        let bytes = source::at_most(&mut source::open(&path)?, MAX_PART_BYTES, &path, "bytes")?;
        samples(&matlab::read(&bytes, &path)?, &path)
    };
    Ok(Whole {
        classes: (0..CLASSES).map(|digit| digit.to_string()).collect(),
        train: part("train_32x32.mat")?,
        test: part("test_32x32.mat")?,
    })
}

fn samples(arrays: &[MatArray], path: &Path) -> Result<Samples, DataError> {
    let wrong =
        |expected: &str, got: String| DataError::Format { path: path.into(), expected: expected.into(), got };
    let array = |name: &str| {
        let names = || arrays.iter().map(|array| array.name.as_str()).collect::<Vec<_>>().join(", ");
        arrays
            .iter()
            .find(|array| array.name == name)
            .ok_or_else(|| wrong(&format!("an array `{name}`"), format!("arrays `{}`", names())))
    };
    let (images, labels) = (array("X")?, array("y")?);
    let count = match images.dims[..] {
        // MATLAB leaves out a last dimension of 1.
        [EDGE, EDGE, CHANNELS] => 1,
        [EDGE, EDGE, CHANNELS, count] if count > 0 => count,
        _ => return Err(wrong("`X` of [32, 32, 3, N]", format!("{:?}", images.dims))),
    };
    if labels.values.len() != count {
        return Err(wrong(&format!("{count} labels, one for each image"), labels.values.len().to_string()));
    }
    let labels = labels
        .values
        .iter()
        .enumerate()
        .map(|(index, &label)| match label {
            CLASSES => Ok(0),
            1..CLASSES => Ok(u16::from(label)),
            _ => Err(wrong("labels from 1 to 10", format!("{label} for image {index}"))),
        })
        .collect::<Result<_, _>>()?;
    let mut pixels: Vec<u8> = Vec::with_capacity(images.values.len());
    // Column-major: rows run fastest, then columns, channels, images.
    for plane in images.values.chunks_exact(EDGE * EDGE) {
        for row in 0..EDGE {
            pixels.extend(plane[row..].iter().step_by(EDGE));
        }
    }
    Ok(Samples { channels: CHANNELS, height: EDGE, width: EDGE, pixels: pixels.into(), labels })
}

#[cfg(test)]
mod tests {
    use super::super::matlab::tests::{array, compressed, header};
    use super::*;
    use std::fs;

    const UINT8: u32 = 2;

    fn pixel(image: usize, channel: usize, row: usize, column: usize) -> u8 {
        (image * 101 + channel * 53 + row * 7 + column) as u8
    }

    fn file(labels: &[u8]) -> Vec<u8> {
        let mut pixels = Vec::new();
        for image in 0..labels.len() {
            for channel in 0..3 {
                for column in 0..32 {
                    pixels.extend((0..32).map(|row| pixel(image, channel, row, column)));
                }
            }
        }
        let count = labels.len() as i32;
        [
            header(),
            compressed(&array("X", &[32, 32, 3, count], UINT8, &pixels)),
            compressed(&array("y", &[count, 1], UINT8, labels)),
        ]
        .concat()
    }

    #[test]
    fn label_ten_is_digit_zero_and_rows_are_rows() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("train_32x32.mat"), file(&[10, 9, 1])).unwrap();
        fs::write(folder.path().join("test_32x32.mat"), file(&[2])).unwrap();
        let whole = load(folder.path()).unwrap();
        assert_eq!((whole.train.labels, whole.test.labels), (vec![0, 9, 1], vec![2]));
        for (channel, row, column) in [(0, 0, 0), (1, 3, 9), (2, 31, 30)] {
            let index = 2 * 3072 + channel * 1024 + row * 32 + column;
            assert_eq!(whole.train.pixels.bytes().unwrap()[index], pixel(2, channel, row, column));
        }
    }

    #[test]
    fn wrong_files_are_named() {
        let cases: [(Vec<u8>, &str); 4] = [
            (file(&[0, 1]), "expected labels from 1 to 10, got 0 for image 0"),
            (file(&[1, 11]), "got 11 for image 1"),
            (
                [header(), array("X", &[28, 28], UINT8, &[0; 784])].concat(),
                "expected an array `y`, got arrays `X`",
            ),
            (file(&[1])[..200].to_vec(), "cut short"),
        ];
        for (bytes, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("train_32x32.mat"), bytes).unwrap();
            let error = load(folder.path()).unwrap_err().to_string();
            assert!(error.contains("train_32x32.mat") && error.contains(expected), "{error}");
        }
        assert!(load(Path::new("/nowhere")).unwrap_err().hint().unwrap().contains("housenumbers"));
    }
}
