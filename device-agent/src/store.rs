//! Blobs by their digest: what the host puts here once is measured, inferred with and staged from.
//!
//! A blob arrives in pieces into a partial file, which survives a cut link, a killed agent and a power cut; it gets its
//! name only after its digest was verified and its bytes are on the medium. What an earlier agent left is verified again
//! before its first use; what is damaged is removed, so that the host's next put replaces it.
//! Names come from digests alone: no path crosses the wire. What is known about the files stands in `index`, which is
//! locked for memory operations only: a disk that stalls holds up whoever uses the blob in question, and nobody else.
//! Every call but [`Store::room`] may block. It must not know what a blob means.

mod index;

use crate::medium::{self, RESERVE_BYTES, always, disk_failure, is_full, sync_folder};
use index::{Blob, Index};
use n2n_protocol::{Digest, Disk, Failure, limits};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Room for blobs, whole and partial, bytes: the largest file that may be sent, and beside it thousands of candidates of some
/// kilobytes. A disk that has less keeps its reserve.
pub const QUOTA_BYTES: u64 = limits::BLOB_BYTES + (512 << 20);
/// Last part of a partial file's name, after the digest and the whole length.
const PARTIAL: &str = "part";

/// A folder of blobs, shared. One agent owns it at a time.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    quota_bytes: u64,
    reserve_bytes: u64,
    index: Mutex<Index>,
    /// Signalled when a blob's turn ends.
    ended: Condvar,
}

/// A blob that stays while this lives.
#[derive(Debug)]
pub struct Pinned {
    digest: Digest,
    /// Which of several blobs of this name, one after the other.
    born: u64,
    path: PathBuf,
    store: Store,
}

impl Pinned {
    /// Where the blob lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.store.0.lock().unpin(&self.digest, self.born);
    }
}

/// The right to change the files of one blob; ends when dropped.
struct Turn<'a> {
    inner: &'a Inner,
    digest: Digest,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.lock().end_turn(&self.digest);
        self.inner.ended.notify_all();
    }
}

impl Store {
    /// The store in a folder, which is made if need be. Files that are none of ours are left alone and not counted.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::with_bounds(folder, QUOTA_BYTES, RESERVE_BYTES)
    }

    fn with_bounds(folder: &Path, quota_bytes: u64, reserve_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let index = Mutex::new(Index::new(found(folder)?));
        Ok(Self(Arc::new(Inner {
            folder: folder.into(),
            quota_bytes,
            reserve_bytes,
            index,
            ended: Condvar::new(),
        })))
    }

    /// How many bytes of a blob of `bytes` bytes are here; room for the rest is made.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a length that is not taken, or when there is no room: everything else is in use, or the
    /// disk is full.
    pub fn query(&self, digest: &Digest, bytes: u64) -> Result<u64, Failure> {
        let inner = &*self.0;
        let most = limits::BLOB_BYTES.min(inner.quota_bytes);
        if bytes == 0 || bytes > most {
            return Err(Failure::Refused(format!("a blob of {bytes} bytes: expected 1 to {most}")));
        }
        let _turn = inner.turn(digest);
        inner.verify(digest)?;
        match inner.known(digest) {
            Some(blob) if blob.is_whole() && blob.whole != bytes => {
                return Err(Failure::Refused(format!("blob {digest} has {} bytes, not {bytes}", blob.whole)));
            }
            Some(blob) if blob.whole == bytes => {
                touch(&inner.path_of(digest, &blob));
                inner.lock().used(digest);
                return Ok(blob.present);
            }
            Some(_) => inner.remove(digest)?,
            None => {}
        }
        inner.make_room(bytes, 1)?;
        let blob = Blob::announced(bytes);
        File::create(inner.path_of(digest, &blob)).map_err(disk_failure)?;
        inner.lock().insert(*digest, blob);
        Ok(0)
    }

    /// Write a piece of a blob that was queried before; answers the length that is here now. The last piece is accepted
    /// only if the digest holds; otherwise all of it is thrown away. So is a blob for the rest of which there is no room.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a piece out of order or too long, [`Failure::Failed`] for a wrong digest or a full disk.
    pub fn put_chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        let inner = &*self.0;
        let _turn = inner.turn(digest);
        let Some(blob) = inner.known(digest) else {
            return Err(Failure::Refused(format!(
                "blob {digest} is not expected: it was not announced by a query, or gave way to others; query it"
            )));
        };
        let end = offset.saturating_add(data.len() as u64);
        if end > blob.whole {
            let whole = blob.whole;
            return Err(Failure::Refused(format!("blob {digest} has {whole} bytes, a piece ends at {end}")));
        }
        if blob.is_whole() {
            return Ok(blob.whole);
        }
        if offset > blob.present {
            let present = blob.present;
            return Err(Failure::Refused(format!("blob {digest}: expected offset {present}, got {offset}")));
        }
        let present = match inner.write(digest, &blob, offset, data) {
            Ok(present) => present,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                inner.remove(digest)?;
                return Err(Failure::Refused(format!("the file of blob {digest} is gone: query it again")));
            }
            Err(error) if is_full(&error) => {
                // What cannot be finished must not keep the disk full.
                inner.remove(digest)?;
                return Err(Failure::Failed(format!(
                    "no room for the rest of blob {digest}, {} of {} bytes: {error}; what was here of it is removed",
                    blob.present, blob.whole
                )));
            }
            Err(error) => return Err(disk_failure(error)),
        };
        inner.lock().grown(digest, present);
        if present == blob.whole {
            inner.complete(digest, &blob)?;
        }
        Ok(present)
    }

    /// A whole blob, which stays until the answer is dropped; `None` if it is not here. One that was not used since the
    /// agent started is verified first: one that is damaged is not here any more.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the disk cannot be read.
    pub fn pin(&self, digest: &Digest) -> Result<Option<Pinned>, Failure> {
        let inner = &*self.0;
        let pinned = |blob: &Blob| Pinned {
            digest: *digest,
            born: blob.born,
            path: inner.path_of(digest, blob),
            store: self.clone(),
        };
        if let Some(blob) = inner.lock().pin(digest) {
            return Ok(Some(pinned(&blob)));
        }
        let _turn = inner.turn(digest);
        inner.verify(digest)?;
        Ok(inner.lock().pin(digest).map(|blob| pinned(&blob)))
    }

    /// Whether all of a blob is here.
    pub fn is_whole(&self, digest: &Digest) -> bool {
        self.0.known(digest).is_some_and(|blob| blob.is_whole())
    }

    /// Forget a blob whose bytes turned out not to be what its name says.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the disk does not let it go.
    pub fn discard(&self, digest: &Digest) -> Result<(), Failure> {
        let _turn = self.0.turn(digest);
        self.0.remove(digest)
    }

    /// Make sure that the disk has room for so many bytes beside the reserve; blobs that are not in use give way.
    ///
    /// # Errors
    /// [`Failure::Refused`] when there is none.
    pub fn make_room(&self, bytes: u64) -> Result<(), Failure> {
        self.0.make_room_on_disk(bytes)
    }

    /// Room on the disk.
    pub fn room(&self) -> Disk {
        let unknown = Disk { free_bytes: 0, reserve_bytes: self.0.reserve_bytes };
        medium::room(&self.0.folder)
            .map_or(unknown, |room| Disk { reserve_bytes: self.0.reserve_bytes, ..room })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Index> {
        // The index is whole after every single change, so a panic elsewhere does not spoil it.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait for the turn at one blob's files.
    fn turn(&self, digest: &Digest) -> Turn<'_> {
        let index = self.lock();
        let mut index = self
            .ended
            .wait_while(index, |index| index.has_turn(digest))
            .unwrap_or_else(PoisonError::into_inner);
        index.begin_turn(*digest);
        Turn { inner: self, digest: *digest }
    }

    fn known(&self, digest: &Digest) -> Option<Blob> {
        self.lock().get(digest)
    }

    fn path_of(&self, digest: &Digest, blob: &Blob) -> PathBuf {
        let whole = blob.whole;
        self.folder.join(if blob.is_whole() {
            digest.to_string()
        } else {
            format!("{digest}.{whole}.{PARTIAL}")
        })
    }

    /// Look at a whole blob's bytes, once since the agent started. One that is damaged or gone is removed.
    fn verify(&self, digest: &Digest) -> Result<(), Failure> {
        let Some(blob) = self.known(digest).filter(|blob| blob.is_whole() && !blob.verified) else {
            return Ok(());
        };
        match medium::read_back(&self.path_of(digest, &blob), &always) {
            Ok((found, _)) if found == *digest => {
                self.lock().verified(digest);
                Ok(())
            }
            Ok((found, bytes)) => {
                tracing::warn!(%digest, %found, bytes, "a blob is damaged and removed; it has to be put again");
                self.remove(digest)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.remove(digest),
            Err(error) => Err(disk_failure(error)),
        }
    }

    /// Write a piece, while there is room beside the reserve.
    fn write(&self, digest: &Digest, blob: &Blob, offset: u64, data: &[u8]) -> io::Result<u64> {
        let free_bytes = medium::room(&self.folder)?.free_bytes;
        if free_bytes < self.reserve_bytes.saturating_add(data.len() as u64) {
            let reserve_bytes = self.reserve_bytes;
            let why = format!("the disk has {free_bytes} bytes left, {reserve_bytes} stay free");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let mut file = OpenOptions::new().write(true).open(self.path_of(digest, blob))?;
        // An offset before the end is a piece sent again after its answer was lost.
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(data)?;
        Ok(blob.present.max(offset + data.len() as u64))
    }

    /// Verify and name a partial file that has all of its bytes.
    fn complete(&self, digest: &Digest, blob: &Blob) -> Result<(), Failure> {
        let path = self.path_of(digest, blob);
        let mut file = File::open(&path).map_err(disk_failure)?;
        let found = medium::digest_of(&mut file, &always).map_err(disk_failure)?;
        if found != *digest {
            self.remove(digest)?;
            return Err(Failure::Failed(format!("blob {digest} arrived with digest {found}: send it again")));
        }
        let named = file
            .sync_all()
            .and_then(|()| fs::rename(&path, self.folder.join(digest.to_string())))
            .and_then(|()| sync_folder(&self.folder));
        match named {
            Ok(()) => {
                self.lock().completed(digest);
                Ok(())
            }
            Err(error) => {
                self.remove(digest)?;
                Err(disk_failure(error))
            }
        }
    }

    /// Remove a blob, whole or partial, by whoever has its turn.
    fn remove(&self, digest: &Digest) -> Result<(), Failure> {
        let Some(blob) = self.lock().remove(digest) else { return Ok(()) };
        match fs::remove_file(self.path_of(digest, &blob)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk_failure(error)),
            _ => Ok(()),
        }
    }

    /// Evict what was used longest ago until a blob of so many bytes fits, but nothing that is in use.
    fn make_room(&self, bytes: u64, files: usize) -> Result<(), Failure> {
        while !self.lock().fits(bytes, files, self.quota_bytes) {
            if !self.evict()? {
                let taken = self.lock().taken();
                return Err(Failure::Refused(format!(
                    "no room for a blob of {bytes} bytes: {taken} of {} are in use",
                    self.quota_bytes
                )));
            }
        }
        self.make_room_on_disk(bytes)
    }

    fn make_room_on_disk(&self, bytes: u64) -> Result<(), Failure> {
        loop {
            let free_bytes = medium::room(&self.folder).map_err(disk_failure)?.free_bytes;
            if free_bytes >= bytes.saturating_add(self.reserve_bytes) {
                return Ok(());
            }
            if !self.evict()? {
                return Err(Failure::Refused(format!(
                    "no room for {bytes} bytes: the board's disk has {free_bytes} bytes left, {} stay free",
                    self.reserve_bytes
                )));
            }
        }
    }

    /// Remove the blob that was used longest ago; whether there was one.
    fn evict(&self) -> Result<bool, Failure> {
        let Some((digest, blob)) = self.lock().evict() else { return Ok(false) };
        // Whoever wants this blob waits until its file is gone.
        let _turn = Turn { inner: self, digest };
        match fs::remove_file(self.path_of(&digest, &blob)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk_failure(error)),
            _ => Ok(true),
        }
    }
}

/// The blobs in a folder, used longest ago first.
fn found(folder: &Path) -> io::Result<Vec<(Digest, Blob)>> {
    let mut blobs = Vec::new();
    for file in fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        let Some((digest, whole)) = name.to_str().and_then(parse_name) else { continue };
        let metadata = file.metadata()?;
        if metadata.is_file() {
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            blobs.push((used, digest, Blob::found(metadata.len(), whole)));
        }
    }
    blobs.sort_by_key(|(used, ..)| *used);
    Ok(blobs.into_iter().map(|(_, digest, blob)| (digest, blob)).collect())
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

/// Mark as used just now. If the disk does not take it, the blob is only evicted earlier.
fn touch(path: &Path) {
    if let Ok(file) = OpenOptions::new().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests;
