//! The agent's inside behind the wire: each verb, and what has to be true before it is done.

use crate::blocking::blocking;
use crate::data_folder::DataFolder;
use crate::handler::{Handler, Job, Origin, Reported};
use crate::kept_turn::{Errand, KeptTurn};
use crate::log_tail::LogTail;
use crate::queue::{Queue, Turn};
use crate::slots::{Settings, Slots};
use crate::store::Pinned;
use crate::{Cancel, WorkerCommand, board_memory, infer, measure, prepare, probe};
use anyhow::Result;
use n2n_protocol::{
    Activity, Answer, Board, Bytes, Call, Digest, Disk, Failure, Log, Place, Progress, Status, limits,
};
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
    queue: Queue,
    kept: KeptTurn,
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
        let queue = Queue::new(&data.meeting);
        let kept = KeptTurn::default();
        Ok(Self(Arc::new(Inner { worker, queue, kept, log, began: Instant::now(), class, data })))
    }

    /// What the agent does by itself, for as long as this is polled.
    pub async fn keep(&self) {
        if let Some(slots) = &self.0.data.slots {
            slots.keep(|| self.0.queue.turns().is_empty()).await;
        }
        std::future::pending::<()>().await;
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
        let Job { call, client, origin, cancel, gone, progress } = job;
        let asked = Asked { client, origin, cancel, gone, progress };
        match call {
            Call::Probe => {
                let board = blocking(probe::board).await?;
                let engines = self.worker.engines.ids();
                Ok(Answer::Board(Board { class: self.class.clone(), engines, ..board }))
            }
            Call::PutQuery { digest, bytes } => {
                let store = self.data.store.clone();
                blocking(move || store.query(&digest, bytes)).await?.map(|bytes| Answer::Stored { bytes })
            }
            Call::PutChunk { digest, offset, data } => {
                self.put_chunk(digest, offset, data, &asked).await.map(|bytes| Answer::Stored { bytes })
            }
            Call::Prepare(plan) => {
                let model = self.blob(plan.model.digest).await?;
                let turn = self.turn("prepare", &asked).await?;
                let prepared = prepare::prepare(&plan, model.path(), &self.worker, &asked.cancel).await;
                self.leave(turn, &asked);
                prepared.map(Answer::Prepared)
            }
            Call::Measure(plan) => {
                let turn = self.turn("measure", &asked).await?;
                let model = self.model(plan.model.digest, plan.place).await?;
                let report = |now| asked.progress.report(now);
                let path = model.path();
                let measured = measure::measure(&plan, path, &self.worker, &report, &asked.cancel).await;
                self.leave(turn, &asked);
                measured.map(Answer::Measured)
            }
            Call::Infer(plan) => {
                let turn = self.turn("infer", &asked).await?;
                let model = self.model(plan.model.digest, plan.place).await?;
                let inferred = infer::infer(&plan, model.path(), &self.worker, &asked.cancel).await;
                self.leave(turn, &asked);
                inferred.map(Answer::Inferred)
            }
            Call::Stage(shipment) => {
                let slots = self.slots()?;
                let _turn = self.turn("stage", &asked).await?;
                let staged = slots.stage(&shipment, &self.data.store, &self.worker, &asked.cancel).await;
                staged.map(Answer::Slots)
            }
            Call::Activate { id } => {
                let slots = self.slots()?;
                // The student is tried on the board before it becomes the active one.
                let Held { turn, .. } = self.turn("activate", &asked).await?;
                let activated = slots.activate(id, &self.worker, &asked.cancel).await?;
                // Its host looks at it next, and that must not wait behind a long measurement: the trial may end first.
                self.kept.keep(Errand::Trial, &asked.origin, &asked.gone, turn);
                Ok(Answer::Slots(activated))
            }
            Call::Confirm { id } => {
                drop(self.kept.taken(&asked.origin));
                self.slots()?.confirm(id).await.map(Answer::Slots)
            }
            Call::Rollback { id } => {
                drop(self.kept.taken(&asked.origin));
                self.slots()?.rollback(id).await.map(Answer::Slots)
            }
            Call::Status => Ok(Answer::Status(self.status().await)),
            Call::Memory => blocking(board_memory::most).await.map(Answer::Memory),
            Call::LogTail { lines, log: Log::Agent } => Ok(Answer::Log(self.log.newest(lines))),
            Call::LogTail { log: Log::Audit, .. } => Ok(Answer::Log(Vec::new())),
            Call::Hello(_) | Call::Cancel { .. } => {
                Err(Failure::Refused("a session answers this itself".to_owned()))
            }
        }
    }

    /// The board for one request: the turn that was kept for its client, else one from the line, when it comes; the session
    /// tells the client how long that will be.
    async fn turn(&self, verb: &'static str, asked: &Asked) -> Result<Held, Failure> {
        let held = if let Some((errand, turn)) = self.kept.taken(&asked.origin) {
            Held { turn, errand: Some(errand) }
        } else {
            let wait = |waiting| asked.say(waiting);
            let turn = self.queue.turn(&asked.client, verb, &asked.cancel, &wait).await?;
            Held { turn, errand: None }
        };
        asked.say(Activity::default());
        Ok(held)
    }

    /// End a turn, or keep it on if it is a trial's.
    fn leave(&self, held: Held, asked: &Asked) {
        if held.errand == Some(Errand::Trial) {
            self.kept.keep(Errand::Trial, &asked.origin, &asked.gone, held.turn);
        }
    }

    /// One piece of a blob. Hashing and writing disturb whoever measures, so an upload takes its turn; it keeps it from
    /// piece to piece, and gives it back with the last.
    async fn put_chunk(
        &self,
        digest: Digest,
        offset: u64,
        data: Bytes<{ limits::CHUNK_BYTES }>,
        asked: &Asked,
    ) -> Result<u64, Failure> {
        let held = self.turn("put", asked).await?;
        let store = self.data.store.clone();
        let (stored, whole) = blocking(move || {
            let stored = store.put_chunk(&digest, offset, &data);
            let whole = store.is_whole(&digest);
            (stored, whole)
        })
        .await?;
        match held {
            Held { errand: Some(Errand::Trial), .. } => self.leave(held, asked),
            Held { turn, .. } if stored.is_ok() && !whole => {
                self.kept.keep(Errand::Upload, &asked.origin, &asked.gone, turn);
            }
            Held { .. } => {}
        }
        stored
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
            queue: self.queue.turns(),
            disk: room.ok().and_then(Result::ok).unwrap_or(Disk { free_bytes: 0, reserve_bytes: 0 }),
            strangers: 0,
            uptime_s: u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX).into(),
        }
    }
}

/// Who asks, and how to reach the session.
struct Asked {
    client: String,
    origin: Origin,
    cancel: Cancel,
    gone: Cancel,
    progress: Reported,
}

impl Asked {
    fn say(&self, activity: Activity) {
        // The session knows how long ago the request came.
        self.progress.report(Progress { elapsed_ms: 0, activity });
    }
}

/// A turn, and what it was kept for if it was.
struct Held {
    turn: Turn,
    errand: Option<Errand>,
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
