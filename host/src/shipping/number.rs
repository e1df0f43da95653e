//! The number of the next bundle: seconds since 1970, and always above the last one of this user.
//!
//! Boards take no lower number than they have seen, so an old bundle that somebody recorded cannot be brought back. The
//! last number stands in a file, for a clock may be set back.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::model_io::atomic_file;

/// The next number, kept in this file.
///
/// # Errors
/// When the file cannot be read or written; a damaged one counts as none.
pub fn next_number(file: &Path) -> io::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    next_after(file, now)
}

fn next_after(file: &Path, now: u64) -> io::Result<u64> {
    let last: u64 = match std::fs::read(file) {
        Ok(text) => String::from_utf8_lossy(&text).trim().parse().unwrap_or(0),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let next = now.max(last.saturating_add(1));
    atomic_file::write(file, format!("{next}\n").as_bytes())?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_whatever_the_clock_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bundle.number");
        assert_eq!(next_after(&file, 100).unwrap(), 100);
        assert_eq!(next_after(&file, 100).unwrap(), 101, "twice in a second");
        assert_eq!(next_after(&file, 50).unwrap(), 102, "a clock that was set back");
        std::fs::write(&file, "torn").unwrap();
        assert!(next_number(&file).unwrap() > 1_700_000_000);
    }
}
