//! MNIST and Fashion-MNIST: four IDX files in a folder, each plain or gzip.
//!
//! Format (yann.lecun.com/exdb/mnist): big-endian magic `0x0000TTDD` (type 8 = unsigned byte, DD dimensions), one u32 per
//! dimension, then the bytes.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::kind::DataKind;
use super::samples::{Samples, Whole};
use super::source::{self, existing};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;
/// Ten times Fashion-MNIST; a header that claims more is wrong or no job for memory.
const MAX_IMAGES: u32 = 1_000_000;
/// Pixels; the published sets have 28.
const MAX_EDGE: u32 = 1024;

/// What tells one IDX data set from another.
#[derive(Debug)]
pub(super) struct IdxSet {
    kind: DataKind,
    classes: [&'static str; 10],
}

pub(super) const MNIST: IdxSet =
    IdxSet { kind: DataKind::Mnist, classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] };

pub(super) const FASHION_MNIST: IdxSet = IdxSet {
    kind: DataKind::FashionMnist,
    classes: [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
};

impl IdxSet {
    pub(super) fn classes(&self) -> Vec<String> {
        self.classes.map(String::from).into()
    }
}

/// Reads `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]` from a folder.
pub(super) fn load(folder: &Path, set: &IdxSet) -> Result<Whole, DataError> {
    existing(folder, "a folder of IDX files", set.kind)?;
    let part = |prefix: &str| {
        let images = find(folder, &format!("{prefix}-images-idx3-ubyte"), set.kind)?;
        let labels = find(folder, &format!("{prefix}-labels-idx1-ubyte"), set.kind)?;
        let images = (source::open(&images)?, images);
        let labels = (source::open(&labels)?, labels);
        samples((images.0, &images.1), (labels.0, &labels.1), set)
    };
    let (train, test) = (part("train")?, part("t10k")?);
    if (train.height, train.width) != (test.height, test.width) {
        return Err(DataError::Format {
            path: folder.into(),
            expected: format!("test images of {}x{}", train.height, train.width),
            got: format!("{}x{}", test.height, test.width),
        });
    }
    Ok(Whole { classes: set.classes(), train, test })
}

fn find(folder: &Path, name: &str, kind: DataKind) -> Result<PathBuf, DataError> {
    let plain = folder.join(name);
    let packed = folder.join(format!("{name}.gz"));
    // Some archives write a dot in place of the last hyphen: `train-images.idx3-ubyte`.
    let dotted = folder.join(name.replacen("-idx", ".idx", 1));
    let missing = DataError::Missing { path: plain.clone(), what: "an IDX file (plain or .gz)", kind };
    [plain, packed, dotted].into_iter().find(|path| path.exists()).ok_or(missing)
}

/// One part: images and their labels, from two streams.
pub(super) fn samples(
    (mut images, images_path): (impl Read, &Path),
    (mut labels, labels_path): (impl Read, &Path),
    set: &IdxSet,
) -> Result<Samples, DataError> {
    let (count, height, width, pixels) = read_images(&mut images, images_path)?;
    let labels = read_labels(&mut labels, labels_path, count, set.classes.len())?;
    Ok(Samples { channels: 1, height: height as usize, width: width as usize, pixels, labels })
}

fn read_images(reader: &mut impl Read, path: &Path) -> Result<(u32, u32, u32, Vec<u8>), DataError> {
    let [magic, count, height, width] = words(source::header::<16>(reader, path)?);
    check_magic(magic, IMAGES_MAGIC, path)?;
    let limits =
        [("images", count, MAX_IMAGES), ("image rows", height, MAX_EDGE), ("image columns", width, MAX_EDGE)];
    for (what, got, limit) in limits {
        check_limit(what, got, limit, path)?;
    }
    if count == 0 || height == 0 || width == 0 {
        return Err(DataError::Format {
            path: path.into(),
            expected: "at least one image".into(),
            got: format!("{count} images of {height}x{width}"),
        });
    }
    let bytes = u64::from(count) * u64::from(height) * u64::from(width);
    if bytes > source::MAX_PART_BYTES {
        return Err(DataError::Limit {
            path: path.into(),
            what: "bytes of pixels",
            limit: source::MAX_PART_BYTES,
            got: bytes,
        });
    }
    Ok((count, height, width, source::exactly(reader, bytes, path)?))
}

fn read_labels(
    reader: &mut impl Read,
    path: &Path,
    images: u32,
    classes: usize,
) -> Result<Vec<u16>, DataError> {
    let [magic, count] = words(source::header::<8>(reader, path)?);
    check_magic(magic, LABELS_MAGIC, path)?;
    check_limit("labels", count, MAX_IMAGES, path)?;
    if count != images {
        return Err(DataError::Format {
            path: path.into(),
            expected: format!("{images} labels, one for each image"),
            got: count.to_string(),
        });
    }
    let bytes = source::exactly(reader, u64::from(count), path)?;
    checked_labels(bytes.into_iter(), classes, path)
}

/// Labels below the number of classes; otherwise says which one is wrong.
pub(super) fn checked_labels(
    labels: impl Iterator<Item = u8>,
    classes: usize,
    path: &Path,
) -> Result<Vec<u16>, DataError> {
    labels
        .enumerate()
        .map(|(index, label)| {
            if usize::from(label) < classes {
                return Ok(u16::from(label));
            }
            Err(DataError::Format {
                path: path.into(),
                expected: format!("labels below {classes}"),
                got: format!("{label} for image {index}"),
            })
        })
        .collect()
}

fn check_magic(got: u32, expected: u32, path: &Path) -> Result<(), DataError> {
    if got == expected {
        return Ok(());
    }
    Err(DataError::Format {
        path: path.into(),
        expected: format!("an IDX file with magic {expected:#010x}"),
        got: format!("{got:#010x}"),
    })
}

fn check_limit(what: &'static str, got: u32, limit: u32, path: &Path) -> Result<(), DataError> {
    if got <= limit {
        return Ok(());
    }
    Err(DataError::Limit { path: path.into(), what, limit: limit.into(), got: got.into() })
}

/// Big-endian words of a header of 4 * N bytes.
fn words<const BYTES: usize, const N: usize>(header: [u8; BYTES]) -> [u32; N] {
    const { assert!(BYTES == 4 * N) };
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(header.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
    }
    words
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::fs;
    use std::io::Write as _;

    pub(crate) fn images(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [IMAGES_MAGIC, count, height, width] {
            file.extend(word.to_be_bytes());
        }
        file.extend(pixels);
        file
    }

    pub(crate) fn labels(labels: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [LABELS_MAGIC, labels.len() as u32] {
            file.extend(word.to_be_bytes());
        }
        file.extend(labels);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A folder with 3 training and 2 test images of 2x2, partly compressed.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        put("train-images-idx3-ubyte.gz", &gzip(&images(3, 2, 2, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])));
        put("train-labels-idx1-ubyte", &labels(&[9, 0, 4]));
        put("t10k-images-idx3-ubyte", &images(2, 2, 2, &[255; 8]));
        put("t10k-labels-idx1-ubyte.gz", &gzip(&labels(&[1, 2])));
        folder
    }

    #[test]
    fn reads_plain_and_compressed_files() {
        let folder = folder();
        let whole = load(folder.path(), &FASHION_MNIST).unwrap();
        assert_eq!(whole.classes[9], "Ankle boot");
        assert_eq!(whole.train.labels, [9, 0, 4]);
        assert_eq!(whole.train.image(1), [4, 5, 6, 7]);
        assert_eq!((whole.test.len(), whole.test.channels, whole.test.height), (2, 1, 2));
    }

    #[test]
    fn errors_name_the_file_and_what_was_expected() {
        let cases: [(&str, Vec<u8>, &str); 8] = [
            (
                "train-images-idx3-ubyte.gz",
                gzip(&images(3, 2, 2, &[0; 11])),
                "expected 12 bytes after the header, got 11",
            ),
            ("train-images-idx3-ubyte.gz", images(3, 2, 2, &[0; 13]), "at most 12, got 13"),
            (
                "train-images-idx3-ubyte.gz",
                labels(&[1; 20]),
                "expected an IDX file with magic 0x00000803, got 0x00000801",
            ),
            (
                "train-images-idx3-ubyte.gz",
                gzip(&images(3, 2, 2, &[0; 12]))[..20].to_vec(),
                "whole compressed stream",
            ),
            ("train-images-idx3-ubyte.gz", images(u32::MAX, 2, 2, &[]), "images: expected at most 1000000"),
            ("train-labels-idx1-ubyte", labels(&[1, 2]), "expected 3 labels, one for each image, got 2"),
            ("train-labels-idx1-ubyte", labels(&[1, 10, 2]), "expected labels below 10, got 10 for image 1"),
            ("train-labels-idx1-ubyte", vec![0; 3], "expected a header of 8 bytes, got a file of 3 bytes"),
        ];
        for (name, bytes, expected) in cases {
            let folder = folder();
            fs::write(folder.path().join(name), bytes).unwrap();
            let error = load(folder.path(), &MNIST).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn a_missing_file_comes_with_the_way_to_get_it() {
        let folder = folder();
        fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte.gz")).unwrap();
        let error = load(folder.path(), &FASHION_MNIST).unwrap_err();
        assert!(error.to_string().contains("t10k-labels-idx1-ubyte"), "{error}");
        assert!(error.hint().unwrap().contains("apt install dataset-fashion-mnist"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(image_bytes: Vec<u8>, label_bytes: Vec<u8>, framed: bool) {
            let (image_bytes, label_bytes) = if framed {
                (images(image_bytes.len() as u32, 1, 1, &image_bytes), labels(&label_bytes))
            } else {
                (image_bytes, label_bytes)
            };
            let path = Path::new("x");
            let read = samples((image_bytes.as_slice(), path), (label_bytes.as_slice(), path), &MNIST);
            if let Ok(samples) = read {
                prop_assert_eq!(samples.pixels.len(), samples.len() * samples.image_len());
            }
        }
    }
}
