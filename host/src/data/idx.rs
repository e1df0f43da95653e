//! MNIST, Fashion-MNIST, EMNIST and whatever else comes as four IDX files in a folder, each plain or gzip.
//!
//! Format (yann.lecun.com/exdb/mnist): big-endian magic `0x0000TTDD` (type 8 = unsigned byte, DD dimensions), one u32 per
//! dimension, then the bytes.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

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

/// Classes of the two published sets that have names or digits of their own.
const TEN: usize = 10;
/// Largest file with the meanings of labels; EMNIST's have some hundred bytes.
const MAX_MAPPING_BYTES: u64 = 1 << 20;

/// Zalando's clothes, in label order.
pub(super) const CLOTHES: [&str; TEN] = [
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
];

/// SHA-256 of the training labels, unpacked, of published sets: two sets of one form are told apart by them.
const KNOWN: [(DataKind, &str); 2] = [
    (DataKind::Mnist, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    (DataKind::FashionMnist, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
];

/// Reads `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]` from a folder; `test` for `t10k`, a dot for the last hyphen, and
/// something in front of each name (`emnist-letters-`) are read too.
pub(super) fn load(path: &Path, kind: DataKind) -> Result<Whole, DataError> {
    let (folder, start) = set(path, kind)?;
    let file = |parts: &[&str], what: &str| {
        let names: Vec<String> = parts.iter().map(|part| format!("{start}{part}-{what}-ubyte")).collect();
        find(&folder, &names, kind)
    };
    let part = |names: &[&str]| {
        let (images, labels) = (file(names, "images-idx3")?, file(names, "labels-idx1")?);
        let (pixels, numbers) = (source::open(&images)?, source::open(&labels)?);
        let samples = samples((pixels, &images), (numbers, &labels))?;
        Ok::<_, DataError>((samples, labels))
    };
    let (mut train, train_labels) = part(&["train"])?;
    let (mut test, test_labels) = part(&["t10k", "test"])?;
    if (train.height, train.width) != (test.height, test.width) {
        return Err(DataError::Format {
            path: path.into(),
            expected: format!("test images of {}x{}", train.height, train.width),
            got: format!("{}x{}", test.height, test.width),
        });
    }
    let published = known(&train.labels);
    if let Some(other) = published.filter(|other| *other != kind && kind != DataKind::Idx) {
        return Err(DataError::Layout {
            path: train_labels,
            expected: format!("labels of {}", kind.name()),
            got: format!("those of {}", other.name()),
            hint: format!("write --data {}:{}", other.name(), path.display()),
        });
    }
    let numbers = numbers(published.unwrap_or(kind), &train.labels);
    relabel(&mut train, &numbers, &train_labels, kind, path)?;
    relabel(&mut test, &numbers, &test_labels, kind, path)?;
    let classes = names(published.unwrap_or(kind), &numbers, &folder, &start)?;
    Ok(Whole { classes, train, test })
}

/// The published set with these training labels.
fn known(labels: &[u16]) -> Option<DataKind> {
    let bytes: Vec<u8> = labels.iter().map(|&label| label as u8).collect();
    let mut file = LABELS_MAGIC.to_be_bytes().to_vec();
    file.extend((labels.len() as u32).to_be_bytes());
    file.extend(bytes);
    let digest = hex::encode(Sha256::digest(&file));
    KNOWN.iter().find(|(_, known)| *known == digest).map(|(kind, _)| *kind)
}

/// Folder, and what stands in front of the names of its files: nothing, or what the path says after the folder's name, or the
/// only thing there is.
fn set(path: &Path, kind: DataKind) -> Result<(PathBuf, String), DataError> {
    if !path.is_dir() {
        let named = path.file_name().map(|name| format!("{}-", name.to_string_lossy()));
        let folder = path.parent().filter(|folder| folder.is_dir());
        if let (Some(start), Some(folder)) = (named, folder)
            && starts(folder)?.contains(&start)
        {
            return Ok((folder.into(), start));
        }
        existing(path, "a folder of IDX files", kind)?;
        return Err(DataError::Layout {
            path: path.into(),
            expected: "a folder of IDX files".into(),
            got: "a file".into(),
            hint: "name the folder that holds the four files".into(),
        });
    }
    let starts = starts(path)?;
    match starts.as_slice() {
        [start] => Ok((path.into(), start.clone())),
        [] => Ok((path.into(), String::new())),
        all if all.contains(&String::new()) => Ok((path.into(), String::new())),
        several => Err(DataError::Layout {
            path: path.into(),
            expected: "one IDX data set".into(),
            got: several.iter().map(|it| it.trim_end_matches('-')).collect::<Vec<_>>().join(", "),
            hint: format!(
                "name one of them, as in --data {}:{}",
                kind.name(),
                path.join(several[0].trim_end_matches('-')).display()
            ),
        }),
    }
}

/// What stands before `train-images` in the names of a folder's files; each once, sorted.
fn starts(folder: &Path) -> Result<Vec<String>, DataError> {
    let io = |source| DataError::Io { path: folder.into(), source };
    let mut starts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        if let Some((start, rest)) = name.split_once("train-images")
            && ["-idx3-ubyte", ".idx3-ubyte"].iter().any(|it| rest.starts_with(it))
        {
            starts.push(start.to_owned());
        }
    }
    starts.sort();
    starts.dedup();
    Ok(starts)
}

/// The first of these names that is there: plain or packed, with a hyphen or, as some archives write it, a dot before `idx`.
fn find(folder: &Path, names: &[String], kind: DataKind) -> Result<PathBuf, DataError> {
    let forms = names.iter().flat_map(|name| {
        let dotted = name.replacen("-idx", ".idx", 1);
        [name.clone(), format!("{name}.gz"), format!("{dotted}.gz"), dotted]
    });
    let found = forms.map(|name| folder.join(name)).find(|path| path.exists());
    let first = names.first().map(|name| folder.join(name)).unwrap_or_default();
    found.ok_or(DataError::Missing { path: first, what: "an IDX file (plain or .gz)", kind })
}

/// The labels that are classes, in order: the digits or clothes of the published sets, else those that occur.
fn numbers(kind: DataKind, labels: &[u16]) -> Vec<u16> {
    let most = labels.iter().max().map_or(0, |&label| usize::from(label));
    if kind == DataKind::FashionMnist || kind == DataKind::Mnist && most < TEN {
        return (0..TEN as u16).collect();
    }
    let mut numbers = labels.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// From labels as they are in the file to places among the classes.
fn relabel(
    samples: &mut Samples,
    numbers: &[u16],
    file: &Path,
    kind: DataKind,
    path: &Path,
) -> Result<(), DataError> {
    for (index, label) in samples.labels.iter_mut().enumerate() {
        match numbers.binary_search(label) {
            Ok(place) => *label = place as u16,
            Err(_) if kind == DataKind::FashionMnist => {
                return Err(DataError::Layout {
                    path: file.into(),
                    expected: format!("labels below {TEN}"),
                    got: format!("{label} for image {index}"),
                    hint: format!("a set of other classes is --data idx:{}", path.display()),
                });
            }
            Err(_) => {
                return Err(DataError::Format {
                    path: file.into(),
                    expected: "labels that occur in the training part".into(),
                    got: format!("{label} for image {index}"),
                });
            }
        }
    }
    Ok(())
}

/// Names of the classes: of clothes; by EMNIST's `mapping.txt` (a label, then the codes of its letters) where it lies beside
/// the files; else the numbers.
fn names(kind: DataKind, numbers: &[u16], folder: &Path, start: &str) -> Result<Vec<String>, DataError> {
    if kind == DataKind::FashionMnist {
        return Ok(CLOTHES.map(String::from).into());
    }
    let plain = || numbers.iter().map(ToString::to_string).collect();
    let path = folder.join(format!("{start}mapping.txt"));
    if kind == DataKind::Mnist || !path.is_file() {
        return Ok(plain());
    }
    let bytes = source::at_most(&mut source::open(&path)?, MAX_MAPPING_BYTES, &path, "bytes of a mapping")?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let letters = |number: &u16| {
        let line = text.lines().map(str::split_whitespace).find_map(|mut words| {
            (words.next()?.parse::<u16>().ok()? == *number).then(|| words.collect::<Vec<_>>())
        })?;
        let letters: Option<Vec<String>> =
            line.iter().map(|code| Some(char::from_u32(code.parse().ok()?)?.to_string())).collect();
        letters.filter(|letters| !letters.is_empty()).map(|letters| letters.join("/"))
    };
    let named: Option<Vec<String>> = numbers.iter().map(letters).collect();
    named.map_or_else(
        || {
            Err(DataError::Format {
                path: path.clone(),
                expected: "a line with the codes of its letters for every label".into(),
                got: format!("{} lines", text.lines().count()),
            })
        },
        Ok,
    )
}

/// One part: images and their labels as they are in the file, from two streams.
pub(super) fn samples(
    (mut images, images_path): (impl Read, &Path),
    (mut labels, labels_path): (impl Read, &Path),
) -> Result<Samples, DataError> {
    let (count, height, width, pixels) = read_images(&mut images, images_path)?;
    let labels = read_labels(&mut labels, labels_path, count)?;
    Ok(Samples { channels: 1, height: height as usize, width: width as usize, pixels: pixels.into(), labels })
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

fn read_labels(reader: &mut impl Read, path: &Path, images: u32) -> Result<Vec<u16>, DataError> {
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
    Ok(bytes.into_iter().map(u16::from).collect())
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
        let whole = load(folder.path(), DataKind::FashionMnist).unwrap();
        assert_eq!(whole.classes[9], "Ankle boot");
        assert_eq!(whole.train.labels, [9, 0, 4]);
        assert_eq!(*whole.train.image(1).unwrap(), [4, 5, 6, 7]);
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
            let error = load(folder.path(), DataKind::FashionMnist).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    /// One class a label of `labels`, as a set named `start`.
    fn lettered(folder: &Path, start: &str, test: &str, labels_of: &[u8]) {
        let count = labels_of.len() as u32;
        for part in ["train", test] {
            let put = |name: String, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
            let pixels = vec![7; labels_of.len()];
            put(format!("{start}{part}-images-idx3-ubyte"), &images(count, 1, 1, &pixels));
            put(format!("{start}{part}-labels-idx1-ubyte.gz"), &gzip(&labels(labels_of)));
        }
    }

    #[test]
    fn any_number_of_classes_is_read_with_the_names_that_lie_beside() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<u8> = (1..=26).collect();
        lettered(folder.path(), "emnist-letters-", "test", &all);
        for kind in [DataKind::Idx, DataKind::Mnist] {
            let whole = load(folder.path(), kind).unwrap();
            assert_eq!((whole.classes.len(), whole.classes[0].as_str()), (26, "1"));
            assert_eq!((whole.train.labels[0], whole.test.labels[25]), (0, 25));
        }
        let mapping: Vec<String> = (1..=26).map(|it| format!("{it} {} {}", 64 + it, 96 + it)).collect();
        fs::write(folder.path().join("emnist-letters-mapping.txt"), mapping.join("\n")).unwrap();
        assert_eq!(load(folder.path(), DataKind::Idx).unwrap().classes[25], "Z/z");
        fs::write(folder.path().join("emnist-letters-mapping.txt"), "1 65\n").unwrap();
        let error = load(folder.path(), DataKind::Idx).unwrap_err().to_string();
        assert!(error.contains("mapping.txt") && error.contains("every label"), "{error}");

        let error = load(folder.path(), DataKind::FashionMnist).unwrap_err();
        assert!(error.to_string().contains("expected labels below 10, got 10 for image 9"), "{error}");
        assert!(error.hint().unwrap().contains("idx:"), "{:?}", error.hint());
    }

    #[test]
    fn of_several_sets_in_a_folder_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        lettered(folder.path(), "emnist-digits-", "test", &[0, 1]);
        lettered(folder.path(), "emnist-letters-", "test", &[1, 2, 3]);
        let error = load(folder.path(), DataKind::Idx).unwrap_err();
        assert!(error.to_string().contains("got emnist-digits, emnist-letters"), "{error}");
        assert!(error.hint().unwrap().ends_with("emnist-digits"), "{:?}", error.hint());
        assert_eq!(
            load(&folder.path().join("emnist-letters"), DataKind::Idx).unwrap().classes,
            ["1", "2", "3"]
        );
        lettered(folder.path(), "", "t10k", &[4, 5]);
        assert_eq!(load(folder.path(), DataKind::Idx).unwrap().classes, ["4", "5"]);
    }

    #[test]
    fn a_dot_for_the_last_hyphen_is_read_plain_and_packed() {
        let folder = folder();
        for (name, dotted) in [
            ("train-images-idx3-ubyte.gz", "train-images.idx3-ubyte.gz"),
            ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
        ] {
            fs::rename(folder.path().join(name), folder.path().join(dotted)).unwrap();
        }
        assert_eq!(load(folder.path(), DataKind::Mnist).unwrap().train.labels, [9, 0, 4]);
    }

    #[test]
    #[ignore = "needs the published files: apt install dataset-fashion-mnist"]
    fn a_published_set_under_another_name_is_an_error() {
        let folder = Path::new("/usr/share/datasets/fashion-mnist");
        let error = load(folder, DataKind::Mnist).unwrap_err();
        assert!(
            error.to_string().contains("expected labels of mnist, got those of fashion-mnist"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("fashion-mnist:/usr/share"), "{:?}", error.hint());
        assert_eq!(load(folder, DataKind::Idx).unwrap().classes[9], "Ankle boot");
    }

    #[test]
    fn a_missing_file_comes_with_the_way_to_get_it() {
        let folder = folder();
        fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte.gz")).unwrap();
        let error = load(folder.path(), DataKind::FashionMnist).unwrap_err();
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
            let read = samples((image_bytes.as_slice(), path), (label_bytes.as_slice(), path));
            if let Ok(samples) = read {
                prop_assert_eq!(samples.pixels.len(), samples.len() * samples.image_len());
            }
        }
    }
}
