//! Whose turn it is at the board: a line with places, first come, first served, seen by all.
//!
//! Whatever disturbs a measurement takes its turn here: measurements themselves, answers, preparations, uploads, staging
//! and activation. Nobody is turned away while there is a place; whoever waits hears how many are ahead and who has the
//! board; whoever cancels or is lost leaves the line at once. It must not know what a turn is used for.
//!
//! Agents that share a data folder (a search with a local board beside another one) stand behind two files there: the
//! head of each agent's line takes `measuring.next`, and with it `measuring.lock`, which says who has the board. The first
//! file is what makes it fair: an agent that has just had its turn finds it taken by the one that waits.

use crate::Cancel;
use n2n_protocol::{Activity, Failure, limits};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// File that is locked while an agent has the board; it says for whom.
const LOCK_FILE: &str = "measuring.lock";
/// File that is locked by the agent that has the board next.
const NEXT_FILE: &str = "measuring.next";
/// What is read of another agent's lock file, bytes: a time and a name of limited length.
const NOTE_BYTES: u64 = 512;
/// Between two looks at the other agents' lock, and at how long somebody has had the board.
const LOOK: Duration = Duration::from_millis(200);
/// Tries to be the next agent before it is believed that another one waits there, and the pause between two.
const NEXT_TRIES: u32 = 5;
const NEXT_PAUSE: Duration = Duration::from_millis(2);

/// The line of one agent.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    machine: Machine,
    line: Mutex<Line>,
    /// Rises with every change of the line.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Line {
    tickets: u64,
    /// The first has the board or is about to.
    places: VecDeque<Place>,
}

#[derive(Debug)]
struct Place {
    ticket: u64,
    client: String,
    verb: &'static str,
    /// Since when it waits or, once it has the board, has it.
    since: Instant,
}

/// The right to use the board alone; ends when dropped.
#[derive(Debug)]
pub struct Turn {
    // Dropped in this order: the file is free before the next of the line is told.
    _lock: Lock,
    place: Ticket,
    began: Instant,
}

impl Turn {
    /// How long this turn has lasted.
    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether others wait for its end.
    pub fn is_awaited(&self) -> bool {
        self.place.queue.line().places.len() > 1
    }
}

/// A place in the line; it is left when this is dropped, however the request ends.
#[derive(Debug)]
struct Ticket {
    queue: Queue,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.line().places.retain(|place| place.ticket != self.number);
        self.queue.0.changed.send_modify(|changes| *changes += 1);
    }
}

impl Queue {
    /// A line of this agent's own, in turns with all agents whose data folder is `data`.
    pub fn new(data: &Path) -> Self {
        let machine = Machine { lock: data.join(LOCK_FILE), next: data.join(NEXT_FILE) };
        Self(Arc::new(Inner { machine, line: Mutex::default(), changed: watch::Sender::new(0) }))
    }

    /// The board for `client` alone, for `verb`, when its turn comes. `report` hears how long that will be.
    ///
    /// # Errors
    /// [`Failure::Busy`] when every place is taken, with who has the board; [`Failure::Cancelled`]; [`Failure::Failed`] when
    /// the data folder cannot be used.
    pub async fn turn(
        &self,
        client: &str,
        verb: &'static str,
        cancel: &Cancel,
        report: &(dyn Fn(Activity) + Send + Sync),
    ) -> Result<Turn, Failure> {
        let ticket = self.stand_in_line(client, verb)?;
        let mut changes = self.0.changed.subscribe();
        let mut next = None;
        loop {
            let ahead = self.ahead_of(ticket.number);
            let waiting = if let Some(waiting) = ahead {
                waiting
            } else {
                let machine = self.0.machine.clone();
                let (client, held) = (client.to_owned(), next.take());
                let tried = spawn_blocking(move || machine.take(&client, held)).await;
                let tried =
                    tried.map_err(|error| Failure::Failed(format!("a fault inside the agent: {error}")))?;
                match tried.map_err(|error| self.0.machine.failed(&error))? {
                    Taken::Ours(lock) => {
                        self.has_the_board(ticket.number);
                        return Ok(Turn { _lock: lock, place: ticket, began: Instant::now() });
                    }
                    Taken::Theirs { next: held, client, since_s } => {
                        next = held;
                        Activity::Waiting { ahead: 1, client, since_s }
                    }
                }
            };
            report(waiting);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => return Err(Failure::Cancelled),
            }
        }
    }

    /// Who has the board, then who waits for it, in order.
    pub fn turns(&self) -> Vec<n2n_protocol::Turn> {
        let turn = |place: &Place| n2n_protocol::Turn {
            client: place.client.clone(),
            verb: place.verb.to_owned(),
            since_s: seconds(place.since.elapsed()),
        };
        self.line().places.iter().map(turn).collect()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_in_line(&self, client: &str, verb: &'static str) -> Result<Ticket, Failure> {
        let mut line = self.line();
        if line.places.len() >= limits::QUEUE
            && let Some(first) = line.places.front()
        {
            let (client, since_s) = (first.client.clone(), seconds(first.since.elapsed()));
            return Err(Failure::Busy { client, since_s });
        }
        line.tickets += 1;
        let number = line.tickets;
        let place = Place { ticket: number, client: client.to_owned(), verb, since: Instant::now() };
        line.places.push_back(place);
        Ok(Ticket { queue: self.clone(), number })
    }

    /// What to wait for; `None` for the first in the line.
    fn ahead_of(&self, ticket: u64) -> Option<Activity> {
        let line = self.line();
        let ahead = line.places.iter().position(|place| place.ticket == ticket)?;
        let first = line.places.front().filter(|_| ahead > 0)?;
        Some(Activity::Waiting {
            ahead: u16::try_from(ahead).unwrap_or(u16::MAX),
            client: first.client.clone(),
            since_s: seconds(first.since.elapsed()),
        })
    }

    fn has_the_board(&self, ticket: u64) {
        if let Some(place) = self.line().places.iter_mut().find(|place| place.ticket == ticket) {
            place.since = Instant::now();
        }
    }
}

/// The two files that all agents of a data folder share.
#[derive(Clone, Debug)]
struct Machine {
    lock: PathBuf,
    next: PathBuf,
}

/// A file that is locked until this is dropped.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would unlock it too, unless a worker that is just being started still holds a copy.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock on measuring could not be given back");
        }
    }
}

/// What came of a try to get the board from the other agents.
enum Taken {
    Ours(Lock),
    /// Another agent has it; `next` keeps this one's place before all others.
    Theirs {
        next: Option<Lock>,
        client: String,
        since_s: u32,
    },
}

impl Machine {
    /// The board for `client`, unless another agent has it or has it next. `next` is what the last try gave.
    fn take(&self, client: &str, next: Option<Lock>) -> io::Result<Taken> {
        let Some(next) = next.map_or_else(|| self.take_next(), |next| Ok(Some(next)))? else {
            let (client, since_s) = holder(open(&self.lock)?);
            return Ok(Taken::Theirs { next: None, client, since_s });
        };
        let mut lock = match lock(open(&self.lock)?)? {
            Ok(lock) => lock,
            Err(file) => {
                let (client, since_s) = holder(file);
                return Ok(Taken::Theirs { next: Some(next), client, since_s });
            }
        };
        let note = format!("{}\n{client}", unix_time().as_secs());
        lock.0.set_len(0)?;
        lock.0.write_all(note.as_bytes())?;
        Ok(Taken::Ours(lock))
    }

    /// The place of the agent that has the board next; `None` while another agent waits there. One that finds the board
    /// free is there for microseconds only.
    fn take_next(&self) -> io::Result<Option<Lock>> {
        for _ in 0..NEXT_TRIES {
            if let Ok(next) = lock(open(&self.next)?)? {
                return Ok(Some(next));
            }
            std::thread::sleep(NEXT_PAUSE);
        }
        Ok(None)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::Failed(format!("{}: {error}", self.lock.display()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// The lock on a file, or the file that somebody else has locked.
fn lock(file: File) -> io::Result<Result<Lock, File>> {
    match file.try_lock() {
        Ok(()) => Ok(Ok(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(Err(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Who has the lock and for how long, from the file; it may be empty for a moment while the other agent writes.
fn holder(file: File) -> (String, u32) {
    let mut note = String::new();
    let read = file.take(NOTE_BYTES).read_to_string(&mut note);
    let (since, client) = note.split_once('\n').filter(|_| read.is_ok()).unwrap_or_default();
    let since =
        since.parse().map_or(Duration::ZERO, |since| unix_time().saturating_sub(Duration::from_secs(since)));
    let client: String = client.chars().filter(|character| !character.is_control()).collect();
    let client = if client.is_empty() { "another agent on this board".to_owned() } else { client };
    (client, seconds(since))
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
