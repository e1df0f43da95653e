//! Whole folders, as people have them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use super::picture::tests::encoded;
use super::{listing, load, unlabelled};
use crate::data::error::DataError;
use crate::data::facts::{Facts, Skipped};
use crate::data::options::LoadOptions;
use crate::data::samples::{Samples, UNLABELLED};
use crate::data::series::Series;
use crate::data::split::Parts;

fn options() -> LoadOptions {
    LoadOptions { image_size: (4, 4), ..LoadOptions::default() }
}

/// A picture of its own: no two have the same bytes.
fn save(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = RgbImage::from_fn(5, 6, |x, y| Rgb([(seed % 251) as u8, (seed / 251) as u8, (x * y) as u8]));
    let format = ImageFormat::from_path(path).unwrap();
    fs::write(path, encoded(image, format)).unwrap();
}

/// `count` pictures for each class.
fn classes(folder: &Path, classes: &[&str], count: u32) {
    for (class, name) in classes.iter().enumerate() {
        for index in 0..count {
            save(&folder.join(name).join(format!("img_{index:04}.png")), class as u32 * count + index);
        }
    }
}

fn read(folder: &Path, options: &LoadOptions) -> Result<(Vec<String>, Parts, Facts), DataError> {
    load(folder, options, &mut |_, _| {})
}

fn sizes(parts: &Parts) -> [usize; 4] {
    [&parts.train, &parts.validation_search, &parts.validation_select, &parts.test].map(Samples::len)
}

/// The part of every picture, by its first two bytes.
fn places(parts: &Parts) -> BTreeMap<(u8, u8), usize> {
    let all = [&parts.train, &parts.validation_search, &parts.validation_select, &parts.test];
    let mut places = BTreeMap::new();
    for (part, samples) in all.into_iter().enumerate() {
        for index in 0..samples.len() {
            let image = samples.image(index).unwrap();
            places.insert((image[0], image[16]), part);
        }
    }
    places
}

#[test]
fn folders_are_classes_and_shares_are_met_within_binomial_error() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path(), &["circle", "square", "triangle"], 200);
    let (classes, parts, facts) = read(folder.path(), &options()).unwrap();
    assert_eq!(classes, ["circle", "square", "triangle"]);
    assert_eq!(sizes(&parts).iter().sum::<usize>(), 600);
    // Names repeat in the classes, so one class's draw is every class's.
    for (size, share) in sizes(&parts).into_iter().zip([0.7_f64, 0.075, 0.075, 0.15]) {
        let (wanted, error) = (600.0 * share, 3.0 * (200.0 * share * (1.0 - share)).sqrt());
        assert!((size as f64 - wanted).abs() < 4.0 * error, "{:?}", sizes(&parts));
    }
    assert_eq!(facts.scaled.as_deref(), Some("4x4 RGB (crop)"));
    assert_eq!(facts.sizes.unwrap().largest, (5, 6));
}

#[test]
fn adding_removing_and_relabelling_moves_no_other_picture() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path(), &["a", "b", "c", "d"], 120);
    let before = places(&read(folder.path(), &options()).unwrap().1);
    for class in ["a", "b", "c", "d"] {
        save(&folder.path().join(class).join("another.png"), 40_000 + u32::from(class.as_bytes()[0]));
        fs::remove_file(folder.path().join(class).join("img_0007.png")).unwrap();
    }
    fs::rename(folder.path().join("a/img_0011.png"), folder.path().join("b/moved.png")).unwrap();
    fs::remove_file(folder.path().join("d/img_0013.png")).unwrap();
    fs::rename(folder.path().join("c/img_0013.png"), folder.path().join("d/img_0013.png")).unwrap();
    let after = places(&read(folder.path(), &options()).unwrap().1);
    let renamed = (11_u8, 0_u8);
    let same = before.iter().filter(|(picture, _)| **picture != renamed);
    let mut compared = 0;
    for (picture, part) in same {
        if let Some(now) = after.get(picture) {
            assert_eq!(now, part, "{picture:?}");
            compared += 1;
        }
    }
    assert!(compared > 450, "{compared}");
    let salted =
        places(&read(folder.path(), &LoadOptions { split_salt: "1".into(), ..options() }).unwrap().1);
    assert_ne!(salted, after);
}

#[test]
fn parts_that_folders_name_are_used() {
    let folder = tempfile::tempdir().unwrap();
    for (part, count) in [("train", 10), ("valid", 8), ("Test", 5)] {
        classes(&folder.path().join(part), &["no", "yes"], count);
    }
    // Classes of one number would be copies of another part's.
    for (part, seed) in [("valid", 5_000), ("Test", 9_000)] {
        for (class, offset) in [("no", 0), ("yes", 500)] {
            for index in 0..10 {
                let path = folder.path().join(part).join(class).join(format!("img_{index:04}.png"));
                if path.exists() {
                    save(&path, seed + offset + index);
                }
            }
        }
    }
    let (classes, parts, _) = read(folder.path(), &options()).unwrap();
    assert_eq!(classes, ["no", "yes"]);
    let [train, search, select, test] = sizes(&parts);
    assert_eq!((train, search + select, test), (20, 16, 10));
    fs::create_dir_all(folder.path().join("more/yes")).unwrap();
    let error = read(folder.path(), &options()).unwrap_err();
    assert!(error.to_string().contains("got more too"), "{error}");
}

#[test]
fn what_systems_leave_behind_is_no_class() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path(), &["a", "b"], 60);
    for odd in [".ipynb_checkpoints/a.png", "__MACOSX/b.png", "a/._img_0001.png"] {
        let path = folder.path().join(odd);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "no picture").unwrap();
    }
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::write(folder.path().join("a/notes.txt"), "no picture").unwrap();
    let listing = listing::list(folder.path()).unwrap();
    assert_eq!(
        (listing.classes.as_slice(), listing.pictures.len()),
        (["a".into(), "b".into()].as_slice(), 120)
    );
    let notes = listing.notes.join("\n");
    for told in ["3 hidden", ".ipynb_checkpoints", "__MACOSX", "1 folders without pictures: empty", "1 .txt"]
    {
        assert!(notes.contains(told), "{told}: {notes}");
    }
    read(folder.path(), &options()).unwrap();
}

#[test]
fn links_are_followed_and_rings_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    classes(folder.path(), &["a", "b"], 60);
    classes(elsewhere.path(), &["c"], 3);
    std::os::unix::fs::symlink(elsewhere.path().join("c"), folder.path().join("c")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("a"), folder.path().join("a/ring")).unwrap();
    std::os::unix::fs::symlink("/no/such/thing", folder.path().join("b/dead.png")).unwrap();
    let listing = listing::list(folder.path()).unwrap();
    assert_eq!((listing.classes.len(), listing.pictures.len()), (3, 123));
    let notes = listing.notes.join("\n");
    assert!(notes.contains("ring (read already)") && notes.contains("dead.png (leads nowhere)"), "{notes}");
}

#[test]
fn names_that_differ_in_case_or_are_not_utf_8_stay_two_and_are_told() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    for (index, name) in [b"Cat".as_slice(), b"cat", b"caf\xe9", b"caf\xe8"].into_iter().enumerate() {
        save(&folder.path().join(OsStr::from_bytes(name)).join("1.png"), index as u32);
    }
    let listing = listing::list(folder.path()).unwrap();
    assert_eq!(listing.classes, ["Cat", "caf\\xe8", "caf\\xe9", "cat"]);
    let notes = listing.notes.join("\n");
    assert!(notes.contains("`Cat` and `cat`") && notes.contains("caf\\xe8, caf\\xe9"), "{notes}");
}

#[test]
fn what_is_no_folder_of_classes_is_told_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    classes(&path("inner/photos"), &["a", "b"], 2);
    classes(&path("single"), &["only"], 2);
    save(&path("flat/1.png"), 1);
    fs::create_dir(path("nothing")).unwrap();
    fs::write(path("photos.zip"), "PK").unwrap();
    fs::write(path("file.png"), "").unwrap();
    for (name, got, hint) in [
        ("inner", "one folder, `photos`", "--data folder:"),
        ("inner/photos/a", "2 pictures and no folders of classes", "inner/photos"),
        ("single", "one class, `only`", "at least two"),
        ("flat", "1 pictures and no folders of classes", "folder of"),
        ("nothing", "no pictures", "folder of its own"),
        ("photos.zip", "an archive", "unpack it"),
        ("file.png", "got a file", "folder that holds"),
    ] {
        let error = listing::list(&path(name)).unwrap_err();
        let told = format!("{error}\n{}", error.hint().unwrap());
        assert!(told.contains(got) && told.contains(hint), "{name}: {told}");
    }
}

#[test]
fn all_bad_pictures_are_listed_and_a_few_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path(), &["a", "b"], 60);
    let bad = [folder.path().join("a/img_0003.png"), folder.path().join("b/img_0005.png")];
    let whole = fs::read(&bad[0]).unwrap();
    fs::write(&bad[0], &whole[..whole.len() / 2]).unwrap();
    fs::write(&bad[1], "").unwrap();
    let error = read(folder.path(), &options()).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("2 of 120") && told.contains("img_0003") && told.contains("img_0005"), "{told}");
    assert!(error.hint().unwrap().contains("--skip-bad"));
    let skipping = LoadOptions { skip_bad: true, ..options() };
    let (_, parts, facts) = read(folder.path(), &skipping).unwrap();
    assert_eq!(facts.skipped, Some(Skipped { pictures: 2, of: 120 }));
    assert_eq!(sizes(&parts).iter().sum::<usize>(), 118);
    for index in 10..16 {
        fs::write(folder.path().join(format!("a/img_{index:04}.png")), "").unwrap();
    }
    let error = read(folder.path(), &skipping).unwrap_err();
    assert!(error.to_string().contains("8 of 120") && error.hint().unwrap().contains("5 %"), "{error}");
}

#[test]
fn a_class_without_pictures_in_a_part_is_told_with_a_salt_that_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path(), &["a"], 60);
    for index in 0..9 {
        save(&folder.path().join(format!("b/rare_{index}.png")), 9_000 + index);
    }
    let mut failing = (0..).map(|it: u32| LoadOptions { split_salt: format!("x{it}"), ..options() });
    let error = failing.find_map(|options| read(folder.path(), &options).err()).unwrap();
    assert!(error.to_string().contains("class `b`") && error.to_string().contains("train"), "{error}");
    let hint = error.hint().unwrap();
    let salt = hint.split_whitespace().skip_while(|word| *word != "--split-salt").nth(1).unwrap();
    read(folder.path(), &LoadOptions { split_salt: salt.into(), ..options() }).unwrap();
    for index in 3..9 {
        fs::remove_file(folder.path().join(format!("b/rare_{index}.png"))).unwrap();
    }
    let error = read(folder.path(), &options()).unwrap_err();
    assert!(error.hint().unwrap().contains("add pictures"), "{:?}", error.hint());
}

#[test]
fn a_copy_of_a_test_picture_in_another_part_is_kept_in_training_alone() {
    let folder = tempfile::tempdir().unwrap();
    classes(folder.path(), &["a", "b"], 60);
    let before = read(folder.path(), &options()).unwrap().1;
    // Copies of everything under other names: many lie in other parts than their originals.
    for index in 0..60 {
        let copy = folder.path().join(format!("a/copy_{index}.png"));
        fs::copy(folder.path().join(format!("a/img_{index:04}.png")), copy).unwrap();
    }
    let (_, parts, facts) = read(folder.path(), &options()).unwrap();
    assert!(facts.duplicates > 5, "{}", facts.duplicates);
    let train = places(&Parts { train: Samples::default(), ..parts });
    for picture in train.keys() {
        assert!(places(&before).contains_key(picture));
    }
    let (_, parts, _) = read(folder.path(), &options()).unwrap();
    let learned: Vec<Vec<u8>> =
        (0..parts.train.len()).map(|index| parts.train.image(index).unwrap().into_owned()).collect();
    for samples in [&parts.validation_search, &parts.validation_select, &parts.test] {
        for index in 0..samples.len() {
            assert!(!learned.contains(&samples.image(index).unwrap().into_owned()));
        }
    }
}

#[test]
fn a_folder_is_dealt_as_it_was_first_dealt() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Forty subjects with three pictures each, in two classes.
    for (class, name) in ["a", "b"].into_iter().enumerate() {
        for index in 0..120_u32 {
            let path = folder.path().join(name).join(format!("s{}x_{}.png", index / 3, index % 3));
            save(&path, class as u32 * 120 + index);
        }
    }
    let kept = LoadOptions { cache: Some(cache.path().into()), ..options() };
    let (_, before, facts) = read(folder.path(), &kept).unwrap();
    assert_eq!(facts.series, Some(Series::Numbered));
    // A camera's counter: by the names of today alone, nothing would be a series any more.
    for index in 0..60 {
        save(&folder.path().join(format!("a/img_{index:04}.png")), 10_000 + index);
    }
    let (_, after, facts) = read(folder.path(), &kept).unwrap();
    assert_eq!(facts.series, Some(Series::Numbered));
    let after = places(&after);
    for (picture, part) in places(&before) {
        assert_eq!(after[&picture], part, "{picture:?}");
    }
    assert_eq!(read(folder.path(), &options()).unwrap().2.series, Some(Series::Off), "without a memory");
    let asked = LoadOptions { series: Series::Off, ..kept.clone() };
    assert_eq!(read(folder.path(), &asked).unwrap().2.series, Some(Series::Off), "who asks gets it");
    // Other pictures in its place are another collection.
    for class in ["a", "b"] {
        fs::remove_dir_all(folder.path().join(class)).unwrap();
    }
    classes(folder.path(), &["a", "b"], 60);
    assert_eq!(read(folder.path(), &kept).unwrap().2.series, Some(Series::Off));
}

#[test]
fn pictures_without_classes_are_read_from_anywhere_below_and_no_tested_one_is_among_them() {
    let (folder, more) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    classes(folder.path(), &["a", "b"], 60);
    let (_, Parts { train, validation_search, validation_select, test }, _) =
        read(folder.path(), &options()).unwrap();
    for index in 0..7 {
        save(&more.path().join(format!("deep/er/{index}.bmp")), 5_000 + index);
    }
    save(&more.path().join("again.png"), 5_000);
    for index in 0..60 {
        // Every labelled picture of a class, in another format.
        save(&more.path().join(format!("copy_{index}.tif")), index);
    }
    fs::write(more.path().join("notes.txt"), "no picture").unwrap();
    let labelled = [&train, &validation_search, &validation_select, &test];
    let found = unlabelled(more.path(), labelled, &options(), &mut |_, _| {}).unwrap();
    assert_eq!((found.len(), found.channels, found.height), (7, 3, 4));
    assert!(found.labels.iter().all(|label| *label == UNLABELLED));
    fs::write(more.path().join("bad.png"), "no picture").unwrap();
    let error = unlabelled(more.path(), labelled, &options(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("1 of 69 pictures cannot be read: bad.png"), "{error}");
    let skipping = LoadOptions { skip_bad: true, ..options() };
    assert_eq!(unlabelled(more.path(), labelled, &skipping, &mut |_, _| {}).unwrap().len(), 7);
    let empty = tempfile::tempdir().unwrap();
    let error = unlabelled(empty.path(), labelled, &options(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("expected a folder with pictures, got none"), "{error}");
}
