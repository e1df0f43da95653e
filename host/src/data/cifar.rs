//! CIFAR-10 and CIFAR-100, binary version: records of label bytes and 3072 pixels, channel by channel.
//!
//! Format (cs.toronto.edu/~kriz/cifar.html): CIFAR-10 has one label byte a record, CIFAR-100 a coarse and a fine one.

use std::path::{Path, PathBuf};

use super::error::DataError;
use super::kind::DataKind;
use super::samples::{Samples, Whole};
use super::source::{self, existing};

const CHANNELS: usize = 3;
const EDGE: usize = 32;
const PIXELS: usize = CHANNELS * EDGE * EDGE;
/// Images of CIFAR-100's training file, the longest of all.
const MAX_RECORDS: usize = 50_000;

/// What tells one version from the other.
#[derive(Debug)]
pub(super) struct CifarSet {
    kind: DataKind,
    /// Label bytes before the pixels; the last one counts.
    label_bytes: usize,
    /// Folder inside the published archive.
    archive_folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    classes: &'static str,
}

pub(super) const CIFAR_10: CifarSet = CifarSet {
    kind: DataKind::Cifar10,
    label_bytes: 1,
    archive_folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    classes: "airplane automobile bird cat deer dog frog horse ship truck",
};

pub(super) const CIFAR_100: CifarSet = CifarSet {
    kind: DataKind::Cifar100,
    label_bytes: 2,
    archive_folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    classes: "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly \
              camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup \
              dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower \
              leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid \
              otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road \
              rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower \
              sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale \
              willow_tree wolf woman worm",
};

/// Reads the folder of the published archive, or the folder that it was unpacked in.
pub(super) fn load(folder: &Path, set: &CifarSet) -> Result<Whole, DataError> {
    existing(folder, "a folder of CIFAR binary files", set.kind)?;
    let inner = folder.join(set.archive_folder);
    let folder: PathBuf = if inner.is_dir() { inner } else { folder.into() };
    let classes: Vec<String> = set.classes.split_whitespace().map(String::from).collect();
    let read = |name: &str, into: &mut Records| {
        let path = folder.join(name);
        existing(&path, "a CIFAR binary file", set.kind)?;
        let limit = (MAX_RECORDS * (set.label_bytes + PIXELS)) as u64;
        let bytes = source::at_most(&mut source::open(&path)?, limit, &path, "bytes of images")?;
        append(&bytes, set.label_bytes, classes.len(), &path, into)
    };
    let (mut train, mut test) = (Records::default(), Records::default());
    set.train.iter().try_for_each(|name| read(name, &mut train))?;
    read(set.test, &mut test)?;
    Ok(Whole { classes, train: train.into(), test: test.into() })
}

/// Images and labels of one part.
#[derive(Debug, Default)]
struct Records {
    pixels: Vec<u8>,
    labels: Vec<u16>,
}

impl From<Records> for Samples {
    fn from(Records { pixels, labels }: Records) -> Self {
        Self { channels: CHANNELS, height: EDGE, width: EDGE, pixels: pixels.into(), labels }
    }
}

fn append(
    bytes: &[u8],
    label_bytes: usize,
    classes: usize,
    path: &Path,
    into: &mut Records,
) -> Result<(), DataError> {
    let record = label_bytes + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(DataError::Format {
            path: path.into(),
            expected: format!("whole records of {record} bytes"),
            got: format!("{} bytes", bytes.len()),
        });
    }
    let records = bytes.chunks_exact(record);
    into.labels.extend(checked_labels(records.clone().map(|record| record[label_bytes - 1]), classes, path)?);
    records.for_each(|record| into.pixels.extend_from_slice(&record[label_bytes..]));
    Ok(())
}

/// Labels below the number of classes; otherwise says which one is wrong.
fn checked_labels(
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn record(labels: &[u8], first: u8) -> Vec<u8> {
        let mut record = labels.to_vec();
        record.extend((0..PIXELS).map(|index| first.wrapping_add(index as u8)));
        record
    }

    fn write(folder: &Path, name: &str, records: &[Vec<u8>]) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), records.concat()).unwrap();
    }

    fn cifar_10(folder: &Path) {
        for (index, name) in CIFAR_10.train.iter().enumerate() {
            write(folder, name, &[record(&[index as u8], index as u8), record(&[9], 7)]);
        }
        write(folder, CIFAR_10.test, &[record(&[3], 200)]);
    }

    #[test]
    fn reads_all_batches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        cifar_10(folder.path());
        let whole = load(folder.path(), &CIFAR_10).unwrap();
        assert_eq!(whole.train.labels, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]);
        assert_eq!(whole.train.image(2).unwrap()[..3], [1, 2, 3]);
        assert_eq!(
            (whole.test.labels[0], whole.test.image(0).unwrap()[0], whole.classes.len()),
            (3, 200, 10)
        );
    }

    #[test]
    fn the_fine_label_of_cifar_100_counts_and_the_archive_folder_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cifar-100-binary");
        write(&inner, "train.bin", &[record(&[200, 99], 5)]);
        write(&inner, "test.bin", &[record(&[0, 1], 6)]);
        let whole = load(folder.path(), &CIFAR_100).unwrap();
        assert_eq!((whole.train.labels[0], whole.test.labels[0]), (99, 1));
        assert_eq!((whole.classes.len(), whole.classes[99].as_str()), (100, "worm"));
    }

    #[test]
    fn truncated_mislabelled_and_missing_files_are_named() {
        let cases: [(&str, Vec<u8>, &str); 3] = [
            (
                "data_batch_2.bin",
                record(&[1], 0)[..3000].to_vec(),
                "expected whole records of 3073 bytes, got 3000 bytes",
            ),
            ("data_batch_3.bin", record(&[10], 0), "expected labels below 10, got 10 for image 0"),
            ("test_batch.bin", Vec::new(), "expected whole records of 3073 bytes, got 0 bytes"),
        ];
        for (name, bytes, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            cifar_10(folder.path());
            fs::write(folder.path().join(name), bytes).unwrap();
            let error = load(folder.path(), &CIFAR_10).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(expected), "{error}");
        }
        let error = load(Path::new("/nowhere"), &CIFAR_10).unwrap_err();
        assert!(error.hint().unwrap().contains("cifar-10-binary.tar.gz"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, repeat in 0_usize..80, label_bytes in 1_usize..3) {
            let mut samples = Records::default();
            if append(&bytes.repeat(repeat), label_bytes, 10, Path::new("x"), &mut samples).is_ok() {
                prop_assert_eq!(samples.pixels.len(), samples.labels.len() * PIXELS);
            }
        }
    }
}
