//! One measuring client at a time: across the sessions of this agent, and across agents that share a data folder (two
//! searches with a local board on one machine would disturb each other's numbers).

use n2n_protocol::Failure;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// File that is locked in the data folder while somebody measures; it says who.
const LOCK_FILE: &str = "measuring.lock";

/// What is read of another agent's lock file, bytes: a time and a name of limited length.
const LOCK_FILE_BYTES: u64 = 512;

/// The board's turn-taking.
#[derive(Clone, Debug)]
pub struct Exclusive {
    file: PathBuf,
    holder: Arc<Mutex<Option<Holder>>>,
}

#[derive(Debug)]
struct Holder {
    client: String,
    since: Instant,
}

/// The right to use the board alone; ends when dropped.
#[derive(Debug)]
pub struct Turn {
    holder: Arc<Mutex<Option<Holder>>>,
    file: File,
}

impl Exclusive {
    /// Turns among all agents whose data folder is `data`.
    pub fn new(data: &Path) -> Self {
        Self { file: data.join(LOCK_FILE), holder: Arc::default() }
    }

    /// The board for `client` alone.
    ///
    /// # Errors
    /// [`Failure::Busy`] with who has it; [`Failure::Failed`] when the data folder cannot be used.
    pub fn take(&self, client: &str) -> Result<Turn, Failure> {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Holder { client, since }) = &*holder {
            return Err(busy(client.clone(), since.elapsed()));
        }
        let failed = |error| Failure::Failed(format!("{}: {error}", self.file.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.file)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(another_agent(&mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let note = format!("{}\n{client}", unix_time().as_secs());
        file.set_len(0).and_then(|()| file.write_all(note.as_bytes())).map_err(failed)?;
        *holder = Some(Holder { client: client.to_owned(), since: Instant::now() });
        Ok(Turn { holder: Arc::clone(&self.holder), file })
    }

    /// Whether somebody else has the board.
    ///
    /// # Errors
    /// [`Failure::Busy`].
    pub fn check(&self) -> Result<(), Failure> {
        match &*self.holder.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Holder { client, since }) => Err(busy(client.clone(), since.elapsed())),
            None => Ok(()),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Closing the file would unlock it too, unless a worker that is just being started still holds a copy.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock on measuring could not be given back");
        }
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn busy(client: String, since: Duration) -> Failure {
    Failure::Busy { client, since_s: u32::try_from(since.as_secs()).unwrap_or(u32::MAX) }
}

/// Who has the lock, from the file; it may be empty for a moment while the other agent writes.
fn another_agent(file: &mut File) -> Failure {
    let mut note = String::new();
    let read =
        file.seek(SeekFrom::Start(0)).and_then(|_| file.take(LOCK_FILE_BYTES).read_to_string(&mut note));
    let (since, client) = note.split_once('\n').filter(|_| read.is_ok()).unwrap_or_default();
    let since =
        since.parse().map_or(Duration::ZERO, |since| unix_time().saturating_sub(Duration::from_secs(since)));
    let client = if client.is_empty() { "another agent on this board" } else { client };
    busy(client.to_owned(), since)
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_hears_who_the_first_is_until_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let one_agent = Exclusive::new(folder.path());
        let other_agent = Exclusive::new(folder.path());
        let turn = one_agent.take("first").unwrap();
        for agent in [&one_agent, &other_agent] {
            let refused = agent.take("second").unwrap_err();
            assert_eq!(refused, Failure::Busy { client: "first".to_owned(), since_s: 0 });
        }
        assert!(one_agent.check().is_err());
        drop(turn);
        assert!(one_agent.check().is_ok());
        drop(other_agent.take("second").unwrap());
        one_agent.take("a name that is longer").unwrap();
    }

    #[test]
    fn a_data_folder_that_is_gone_is_no_panic() {
        let lost = Exclusive::new(Path::new("/nonexistent/folder"));
        assert!(matches!(lost.take("x"), Err(Failure::Failed(text)) if text.contains("measuring.lock")));
    }
}
