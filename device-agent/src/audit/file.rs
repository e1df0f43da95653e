//! The record on disk: lines appended to one file; a full one is put aside, and the oldest of those goes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// File name in the data folder; older ones have a number behind it.
const FILE: &str = "audit.log";

/// Bytes of one file: some 5,000 deeds.
const FILE_BYTES: u64 = 1 << 20;

/// Older files that are kept: a search of ten thousand candidates leaves the ships of the month before it readable.
const OLDER: u32 = 3;

/// What is read back of the newest file when an agent starts, bytes.
const TAIL_BYTES: u64 = 256 << 10;

/// The record of a data folder.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    file_bytes: u64,
    /// Opened at the first line, and its length; again after a failure.
    open: Option<(File, u64)>,
}

impl AuditFile {
    pub(super) fn in_folder(data: &Path) -> Self {
        Self { path: data.join(FILE), file_bytes: FILE_BYTES, open: None }
    }

    /// The last lines of the newest file, oldest first; none if it cannot be read.
    pub(super) fn newest_lines(&self) -> Vec<String> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            // The first line may have been cut.
            let whole =
                if start == 0 { 0 } else { bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0) };
            Ok(bytes.split_off(whole))
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Append one line; on the disk itself before this returns, if `durable`.
    pub(super) fn append(&mut self, line: &str, durable: bool) -> io::Result<()> {
        let appended = self.try_append(line, durable);
        if appended.is_err() {
            self.open = None;
        }
        appended
    }

    fn try_append(&mut self, line: &str, durable: bool) -> io::Result<()> {
        let bytes = line.len() as u64 + 1;
        let (mut file, mut length) = match self.open.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        if length > 0 && length + bytes > self.file_bytes {
            self.put_aside()?;
            (file, length) = self.open_file()?;
        }
        file.write_all(format!("{line}\n").as_bytes())?;
        if durable {
            file.sync_data()?;
        }
        self.open = Some((file, length + bytes));
        Ok(())
    }

    fn open_file(&self) -> io::Result<(File, u64)> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        // A line that was cut by a loss of power ends here, so that the next one is whole.
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok((file, length))
    }

    fn put_aside(&self) -> io::Result<()> {
        for number in (1..OLDER).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.older(1))
    }

    fn older(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("log.{number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_whole_record_stays_bounded() {
        let data = tempfile::tempdir().unwrap();
        let small = || AuditFile { file_bytes: 100, ..AuditFile::in_folder(data.path()) };
        let mut file = small();
        for number in 0..40 {
            file.append(&format!("line {number:02} of the record"), number % 2 == 0).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(data.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2", "audit.log.3"]);
        for name in names {
            assert!(fs::metadata(data.path().join(name)).unwrap().len() <= 100);
        }
        assert_eq!(small().newest_lines().last().unwrap(), "line 39 of the record");
    }

    #[test]
    fn a_line_that_was_cut_by_a_loss_of_power_spoils_no_other() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(FILE), "first\ncut of").unwrap();
        let mut file = AuditFile::in_folder(data.path());
        file.append("next", true).unwrap();
        file.append("last", true).unwrap();
        assert_eq!(AuditFile::in_folder(data.path()).newest_lines(), ["first", "cut of", "next", "last"]);
        assert!(AuditFile::in_folder(Path::new("/nonexistent")).newest_lines().is_empty());
    }

    #[test]
    fn only_the_end_of_a_long_file_is_read_back() {
        let data = tempfile::tempdir().unwrap();
        let line = "x".repeat(99);
        fs::write(data.path().join(FILE), format!("{line}\n").repeat(5000)).unwrap();
        let lines = AuditFile::in_folder(data.path()).newest_lines();
        assert!(lines.len() > 2000 && lines.len() <= TAIL_BYTES as usize / 100);
        assert!(lines.iter().all(|read| *read == line));
    }
}
