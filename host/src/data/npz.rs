//! NumPy archives: `x_train, y_train, x_test, y_test` (Keras) or `train_images, train_labels, …` with `val_…` and `test_…`
//! (MedMNIST). Images are bytes [N, H, W], [N, H, W, C] or [N, C, H, W]; labels whole numbers [N] or [N, 1].
//!
//! Format: numpy.lib.format, versions 1 to 3, in a ZIP archive. Pickled arrays are refused: nothing of a file is executed.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use zip::ZipArchive;

use super::error::DataError;
use super::kind::DataKind;
use super::samples::{Samples, Whole};
use super::source::{self, MAX_PART_BYTES, existing};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Headers have some hundred bytes.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// Labels are 16 bits wide.
const MAX_CLASSES: usize = 4096;
/// Names of images and labels: of training, of validation, of test.
const FORMS: [[Option<(&str, &str)>; 3]; 2] = [
    [Some(("x_train", "y_train")), None, Some(("x_test", "y_test"))],
    [
        Some(("train_images", "train_labels")),
        Some(("val_images", "val_labels")),
        Some(("test_images", "test_labels")),
    ],
];

/// What `load` finds: validation only where the file has a part for it.
pub(super) struct Archive {
    pub(super) whole: Whole,
    pub(super) validation: Option<Samples>,
}

/// One array, as it lies in its file.
struct Array {
    /// As in `|u1`.
    kind: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Reads an archive.
pub(super) fn load(path: &Path) -> Result<Archive, DataError> {
    existing(path, "a NumPy archive", DataKind::Npz)?;
    let reader = Reader { path };
    let file = File::open(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|error| reader.wrong("a NumPy archive (np.savez)", error.to_string()))?;
    // A name that is no text is none of ours.
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.trim_end_matches(".npy").to_owned()))
        .collect();
    let has = |pair: &Option<(&str, &str)>| {
        pair.is_some_and(|(images, labels)| [images, labels].iter().all(|it| names.iter().any(|n| n == it)))
    };
    let Some(form) = FORMS.iter().find(|form| has(&form[0]) && has(&form[2])) else {
        return Err(reader.wrong(
            "x_train, y_train, x_test and y_test, or train_images, train_labels, test_images and test_labels",
            names.join(", "),
        ));
    };
    let mut part = |pair: Option<(&str, &str)>| -> Result<Option<(Samples, Vec<u64>)>, DataError> {
        let Some((images, labels)) = pair.filter(|_| has(&pair)) else { return Ok(None) };
        let images = reader.array(&mut archive, images)?;
        let labels = reader.array(&mut archive, labels)?;
        Ok(Some((reader.images(images)?, reader.labels(&labels)?)))
    };
    let parts = [part(form[0])?, part(form[1])?, part(form[2])?];
    let mut numbers: Vec<u64> = parts[0].iter().flat_map(|(_, labels)| labels.clone()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > MAX_CLASSES {
        return Err(reader.wrong(&format!("at most {MAX_CLASSES} classes"), numbers.len().to_string()));
    }
    let mut done = Vec::with_capacity(parts.len());
    for part in parts {
        done.push(part.map(|(samples, labels)| reader.labelled(samples, &labels, &numbers)).transpose()?);
    }
    let mut done = done.into_iter();
    let mut next = || done.next().flatten();
    let (train, validation, test) = (next(), next(), next());
    let (Some(train), Some(test)) = (train, test) else {
        return Err(reader.wrong("training and test images", "none"));
    };
    let size = |it: &Samples| (it.channels, it.height, it.width);
    if size(&train) != size(&test) || validation.as_ref().is_some_and(|it| size(it) != size(&train)) {
        return Err(reader
            .wrong("images of one size in all parts", format!("{:?} and {:?}", size(&train), size(&test))));
    }
    let classes = numbers.iter().map(ToString::to_string).collect();
    Ok(Archive { whole: Whole { classes, train, test }, validation })
}

struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, expected: &str, got: impl Into<String>) -> DataError {
        DataError::Format { path: self.path.into(), expected: expected.into(), got: got.into() }
    }

    fn array(&self, archive: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<Array, DataError> {
        let mut member = archive
            .by_name(&format!("{name}.npy"))
            .map_err(|error| self.wrong(&format!("an array `{name}`"), error.to_string()))?;
        let start = source::header::<10>(&mut member, self.path)?;
        if !start.starts_with(MAGIC) {
            return Err(self.wrong(&format!("`{name}` in NumPy's format"), "something else"));
        }
        // Version 1 has two bytes of length, later ones four.
        let mut length = usize::from(start[8]) | usize::from(start[9]) << 8;
        if start[6] > 1 {
            let more = source::header::<2>(&mut member, self.path)?;
            length |= usize::from(more[0]) << 16 | usize::from(more[1]) << 24;
        }
        if length > MAX_HEADER_BYTES {
            return Err(
                self.wrong(&format!("a header of at most {MAX_HEADER_BYTES} bytes"), length.to_string())
            );
        }
        let mut header = vec![0; length];
        member.read_exact(&mut header).map_err(|error| self.wrong("a whole header", error.to_string()))?;
        let header = String::from_utf8_lossy(&header).into_owned();
        let (kind, shape) = described(&header).ok_or_else(|| {
            self.wrong(&format!("`{name}` with a plain type in C order"), header.trim().to_owned())
        })?;
        let width: usize = kind[2..].parse().unwrap_or(1);
        let bytes = shape.iter().try_fold(width, |bytes, &size| bytes.checked_mul(size));
        let bytes = bytes.filter(|&bytes| bytes as u64 <= MAX_PART_BYTES).ok_or(DataError::Limit {
            path: self.path.into(),
            what: "bytes of an array",
            limit: MAX_PART_BYTES,
            got: MAX_PART_BYTES + 1,
        })?;
        let bytes = source::exactly(&mut member, bytes as u64, self.path)?;
        Ok(Array { kind, shape, bytes })
    }

    fn images(&self, Array { kind, shape, bytes }: Array) -> Result<Samples, DataError> {
        if kind != "|u1" {
            return Err(self.wrong("images of bytes, 0 to 255 (uint8)", format!("numbers of type {kind}")));
        }
        let colours = |channels: usize| channels == 1 || channels == 3;
        let (count, channels, height, width, last) = match shape[..] {
            [count, height, width] => (count, 1, height, width, false),
            [count, height, width, channels] if colours(channels) => (count, channels, height, width, true),
            [count, channels, height, width] if colours(channels) => (count, channels, height, width, false),
            _ => {
                return Err(self.wrong(
                    "images [N, H, W], [N, H, W, C] or [N, C, H, W] of 1 or 3 channels",
                    format!("{shape:?}"),
                ));
            }
        };
        if count == 0 || height == 0 || width == 0 {
            return Err(self.wrong("at least one image", format!("{shape:?}")));
        }
        let pixels: Vec<u8> = if last && channels > 1 {
            let image = channels * height * width;
            bytes
                .chunks_exact(image)
                .flat_map(|image| {
                    (0..channels).flat_map(move |channel| image.iter().skip(channel).step_by(channels))
                })
                .copied()
                .collect()
        } else {
            bytes
        };
        Ok(Samples { channels, height, width, pixels: pixels.into(), labels: vec![0; count] })
    }

    fn labels(&self, array: &Array) -> Result<Vec<u64>, DataError> {
        let one_each = matches!(array.shape[..], [_] | [_, 1]);
        let signed = array.kind.as_bytes().get(1) == Some(&b'i');
        let whole = signed || array.kind.as_bytes().get(1) == Some(&b'u');
        let width: usize = array.kind[2..].parse().unwrap_or(0);
        if !one_each || !whole || !(1..=8).contains(&width) || array.kind.starts_with('>') {
            return Err(self.wrong("one whole number a label", format!("{} {:?}", array.kind, array.shape)));
        }
        let value =
            |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        let labels: Vec<u64> = array.bytes.chunks_exact(width).map(value).collect();
        let negative = |label: &&u64| signed && **label >> (8 * width - 1) & 1 == 1;
        match labels.iter().find(negative) {
            Some(_) => Err(self.wrong("labels from 0 up", "a negative one")),
            None => Ok(labels),
        }
    }

    fn labelled(&self, samples: Samples, labels: &[u64], numbers: &[u64]) -> Result<Samples, DataError> {
        if labels.len() != samples.len() {
            return Err(self
                .wrong(&format!("{} labels, one for each image", samples.len()), labels.len().to_string()));
        }
        let place = |label: &u64| {
            numbers
                .binary_search(label)
                .map(|place| place as u16)
                .map_err(|_| self.wrong("labels that occur in training", label.to_string()))
        };
        Ok(Samples { labels: labels.iter().map(place).collect::<Result<_, _>>()?, ..samples })
    }
}

/// Type and shape out of `{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }`.
fn described(header: &str) -> Option<(String, Vec<usize>)> {
    let after = |key: &str| Some(header.split_once(&format!("'{key}':"))?.1.trim_start());
    let kind = after("descr")?.strip_prefix('\'')?.split_once('\'')?.0;
    let plain = kind.len() >= 3
        && kind.is_ascii()
        && "|<>".contains(&kind[..1])
        && kind[2..].parse::<usize>().is_ok();
    if !plain || !after("fortran_order")?.starts_with("False") {
        return None;
    }
    let shape = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    Some((kind.into(), sizes.map(str::parse).collect::<Result<_, _>>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::path::PathBuf;
    use zip::write::SimpleFileOptions;

    fn array(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut file = MAGIC.to_vec();
        file.extend([1, 0]);
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(bytes);
        file
    }

    fn archive(folder: &Path, arrays: &[(&str, Vec<u8>)]) -> PathBuf {
        let path = folder.join("set.npz");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        for (index, (name, bytes)) in arrays.iter().enumerate() {
            let method = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated][index % 2];
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(format!("{name}.npy"), options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn both_forms_are_read_and_channels_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let pixels: Vec<u8> = (0..12).collect();
        let path = archive(
            folder.path(),
            &[
                ("x_train", array("|u1", "(2, 1, 2, 3)", &pixels)),
                ("y_train", array("<i8", "(2,)", &[[7; 1].as_slice(), &[0; 7], &[3], &[0; 7]].concat())),
                ("x_test", array("|u1", "(1, 1, 2, 3)", &pixels[..6])),
                ("y_test", array("|u1", "(1, 1)", &[7])),
            ],
        );
        let Archive { whole, validation } = load(&path).unwrap();
        assert_eq!(
            (whole.classes, whole.train.labels.clone(), whole.test.labels),
            (vec!["3".into(), "7".into()], vec![1, 0], vec![1])
        );
        assert_eq!(*whole.train.image(0).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert!(validation.is_none());
        let part = |name: &str| {
            [
                (format!("{name}_images"), array("|u1", "(1, 2, 2)", &[1; 4])),
                (format!("{name}_labels"), array("|u1", "(1, 1)", &[0])),
            ]
        };
        let parts: Vec<(String, Vec<u8>)> = ["train", "val", "test"].iter().flat_map(|it| part(it)).collect();
        let parts: Vec<(&str, Vec<u8>)> =
            parts.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        assert_eq!(load(&archive(folder.path(), &parts)).unwrap().validation.unwrap().len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let good = || {
            vec![
                ("x_train", array("|u1", "(1, 2, 2)", &[1; 4])),
                ("y_train", array("|u1", "(1,)", &[0])),
                ("x_test", array("|u1", "(1, 2, 2)", &[1; 4])),
                ("y_test", array("|u1", "(1,)", &[0])),
            ]
        };
        load(&archive(folder.path(), &good())).unwrap();
        let cases: [(usize, Vec<u8>, &str); 6] = [
            (0, array("<f4", "(1, 1, 1)", &[0; 4]), "uint8"),
            (0, array("|O", "(1,)", b"cpickle"), "plain type"),
            (0, array("|u1", "(1, 2, 2)", &[1; 3]), "4 bytes after the header, got 3"),
            (0, array("|u1", "(99999999, 99999999, 99999999)", &[]), "at most"),
            (1, array("<i2", "(1,)", &[255, 255]), "negative"),
            (3, array("|u1", "(1,)", &[5]), "occur in training"),
        ];
        for (place, bytes, told) in cases {
            let mut arrays = good();
            arrays[place].1 = bytes;
            let error = load(&archive(folder.path(), &arrays)).err().unwrap().to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
        let error = load(&archive(folder.path(), &good()[..2])).err().unwrap().to_string();
        assert!(error.contains("x_train, y_train") && error.contains("test_labels"), "{error}");
        std::fs::write(folder.path().join("set.npz"), "no archive").unwrap();
        assert!(load(&folder.path().join("set.npz")).is_err());
    }
}
