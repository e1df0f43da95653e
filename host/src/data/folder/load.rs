//! From a folder's files to images in parts: list, deal by name, decode, leave out, settle copies.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::{self, Decoded, Entry, Kept};
use super::duplicates;
use super::listing::{self, Found, Listing};
use super::parts::{Deal, Given, PARTS, counts, empty};
use super::picture::Form;
use super::remembered;
use crate::data::error::DataError;
use crate::data::facts::{Facts, Sizes, Skipped};
use crate::data::options::LoadOptions;
use crate::data::pixels::Pixels;
use crate::data::samples::Samples;
use crate::data::series::{self, Series};
use crate::data::source::MAX_PART_BYTES;
use crate::data::split::Parts;
use crate::memory::free_memory;
use crate::units;

/// Largest share of pictures that `--skip-bad` leaves out.
const MOST_BAD: f64 = 0.05;
/// Share of the free memory that a set may take; a larger one is read from the cache, picture by picture.
const MEMORY_SHARE: u64 = 4;
/// Duplicates named in a line.
const SHOWN: usize = 5;

/// Reads, scales and deals a folder. `tell` hears how many pictures of how many are decoded.
pub(in crate::data) fn load(
    folder: &Path,
    options: &LoadOptions,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<(Vec<String>, Parts, Facts), DataError> {
    let Listing { classes, mut pictures, given, notes } = listing::list(folder)?;
    let names: Vec<String> = pictures.iter().map(|picture| picture.name.clone()).collect();
    let series::Keys { by_picture: mut keys, resolved, told } = keys(folder, &names, options);
    tell_all(&notes);
    tell_all(&told);
    let deal = Deal::new(&options.split_salt, given.clone());
    let mut dealt: Vec<usize> =
        keys.iter().zip(&pictures).map(|(key, picture)| deal.part(key, picture.given)).collect();
    full(folder, &classes, &pictures, &keys, &dealt, &deal)?;
    let mut facts = Facts {
        series: Some(resolved),
        split_salt: options.split_salt.clone(),
        scaled: Some(scaled_words(options)),
        fit: Some(options.fit),
        ..Facts::default()
    };
    if let (Series::Auto, Some(cache), Some(resolved)) = (&options.series, &options.cache, &facts.series)
        && let Err(error) = remembered::keep(cache, folder, &names, resolved)
    {
        tracing::warn!("{}: how the pictures were dealt cannot be kept: {error}", cache.display());
    }
    tracing::info!("{}", overview(&classes, &pictures, &dealt, &facts));

    let form = Form {
        height: options.image_size.0,
        width: options.image_size.1,
        channels: options.channels,
        fit: options.fit,
    };
    let Decoded { file, entries } = {
        let paths: Vec<&Path> = pictures.iter().map(|picture| picture.path.as_path()).collect();
        cache::decoded(&paths, folder, form, options.cache.as_deref(), tell)?
    };
    let all = pictures.len();
    let paths: Vec<PathBuf> = pictures.iter().map(|picture| picture.path.clone()).collect();
    facts.skipped = left_out(folder, &paths, &entries, options.skip_bad)?;
    let mut kept: Vec<Kept> = Vec::with_capacity(all);
    let mut digests = Vec::with_capacity(all);
    let mut keep = entries.iter().map(|entry| entry.picture.is_ok());
    pictures.retain(|_| keep.next().unwrap_or(false));
    let mut keep = entries.iter().map(|entry| entry.picture.is_ok());
    keys.retain(|_| keep.next().unwrap_or(false));
    let mut keep = entries.iter().map(|entry| entry.picture.is_ok());
    dealt.retain(|_| keep.next().unwrap_or(false));
    for entry in entries {
        if let Ok(picture) = entry.picture {
            kept.push(picture);
            digests.push(entry.digest);
        }
    }

    let labels: Vec<u16> = pictures.iter().map(|picture| picture.label).collect();
    let out = duplicates::settle(&digests, &labels, &mut dealt);
    tell_duplicates(&out, &pictures, &classes);
    facts.duplicates = out.dropped.len();
    let taken: Vec<usize> = (0..pictures.len()).filter(|index| !out.dropped.contains(index)).collect();
    full(folder, &classes, &pictures, &keys, &dealt, &deal)?;
    if facts.skipped.is_some() || out.moved > 0 || !out.dropped.is_empty() {
        let pictures: Vec<Found> = taken.iter().map(|&index| pictures[index].clone()).collect();
        let dealt: Vec<usize> = taken.iter().map(|&index| dealt[index]).collect();
        tracing::info!("{}", overview(&classes, &pictures, &dealt, &facts));
    }
    facts.sizes = Sizes::of(taken.iter().map(|&index| kept[index].original));

    let in_memory = fits(taken.len(), form);
    let samples = |part: usize| {
        let members: Vec<usize> = taken.iter().copied().filter(|&index| dealt[index] == part).collect();
        let places = members.iter().map(|&index| kept[index].place).collect();
        Ok(Samples {
            channels: form.channels,
            height: form.height as usize,
            width: form.width as usize,
            pixels: pixels(&file, places, form, in_memory, folder)?,
            labels: members.iter().map(|&index| labels[index]).collect(),
        })
    };
    let parts = Parts {
        train: samples(0)?,
        validation_search: samples(1)?,
        validation_select: samples(2)?,
        test: samples(3)?,
    };
    Ok((classes, parts, facts))
}

/// Names by which pictures are dealt. What `auto` means is decided once for a folder, as it was when it was first read.
fn keys(folder: &Path, names: &[String], options: &LoadOptions) -> series::Keys {
    let known = options.cache.as_deref().filter(|_| options.series == Series::Auto);
    let Some(first) = known.and_then(|cache| remembered::series(cache, folder, names)) else {
        return series::keys(names, &options.series);
    };
    let now = series::keys(names, &Series::Auto).resolved;
    let keys = series::keys(names, &first);
    if now == first {
        return keys;
    }
    let told = format!(
        "{}; by its names of today this folder would be dealt anew, which would move pictures between parts: it stays as it \
         was first dealt, and --series {now} changes it",
        keys.told.unwrap_or_else(|| format!("series: {first}"))
    );
    series::Keys { told: Some(told), ..keys }
}

/// Pictures that cannot be read: an error that names them all, or a warning where a few are to be left out.
pub(super) fn left_out(
    folder: &Path,
    paths: &[PathBuf],
    entries: &[Entry],
    skip: bool,
) -> Result<Option<Skipped>, DataError> {
    let bad = paths.iter().zip(entries);
    let bad: Vec<(PathBuf, String)> =
        bad.filter_map(|(path, entry)| Some((path.clone(), entry.picture.as_ref().err()?.clone()))).collect();
    let all = paths.len();
    if bad.is_empty() {
        return Ok(None);
    }
    if !skip || bad.len() as f64 > MOST_BAD * all as f64 {
        return Err(DataError::Bad { path: folder.into(), pictures: all, files: bad, skip });
    }
    let share = units::percent(bad.len() as f64 / all as f64);
    let names: Vec<String> = bad.iter().map(|(path, _)| path.display().to_string()).collect();
    tracing::warn!("left out {} of {all} pictures ({share}): {}", bad.len(), units::listed(&names, SHOWN));
    Ok(Some(Skipped { pictures: bad.len(), of: all }))
}

/// Whether so many pictures, of all parts together, may lie in memory.
pub(super) fn fits(pictures: usize, form: Form) -> bool {
    pictures as u64 * form.bytes() as u64 <= (free_memory() / MEMORY_SHARE).min(MAX_PART_BYTES)
}

/// Decoded pictures at these places: in memory, or they stay in their file.
pub(super) fn pixels(
    file: &Arc<File>,
    places: Vec<u32>,
    form: Form,
    in_memory: bool,
    folder: &Path,
) -> Result<Pixels, DataError> {
    let stored = Pixels::stored(Arc::clone(file), places, form.bytes());
    if !in_memory {
        return Ok(stored);
    }
    let io = |source| DataError::Io { path: folder.into(), source };
    Ok(stored.bytes().map_err(io)?.into_owned().into())
}

/// What a folder holds, by names alone.
pub(in crate::data) fn look(folder: &Path) -> Result<String, DataError> {
    let Listing { classes, pictures, given, .. } = listing::list(folder)?;
    let parts = if given.is_empty() { "" } else { ", in parts of their own" };
    Ok(format!("{} classes, {} pictures{parts}", classes.len(), pictures.len()))
}

pub(super) fn tell_all<'a>(notes: impl IntoIterator<Item = &'a String>) {
    notes.into_iter().for_each(|note| tracing::warn!("{note}"));
}

fn scaled_words(options: &LoadOptions) -> String {
    let (height, width) = options.image_size;
    let colours = if options.channels == 1 { "grey" } else { "RGB" };
    format!("{height}x{width} {colours} ({})", options.fit)
}

fn overview(classes: &[String], pictures: &[Found], dealt: &[usize], facts: &Facts) -> String {
    let counts = counts(dealt.iter().copied().zip(pictures.iter().map(|it| it.label)), classes.len());
    let by_class: Vec<usize> = counts.iter().map(|parts| parts.iter().sum()).collect();
    let parts: [usize; PARTS] = std::array::from_fn(|part| counts.iter().map(|it| it[part]).sum());
    crate::data::facts::overview(classes, &by_class, parts, facts.scaled.as_deref())
}

/// Refuses a class that is left without pictures in a part.
fn full(
    folder: &Path,
    classes: &[String],
    pictures: &[Found],
    keys: &[String],
    dealt: &[usize],
    deal: &Deal,
) -> Result<(), DataError> {
    let counts = counts(dealt.iter().copied().zip(pictures.iter().map(|it| it.label)), classes.len());
    let Some((class, part)) = empty(&counts) else { return Ok(()) };
    let named: Vec<(&str, Option<Given>, u16)> =
        keys.iter().zip(pictures).map(|(key, it)| (key.as_str(), it.given, it.label)).collect();
    Err(DataError::EmptyPart {
        path: folder.into(),
        class: classes[class].clone(),
        part,
        counts: counts[class],
        salt: deal.better_salt(&named, classes.len()),
    })
}

fn tell_duplicates(out: &duplicates::Settled, pictures: &[Found], classes: &[String]) {
    let pair = |&(one, other): &(usize, usize)| {
        format!("{} = {}", pictures[one].path.display(), pictures[other].path.display())
    };
    if !out.across.is_empty() {
        let pairs: Vec<String> = out.across.iter().map(pair).collect();
        tracing::warn!(
            "{} exact duplicates lay in two parts and are kept in training alone: {}",
            pairs.len(),
            units::listed(&pairs, SHOWN)
        );
    }
    if !out.contradictions.is_empty() {
        let pairs: Vec<String> = out
            .contradictions
            .iter()
            .map(|it| {
                let class = |index: usize| &classes[usize::from(pictures[index].label)];
                format!("{} (`{}` and `{}`)", pair(it), class(it.0), class(it.1))
            })
            .collect();
        tracing::warn!("{} pictures are in two classes: {}", pairs.len(), units::listed(&pairs, SHOWN));
    }
}
