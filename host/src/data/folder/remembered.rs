//! How `--series auto` dealt a folder the first time: later pictures must not change it, since that would move the others.
//!
//! A small file beside the decoded pictures, named by the folder's place. Whoever deletes it gets a fresh decision; a teacher
//! carries its own in its file.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache;
use crate::data::series::Series;

/// Names by which a folder is known again: where most of them are gone, other pictures are in its place.
const NAMES: usize = 32;

/// A decision, and some of the names that it was made about.
#[derive(Serialize, Deserialize)]
struct Remembered {
    series: Series,
    names: Vec<String>,
}

/// What was decided about `folder` when it held most of these pictures; `None` for the first time.
pub(super) fn series(cache: &Path, folder: &Path, names: &[String]) -> Option<Series> {
    let it: Remembered = serde_json::from_slice(&fs::read(path(cache, folder)).ok()?).ok()?;
    let here: HashSet<&String> = names.iter().collect();
    let still = it.names.iter().filter(|name| here.contains(name)).count();
    (2 * still > it.names.len() && it.series != Series::Auto).then_some(it.series)
}

/// Keeps a decision about a folder that holds these pictures.
///
/// # Errors
/// The system's.
pub(super) fn keep(cache: &Path, folder: &Path, names: &[String], series: &Series) -> std::io::Result<()> {
    let names = names.iter().step_by(names.len().div_ceil(NAMES).max(1)).cloned().collect();
    let text = serde_json::to_vec(&Remembered { series: series.clone(), names })?;
    fs::create_dir_all(cache)?;
    cache::replace(&path(cache, folder), &text)
}

fn path(cache: &Path, folder: &Path) -> PathBuf {
    cache.join(format!("{}.series", cache::place(folder, "series")))
}
