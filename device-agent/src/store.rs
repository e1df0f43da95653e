//! Blobs by their digest: what the host puts here once is measured, inferred with and staged from.
//!
//! A blob arrives in pieces into a partial file, which survives a cut link, a killed agent and a power cut; it gets its
//! name only after its digest was verified and its bytes are on the medium. So whatever has a blob's name is that blob.
//! Names come from digests alone: no path crosses the wire. It must not know what a blob means.

use n2n_protocol::{Digest, Failure, limits};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Room for blobs, whole and partial, bytes: candidates are some kilobytes, so this keeps thousands of them beside a few
/// trained files, and a 4 GB flash keeps most of itself.
pub const QUOTA_BYTES: u64 = 512 << 20;
/// Most files, whole and partial: a flood of tiny blobs must not use up the file system's inodes.
const MAX_FILES: usize = 20_000;
/// Bytes hashed at a time.
const HASH_BUFFER_BYTES: usize = 64 << 10;
/// Last part of a partial file's name, after the digest and the whole length.
const PARTIAL: &str = "part";

/// A folder of blobs. One agent owns it at a time.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    quota_bytes: u64,
    /// Held while files change, so that calls do not cross.
    state: Arc<Mutex<State>>,
}

/// What is known beside the files; a restart forgets it without harm.
#[derive(Debug, Default)]
struct State {
    /// Blobs in use, and by how many.
    pins: HashMap<Digest, usize>,
    /// Whole length of the blobs that were queried and are not whole yet.
    announced: HashMap<Digest, u64>,
}

/// A blob that stays while this lives.
#[derive(Debug)]
pub struct Pinned {
    digest: Digest,
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Pinned {
    /// Where the blob lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some(count) = state.pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.digest);
            }
        }
    }
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    digest: Digest,
    path: PathBuf,
    /// Bytes that are there.
    present: u64,
    /// Bytes of the whole blob.
    whole: u64,
    partial: bool,
    used: SystemTime,
}

impl Store {
    /// The store in a folder, which is made if need be. Files that are none of ours are left alone and not counted.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::with_quota(folder, QUOTA_BYTES)
    }

    fn with_quota(folder: &Path, quota_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::read_dir(folder)?;
        Ok(Self { folder: folder.into(), quota_bytes, state: Arc::default() })
    }

    /// How many bytes of a blob of `bytes` bytes are here; room for the rest is made.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a length that is not taken, or when everything else here is in use.
    pub fn query(&self, digest: &Digest, bytes: u64) -> Result<u64, Failure> {
        let most = limits::BLOB_BYTES.min(self.quota_bytes);
        if bytes == 0 || bytes > most {
            return Err(Failure::Refused(format!("a blob of {bytes} bytes: expected 1 to {most}")));
        }
        let mut state = lock(&self.state);
        let entries = self.entries().map_err(disk)?;
        if let Some(entry) = entries.iter().find(|entry| entry.digest == *digest && !entry.partial) {
            if entry.whole != bytes {
                return Err(Failure::Refused(format!(
                    "blob {digest} has {} bytes, not {bytes}",
                    entry.whole
                )));
            }
            touch(&entry.path);
            return Ok(bytes);
        }
        if state.announced.len() >= MAX_FILES {
            state.announced.clear();
        }
        state.announced.insert(*digest, bytes);
        for other in entries.iter().filter(|entry| entry.digest == *digest && entry.whole != bytes) {
            fs::remove_file(&other.path).map_err(disk)?;
        }
        if let Some(entry) = entries.iter().find(|entry| entry.digest == *digest && entry.whole == bytes) {
            touch(&entry.path);
            return Ok(entry.present.min(bytes));
        }
        make_room(entries, digest, bytes, self.quota_bytes, &state.pins)?;
        File::create(self.partial_path(digest, bytes)).map_err(disk)?;
        Ok(0)
    }

    /// Write a piece of a blob that was queried before; answers the length that is here now. The last piece is accepted
    /// only if the digest holds; otherwise all of it is thrown away.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a piece out of order or too long, [`Failure::Failed`] for a wrong digest or a full disk.
    pub fn put_chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        let mut state = lock(&self.state);
        let whole_path = self.folder.join(digest.to_string());
        let (path, whole, partial) = match (state.announced.get(digest), fs::metadata(&whole_path)) {
            (_, Ok(metadata)) => (whole_path, metadata.len(), false),
            (Some(&bytes), Err(_)) => (self.partial_path(digest, bytes), bytes, true),
            (None, Err(_)) => {
                return Err(Failure::Refused(format!("blob {digest} was not announced by a query")));
            }
        };
        let end = offset.saturating_add(data.len() as u64);
        if end > whole {
            return Err(Failure::Refused(format!("blob {digest} has {whole} bytes, a piece ends at {end}")));
        }
        if !partial {
            return Ok(whole);
        }
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::Refused(format!("blob {digest} gave way to others: query it again")));
            }
            opened => opened.map_err(disk)?,
        };
        let present = file.metadata().map_err(disk)?.len();
        if offset > present {
            return Err(Failure::Refused(format!("blob {digest}: expected offset {present}, got {offset}")));
        }
        // An offset before the end is a piece sent again after its answer was lost.
        file.seek(SeekFrom::Start(offset)).map_err(disk)?;
        file.write_all(data).map_err(disk)?;
        let present = present.max(end);
        if present == whole {
            state.announced.remove(digest);
            self.complete(digest, &mut file, &path)?;
        }
        Ok(present)
    }

    /// Where a whole blob lies; `None` if it is not here. Using it makes it the last to be evicted.
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        let _turn = lock(&self.state);
        self.present(digest)
    }

    /// The same, and it stays until the answer is dropped.
    pub fn pin(&self, digest: &Digest) -> Option<Pinned> {
        let mut state = lock(&self.state);
        let path = self.present(digest)?;
        *state.pins.entry(*digest).or_default() += 1;
        Some(Pinned { digest: *digest, path, state: Arc::clone(&self.state) })
    }

    fn present(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.folder.join(digest.to_string());
        path.is_file().then(|| {
            touch(&path);
            path
        })
    }

    /// Verify and name a partial file that has all of its bytes.
    fn complete(&self, digest: &Digest, file: &mut File, path: &Path) -> Result<(), Failure> {
        file.seek(SeekFrom::Start(0)).map_err(disk)?;
        let found = digest_of(file).map_err(disk)?;
        if found != *digest {
            fs::remove_file(path).map_err(disk)?;
            return Err(Failure::Failed(format!("blob {digest} arrived with digest {found}: send it again")));
        }
        file.sync_all().map_err(disk)?;
        fs::rename(path, self.folder.join(digest.to_string())).map_err(disk)?;
        sync_folder(&self.folder).map_err(disk)
    }

    fn partial_path(&self, digest: &Digest, bytes: u64) -> PathBuf {
        self.folder.join(format!("{digest}.{bytes}.{PARTIAL}"))
    }

    /// The files of the store as they are on disk: nothing is remembered that a kill could make untrue.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            let metadata = file.metadata()?;
            let name = file.file_name();
            let Some((digest, whole)) = name.to_str().and_then(parse_name) else { continue };
            if !metadata.is_file() {
                continue;
            }
            entries.push(Entry {
                digest,
                path: file.path(),
                present: metadata.len(),
                whole: whole.unwrap_or(metadata.len()),
                partial: whole.is_some(),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        Ok(entries)
    }
}

/// `<digest>` or `<digest>.<whole length>.part`.
fn parse_name(name: &str) -> Option<(Digest, Option<u64>)> {
    let mut parts = name.split('.');
    let digest = parts.next()?.parse().ok()?;
    match (parts.next(), parts.next(), parts.next()) {
        (None, None, None) => Some((digest, None)),
        (Some(bytes), Some(PARTIAL), None) => Some((digest, Some(bytes.parse().ok()?))),
        _ => None,
    }
}

/// Evict what was used longest ago until `bytes` more fit, but nothing that is pinned.
fn make_room(
    mut entries: Vec<Entry>,
    digest: &Digest,
    bytes: u64,
    quota_bytes: u64,
    pins: &HashMap<Digest, usize>,
) -> Result<(), Failure> {
    let mut taken: u64 = entries.iter().map(|entry| entry.whole.max(entry.present)).sum();
    let mut files = entries.len();
    entries.retain(|entry| entry.digest != *digest && !pins.contains_key(&entry.digest));
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    while taken.saturating_add(bytes) > quota_bytes || files >= MAX_FILES {
        let Some(oldest) = entries.pop() else {
            return Err(Failure::Refused(format!(
                "no room for a blob of {bytes} bytes: {taken} of {quota_bytes} are in use"
            )));
        };
        fs::remove_file(&oldest.path).map_err(disk)?;
        taken -= oldest.whole.max(oldest.present);
        files -= 1;
    }
    Ok(())
}

/// The digest of what follows in a file.
pub(crate) fn digest_of(from: &mut impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Make names in a folder last: a rename is on the medium only after this.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Mark as used just now. If the disk does not take it, the blob is only evicted earlier.
fn touch(path: &Path) {
    if let Ok(file) = OpenOptions::new().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The map is whole after every single change, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn disk(error: io::Error) -> Failure {
    Failure::Failed(format!("the board's disk: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn store(quota_bytes: u64) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::with_quota(folder.path(), quota_bytes).unwrap();
        (folder, store)
    }

    fn put(store: &Store, blob: &[u8]) -> Digest {
        let digest = Digest::of(blob);
        assert_eq!(store.query(&digest, blob.len() as u64), Ok(0));
        assert_eq!(store.put_chunk(&digest, 0, blob), Ok(blob.len() as u64));
        digest
    }

    /// Pretend that a blob was last used so many seconds ago.
    fn age(store: &Store, digest: &Digest, seconds: u64) {
        let file = OpenOptions::new().append(true).open(store.folder.join(digest.to_string())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn a_transfer_goes_on_after_the_agent_died() {
        let (folder, first) = store(1000);
        let blob = b"hello, board";
        let digest = Digest::of(blob);
        assert_eq!(first.query(&digest, 12), Ok(0));
        assert_eq!(first.put_chunk(&digest, 0, &blob[..5]), Ok(5));
        assert_eq!(first.path(&digest), None);
        drop(first);

        let second = Store::open(folder.path()).unwrap();
        assert_eq!(second.query(&digest, 12), Ok(5));
        assert_eq!(second.put_chunk(&digest, 3, &blob[3..8]), Ok(8), "a piece sent again");
        assert_eq!(second.put_chunk(&digest, 8, &blob[8..]), Ok(12));
        assert_eq!(fs::read(second.path(&digest).unwrap()).unwrap(), blob);
        assert_eq!(second.query(&digest, 12), Ok(12));
        assert_eq!(second.put_chunk(&digest, 8, &blob[8..]), Ok(12), "the last piece sent again");
    }

    #[test]
    fn pieces_out_of_order_are_refused() {
        let (_folder, store) = store(1000);
        let digest = Digest::of(b"abcdef");
        let refused = |result: Result<u64, Failure>| match result {
            Err(Failure::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(refused(store.put_chunk(&digest, 0, b"abc")).contains("not announced"));
        store.query(&digest, 6).unwrap();
        assert!(refused(store.put_chunk(&digest, 2, b"c")).contains("expected offset 0, got 2"));
        assert!(refused(store.put_chunk(&digest, 0, b"abcdefg")).contains("ends at 7"));
        assert!(refused(store.put_chunk(&digest, u64::MAX, b"a")).contains("ends at"));
        assert!(refused(store.query(&digest, 0)).contains("expected 1 to"));
        assert!(refused(store.query(&digest, 1001)).contains("expected 1 to 1000"));
    }

    #[test]
    fn wrong_bytes_never_get_the_name() {
        let (_folder, store) = store(1000);
        let digest = Digest::of(b"abcdef");
        store.query(&digest, 6).unwrap();
        let result = store.put_chunk(&digest, 0, b"abcdeX");
        assert!(matches!(result, Err(Failure::Failed(why)) if why.contains("arrived with digest")));
        assert_eq!(store.path(&digest), None);
        assert_eq!(store.query(&digest, 6), Ok(0), "it starts again");
        assert_eq!(put(&store, b"xyz"), Digest::of(b"xyz"));
        let other_length = store.query(&Digest::of(b"xyz"), 4);
        assert!(matches!(other_length, Err(Failure::Refused(why)) if why.contains("has 3 bytes, not 4")));
    }

    #[test]
    fn the_oldest_goes_first_and_pinned_blobs_stay() {
        let (_folder, store) = store(10);
        let (old, middle, new) = (put(&store, b"old"), put(&store, b"mid"), put(&store, b"new"));
        for (digest, seconds) in [(&old, 30), (&middle, 20), (&new, 10)] {
            age(&store, digest, seconds);
        }
        let pin = store.pin(&old).unwrap();
        age(&store, &old, 30);
        let more = put(&store, b"more");
        assert!(store.path(&middle).is_none() && store.path(&old).is_some() && store.path(&new).is_some());
        assert_eq!(fs::read(pin.path()).unwrap(), b"old");

        let no_room = store.query(&Digest::of(b"12345678"), 8);
        assert!(matches!(no_room, Err(Failure::Refused(why)) if why.contains("no room")));
        drop(pin);
        assert_eq!(store.query(&Digest::of(b"12345678"), 8), Ok(0));
        assert!(store.path(&more).is_none() && store.path(&old).is_none());
    }

    #[test]
    fn strange_files_are_left_alone() {
        let (folder, store) = store(10);
        fs::write(folder.path().join("notes.txt"), "a user's notes, longer than the quota").unwrap();
        fs::write(folder.path().join(format!("{}.x.part", Digest::of(b"a"))), "").unwrap();
        put(&store, b"blob");
        assert!(folder.path().join("notes.txt").exists());
    }

    proptest! {
        #[test]
        fn any_sequence_of_calls_keeps_the_quota_and_the_names(
            calls in prop::collection::vec((0_u8..6, 0_u64..12, prop::collection::vec(any::<u8>(), 0..6)), 1..40)
        ) {
            let (folder, store) = store(16);
            let blobs: Vec<Vec<u8>> = (1..7).map(|n| (0..n).collect()).collect();
            for (which, offset, garbage) in calls {
                let blob = &blobs[usize::from(which)];
                let digest = Digest::of(blob);
                let _ = store.query(&digest, blob.len() as u64);
                let _ = store.put_chunk(&digest, offset, &garbage);
                let from = usize::try_from(offset).unwrap().min(blob.len());
                let _ = store.put_chunk(&digest, from as u64, &blob[from..]);
            }
            let mut bytes = 0;
            for entry in store.entries().unwrap() {
                bytes += entry.whole;
                if !entry.partial {
                    prop_assert_eq!(Digest::of(&fs::read(&entry.path).unwrap()), entry.digest);
                }
            }
            prop_assert!(bytes <= 16);
            drop(folder);
        }
    }
}
