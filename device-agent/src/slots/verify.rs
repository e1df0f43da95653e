//! Whether a student is whole: its bytes by their digest, its facts by their signature.
//!
//! Reads, and changes nothing. It takes as long as the medium needs, so it runs on blocking threads and under no lock.

use super::disk::{Content, Disk};
use super::state::Entry;
use super::trust;
use crate::medium::{self, Wanted};
use n2n_protocol::Digest;
use std::io;

/// Verify a student where it lies.
///
/// # Errors
/// What is wrong with it, in words; also when its bytes cannot be read.
pub(super) fn verify(disk: &Disk, entry: Entry, content: &Content, wanted: Wanted<'_>) -> Result<(), String> {
    let (found, bytes) = medium::read_back(&disk.model(entry.slot), wanted).map_err(unreadable)?;
    if found != entry.digest {
        let expected = match content {
            Content::Student(student) if student.bytes != bytes => {
                format!("{bytes} bytes, not {}", student.bytes)
            }
            _ => format!("digest {}, not {}", short(&found), short(&entry.digest)),
        };
        return Err(expected);
    }
    match content {
        Content::Student(student) if student.digest() == entry.digest => {
            trust::verify(student).map_err(|why| format!("signature: {why}"))
        }
        // Its bytes are right. The facts that were signed are lost or not understood, which takes nothing from them.
        _ => Ok(()),
    }
}

/// The beginning of a digest, enough for people to tell two apart.
pub(super) fn short(digest: &Digest) -> String {
    format!("{}…", hex::encode(&digest.0[..4]))
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn unreadable(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "its file is missing".into(),
        _ => format!("it cannot be read: {error}"),
    }
}
