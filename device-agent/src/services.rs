//! The agent's inside behind the wire: each verb, and what has to be true before it is done.

use crate::blocking::blocking;
use crate::data_folder::DataFolder;
use crate::exclusive::Exclusive;
use crate::handler::{Handler, Job};
use crate::log_tail::LogTail;
use crate::slots::{Settings, Slots};
use crate::store::Pinned;
use crate::{WorkerCommand, measure, probe};
use anyhow::Result;
use n2n_protocol::{Answer, Board, Call, Digest, Disk, Failure, Log, Place, Prepared, Status};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a status waits for the slots' first verification.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// What the verbs work on.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    worker: WorkerCommand,
    exclusive: Exclusive,
    log: LogTail,
    began: Instant,
    /// Class of this board.
    class: String,
    /// Last, so that the folder is ours until all of the above is gone.
    data: DataFolder,
}

impl Services {
    /// The verbs on a data folder.
    ///
    /// # Errors
    /// When there is no place for blobs at all.
    pub fn open(data: &Path, settings: Settings, worker: WorkerCommand, log: LogTail) -> Result<Self> {
        let class = settings.class.clone();
        let data = DataFolder::open(data, settings)?;
        let exclusive = Exclusive::new(&data.meeting);
        Ok(Self(Arc::new(Inner { worker, exclusive, log, began: Instant::now(), class, data })))
    }

    /// What the agent does by itself, for as long as this is polled.
    pub async fn keep(&self) {
        if let Some(slots) = &self.0.data.slots {
            slots.keep(|| self.0.exclusive.check().is_ok()).await;
        }
        std::future::pending().await
    }

    /// Whether the data folder is this agent's, and not that of another one.
    pub fn owns_its_data(&self) -> bool {
        self.0.data.slots.is_some()
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
            Call::Probe => {
                let board = blocking(probe::board).await?;
                Ok(Answer::Board(Board { class: self.class.clone(), ..board }))
            }
            Call::PutQuery { digest, bytes } => {
                let store = self.data.store.clone();
                blocking(move || store.query(&digest, bytes)).await?.map(|bytes| Answer::Stored { bytes })
            }
            Call::PutChunk { digest, offset, data } => {
                // Hashing and writing would disturb whoever measures.
                self.exclusive.check()?;
                let store = self.data.store.clone();
                let stored = blocking(move || store.put_chunk(&digest, offset, &data)).await?;
                stored.map(|bytes| Answer::Stored { bytes })
            }
            Call::Prepare(plan) => {
                self.blob(plan.model.digest).await?;
                // No engine of this agent has anything to prepare.
                Ok(Answer::Prepared(Prepared { cached: true, elapsed_ms: 0 }))
            }
            Call::Measure(plan) => {
                let _turn = self.exclusive.take(&client)?;
                let model = self.model(plan.model.digest, plan.place).await?;
                let report = move |now| progress.report(now);
                let measured = measure::measure(&plan, model.path(), &self.worker, &report, &cancel).await;
                measured.map(Answer::Measured)
            }
            Call::Infer(plan) => {
                let _turn = self.exclusive.take(&client)?;
                let model = self.model(plan.model.digest, plan.place).await?;
                measure::infer(&plan, model.path(), &self.worker, &cancel).await.map(Answer::Inferred)
            }
            Call::Stage(shipment) => {
                let slots = self.slots()?;
                let _turn = self.exclusive.take(&client)?;
                slots.stage(&shipment, &self.data.store, &self.worker, &cancel).await.map(Answer::Slots)
            }
            Call::Activate { id } => {
                let slots = self.slots()?;
                // The student is tried on the board before it becomes the active one.
                let _turn = self.exclusive.take(&client)?;
                slots.activate(id, &self.worker, &cancel).await.map(Answer::Slots)
            }
            Call::Confirm { id } => self.slots()?.confirm(id).await.map(Answer::Slots),
            Call::Rollback { id } => self.slots()?.rollback(id).await.map(Answer::Slots),
            Call::Status => Ok(Answer::Status(self.status().await)),
            Call::LogTail { lines, log: Log::Agent } => Ok(Answer::Log(self.log.newest(lines))),
            Call::LogTail { log: Log::Audit, .. } => Ok(Answer::Log(Vec::new())),
            Call::Hello(_) | Call::Cancel { .. } => {
                Err(Failure::Refused("a session answers this itself".to_owned()))
            }
        }
    }

    /// The file that a plan means.
    async fn model(&self, digest: Digest, place: Place) -> Result<Model, Failure> {
        match place {
            Place::Store => self.blob(digest).await.map(Model::Blob),
            Place::ActiveSlot => self.slots()?.active_model(digest).await.map(Model::Active),
        }
    }

    async fn blob(&self, digest: Digest) -> Result<Pinned, Failure> {
        let store = self.data.store.clone();
        let missing = || Failure::Refused(format!("no blob {digest} on this board; put it first"));
        blocking(move || store.pin(&digest)).await??.ok_or_else(missing)
    }

    fn slots(&self) -> Result<&Slots, Failure> {
        let owned = || {
            let owner = self.data.owner.map_or_else(String::new, |id| format!(" (process {id})"));
            Failure::Refused(format!("another agent{owner} with the same data folder owns the slots"))
        };
        self.data.slots.as_ref().ok_or_else(owned)
    }

    async fn status(&self) -> Status {
        let slots = self.data.slots.as_ref();
        if let Some(slots) = slots {
            // A fresh agent verifies small students in a blink; whoever asks for large ones sees how far it is.
            let _ = timeout(FIRST_LOOK, slots.ready()).await;
        }
        let store = self.data.store.clone();
        // A disk that stalls stops no status.
        let room = timeout(FIRST_LOOK, blocking(move || store.room())).await;
        Status {
            slots: slots.map(Slots::status),
            owner: self.data.owner,
            queue: Vec::new(),
            disk: room.ok().and_then(Result::ok).unwrap_or(Disk { free_bytes: 0, reserve_bytes: 0 }),
            strangers: 0,
            uptime_s: u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX).into(),
        }
    }
}

/// A file that is run.
enum Model {
    /// A blob, which stays meanwhile.
    Blob(Pinned),
    /// The active student's. Whoever has the board's turn also keeps others from filling slots.
    Active(PathBuf),
}

impl Model {
    fn path(&self) -> &Path {
        match self {
            Self::Blob(pinned) => pinned.path(),
            Self::Active(path) => path,
        }
    }
}
