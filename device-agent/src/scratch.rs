//! A guest's own folder: an agent that does not own the data folder keeps its blobs here and forgets them.
//!
//! A killed guest cannot tidy up, so whoever comes next removes the folders whose guests are gone. Each has a lock that
//! its guest holds.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Folder of the guests in the data folder.
const GUESTS: &str = "guests";
/// Suffix of a folder's lock, beside it.
const LOCK: &str = "lock";

/// A folder that is gone when this is dropped, or when the next agent starts.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// `None` in the system's temporary folder, which tidies itself.
    lock: Option<(File, PathBuf)>,
}

impl Scratch {
    /// A fresh folder: in the data folder, or where that takes none, in the system's temporary folder.
    ///
    /// # Errors
    /// When neither takes it.
    pub fn new(data: &Path) -> io::Result<Self> {
        Self::beside(&data.join(GUESTS)).or_else(|error| {
            tracing::warn!(%error, "the data folder takes no guest; the system's temporary folder does");
            Ok(Self { folder: tempfile::Builder::new().prefix("n2n-agent-").tempdir()?, lock: None })
        })
    }

    fn beside(guests: &Path) -> io::Result<Self> {
        fs::create_dir_all(guests)?;
        loop {
            let folder = tempfile::Builder::new().prefix("guest-").tempdir_in(guests)?;
            let path = folder.path().with_extension(LOCK);
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            file.lock()?;
            // Between making and locking it, somebody who tidies may have taken it for one that was left.
            if is_still(&file, &path) && folder.path().is_dir() {
                return Ok(Self { folder, lock: Some((file, path)) });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Remove what killed guests left in a data folder.
    pub fn tidy(data: &Path) {
        let Ok(entries) = fs::read_dir(data.join(GUESTS)) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|it| it == LOCK) {
                let Ok(file) = File::open(&path) else { continue };
                if file.try_lock().is_ok() {
                    let _ = fs::remove_dir_all(path.with_extension(""));
                    let _ = fs::remove_file(&path);
                }
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.lock {
            let _ = fs::remove_dir_all(self.folder.path());
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a path still names this file.
fn is_still(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (one, other) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_killed_guests_are_removed_and_those_of_living_ones_are_not() {
        let data = tempfile::tempdir().unwrap();
        let alive = Scratch::new(data.path()).unwrap();
        let killed = Scratch::new(data.path()).unwrap();
        fs::write(killed.path().join("blob"), "512 MB").unwrap();
        // A killed process drops nothing, but its locks are gone.
        let (left, lock) = (killed.path().to_owned(), killed.lock.as_ref().unwrap().0.try_clone().unwrap());
        std::mem::forget(killed);
        Scratch::tidy(data.path());
        assert!(left.exists(), "its guest may be alive");
        lock.unlock().unwrap();
        Scratch::tidy(data.path());
        assert!(!left.exists() && alive.path().exists());
        drop(alive);
        assert_eq!(fs::read_dir(data.path().join(GUESTS)).unwrap().count(), 0);
    }

    #[test]
    fn a_data_folder_that_takes_nothing_is_no_hindrance() {
        let elsewhere = Scratch::new(Path::new("/proc/nowhere")).unwrap();
        fs::write(elsewhere.path().join("blob"), "").unwrap();
    }
}
