//! What holders of keys did to this board: who measured, put, staged, activated, confirmed and rolled back what, when and
//! with which outcome. One line a deed, in a file of its own beside the agent's log, where no stranger can push it out.
//!
//! ```text
//! deed   a request and its outcome as a line          file   the lines on disk, bounded, across restarts
//! ```
//! Keeping the record never delays or refuses a request: a thread writes it, and what a full disk cannot take is counted.

mod deed;
mod file;

use crate::handler::Handler;
use crate::log_tail::{LogTail, clip};
use deed::Deed;
use file::AuditFile;
use n2n_protocol::{Answer, Call, Failure, Log};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Lines that wait for the disk: a stalled one costs so much memory and no more.
const WAITING: usize = 1024;

/// Longest line, bytes: a failure's text may be four times that.
const LINE_BYTES: usize = 1024;

/// Between two tries to write what a full disk did not take.
const RETRY: Duration = Duration::from_secs(5);

/// The record; clones are the same one.
#[derive(Clone, Debug)]
pub struct Audit {
    newest: LogTail,
    /// `None` for a record in memory only.
    writer: Option<SyncSender<Entry>>,
}

/// What the writer is told.
#[derive(Debug)]
enum Entry {
    /// A line for the disk; `weighty` for one that must be on it before the next, because it changed what the board runs.
    Line { line: String, weighty: bool },
    /// Say when all lines before are written.
    Flush(SyncSender<()>),
}

impl Audit {
    /// A record that is forgotten with the process: for an agent that does not own its data folder.
    pub fn in_memory() -> Self {
        Self { newest: LogTail::default(), writer: None }
    }

    /// The record in a data folder, with what stands there already.
    ///
    /// # Errors
    /// The system has no thread for its writer. A file that cannot be written is no error: the record is kept in memory, and
    /// the log says so.
    pub fn in_folder(data: &Path) -> io::Result<Self> {
        let newest = LogTail::default();
        let file = AuditFile::in_folder(data);
        file.newest_lines().iter().for_each(|line| newest.keep(line));
        let (writer, entries) = sync_channel(WAITING);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write(file, &entries))?;
        Ok(Self { newest, writer: Some(writer) })
    }

    /// The newest `lines` lines, oldest first.
    pub fn newest(&self, lines: u16) -> Vec<String> {
        self.newest.newest(lines)
    }

    /// Wait until all lines are written, at most so long: before the process ends.
    pub fn flush(&self, longest: Duration) {
        let (written, done) = sync_channel(1);
        if let Some(writer) = &self.writer
            && writer.try_send(Entry::Flush(written)).is_ok()
        {
            // A disk that takes longer keeps nobody from ending.
            let _ = done.recv_timeout(longest);
        }
    }

    /// Keep one more line, which begins with its time. `weighty` for what changed what the board runs.
    pub fn keep(&self, text: &str, weighty: bool) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = format!("{time} {}", clip(text, LINE_BYTES));
        self.newest.keep(&line);
        if let Some(writer) = &self.writer
            && let Err(TrySendError::Full(_)) = writer.try_send(Entry::Line { line, weighty })
        {
            tracing::warn!("the disk is too slow for the audit log; a line is lost there");
        }
    }
}

/// Writes lines as they come, until the last record is gone.
fn write(mut file: AuditFile, entries: &Receiver<Entry>) {
    let mut failed_since: Option<Instant> = None;
    let mut lost = 0_u64;
    while let Ok(entry) = entries.recv() {
        let (line, weighty) = match entry {
            Entry::Line { line, weighty } => (line, weighty),
            Entry::Flush(written) => {
                let _ = written.try_send(());
                continue;
            }
        };
        if failed_since.is_some_and(|since| since.elapsed() < RETRY) {
            lost += 1;
            continue;
        }
        let missing = (lost > 0).then(|| format!("({lost} lines could not be written)"));
        match missing
            .iter()
            .try_for_each(|gap| file.append(gap, false))
            .and_then(|()| file.append(&line, weighty))
        {
            Ok(()) => (failed_since, lost) = (None, 0),
            Err(error) => {
                if lost == 0 {
                    tracing::warn!(%error, "the audit log cannot be written; its lines are in memory only");
                }
                failed_since = Some(Instant::now());
                lost += 1;
            }
        }
    }
}

/// How many lines of this record a call asks for, if it does.
fn asked_for(call: &Call) -> Option<u16> {
    if let Call::LogTail { lines, log: Log::Audit } = call { Some(*lines) } else { None }
}

/// The handler, with every deed kept and told in the agent's log, and the record read to a host that asks for it.
pub fn audited(handler: Handler, audit: Audit) -> Handler {
    let handler = Arc::new(handler);
    Handler::new(move |job| {
        let (deed, read) = (Deed::of(&job), asked_for(&job.call));
        let work = handler.begin(job);
        let audit = audit.clone();
        async move {
            if let Some(lines) = read {
                return Ok(Answer::Log(audit.newest(lines)));
            }
            let mut open = Open { audit, deed, began: Instant::now() };
            let outcome = work.await;
            open.close(Some(&outcome));
            outcome
        }
    })
}

/// A deed under way. Dropped before its end, it was abandoned, and is kept as that.
struct Open {
    audit: Audit,
    deed: Option<Deed>,
    began: Instant,
}

impl Open {
    fn close(&mut self, outcome: Option<&Result<Answer, Failure>>) {
        let Some(deed) = self.deed.take() else { return };
        if let Some(line) = deed.line(outcome, self.began.elapsed()) {
            tracing::info!("{line}");
            self.audit.keep(&line, deed.is_weighty());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Job;
    use n2n_protocol::SlotStatus;
    use std::fs;

    fn job(call: Call) -> Job {
        Job::of(call, "zoë", "10.0.0.7:5")
    }

    #[tokio::test]
    async fn deeds_are_kept_with_their_doer_and_questions_are_not() {
        let data = tempfile::tempdir().unwrap();
        let audit = Audit::in_folder(data.path()).unwrap();
        let inside = Handler::new(|job| async move {
            match job.call {
                Call::Rollback { .. } => Err(Failure::Refused("there is no previous student".to_owned())),
                Call::Confirm { .. } => std::future::pending().await,
                _ => Ok(Answer::Slots(SlotStatus::default())),
            }
        });
        let handler = audited(inside, audit.clone());
        handler.begin(job(Call::Status)).await.unwrap();
        handler.begin(job(Call::Probe)).await.unwrap();
        handler.begin(job(Call::Activate { id: 7 })).await.unwrap();
        assert!(handler.begin(job(Call::Rollback { id: None })).await.is_err());
        drop(
            tokio::time::timeout(Duration::from_millis(20), handler.begin(job(Call::Confirm { id: 7 })))
                .await,
        );
        let lines = audit.newest(100);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains(" key=desk peer=10.0.0.7:5 client=\"zoë\" activate id=7 "), "{lines:?}");
        assert!(lines[1].contains("rollback") && lines[1].ends_with("refused: there is no previous student"));
        assert!(lines[2].contains("confirm") && lines[2].ends_with("abandoned"), "{lines:?}");
        let asked = handler.begin(job(Call::LogTail { lines: 2, log: Log::Audit })).await;
        assert_eq!(asked, Ok(Answer::Log(lines[1..].to_vec())));
        audit.flush(Duration::from_secs(20));
        let text = fs::read_to_string(data.path().join("audit.log")).unwrap();
        assert_eq!(text.lines().map(str::to_owned).collect::<Vec<_>>(), lines);
        // The next agent begins with what this one wrote.
        drop((handler, audit));
        assert_eq!(Audit::in_folder(data.path()).unwrap().newest(2), lines[1..]);
    }

    #[test]
    fn a_disk_that_takes_nothing_delays_nobody_and_the_gap_is_told_in_memory_first() {
        let data = tempfile::tempdir().unwrap();
        // A folder where the file should be: no line can be written.
        fs::create_dir(data.path().join("audit.log")).unwrap();
        let audit = Audit::in_folder(data.path()).unwrap();
        for number in 0..10 {
            audit.keep(&format!("line {number}"), true);
        }
        audit.flush(Duration::from_secs(20));
        assert!(audit.newest(1)[0].ends_with("line 9"));
    }
}
