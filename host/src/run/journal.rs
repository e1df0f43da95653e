//! The journal on disk: append-only JSON lines, each on the disk before the search goes on.
//!
//! A process killed while it writes leaves a line without its end: that one is dropped, and the search does its work again.
//! Damage anywhere else is an error with its line number, never skipped: a silently thinner journal would be another search.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::search::Record;

/// A trial is some 2 KB; the first line, with the units of a deep network, some 10 KB.
const MOST_LINE_BYTES: usize = 1 << 20;
/// Hundreds of thousands of trials; more is not a journal of ours.
const MOST_BYTES: u64 = 1 << 30;

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system's.
    #[error("journal {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A whole line that is no record.
    #[error("journal {path}, line {line}: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// Larger than any journal.
    #[error("journal {path}: expected at most {MOST_BYTES} bytes, got {bytes}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Of another version of this program.
    #[error(
        "journal {path}: expected schema {expected}, got {got}; the n2n version that began the run can finish it"
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// This program's.
        expected: u32,
        /// Its schema.
        got: u32,
    },
}

/// What a journal has a line of.
pub trait Line: Serialize + DeserializeOwned {
    /// Version of the lines; the first one states it as `schema`.
    const SCHEMA: u32;
}

impl Line for Record {
    const SCHEMA: u32 = crate::search::record::SCHEMA;
}

/// An open journal; one process has it, by the folder's lock.
#[derive(Debug)]
pub struct Journal<L = Record> {
    path: PathBuf,
    file: File,
    lines: PhantomData<fn(L)>,
}

/// The whole lines of a journal file, and how many bytes they take; a torn last line is left out.
///
/// # Errors
/// Any other damage, with its line number.
pub fn read<L: Line>(path: &Path) -> Result<(Vec<L>, u64), JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > MOST_BYTES {
        return Err(JournalError::TooLarge { path: path.to_owned(), bytes });
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(io)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut records = Vec::new();
    for (index, line) in text[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let corrupt =
            |reason: String| JournalError::Corrupt { path: path.to_owned(), line: index + 1, reason };
        if line.len() > MOST_LINE_BYTES {
            return Err(corrupt(format!("expected at most {MOST_LINE_BYTES} bytes, got {}", line.len())));
        }
        let parsed = serde_json::from_slice(line);
        // A journal of another schema fails to parse for that reason; say so.
        if index == 0
            && let Some(got) = schema_of(line).filter(|got| *got != L::SCHEMA)
        {
            return Err(JournalError::Schema { path: path.to_owned(), expected: L::SCHEMA, got });
        }
        records.push(parsed.map_err(|error| corrupt(format!("not a record: {error}")))?);
    }
    Ok((records, whole as u64))
}

fn schema_of(line: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    value.get("schema")?.as_u64().and_then(|schema| u32::try_from(schema).ok())
}

impl<L: Line> Journal<L> {
    /// Opens or makes a journal, cuts a torn last line off, and gives the whole ones.
    ///
    /// # Errors
    /// Damage elsewhere than at the end.
    pub fn open(path: &Path) -> Result<(Self, Vec<L>), JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let (records, whole) = read(path)?;
        file.set_len(whole).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        file.sync_all().map_err(io)?;
        // The file's own name must survive a power cut too.
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        }
        Ok((Self { path: path.to_owned(), file, lines: PhantomData }, records))
    }

    /// Adds one line, and returns when it is on the disk. A line that could not be written whole is taken back.
    ///
    /// # Errors
    /// The system's: a full disk, a folder that is gone.
    pub fn append(&mut self, record: &L) -> Result<(), JournalError> {
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(record).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        let start = self.file.stream_position().map_err(io)?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Best effort: what stays behind has no line end, or is found by the next reader.
            let _ = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
        }
        written.map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::record::{Resumed, Stopped};

    fn lines(count: u64) -> Vec<Record> {
        let line = |index| match index % 2 {
            0 => Record::Resumed(Resumed { records: index as usize, elapsed_ns: index }),
            _ => Record::Fault(Stopped { reason: format!("fault \n \"{index}\""), elapsed_ns: index }),
        };
        (0..count).map(line).collect()
    }

    fn written(count: u64) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.jsonl");
        let (mut journal, _) = Journal::<Record>::open(&path).unwrap();
        for line in lines(count) {
            journal.append(&line).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn a_journal_cut_at_any_byte_gives_its_whole_lines_and_can_be_gone_on_with() {
        let (_folder, path) = written(4);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = bytes[..cut].split(|byte| *byte == b'\n').count() - 1;
            let (mut journal, records) = Journal::<Record>::open(&path).unwrap();
            assert_eq!(records, lines(4)[..whole], "cut at {cut}");
            journal.append(&lines(1)[0]).unwrap();
            drop(journal);
            assert_eq!(read::<Record>(&path).unwrap().0.len(), whole + 1, "cut at {cut}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_an_error_with_its_line() {
        let (_folder, path) = written(4);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"kind\":\"fault\"", "\"kind\":\"fau\u{0}t\"", 1)).unwrap();
        let error = Journal::<Record>::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Corrupt { line: 2, .. }), "{error}");
        std::fs::write(&path, format!("{text}\n{text}")).unwrap();
        assert!(matches!(read::<Record>(&path), Err(JournalError::Corrupt { line: 5, .. })), "an empty line");
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused() {
        let (_folder, path) = written(1);
        let long = format!("\"{}\"\n", "x".repeat(MOST_LINE_BYTES));
        std::fs::write(&path, long).unwrap();
        assert!(matches!(read::<Record>(&path), Err(JournalError::Corrupt { line: 1, .. })));
    }

    #[test]
    fn a_journal_of_another_schema_says_so() {
        let (_folder, path) = written(0);
        for (text, schema) in [
            ("{\"kind\":\"started\",\"schema\":99}\n", 99),
            // One that was recorded.
            (include_str!("fixtures/journal-of-schema-2.jsonl"), 2),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read::<Record>(&path).unwrap_err();
            assert!(matches!(error, JournalError::Schema { got, .. } if got == schema), "{error}");
        }
    }
}
