//! One agent owns a data folder at a time: two that both tidy its slots would roll back each other's trials.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// File that the owner keeps locked; the system unlocks it when a process ends, however it ends.
const LOCK_FILE: &str = "owner.lock";

/// For an earlier agent to leave: after a host was killed its agent needs a moment to notice.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two tries.
const LOOK: Duration = Duration::from_millis(50);

/// The right to change a data folder; ends when dropped.
#[derive(Debug)]
pub struct Ownership(#[expect(dead_code, reason = "held for its lock")] File);

impl Ownership {
    /// Own a data folder; `None` if another agent goes on owning it.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn of(data: &Path) -> io::Result<Option<Self>> {
        Self::within(data, PATIENCE)
    }

    fn within(data: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(data.join(LOCK_FILE))?;
        let deadline = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_and_the_next_waits_for_its_leaving() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ownership::of(folder.path()).unwrap().unwrap();
        assert!(Ownership::within(folder.path(), Duration::ZERO).unwrap().is_none());
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        assert!(Ownership::of(folder.path()).unwrap().is_some());
        leaving.join().unwrap();
        assert!(Ownership::of(Path::new("/nonexistent/folder")).is_err());
    }
}
