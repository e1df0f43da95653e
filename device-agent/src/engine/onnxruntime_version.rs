//! Which ONNX Runtime a library is, by its own word: the bindings ask for it and do not pass it on.

#![expect(unsafe_code, reason = "a library is opened by its name, and two of its functions are called")]

use std::ffi::CStr;
use std::path::Path;

/// The library's version, as in `1.20.1`.
///
/// Runs the library's own code: call it in a worker, with a path that the board's owner gave.
///
/// # Errors
/// In words: it cannot be opened, or is no ONNX Runtime.
pub(super) fn version_of(library: &Path) -> Result<String, String> {
    // SAFETY: opening a library runs its initialisers. It is the file that the board's owner named, or one in a place that
    // only the owner can write to; programs on this board open it in the same way.
    let opened = unsafe { libloading::Library::new(library) };
    let opened = opened.map_err(|error| format!("cannot open {}: {error}", library.display()))?;
    let none = || format!("{} is no ONNX Runtime: it has no OrtGetApiBase", library.display());
    // SAFETY: every ONNX Runtime has this function, of this type, and its table begins with these two members in all versions.
    let version = unsafe {
        let base = opened
            .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")
            .map_err(|_| none())?;
        let base = base().as_ref().ok_or_else(none)?;
        CStr::from_ptr((base.GetVersionString)()).to_string_lossy().into_owned()
    };
    // Closed, its threads and tables would have to be gone: it stays until the process ends.
    std::mem::forget(opened);
    let is_version = version.split('.').count() >= 2
        && version.len() <= 32
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+'));
    if is_version { Ok(version) } else { Err(none()) }
}
