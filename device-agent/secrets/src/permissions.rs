//! Who else can read or exchange a file. Looks at what the system says; must not change it.

use crate::error::SecretError;
use rustix::process::{getegid, geteuid};
use std::fs::{Metadata, metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// All rights of group and others.
const OTHERS: u32 = 0o077;

/// Right of others to write.
const OTHERS_WRITE: u32 = 0o002;

/// Right of the group to write.
const GROUP_WRITE: u32 = 0o020;

/// Only a file's owner can rename or remove it: /tmp has this.
const STICKY: u32 = 0o1000;

/// The bits that `chmod` knows.
const MODE: u32 = 0o7777;

/// A secret file has to be a regular file, of this user or of root, with no rights for anybody else.
pub(crate) fn check_file(path: &Path, file: &Metadata) -> Result<(), SecretError> {
    if !file.is_file() {
        return Err(SecretError::NotAFile(path.to_owned()));
    }
    let mode = file.mode() & MODE;
    if mode & OTHERS != 0 {
        let what = "others than its owner can use this secret";
        return Err(SecretError::Exposed { path: path.to_owned(), what, mode, mend: "600" });
    }
    let (owner, reader) = (file.uid(), geteuid().as_raw());
    if owner != reader && owner != 0 && reader != 0 {
        return Err(SecretError::Foreign { path: path.to_owned(), owner, reader });
    }
    Ok(())
}

/// A folder with secrets in it must not be writable for others, who could put files of their own in their places. The
/// group may write if it is this user's own: many systems give each user one, and let its folders be writable for it.
///
/// # Errors
/// [`SecretError::Exposed`]; [`SecretError::System`] when it cannot be looked at.
pub fn check_folder(folder: &Path) -> Result<(), SecretError> {
    let found = metadata(folder).map_err(|error| SecretError::System { path: folder.to_owned(), error })?;
    let mode = found.mode() & MODE;
    let others = mode & OTHERS_WRITE != 0 && mode & STICKY == 0;
    let group = mode & GROUP_WRITE != 0 && mode & STICKY == 0 && found.gid() != getegid().as_raw();
    if others || group {
        let what = "others can write to this folder of secrets";
        return Err(SecretError::Exposed { path: folder.to_owned(), what, mode, mend: "go-w" });
    }
    Ok(())
}
