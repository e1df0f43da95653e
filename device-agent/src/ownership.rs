//! One agent owns a data folder at a time: two that both tidy its slots would roll back each other's trials.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// File that the owner keeps locked, with its process id; the system unlocks it when a process ends, however it ends.
const LOCK_FILE: &str = "owner.lock";
/// What is read of it, bytes: a process id.
const ID_BYTES: u64 = 32;

/// For an earlier agent to leave: after a host was killed its agent needs a moment to notice.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two tries.
const LOOK: Duration = Duration::from_millis(50);

/// Whose a data folder is.
#[derive(Debug)]
pub enum Claim {
    /// Ours.
    Owned(Ownership),
    /// Another agent's, with its process id where that can be read.
    Taken(Option<u32>),
}

/// The right to change a data folder; ends when dropped.
#[derive(Debug)]
pub struct Ownership {
    #[expect(dead_code, reason = "held for its lock")]
    lock: Option<File>,
    /// Whether the folder takes changes at all.
    pub is_writable: bool,
}

impl Claim {
    /// Claim a data folder, and wait a little for an earlier agent to leave. A folder that cannot be written to belongs to
    /// whoever asks, to read.
    pub fn on(data: &Path) -> Self {
        Self::within(data, PATIENCE)
    }

    fn within(data: &Path, patience: Duration) -> Self {
        let path = data.join(LOCK_FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let is_writable = opened.is_ok();
        let file = match opened.or_else(|_| File::open(&path)) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the data folder cannot be claimed");
                return Self::Owned(Ownership { lock: None, is_writable });
            }
        };
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Self::Taken(id_in(file).ok());
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(%error, path = %path.display(), "the file system knows no locks");
                    break;
                }
            }
        }
        // Always as long, in place: a full disk takes it too. It is for people only.
        let _ = file.write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0);
        Self::Owned(Ownership { lock: Some(file), is_writable })
    }
}

fn id_in(file: File) -> io::Result<u32> {
    let mut text = String::new();
    file.take(ID_BYTES).read_to_string(&mut text)?;
    text.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_who_is_known_and_the_next_waits_for_its_leaving() {
        let folder = tempfile::tempdir().unwrap();
        let first = Claim::on(folder.path());
        assert!(matches!(&first, Claim::Owned(it) if it.is_writable));
        let second = Claim::within(folder.path(), Duration::ZERO);
        assert!(matches!(second, Claim::Taken(id) if id == Some(std::process::id())));
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        assert!(matches!(Claim::on(folder.path()), Claim::Owned(_)));
        leaving.join().unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_still_somebodys() {
        let nowhere = Claim::on(Path::new("/nonexistent/folder"));
        assert!(matches!(nowhere, Claim::Owned(it) if !it.is_writable));
    }
}
