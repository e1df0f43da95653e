//! The agent's inside behind the wire: each verb, and what has to be true before it is done.

use crate::exclusive::Exclusive;
use crate::handler::{Handler, Job};
use crate::log_tail::LogTail;
use crate::ownership::Ownership;
use crate::slots::Slots;
use crate::store::{Pinned, Store};
use crate::{WorkerCommand, measure, probe};
use anyhow::{Context as _, Result};
use n2n_protocol::{Answer, Call, Digest, Disk, Failure, Log, Prepared, Status};
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
    exclusive: Exclusive,
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
        let exclusive = Exclusive::new(data);
        let store = Arc::new(store);
        Ok(Self(Arc::new(Inner { store, slots, worker, exclusive, log, _data: whose })))
    }

    /// Whether the data folder is this agent's, and not that of another one.
    pub fn owns_its_data(&self) -> bool {
        self.0.slots.is_some()
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
        let Job { call, client, cancel, progress, .. } = job;
        match call {
            Call::Probe => Ok(Answer::Board(blocking(probe::board).await?)),
            Call::PutQuery { digest, bytes } => {
                let store = Arc::clone(&self.store);
                blocking(move || store.query(&digest, bytes)).await?.map(|bytes| Answer::Stored { bytes })
            }
            Call::PutChunk { digest, offset, data } => {
                // Hashing and writing would disturb whoever measures.
                self.exclusive.check()?;
                let store = Arc::clone(&self.store);
                let stored = blocking(move || store.put_chunk(&digest, offset, &data)).await?;
                stored.map(|bytes| Answer::Stored { bytes })
            }
            Call::Prepare(plan) => {
                self.model(plan.model.digest)?;
                // No engine of this agent has anything to prepare.
                Ok(Answer::Prepared(Prepared { cached: true, elapsed_ms: 0 }))
            }
            Call::Measure(plan) => {
                let model = self.model(plan.model.digest)?;
                let _turn = self.exclusive.take(&client)?;
                let report = move |now| progress.report(now);
                let measured = measure::measure(&plan, model.path(), &self.worker, &report, &cancel).await;
                measured.map(Answer::Measured)
            }
            Call::Infer(plan) => {
                let model = self.model(plan.model.digest)?;
                let _turn = self.exclusive.take(&client)?;
                measure::infer(&plan, model.path(), &self.worker, &cancel).await.map(Answer::Inferred)
            }
            Call::Stage(shipment) => {
                let mut slots = self.slots().await?;
                let _turn = self.exclusive.take(&client)?;
                slots.stage(&shipment.bundle, &self.store, &self.worker, &cancel).await.map(Answer::Slots)
            }
            Call::Activate { .. } => {
                let mut slots = self.slots().await?;
                // The student is tried on the board before it becomes the active one.
                let _turn = self.exclusive.take(&client)?;
                slots.activate(&self.worker, &cancel).await.map(Answer::Slots)
            }
            Call::Confirm { .. } => self.slots().await?.confirm().map(Answer::Slots),
            Call::Rollback { .. } => self.slots().await?.rollback().map(Answer::Slots),
            Call::Status => Ok(Answer::Status(Status {
                slots: Some(self.slots().await?.status()),
                owner: None,
                queue: Vec::new(),
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

/// Work with files and hashes, where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|error| Failure::Failed(format!("a fault inside the agent: {error}")))
}
