//! A folder of images: each folder in it is a class, PNG and JPEG files anywhere below are its images (Caltech-256 form).
//!
//! The cut is not random: collections hold near-duplicates under numbered names (`ant_01`, `ant_02`), and a random cut
//! would put one in training and its twin in the test. So whole series go to one part, the same in every run.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader, Limits, imageops::FilterType};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::error::DataError;
use super::kind::DataKind;
use super::options::LoadOptions;
use super::samples::Samples;
use super::source::{self, MAX_PART_BYTES, existing};
use super::split::Parts;

/// Labels are 16 bits wide, and a reader of 65,536 folders was pointed at the wrong place.
const MAX_CLASSES: usize = 4096;
/// Folders below a class.
const MAX_DEPTH: usize = 8;
/// Files of one class.
const MAX_FILES: usize = 1_000_000;
/// One compressed image.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Pixels on one side of an image before scaling.
const MAX_EDGE: u32 = 16_384;
/// Memory to decode one image, bytes.
const MAX_DECODE_BYTES: u64 = 512 << 20;
const CHANNELS: usize = 3;

/// Shares of training, the two validation halves and test.
const SHARES: [f64; 4] = [0.7, 0.075, 0.075, 0.15];

/// Reads, scales and cuts a folder. Transparent pixels are laid on white; the aspect ratio is not kept.
pub(super) fn load(folder: &Path, options: &LoadOptions) -> Result<(Vec<String>, Parts), DataError> {
    existing(folder, "a folder with a folder of images for each class", DataKind::Folder)?;
    let mut classes = classes(folder)?;
    if let Some(most) = options.largest_classes {
        classes.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(&b.0)));
        classes.truncate(most);
        classes.sort_by(|a, b| a.0.cmp(&b.0));
    }
    if classes.len() < 2 {
        return Err(DataError::Format {
            path: folder.into(),
            expected: "at least two folders with images, one for each class".into(),
            got: classes.len().to_string(),
        });
    }
    let edge = options.image_edge as usize;
    let files: usize = classes.iter().map(|(_, files)| files.len()).sum();
    let bytes = files as u64 * (CHANNELS * edge * edge) as u64;
    if bytes > MAX_PART_BYTES {
        return Err(DataError::Limit {
            path: folder.into(),
            what: "bytes of scaled images",
            limit: MAX_PART_BYTES,
            got: bytes,
        });
    }
    let mut parts: [Vec<(&Path, u16)>; 4] = Default::default();
    for (label, (name, files)) in classes.iter().enumerate() {
        if files.len() < SHARES.len() {
            return Err(DataError::TooFew {
                path: folder.into(),
                class: Some(name.clone()),
                expected: SHARES.len(),
                got: files.len(),
            });
        }
        for (part, file) in dealt(name, files) {
            parts[part].push((file, label as u16));
        }
    }
    let [train, validation_search, validation_select, test] = parts;
    let read = |files: Vec<(&Path, u16)>| read(&files, options.image_edge);
    let parts = Parts {
        train: read(train)?,
        validation_search: read(validation_search)?,
        validation_select: read(validation_select)?,
        test: read(test)?,
    };
    Ok((classes.into_iter().map(|(name, _)| name).collect(), parts))
}

/// Folders that hold images, by name, each with its files, sorted.
fn classes(folder: &Path) -> Result<Vec<(String, Vec<PathBuf>)>, DataError> {
    let mut classes = Vec::new();
    for (path, is_folder) in entries(folder)? {
        if !is_folder {
            continue;
        }
        let mut files = Vec::new();
        collect(&path, MAX_DEPTH, &mut files)?;
        if files.is_empty() {
            continue;
        }
        if classes.len() == MAX_CLASSES {
            return Err(limit(folder, "classes", MAX_CLASSES));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        classes.push((name, files));
    }
    Ok(classes)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for (path, is_folder) in entries(folder)? {
        if is_folder {
            if depth == 0 {
                return Err(limit(&path, "folders inside one another", MAX_DEPTH));
            }
            collect(&path, depth - 1, files)?;
        } else if is_image(&path) {
            if files.len() == MAX_FILES {
                return Err(limit(folder, "files of one class", MAX_FILES));
            }
            files.push(path);
        }
    }
    Ok(())
}

fn limit(path: &Path, what: &'static str, limit: usize) -> DataError {
    DataError::Limit { path: path.into(), what, limit: limit as u64, got: limit as u64 + 1 }
}

/// Sorted entries and whether each is a folder. Symbolic links to folders are not followed: they may form a ring.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, DataError> {
    let io = |source| DataError::Io { path: folder.into(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        entries.push((entry.path(), entry.file_type().map_err(io)?.is_dir()));
    }
    entries.sort();
    Ok(entries)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    path.is_file()
        && extension.is_some_and(|extension| extension == "png" || extension == "jpg" || extension == "jpeg")
}

/// Which part each file goes to: series by falling size, then by hash, each to the part that lacks most.
fn dealt<'a>(class: &str, files: &'a [PathBuf]) -> Vec<(usize, &'a Path)> {
    let mut series: BTreeMap<String, Vec<&Path>> = BTreeMap::new();
    for file in files {
        series.entry(series_of(file)).or_default().push(file);
    }
    // Where numbers are all that tells files apart (Caltech-256), they are no series: every file stands alone.
    if series.len() < SHARES.len() {
        series =
            files.iter().map(|file| (file.to_string_lossy().into_owned(), vec![file.as_path()])).collect();
    }
    let mut ordered: Vec<(usize, [u8; 32], Vec<&Path>)> = series
        .into_iter()
        .map(|(name, members)| {
            // Only the end of the path: the cut must not depend on where the folder lies.
            let name =
                Path::new(&name).file_name().map_or(name.clone(), |name| name.to_string_lossy().into_owned());
            (members.len(), Sha256::digest(format!("{class}/{name}")).into(), members)
        })
        .collect();
    ordered.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)).then_with(|| a.2.cmp(&b.2)));
    let mut lacking = SHARES.map(|share| share * files.len() as f64);
    let mut dealt = Vec::with_capacity(files.len());
    let mut empty = [true; 4];
    let mut series_left = ordered.len();
    for (size, _, members) in ordered {
        // The last series go to the parts that have nothing yet.
        let must_fill = empty.iter().filter(|&&empty| empty).count() >= series_left;
        let part = (0..SHARES.len())
            .filter(|&part| !must_fill || empty[part])
            .max_by(|&a, &b| lacking[a].total_cmp(&lacking[b]).then(b.cmp(&a)))
            .unwrap_or(0);
        lacking[part] -= size as f64;
        empty[part] = false;
        series_left -= 1;
        dealt.extend(members.into_iter().map(|file| (part, file)));
    }
    dealt.sort();
    dealt
}

/// The file's name without its extension and the number at its end.
fn series_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let bare = stem.trim_end_matches(|c: char| c.is_ascii_digit() || "_-. ()".contains(c));
    if bare.is_empty() { stem } else { bare.to_owned() }
}

fn read(files: &[(&Path, u16)], edge: u32) -> Result<Samples, DataError> {
    let images: Vec<Vec<u8>> =
        files.par_iter().map(|(file, _)| decode(file, edge)).collect::<Result<_, _>>()?;
    Ok(Samples {
        channels: CHANNELS,
        height: edge as usize,
        width: edge as usize,
        pixels: images.concat(),
        labels: files.iter().map(|&(_, label)| label).collect(),
    })
}

/// One image, scaled, channel by channel.
fn decode(path: &Path, edge: u32) -> Result<Vec<u8>, DataError> {
    let file = fs::File::open(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let bytes =
        source::at_most(&mut std::io::BufReader::new(file), MAX_FILE_BYTES, path, "bytes of an image")?;
    let image = decoded(&bytes).map_err(|error| DataError::Format {
        path: path.into(),
        expected: "a PNG or JPEG image".into(),
        got: error.to_string(),
    })?;
    // Scaling to the small size first would blend the colour of transparent pixels in.
    let mut rgba = image.into_rgba8();
    for pixel in rgba.pixels_mut() {
        let alpha = u32::from(pixel[3]);
        for channel in 0..CHANNELS {
            pixel[channel] = ((u32::from(pixel[channel]) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
        pixel[3] = 255;
    }
    let scaled =
        DynamicImage::from(rgba).resize_exact(edge, edge, FilterType::Triangle).into_rgb8().into_raw();
    Ok((0..CHANNELS).flat_map(|channel| scaled.iter().skip(channel).step_by(CHANNELS).copied()).collect())
}

fn decoded(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    // By content: collections hold JPEG files called .png.
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_EDGE);
    limits.max_image_height = Some(MAX_EDGE);
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    reader.decode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgba, RgbaImage};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn save(path: &Path, width: u32, height: u32, colour: [u8; 4]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbaImage::from_pixel(width, height, Rgba(colour)).save(path).unwrap();
    }

    fn options() -> LoadOptions {
        LoadOptions { image_edge: 4, ..LoadOptions::default() }
    }

    #[test]
    fn folders_are_classes_and_transparent_is_white() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..8 {
            save(&folder.path().join(format!("blue/deep/b{index}.png")), 5, 9, [0, 0, 255, 255]);
            save(&folder.path().join(format!("clear/{}.png", char::from(b'a' + index))), 7, 3, [9, 9, 9, 0]);
        }
        fs::write(folder.path().join("notes.txt"), "no image").unwrap();
        let (classes, parts) = load(folder.path(), &options()).unwrap();
        assert_eq!(classes, ["blue", "clear"]);
        for samples in [&parts.train, &parts.validation_search, &parts.validation_select, &parts.test] {
            assert!(samples.labels.contains(&0) && samples.labels.contains(&1));
            for index in 0..samples.len() {
                let blue = [[0; 32].as_slice(), &[255; 16]].concat();
                let expected = if samples.labels[index] == 0 { blue } else { vec![255; 48] };
                assert_eq!(samples.image(index), expected);
            }
        }
        assert_eq!(
            parts.train.len()
                + parts.validation_search.len()
                + parts.validation_select.len()
                + parts.test.len(),
            16
        );
        let largest = LoadOptions { largest_classes: Some(1), ..options() };
        assert!(load(folder.path(), &largest).unwrap_err().to_string().contains("at least two folders"));
    }

    #[test]
    fn a_series_stays_in_one_part() {
        let files: Vec<PathBuf> = (0..20)
            .flat_map(|series| (1..=4).map(move |n| PathBuf::from(format!("/x/s{series}x_{n:02}.png"))))
            .collect();
        let dealt = dealt("c", &files);
        let mut parts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let mut sizes = [0; 4];
        for (part, file) in dealt {
            parts.entry(series_of(file)).or_default().insert(part);
            sizes[part] += 1;
        }
        assert!(parts.values().all(|parts| parts.len() == 1), "{parts:?}");
        assert_eq!(sizes.iter().sum::<usize>(), 80);
        for (size, share) in sizes.iter().zip(SHARES) {
            assert!((f64::from(*size as u32) - share * 80.0).abs() <= 4.0, "{sizes:?}");
        }
    }

    #[test]
    fn one_large_series_leaves_something_for_every_part() {
        let mut files: Vec<PathBuf> = (0..100).map(|n| PathBuf::from(format!("/x/many_{n}.png"))).collect();
        files.extend(["/x/one.png", "/x/two.png", "/x/three.png"].map(PathBuf::from));
        let parts: BTreeSet<usize> = dealt("c", &files).into_iter().map(|(part, _)| part).collect();
        assert_eq!(parts.len(), 4);
    }

    #[test]
    fn numbers_alone_are_no_series_and_the_place_of_the_folder_does_not_count() {
        let at = |place: &str| -> Vec<PathBuf> {
            (1..=40).map(|n| PathBuf::from(format!("{place}/001_{n:04}.jpg"))).collect()
        };
        let (here, there) = (at("/here"), at("/there/deep"));
        let parts =
            |files: &[PathBuf]| dealt("c", files).into_iter().map(|(part, _)| part).collect::<Vec<_>>();
        assert_eq!(parts(&here), parts(&there));
        assert_eq!(parts(&here).iter().filter(|&&part| part == 0).count(), 28);
    }

    #[test]
    fn broken_images_and_small_classes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for index in 0..4 {
            save(&folder.path().join(format!("a/{index}.png")), 2, 2, [1, 2, 3, 255]);
            save(&folder.path().join(format!("b/{index}.png")), 2, 2, [1, 2, 3, 255]);
        }
        let broken = folder.path().join("b/2.png");
        let whole = fs::read(&broken).unwrap();
        fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
        let error = load(folder.path(), &options()).unwrap_err().to_string();
        assert!(error.contains("b/2.png: expected a PNG or JPEG image"), "{error}");
        fs::remove_file(&broken).unwrap();
        let error = load(folder.path(), &options()).unwrap_err().to_string();
        assert!(error.contains("at least 4 images of class `b`, got 3"), "{error}");
    }

    #[test]
    fn a_picture_that_would_take_too_much_memory_is_refused() {
        // A PNG header that claims 16,385 x 1 pixels.
        let mut png = Vec::new();
        RgbaImage::new(MAX_EDGE + 1, 1)
            .write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png)
            .unwrap();
        assert!(matches!(decoded(&png), Err(image::ImageError::Limits(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, place in 0_usize..200, value: u8) {
            prop_assert!(decoded(&bytes).is_err() || !bytes.is_empty());
            let mut png = Vec::new();
            RgbaImage::new(3, 2).write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
            let place = place % png.len();
            png[place] = value;
            let _ = decoded(&png);
        }
    }
}
