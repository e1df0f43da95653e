//! The agent's inside behind the wire: each verb, and what has to be true before it is done.

use crate::handler::{Handler, Job, Reported};
use crate::kept_turn::{Errand, KeptTurn};
use crate::log_tail::LogTail;
use crate::ownership::Ownership;
use crate::queue::{Queue, Turn};
use crate::slots::Slots;
use crate::store::{Pinned, Store};
use crate::{Cancel, WorkerCommand, infer, measure, prepare, probe};
use anyhow::{Context as _, Result};
use n2n_protocol::{Activity, Answer, Call, Digest, Disk, Failure, Log, Place, Progress, Status, limits};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

/// Folder of the blobs inside the data folder.
const BLOBS: &str = "blobs";

/// Folder of the slots inside the data folder.
const SLOTS: &str = "slots";

/// What the verbs work on.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    /// `None` while another agent owns the data folder.
    slots: Option<Mutex<Slots>>,
    worker: WorkerCommand,
    queue: Queue,
    kept: KeptTurn,
    log: LogTail,
    /// Last, so that the folder is ours until all of the above is gone.
    _data: Data,
}

/// Whose the folders are.
enum Data {
    Owned { _lock: Ownership },
    Guest { _scratch: TempDir },
}

impl Services {
    /// Open the data folder. If another agent owns it, this one is a guest: it measures in turns with the owner, keeps
    /// blobs for itself and forgets them, and leaves the slots alone.
    ///
    /// # Errors
    /// When the folders cannot be used.
    pub fn open(data: &Path, worker: WorkerCommand, log: LogTail) -> Result<Self> {
        let opening = |folder: &Path| format!("opening {}", folder.display());
        let (store, slots, whose) = if let Some(lock) = Ownership::of(data).with_context(|| opening(data))? {
            let (blobs, slots) = (data.join(BLOBS), data.join(SLOTS));
            let store = Store::open(&blobs).with_context(|| opening(&blobs))?;
            let slots = Slots::open(&slots).with_context(|| opening(&slots))?;
            (store, Some(Mutex::new(slots)), Data::Owned { _lock: lock })
        } else {
            tracing::info!(data = %data.display(), "another agent owns the data folder; this one is a guest");
            let scratch =
                tempfile::Builder::new().prefix("n2n-agent-").tempdir().context("a scratch folder")?;
            let store = Store::open(scratch.path()).with_context(|| opening(scratch.path()))?;
            (store, None, Data::Guest { _scratch: scratch })
        };
        let queue = Queue::new(data);
        let kept = KeptTurn::new(queue.clone());
        let store = Arc::new(store);
        Ok(Self(Arc::new(Inner { store, slots, worker, queue, kept, log, _data: whose })))
    }

    /// As the sessions want it.
    pub fn into_handler(self) -> Handler {
        Handler::new(move |job| {
            let inner = Arc::clone(&self.0);
            async move { inner.answer(job).await }
        })
    }
}

impl Inner {
    async fn answer(&self, job: Job) -> Result<Answer, Failure> {
        let Job { call, client, cancel, progress } = job;
        let asked = Asked { client, cancel, progress };
        match call {
            Call::Probe => Ok(Answer::Board(blocking(probe::board).await?)),
            Call::PutQuery { digest, bytes } => {
                let store = Arc::clone(&self.store);
                blocking(move || store.query(&digest, bytes)).await?.map(|bytes| Answer::Stored { bytes })
            }
            Call::PutChunk { digest, offset, data } => {
                self.put_chunk(digest, offset, data, &asked).await.map(|bytes| Answer::Stored { bytes })
            }
            Call::Prepare(plan) => {
                let model = self.model(plan.model.digest)?;
                let _turn = self.turn("prepare", &asked).await?;
                prepare::prepare(&plan, model.path(), &self.worker, &asked.cancel).await.map(Answer::Prepared)
            }
            Call::Measure(plan) => {
                let model = self.model(plan.model.digest)?;
                let turn = self.turn_at(plan.place, "measure", &asked).await?;
                let report = |now| asked.progress.report(now);
                let path = model.path();
                let measured = measure::measure(&plan, path, &self.worker, &report, &asked.cancel).await;
                self.leave(turn, &asked);
                measured.map(Answer::Measured)
            }
            Call::Infer(plan) => {
                let model = self.model(plan.model.digest)?;
                let turn = self.turn_at(plan.place, "infer", &asked).await?;
                let inferred = infer::infer(&plan, model.path(), &self.worker, &asked.cancel).await;
                self.leave(turn, &asked);
                inferred.map(Answer::Inferred)
            }
            Call::Stage(shipment) => {
                let _turn = self.turn("stage", &asked).await?;
                let mut slots = self.slots().await?;
                let staged = slots.stage(&shipment.bundle, &self.store, &self.worker, &asked.cancel).await;
                staged.map(Answer::Slots)
            }
            Call::Activate { .. } => {
                // The student is tried on the board before it becomes the active one.
                let turn = self.turn("activate", &asked).await?;
                let activated = self.slots().await?.activate(&self.worker, &asked.cancel).await?;
                // Its host looks at it next, and that must not wait behind a long measurement: the trial may end first.
                self.kept.keep(Errand::Trial, &asked.client, turn);
                Ok(Answer::Slots(activated))
            }
            Call::Confirm { .. } => {
                drop(self.kept.taken(Errand::Trial, &asked.client));
                self.slots().await?.confirm().map(Answer::Slots)
            }
            Call::Rollback { .. } => {
                drop(self.kept.taken(Errand::Trial, &asked.client));
                self.slots().await?.rollback().map(Answer::Slots)
            }
            Call::Status => Ok(Answer::Status(Status {
                slots: Some(self.slots().await?.status()),
                owner: None,
                queue: self.queue.turns(),
                disk: Disk::default(),
                strangers: 0,
                uptime_s: 0,
            })),
            Call::LogTail { lines, log: Log::Agent } => Ok(Answer::Log(self.log.newest(lines))),
            Call::LogTail { log: Log::Audit, .. } => Ok(Answer::Log(Vec::new())),
            Call::Hello(_) | Call::Cancel { .. } => {
                Err(Failure::Refused("a session answers this itself".to_owned()))
            }
        }
    }

    /// The board for one request, when its turn comes; the session tells the client how long that will be.
    async fn turn(&self, verb: &'static str, asked: &Asked) -> Result<Turn, Failure> {
        let turn = self.queue.turn(&asked.client, verb, &asked.cancel, &|waiting| asked.say(waiting)).await?;
        asked.say(Activity::default());
        Ok(turn)
    }

    /// [`Self::turn`], or the one that was kept for the client's own trial.
    async fn turn_at(&self, place: Place, verb: &'static str, asked: &Asked) -> Result<Borrowed, Failure> {
        let kept = match place {
            Place::ActiveSlot => self.kept.taken(Errand::Trial, &asked.client),
            Place::Store => None,
        };
        Ok(match kept {
            Some(turn) => Borrowed { turn, of_a_trial: true },
            None => Borrowed { turn: self.turn(verb, asked).await?, of_a_trial: false },
        })
    }

    /// Give a turn back to where it came from.
    fn leave(&self, borrowed: Borrowed, asked: &Asked) {
        if borrowed.of_a_trial {
            self.kept.keep(Errand::Trial, &asked.client, borrowed.turn);
        }
    }

    /// One piece of a blob. Hashing and writing disturb whoever measures, so an upload takes its turn; it keeps it from
    /// piece to piece, and gives it back with the last.
    async fn put_chunk(
        &self,
        digest: Digest,
        offset: u64,
        data: n2n_protocol::Bytes<{ limits::CHUNK_BYTES }>,
        asked: &Asked,
    ) -> Result<u64, Failure> {
        let errand = Errand::Upload(digest);
        let wait = |waiting| asked.say(waiting);
        let turn = self.kept.take(errand, &asked.client, &asked.cancel, &wait).await?;
        asked.say(Activity::default());
        let store = Arc::clone(&self.store);
        let (stored, whole) = blocking(move || {
            let stored = store.put_chunk(&digest, offset, &data);
            (stored, store.path(&digest).is_some())
        })
        .await?;
        if stored.is_ok() && !whole {
            self.kept.keep(errand, &asked.client, turn);
        }
        stored
    }

    fn model(&self, digest: Digest) -> Result<Pinned, Failure> {
        let missing = || Failure::Refused(format!("no blob {digest} on this board; put it first"));
        self.store.pin(&digest).ok_or_else(missing)
    }

    async fn slots(&self) -> Result<MutexGuard<'_, Slots>, Failure> {
        match &self.slots {
            Some(slots) => Ok(slots.lock().await),
            None => {
                Err(Failure::Refused("another agent with the same data folder owns the slots".to_owned()))
            }
        }
    }
}

/// Who asks, and how to reach the session.
struct Asked {
    client: String,
    cancel: Cancel,
    progress: Reported,
}

impl Asked {
    fn say(&self, activity: Activity) {
        // The session knows how long ago the request came.
        self.progress.report(Progress { elapsed_ms: 0, activity });
    }
}

/// A turn, and whether it goes back to where a trial's turn is kept.
struct Borrowed {
    turn: Turn,
    of_a_trial: bool,
}

/// Work with files and hashes, where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|error| Failure::Failed(format!("a fault inside the agent: {error}")))
}
