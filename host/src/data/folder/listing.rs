//! What lies in a folder: classes, their pictures, the parts that folders name, and what was left out. Opens no picture.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::parts::Given;
use crate::data::error::DataError;
use crate::data::kind::DataKind;
use crate::units;

/// Labels are 16 bits wide, and a reader of 65,536 folders was pointed at the wrong place.
const MAX_CLASSES: usize = 4096;
/// Folders below a class.
const MAX_DEPTH: usize = 8;
/// Files of one class.
const MAX_FILES: usize = 1_000_000;
/// Endings of formats that are read.
const PICTURES: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "webp", "tif", "tiff", "gif"];
/// Endings of archives that people give in place of a folder.
const ARCHIVES: [&str; 8] = ["zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar"];
/// Folders and files that systems leave behind without a dot in front.
const SYSTEMS: [&str; 3] = ["__MACOSX", "Thumbs.db", "desktop.ini"];

/// A picture, unopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path below its class's folder: the same whatever the class is called.
    pub(super) name: String,
    pub(super) label: u16,
    /// The part that its folder names.
    pub(super) given: Option<Given>,
}

/// A whole folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In label order.
    pub(super) classes: Vec<String>,
    pub(super) pictures: Vec<Found>,
    /// Parts that have a folder.
    pub(super) given: Vec<Given>,
    /// What is worth a line each.
    pub(super) notes: Vec<String>,
}

/// What was left out.
#[derive(Default)]
struct Left {
    hidden: Vec<String>,
    /// Files that are no pictures, by ending.
    others: BTreeMap<String, usize>,
    /// Links that lead nowhere or back.
    links: Vec<String>,
    empty: Vec<String>,
}

/// Lists `folder`.
///
/// # Errors
/// It is no folder of folders with pictures; the error says what it is instead and what to write.
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    check(folder)?;
    let mut left = Left::default();
    let (folders, files) = entries(folder, &mut left)?;
    let parts = named_parts(folder, &folders)?;
    let mut listing = Listing::default();
    if parts.is_empty() {
        let classes = classes(&folders, None, &mut left)?;
        one_order(folder, &mut listing, vec![(None, classes)])?;
    } else {
        listing.given = parts.iter().map(|(part, _)| *part).collect();
        let mut read = Vec::new();
        for (part, path) in &parts {
            let (folders, _) = entries(path, &mut left)?;
            read.push((Some(*part), classes(&folders, Some(*part), &mut left)?));
        }
        one_order(folder, &mut listing, read)?;
    }
    if listing.classes.len() < 2 {
        return Err(too_few(folder, &listing.classes, &folders, &files));
    }
    listing.notes.extend(notes(&left, &listing.classes));
    Ok(listing)
}

/// All pictures in and below `folder`, whatever its folders are called, and what is worth a line each.
///
/// # Errors
/// It is no folder, or has no pictures.
pub(super) fn below(folder: &Path) -> Result<(Vec<PathBuf>, Vec<String>), DataError> {
    check(folder)?;
    let mut left = Left::default();
    let mut files = Vec::new();
    walk(folder, MAX_DEPTH, &mut HashSet::new(), &mut files, &mut left)?;
    if files.is_empty() {
        return Err(layout(folder, "a folder with pictures", "none", "give the folder that holds them"));
    }
    Ok((files, notes(&left, &[])))
}

fn layout(path: &Path, expected: &str, got: impl Into<String>, hint: impl Into<String>) -> DataError {
    DataError::Layout { path: path.into(), expected: expected.into(), got: got.into(), hint: hint.into() }
}

const EXPECTED: &str = "a folder with a folder of pictures for each class";

fn check(folder: &Path) -> Result<(), DataError> {
    if folder.is_dir() {
        return Ok(());
    }
    let ending = ending(folder);
    if ARCHIVES.contains(&ending.as_str()) {
        return Err(layout(folder, EXPECTED, "an archive", "unpack it and give the folder that comes out"));
    }
    if folder.exists() {
        return Err(layout(
            folder,
            EXPECTED,
            "a file",
            "give the folder that holds the folders of the classes",
        ));
    }
    Err(DataError::Missing { path: folder.into(), what: EXPECTED, kind: DataKind::Folder })
}

/// `train/ val/ test/`, if that is what the folders are.
fn named_parts(folder: &Path, folders: &[PathBuf]) -> Result<Vec<(Given, PathBuf)>, DataError> {
    let mut parts: Vec<(Given, PathBuf)> = folders
        .iter()
        .filter_map(|path| Some((Given::of(path.file_name()?.to_str()?)?, path.clone())))
        .collect();
    parts.sort();
    if !parts.iter().any(|(part, _)| *part == Given::Train) || parts.len() < 2 {
        // One class may well be called `test`.
        return Ok(Vec::new());
    }
    let listed = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        paths.map(|path| readable(path.file_name().unwrap_or_default())).collect::<Vec<_>>().join(", ")
    };
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(layout(
            folder,
            "one folder for each of train, val and test",
            listed(&mut pair.iter().map(|(_, path)| path)),
            "keep one of them: val, valid and validation are names of the same part",
        ));
    }
    let others: Vec<&PathBuf> =
        folders.iter().filter(|path| !parts.iter().any(|(_, part)| part == *path)).collect();
    if others.is_empty() {
        return Ok(parts);
    }
    Err(layout(
        folder,
        "only train, val and test beside one another, each with a folder for each class",
        format!("{} too", listed(&mut others.into_iter())),
        "move the others away, or rename train, val and test if they are classes",
    ))
}

type Class = (String, Vec<Found>);

/// Folders with pictures, by name.
fn classes(folders: &[PathBuf], given: Option<Given>, left: &mut Left) -> Result<Vec<Class>, DataError> {
    let mut classes = Vec::new();
    for path in folders {
        let mut files = Vec::new();
        let mut seen = HashSet::new();
        walk(path, MAX_DEPTH, &mut seen, &mut files, left)?;
        let name = readable(path.file_name().unwrap_or_default());
        if files.is_empty() {
            left.empty.push(name);
            continue;
        }
        if classes.len() == MAX_CLASSES {
            return Err(limit(path, "classes", MAX_CLASSES));
        }
        let pictures = files
            .into_iter()
            .map(|file| {
                let below = file.strip_prefix(path).unwrap_or(&file);
                Found { name: readable(below.as_os_str()), path: file, label: 0, given }
            })
            .collect();
        classes.push((name, pictures));
    }
    classes.sort_by(|a: &Class, b: &Class| a.0.cmp(&b.0));
    Ok(classes)
}

/// Labels by the classes of the first part, which the others must share.
fn one_order(
    folder: &Path,
    listing: &mut Listing,
    parts: Vec<(Option<Given>, Vec<Class>)>,
) -> Result<(), DataError> {
    for (part, classes) in parts {
        if listing.classes.is_empty() {
            listing.classes = classes.iter().map(|(name, _)| name.clone()).collect();
        }
        for (name, mut pictures) in classes {
            let Some(label) = listing.classes.iter().position(|class| *class == name) else {
                return Err(layout(
                    folder,
                    &format!("the classes of train: {}", units::listed(&listing.classes, 10)),
                    format!("`{name}` in {part:?}").to_lowercase(),
                    "give every part the same folders, or move that one away",
                ));
            };
            for picture in &mut pictures {
                picture.label = label as u16;
            }
            listing.pictures.extend(pictures);
        }
    }
    Ok(())
}

/// Why there are not two classes, and what to write instead.
fn too_few(folder: &Path, classes: &[String], folders: &[PathBuf], files: &[PathBuf]) -> DataError {
    let pictures = files.iter().filter(|file| is_picture(file)).count();
    if let (Some(class), 0) = (classes.first(), pictures) {
        // One folder around the folders of the classes, as archives have it.
        let inner = folders.iter().find(|path| {
            let below = entries(path, &mut Left::default()).map_or(0, |(folders, _)| folders.len());
            below >= 2
        });
        if let Some(inner) = inner {
            return layout(
                folder,
                EXPECTED,
                format!("one folder, `{class}`"),
                format!("its folders look like the classes: write --data folder:{}", inner.display()),
            );
        }
        return layout(
            folder,
            EXPECTED,
            format!("one class, `{class}`"),
            "a classifier needs at least two: add a folder with pictures of what is not in the first",
        );
    }
    let got = match (pictures, classes.len()) {
        (0, 0) => "no pictures".to_owned(),
        (pictures, 0) => format!("{pictures} pictures and no folders of classes"),
        (pictures, _) => format!("{pictures} pictures beside one class"),
    };
    let above = folder.parent().filter(|above| {
        pictures > 0 && entries(above, &mut Left::default()).is_ok_and(|(folders, _)| folders.len() >= 2)
    });
    let hint = match above {
        Some(above) if !above.as_os_str().is_empty() => {
            format!("if this is one class of several, write --data folder:{}", above.display())
        }
        _ => "put the pictures of each class into a folder of its own".to_owned(),
    };
    layout(folder, EXPECTED, got, hint)
}

fn walk(
    folder: &Path,
    depth: usize,
    seen: &mut HashSet<(u64, u64)>,
    files: &mut Vec<PathBuf>,
    left: &mut Left,
) -> Result<(), DataError> {
    let known = fs::metadata(folder).map(|it| (it.dev(), it.ino()));
    if known.is_ok_and(|it| !seen.insert(it)) {
        left.links.push(format!("{} (read already)", folder.display()));
        return Ok(());
    }
    let (folders, found) = entries(folder, left)?;
    for file in found {
        if is_picture(&file) {
            if files.len() == MAX_FILES {
                return Err(limit(folder, "files of one class", MAX_FILES));
            }
            files.push(file);
        } else {
            *left.others.entry(ending(&file)).or_default() += 1;
        }
    }
    for inner in folders {
        if depth == 0 {
            return Err(limit(&inner, "folders inside one another", MAX_DEPTH));
        }
        walk(&inner, depth - 1, seen, files, left)?;
    }
    Ok(())
}

fn limit(path: &Path, what: &'static str, limit: usize) -> DataError {
    DataError::Limit { path: path.into(), what, limit: limit as u64, got: limit as u64 + 1 }
}

/// Folders and files, sorted, links followed; hidden ones are left out.
fn entries(folder: &Path, left: &mut Left) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let io = |source| DataError::Io { path: folder.into(), source };
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") || SYSTEMS.iter().any(|it| name == *it) {
            left.hidden.push(readable(name));
            continue;
        }
        match fs::metadata(&path) {
            Ok(it) if it.is_dir() => folders.push(path),
            Ok(it) if it.is_file() => files.push(path),
            Ok(_) => *left.others.entry("device".into()).or_default() += 1,
            Err(_) => left.links.push(format!("{} (leads nowhere)", path.display())),
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

fn ending(path: &Path) -> String {
    path.extension().map_or_else(String::new, |it| it.to_string_lossy().to_lowercase())
}

fn is_picture(path: &Path) -> bool {
    PICTURES.contains(&ending(path).as_str())
}

/// A name as text: bytes that are none are written out, so that two names stay two.
fn readable(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str("\\x");
            text.push_str(&hex::encode([*byte]));
        }
    }
    text
}

/// Names shown before "and so many more".
const SHOWN: usize = 5;

fn notes(left: &Left, classes: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    let shown = |names: &[String]| units::listed(names, SHOWN);
    if !left.hidden.is_empty() {
        let mut names = left.hidden.clone();
        names.sort();
        names.dedup();
        notes.push(format!("left out {} hidden files and folders: {}", left.hidden.len(), shown(&names)));
    }
    if !left.empty.is_empty() {
        notes.push(format!("left out {} folders without pictures: {}", left.empty.len(), shown(&left.empty)));
    }
    if !left.others.is_empty() {
        let count: usize = left.others.values().sum();
        let endings: Vec<String> = left
            .others
            .iter()
            .map(|(ending, count)| {
                if ending.is_empty() {
                    format!("{count} without an ending")
                } else {
                    format!("{count} .{ending}")
                }
            })
            .collect();
        notes.push(format!("left out {count} files in formats that are not read: {}", shown(&endings)));
    }
    if !left.links.is_empty() {
        notes.push(format!("left out {} links: {}", left.links.len(), shown(&left.links)));
    }
    let alike: Vec<String> = classes
        .iter()
        .enumerate()
        .filter_map(|(index, name)| {
            let other = classes[..index].iter().find(|it| it.to_lowercase() == name.to_lowercase())?;
            Some(format!("`{other}` and `{name}`"))
        })
        .collect();
    if !alike.is_empty() {
        notes.push(format!("two classes whose names differ only in case: {}", shown(&alike)));
    }
    let odd: Vec<String> = classes.iter().filter(|name| name.contains("\\x")).cloned().collect();
    if !odd.is_empty() {
        notes
            .push(format!("names of classes that are not UTF-8 are shown with their bytes: {}", shown(&odd)));
    }
    notes
}
