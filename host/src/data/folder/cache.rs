//! Decoded pictures on disk, so that 12 megapixels are decoded once and a set may be larger than memory.
//!
//! An index in JSON names the file of pixels and says of each picture what its file was like; it is replaced whole, after the
//! pixels, so a cut-off run leaves the old pair. A damaged or foreign index is as good as none.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::picture::{Form, scaled};
use crate::data::error::DataError;
use crate::data::source;

/// Version of the index and of what decoding gives.
const SCHEMA: u32 = 1;
/// Pictures decoded between two writes: enough for all threads, little memory.
const AT_ONCE: usize = 128;
/// One compressed picture.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What a picture's file was like, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    bytes: u64,
    modified_ns: u128,
    /// SHA-256 of the file.
    pub(super) digest: [u8; 32],
    pub(super) picture: Result<Kept, String>,
}

/// A picture among the pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Counted in pictures.
    pub(super) place: u32,
    /// Width and height of the upright original.
    pub(super) original: (u32, u32),
}

#[derive(Serialize, Deserialize)]
struct Index {
    schema: u32,
    /// Name of the file of pixels, beside the index.
    pixels: String,
    entries: HashMap<PathBuf, Entry>,
}

/// All pictures that were asked for.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) file: Arc<File>,
    /// In the order that was asked for.
    pub(super) entries: Vec<Entry>,
}

/// Decodes pictures, or finds them decoded in `cache`; without one into a file that is gone with the program. Tells how many
/// are done.
///
/// # Errors
/// The cache cannot be written. A picture that cannot be read is in its [`Entry`].
pub(super) fn decoded(
    pictures: &[&Path],
    folder: &Path,
    form: Form,
    cache: Option<&Path>,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Decoded, DataError> {
    let io = |source| DataError::Io { path: cache.unwrap_or(folder).into(), source };
    let index_path = cache.map(|cache| cache.join(format!("{}.json", name(folder, form))));
    if let Some(cache) = cache {
        fs::create_dir_all(cache).map_err(io)?;
    }
    let known = index_path.as_deref().and_then(|path| open(path, form)).unwrap_or_default();
    let states: Vec<Option<(u64, u128)>> = pictures.par_iter().map(|path| state(path)).collect();
    let fresh = |index: usize| {
        let entry = known.entries.get(pictures[index])?;
        (Some((entry.bytes, entry.modified_ns)) == states[index]).then_some(entry)
    };
    if let Some(file) = &known.file {
        let all: Option<Vec<Entry>> = (0..pictures.len()).map(|index| fresh(index).cloned()).collect();
        if let Some(entries) = all {
            return Ok(Decoded { file: Arc::clone(file), entries });
        }
    }
    let (mut writer, pixels) = new_file(cache).map_err(io)?;
    let mut entries = Vec::with_capacity(pictures.len());
    let mut place = 0;
    for start in (0..pictures.len()).step_by(AT_ONCE) {
        let chunk = start..pictures.len().min(start + AT_ONCE);
        let done: Vec<(Entry, Vec<u8>)> = chunk
            .into_par_iter()
            .map(|index| {
                if let (Some(entry), Some(file)) = (fresh(index), &known.file) {
                    return again(entry, file, form);
                }
                Ok(read(pictures[index], states[index].unwrap_or_default(), form))
            })
            .collect::<io::Result<_>>()
            .map_err(io)?;
        for (mut entry, planes) in done {
            if let Ok(kept) = &mut entry.picture {
                kept.place = place;
                place += 1;
                writer.write_all(&planes).map_err(io)?;
            }
            entries.push(entry);
        }
        tell(entries.len() as u64, pictures.len() as u64);
    }
    let file = writer.into_inner().map_err(|error| io(error.into_error()))?;
    if let (Some(index_path), Some(pixels)) = (&index_path, &pixels) {
        file.sync_data().map_err(io)?;
        let named = pictures.iter().map(|path| path.to_path_buf()).zip(entries.iter().cloned()).collect();
        let name = pixels.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let index = Index { schema: SCHEMA, pixels: name, entries: named };
        let text = serde_json::to_vec(&index).map_err(|error| io(error.into()))?;
        replace(index_path, &text).map_err(io)?;
        // Whoever reads the old pixels holds them open.
        if let Some(old) = known.pixels {
            let _ = fs::remove_file(old);
        }
    }
    let file = match &pixels {
        Some(path) => File::open(path).map_err(io)?,
        None => file,
    };
    Ok(Decoded { file: Arc::new(file), entries })
}

/// What is known from an earlier time.
#[derive(Default)]
struct Known {
    file: Option<Arc<File>>,
    pixels: Option<PathBuf>,
    entries: HashMap<PathBuf, Entry>,
}

fn open(path: &Path, form: Form) -> Option<Known> {
    let index: Index = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    // A name, never a path: the index is a file that anybody may have written.
    let plain = index.pixels.ends_with(PIXELS) && !index.pixels.contains('/');
    if index.schema != SCHEMA || !plain {
        return None;
    }
    let pixels = path.with_file_name(&index.pixels);
    let file = File::open(&pixels).ok()?;
    let pictures = file.metadata().ok()?.len() / form.bytes() as u64;
    let whole = index
        .entries
        .values()
        .filter_map(|it| it.picture.as_ref().ok())
        .all(|it| u64::from(it.place) < pictures);
    whole.then(|| Known { file: Some(Arc::new(file)), pixels: Some(pixels), entries: index.entries })
}

const PIXELS: &str = ".pixels";

fn new_file(cache: Option<&Path>) -> io::Result<(BufWriter<File>, Option<PathBuf>)> {
    match cache {
        None => Ok((BufWriter::new(tempfile::tempfile()?), None)),
        Some(cache) => {
            let (file, path) =
                tempfile::Builder::new().prefix("").suffix(PIXELS).tempfile_in(cache)?.keep()?;
            Ok((BufWriter::new(file), Some(path)))
        }
    }
}

/// Whole or not at all.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(text)?;
    file.as_file().sync_data()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// The name of a folder's cache: by where the folder is and what its pictures are made into.
fn name(folder: &Path, form: Form) -> String {
    let Form { height, width, channels, fit } = form;
    place(folder, &format!("{height}x{width}x{channels} {fit} {SCHEMA}"))
}

/// A name for what is kept about a folder: by where the folder is, and what it is that is kept.
pub(super) fn place(folder: &Path, what: &str) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let digest = Sha256::digest([folder.as_os_str().as_encoded_bytes(), b"\0", what.as_bytes()].concat());
    hex::encode(&digest[..16])
}

fn state(path: &Path) -> Option<(u64, u128)> {
    let it = fs::metadata(path).ok()?;
    Some((it.size(), it.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos()))
}

/// A picture that is already decoded.
fn again(entry: &Entry, file: &File, form: Form) -> io::Result<(Entry, Vec<u8>)> {
    let Ok(kept) = &entry.picture else { return Ok((entry.clone(), Vec::new())) };
    let mut planes = vec![0; form.bytes()];
    file.read_exact_at(&mut planes, u64::from(kept.place) * form.bytes() as u64)?;
    Ok((entry.clone(), planes))
}

fn read(path: &Path, (bytes, modified_ns): (u64, u128), form: Form) -> (Entry, Vec<u8>) {
    let content = File::open(path).map_err(|error| error.to_string()).and_then(|mut file| {
        source::at_most(&mut file, MAX_FILE_BYTES, path, "bytes of a picture").map_err(|error| match error {
            DataError::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    });
    let digest = content.as_ref().map_or([0; 32], |content| Sha256::digest(content).into());
    let picture = content.and_then(|content| scaled(&content, form));
    match picture {
        Ok(it) => {
            let kept = Kept { place: 0, original: it.original };
            (Entry { bytes, modified_ns, digest, picture: Ok(kept) }, it.planes)
        }
        Err(reason) => (Entry { bytes, modified_ns, digest, picture: Err(reason) }, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::folder::picture::tests::encoded;
    use crate::scaling::Fit;
    use image::{ImageFormat, Rgb, RgbImage};

    const FORM: Form = Form { height: 2, width: 2, channels: 3, fit: Fit::Squash };

    fn picture(folder: &Path, name: &str, value: u8) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, encoded(RgbImage::from_pixel(3, 3, Rgb([value; 3])), ImageFormat::Png)).unwrap();
        path
    }

    /// First byte of each picture, and how often decoding was told of.
    fn first(paths: &[PathBuf], folder: &Path, cache: Option<&Path>) -> (Vec<Option<u8>>, usize) {
        let mut told = 0;
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let got = decoded(&paths, folder, FORM, cache, &mut |_, _| told += 1).unwrap();
        let byte = |entry: &Entry| {
            let mut byte = [0];
            let kept = entry.picture.as_ref().ok()?;
            got.file.read_exact_at(&mut byte, u64::from(kept.place) * 12).unwrap();
            Some(byte[0])
        };
        (got.entries.iter().map(byte).collect(), told)
    }

    #[test]
    fn pictures_are_decoded_once_and_again_when_they_change() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut paths = vec![picture(folder.path(), "a.png", 10), picture(folder.path(), "b.png", 20)];
        let bad = folder.path().join("bad.png");
        fs::write(&bad, "no picture").unwrap();
        paths.push(bad);
        let run = |paths: &[PathBuf]| first(paths, folder.path(), Some(cache.path()));
        assert_eq!(run(&paths), (vec![Some(10), Some(20), None], 1));
        assert_eq!(run(&paths), (vec![Some(10), Some(20), None], 0), "found decoded");
        paths.push(picture(folder.path(), "c.png", 30));
        picture(folder.path(), "b.png", 25);
        fs::File::open(&paths[1])
            .unwrap()
            .set_modified(UNIX_EPOCH + std::time::Duration::from_secs(5))
            .unwrap();
        assert_eq!(run(&paths), (vec![Some(10), Some(25), None, Some(30)], 1));
        let files = || fs::read_dir(cache.path()).unwrap().count();
        assert_eq!(files(), 2, "an index and its pixels");
        for entry in fs::read_dir(cache.path()).unwrap() {
            fs::write(entry.unwrap().path(), "damaged").unwrap();
        }
        assert_eq!(run(&paths).0, [Some(10), Some(25), None, Some(30)]);
        assert_eq!(first(&paths, folder.path(), None).0, [Some(10), Some(25), None, Some(30)]);
    }
}
