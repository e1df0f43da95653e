//! A folder of pictures without classes: what a student may learn from by its teacher's answers alone.

use std::collections::HashSet;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::cache::{self, Decoded};
use super::listing;
use super::load::{fits, left_out, pixels, tell_all};
use super::picture::Form;
use crate::data::error::DataError;
use crate::data::options::LoadOptions;
use crate::data::samples::{Samples, UNLABELLED};

/// All pictures in and below `folder`, scaled as `labelled` are, without those that are among `labelled`: what a student is
/// tested on must not be learned from. `tell` hears how many pictures of how many are decoded.
///
/// # Errors
/// No pictures, pictures that cannot be read, images of other than one or three channels.
pub(in crate::data) fn load(
    folder: &Path,
    labelled: [&Samples; 4],
    options: &LoadOptions,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Samples, DataError> {
    let io = |source| DataError::Io { path: folder.into(), source };
    let Samples { channels, height, width, .. } = *labelled[0];
    if ![1, 3].contains(&channels) {
        return Err(DataError::Layout {
            path: folder.into(),
            expected: format!("images of {channels} channels, as the data set has"),
            got: "pictures, which have 1 or 3".into(),
            hint: "leave out --unlabelled".into(),
        });
    }
    let form = Form { height: height as u32, width: width as u32, channels, fit: options.fit };
    let (paths, notes) = listing::below(folder)?;
    tell_all(&notes);
    let Decoded { file, entries } = {
        let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
        cache::decoded(&paths, folder, form, options.cache.as_deref(), tell)?
    };
    left_out(folder, &paths, &entries, options.skip_bad)?;
    let places: Vec<u32> =
        entries.iter().filter_map(|entry| Some(entry.picture.as_ref().ok()?.place)).collect();
    let in_memory = fits(places.len(), form);
    let found = Samples {
        labels: vec![UNLABELLED; places.len()],
        pixels: pixels(&file, places, form, in_memory, folder)?,
        channels,
        height,
        width,
    };
    let digest = |image: &[u8]| -> [u8; 32] { Sha256::digest(image).into() };
    let mut known = HashSet::new();
    for samples in labelled {
        for index in 0..samples.len() {
            known.insert(digest(&samples.image(index).map_err(io)?));
        }
    }
    let mut fresh = Vec::with_capacity(found.len());
    for index in 0..found.len() {
        if known.insert(digest(&found.image(index).map_err(io)?)) {
            fresh.push(index);
        }
    }
    let copies = found.len() - fresh.len();
    if copies > 0 {
        tracing::warn!("left out {copies} of {} unlabelled pictures: copies of others", found.len());
    }
    Ok(found.select(&fresh))
}
