//! Bytes on the medium: copied, hashed and read back in pieces, names made to last, room counted.
//!
//! What store and slots share. Everything here may block for as long as a slow disk likes, so it is called from blocking
//! threads only; whoever is not needed any more is asked between two pieces and stops.

use n2n_protocol::{Digest, Disk, Failure};
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes moved between two looks at whether they are still wanted: some milliseconds of a slow flash card.
const PIECE_BYTES: usize = 256 << 10;

/// Room that uploads and new students leave free, bytes: state, locks, logs and a student's facts are kilobytes, and a
/// file system that copies on write needs blocks even to change a file in place.
pub(crate) const RESERVE_BYTES: u64 = 8 << 20;

/// Whether work is still wanted.
pub(crate) type Wanted<'a> = &'a dyn Fn() -> bool;

/// For work that nobody takes back.
pub(crate) fn always() -> bool {
    true
}

/// What the system said of the disk, for the host.
#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
pub(crate) fn disk_failure(error: io::Error) -> Failure {
    Failure::Failed(format!("the board's disk: {error}"))
}

/// The digest of what follows in a file.
///
/// # Errors
/// As for reading; [`io::ErrorKind::Interrupted`] when it is no longer wanted.
pub(crate) fn digest_of(from: &mut impl Read, wanted: Wanted<'_>) -> io::Result<Digest> {
    copied(from, &mut io::sink(), wanted).map(|(digest, _)| digest)
}

/// Copy what follows in a file; digest and length of what was copied.
///
/// # Errors
/// As for reading and writing; [`io::ErrorKind::Interrupted`] when it is no longer wanted.
pub(crate) fn copied(
    from: &mut impl Read,
    to: &mut impl Write,
    wanted: Wanted<'_>,
) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        if !wanted() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "not wanted any more"));
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest(hash.finalize().into()), bytes)),
            Ok(read) => {
                hash.update(&buffer[..read]);
                to.write_all(&buffer[..read])?;
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest and length of a file as the medium has it: pages that are synced are dropped first. Without the right to do
/// so, the cache answers.
///
/// # Errors
/// As [`digest_of`].
pub(crate) fn read_back(path: &Path, wanted: Wanted<'_>) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    copied(&mut file, &mut io::sink(), wanted)
}

/// Make names in a folder last: a rename is on the medium only after this.
///
/// # Errors
/// As for syncing.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Room on the disk of a folder.
///
/// # Errors
/// When the folder cannot be asked.
pub(crate) fn room(folder: &Path) -> io::Result<Disk> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(Disk { free_bytes: found.f_bavail.saturating_mul(found.f_frsize), reserve_bytes: RESERVE_BYTES })
}

/// Whether a disk has no room, or this user none on it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_what_it_copied_and_stops_when_it_is_not_wanted() {
        let mut copy = Vec::new();
        let (digest, bytes) = copied(&mut &b"abc"[..], &mut copy, &always).unwrap();
        assert_eq!((digest, bytes, copy.as_slice()), (Digest::of(b"abc"), 3, &b"abc"[..]));
        let looks = std::cell::Cell::new(0);
        let wanted = || {
            looks.set(looks.get() + 1);
            looks.get() < 3
        };
        let error = digest_of(&mut io::repeat(1), &wanted).unwrap_err();
        assert_eq!((error.kind(), looks.get()), (io::ErrorKind::Interrupted, 3));
    }

    #[test]
    fn a_disk_tells_its_room() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room(folder.path()).unwrap().free_bytes > 0);
        assert!(room(&folder.path().join("none")).is_err());
    }
}
