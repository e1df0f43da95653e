//! Whether a file can be written where the user wants it: asked before the work, not after.

use std::path::Path;

use crate::exit::{Failure, ResultExt as _};

/// Checks that `path` can be written; makes no file.
///
/// # Errors
/// It is a folder, or the folder that it belongs to is not there or may not be written to.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    if path.is_dir() || path.file_name().is_none() {
        return Err(Failure::usage(format!("{}: expected a file, got a folder", path.display())))
            .hint("name the file to write in it");
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    tempfile::tempfile_in(folder).map(drop).map_err(|error| {
        Failure::usage(format!("{}: cannot be written: {}: {error}", path.display(), folder.display()))
            .hint("name a file in a folder that exists and that you may write to")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_told_and_what_can_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.onnx");
        check(&file).unwrap();
        assert!(!file.exists());
        assert!(check(folder.path()).unwrap_err().render().contains("got a folder"));
        for wrong in ["/proc/nope/a.onnx", "/proc/a.onnx"] {
            assert!(check(Path::new(wrong)).unwrap_err().render().contains("cannot be written"), "{wrong}");
        }
    }
}
