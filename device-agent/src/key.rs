//! The board's key on disk: made once, readable by its owner only.

use anyhow::{Context as _, Result, bail};
use n2n_protocol::key::Key;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// File name inside the data folder.
const FILE: &str = "key";

/// What is read of a key file, bytes: 64 digits, a line end, and some blanks.
const FILE_BYTES: u64 = 256;

/// Where a data folder keeps its key.
pub fn file_in(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Make a key and keep it in `file`; an old one is replaced only on `replace`.
///
/// # Errors
/// When there is a key already, or the file cannot be written.
pub fn make(file: &Path, replace: bool) -> Result<Key> {
    if file.exists() && !replace {
        bail!(
            "{} holds a key already\nhint: hosts know this board by it; --replace makes another one",
            file.display()
        );
    }
    let key = Key::generate()?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(folder)?;
        // Readable by its owner only, from the first byte on; renamed, so that a crash leaves the old key or the new one.
        let mut fresh = NamedTempFile::new_in(folder)?;
        writeln!(fresh, "{}", key.reveal())?;
        fresh.as_file().sync_all()?;
        fresh.persist(file).map_err(io::Error::from)
    };
    write().with_context(|| format!("writing {}", file.display()))?;
    Ok(key)
}

/// The key in `file`.
///
/// # Errors
/// When there is none, with the command that makes one.
pub fn read(file: &Path) -> Result<Key> {
    let mut text = String::new();
    fs::File::open(file)
        .and_then(|open| open.take(FILE_BYTES).read_to_string(&mut text))
        .with_context(|| format!("no key in {}\nhint: `n2n-agent key` makes one", file.display()))?;
    text.parse().with_context(|| format!("the key in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_kept_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(&folder.path().join("deeper"));
        assert!(read(&file).unwrap_err().to_string().contains("hint: `n2n-agent key`"));
        let key = make(&file, false).unwrap();
        assert_eq!(read(&file).unwrap(), key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(make(&file, false).is_err());
        assert_ne!(make(&file, true).unwrap(), key);
        fs::write(&file, "short").unwrap();
        assert!(read(&file).is_err());
    }
}
