//! Files that hold a secret: one rule for the agent's keys, the host's book of boards and its signing key.
//!
//! A secret is read only from a regular file that its owner alone can read, in a folder that others cannot write to: a
//! key that everybody could read or exchange protects nothing, and its owner must hear of it. It is written whole
//! (temporary file, fsync, rename) and private from the first byte on. This crate must not know what the secrets mean.

mod error;
mod permissions;

pub use error::SecretError;
pub use permissions::check_folder;

use permissions::check_file;
use rustix::fs::OFlags;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Mode of a secret file.
const FILE_MODE: u32 = 0o600;

/// Mode of a folder of secrets.
const FOLDER_MODE: u32 = 0o700;

/// The text in a secret file of at most `most` bytes. Never waits: a pipe without a writer is an error at once.
///
/// # Errors
/// [`SecretError`]: [`SecretError::Missing`] when there is no file, [`SecretError::Exposed`] when others can read it or
/// write to its folder.
pub fn read(path: &Path, most: u64) -> Result<String, SecretError> {
    let system = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => SecretError::Missing(path.to_owned()),
        _ => SecretError::System { path: path.to_owned(), error },
    };
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(system)?;
    // The opened file is looked at, not its name: nobody can exchange it in between.
    check_file(path, &file.metadata().map_err(system)?)?;
    check_folder(folder_of(path))?;
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text).map_err(system)?;
    if text.len() as u64 > most {
        return Err(SecretError::TooLong { path: path.to_owned(), most });
    }
    String::from_utf8(text).map_err(|_| SecretError::NotText(path.to_owned()))
}

/// Write a secret file whole; it replaces one that is there. Missing folders are made, for its owner only.
///
/// # Errors
/// The system's, with the path. An old file is then still there.
pub fn write(path: &Path, text: &str) -> Result<(), SecretError> {
    let system = |error| SecretError::System { path: path.to_owned(), error };
    let folder = folder_of(path);
    make_folder(folder)?;
    let write = || -> io::Result<()> {
        let private = Permissions::from_mode(FILE_MODE);
        let mut fresh =
            tempfile::Builder::new().prefix(".secret-").permissions(private).tempfile_in(folder)?;
        fresh.write_all(text.as_bytes())?;
        fresh.as_file().sync_all()?;
        fresh.persist(path).map_err(|error| error.error)?;
        // Without this the new name itself may be lost with the power.
        File::open(folder)?.sync_all()
    };
    write().map_err(system)
}

/// Make a folder for secrets, and those above it, unless it is there.
///
/// # Errors
/// The system's, with the path.
pub fn make_folder(folder: &Path) -> Result<(), SecretError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    made.map_err(|error| SecretError::System { path: folder.to_owned(), error })
}

/// Where a file lies. `Path::parent` of a bare name is the empty path.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_is_written_private_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/key");
        assert!(read(&path, 10).unwrap_err().is_missing());
        write(&path, "first").unwrap();
        write(&path, "second").unwrap();
        assert_eq!(read(&path, 10).unwrap(), "second");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(matches!(read(&path, 5), Err(SecretError::TooLong { most: 5, .. })));
    }

    #[test]
    fn what_others_can_read_or_exchange_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, "secret").unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o666] {
            chmod(&path, mode);
            let error = read(&path, 10).unwrap_err();
            assert!(error.to_string().contains(&format!("{mode:o}")), "{error}");
            assert_eq!(error.hint(), Some(format!("chmod 600 {}", path.display())));
        }
        chmod(&path, 0o400);
        assert_eq!(read(&path, 10).unwrap(), "secret");
        chmod(folder.path(), 0o777);
        let error = read(&path, 10).unwrap_err();
        assert_eq!(error.hint(), Some(format!("chmod go-w {}", folder.path().display())));
        chmod(folder.path(), 0o755);
        assert!(read(&path, 10).is_ok());
    }

    #[test]
    fn a_pipe_a_folder_and_a_device_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/null"), Path::new("/dev/zero")] {
            let error = read(path, 10).unwrap_err();
            assert!(matches!(error, SecretError::NotAFile(_)), "{}: {error}", path.display());
        }
    }
}
