//! The deployed student and its way in and out: stage, activate, confirm, roll back.
//!
//! Three slots: what runs, what ran before, and one to stage into, so that staging never costs the way back. Which is
//! which stands in one small file that is replaced as a whole, so a crash at any moment leaves either the old or the new
//! state. A slot becomes the active one only after its bytes on the medium have the right digest and give the golden
//! answer. It is on trial until confirmed: **an agent that starts and finds a trial unconfirmed goes back**, because the
//! crash may have been the student's doing.
//!
//! Trust is on first use: the signer of the first staged bundle is the only one from then on, until somebody with access
//! to the board removes the file `signer`. Applications on the board open `active/model.onnx`, a symbolic link's target
//! that follows the state. It must not run a model itself: workers do.

mod files;
mod trust;

use crate::cancel::Cancel;
use crate::store::Store;
use crate::worker_command::WorkerCommand;
use crate::{infer, measure};
use files::{Disk, Slot, Stored};
use n2n_protocol::{BundleManifest, Failure, MeasurePlan, Place, SlotContent, SlotStatus, Trial};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Processes of the latency check before a student is staged: the fewest that give a 95 % interval at a first look.
const LATENCY_PROCESSES: u16 = 8;
/// Samples of each.
const LATENCY_SAMPLES: u32 = 50;
/// Longest latency check.
const LATENCY_BUDGET_MS: u32 = 120_000;
/// Memory of the latency check's workers.
const LATENCY_MEMORY_BYTES: u64 = 1 << 30;

/// The name of every trial.
const ID: u64 = 0;

/// Which slot is what. The whole truth, in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    active: Option<Slot>,
    previous: Option<Slot>,
    staged: Option<Slot>,
    on_trial: bool,
}

impl State {
    /// A slot that may be overwritten.
    fn free(self) -> Slot {
        let used = [self.active, self.previous];
        Slot::ALL.into_iter().find(|slot| !used.contains(&Some(*slot))).unwrap_or(Slot::ALL[0])
    }

    /// The state after the staged slot became the active one.
    fn activated(self) -> Self {
        Self { active: self.staged, previous: self.active, staged: None, on_trial: true }
    }

    /// The state after going back.
    fn rolled_back(self) -> Self {
        Self { active: self.previous, previous: None, staged: self.staged, on_trial: false }
    }
}

/// The slots of this board. One agent owns the folder at a time, and verbs come one after the other.
#[derive(Debug)]
pub struct Slots {
    disk: Disk,
    state: State,
}

impl Slots {
    /// The slots in a folder, which is made if need be. Whatever a crash left is tidied: half-staged slots are removed,
    /// an unconfirmed trial is rolled back.
    ///
    /// # Errors
    /// When the folder or its state file cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::on(Disk::open(folder)?)
    }

    fn on(disk: Disk) -> io::Result<Self> {
        let written: State = disk.read_state()?.unwrap_or_default();
        let whole = |slot: Option<Slot>| slot.filter(|slot| disk.content(*slot).is_some());
        let mut state = State {
            active: whole(written.active),
            previous: whole(written.previous),
            staged: whole(written.staged),
            ..written
        };
        if state.on_trial || (state.active.is_none() && state.previous.is_some()) {
            tracing::warn!("the active student was never confirmed or is damaged: rolled back");
            state = state.rolled_back();
        }
        let mut slots = Self { disk, state: written };
        if state == written {
            slots.disk.point_at(state.active)?;
        } else {
            slots.switch(state)?;
        }
        for slot in Slot::ALL {
            if ![state.active, state.previous, state.staged].contains(&Some(slot)) {
                slots.disk.clear(slot)?;
            }
        }
        Ok(slots)
    }

    /// What is where.
    pub fn status(&self) -> SlotStatus {
        let content = |slot: Option<Slot>| {
            let Stored { manifest, bytes, staged_at } = self.disk.content(slot?)?;
            Some(SlotContent {
                id: ID,
                name: manifest.name,
                model: manifest.artifact.model.digest,
                bytes,
                number: manifest.artifact.number,
                target: manifest.artifact.target,
                engine: manifest.artifact.execution.engine,
                threads: manifest.artifact.execution.threads,
                staged_at,
                verified_at: 0,
            })
        };
        SlotStatus {
            active: content(self.state.active),
            staged: content(self.state.staged),
            way_back: content(self.state.previous),
            trial: self.state.on_trial.then_some(Trial { id: ID, seconds_left: u32::MAX }),
            notices: Vec::new(),
        }
    }

    /// Copy a bundle into the free slot and verify all of it: signature, digest of the bytes on the medium, golden
    /// answer, and latency if it has a limit. Replaces what was staged before.
    ///
    /// # Errors
    /// [`Failure::Refused`] for an unknown signer, a wrong signature or a blob that is not here; [`Failure::Failed`] when
    /// a check fails. What is active stays so.
    pub async fn stage(
        &mut self,
        manifest: &BundleManifest,
        store: &Store,
        worker: &WorkerCommand,
        cancel: &Cancel,
    ) -> Result<SlotStatus, Failure> {
        trust::verify(manifest, self.disk.signer().map_err(disk_failure)?)?;
        let model = manifest.artifact.model.digest;
        let Some(blob) = store.pin(&model) else {
            return Err(Failure::Refused(format!("no blob {model} on this board: put it first")));
        };
        if self.state.staged.is_some() {
            self.switch(State { staged: None, ..self.state }).map_err(disk_failure)?;
        }
        let slot = self.state.free();
        let (disk, copy) = (self.disk.clone(), manifest.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let copied = tokio::task::spawn_blocking(move || disk.fill(slot, blob.path(), copy, now)).await;
        copied
            .map_err(|error| Failure::Failed(format!("copying into the slot: {error}")))?
            .map_err(disk_failure)?;

        self.check_bytes(slot).await?;
        self.check_answer(slot, manifest, worker, cancel).await?;
        if let Some(limit_ns) = manifest.latency_limit_ns {
            self.check_latency(slot, manifest, limit_ns, worker, cancel).await?;
        }
        self.disk.trust(manifest.signer).map_err(disk_failure)?;
        self.switch(State { staged: Some(slot), ..self.state }).map_err(disk_failure)?;
        Ok(self.status())
    }

    /// Make the staged student the active one, on trial. If it then does not give its golden answer from where it runs,
    /// everything is as before but that nothing is staged.
    ///
    /// # Errors
    /// [`Failure::Refused`] when nothing is staged; [`Failure::Failed`] when the student is not healthy.
    pub async fn activate(&mut self, worker: &WorkerCommand, cancel: &Cancel) -> Result<SlotStatus, Failure> {
        let Some(slot) = self.state.staged else {
            return Err(Failure::Refused("nothing is staged".into()));
        };
        let before = State { staged: None, ..self.state };
        let Some(Stored { manifest, .. }) = self.disk.content(slot) else {
            self.switch(before).map_err(disk_failure)?;
            return Err(Failure::Failed("the staged student is damaged: stage it again".into()));
        };
        self.switch(self.state.activated()).map_err(disk_failure)?;
        let healthy = match self.check_bytes(slot).await {
            Ok(()) => self.check_answer(slot, &manifest, worker, cancel).await,
            damaged => damaged,
        };
        if let Err(failure) = healthy {
            // Before the answer: what runs must be healthy even if nobody listens any more.
            self.switch(before).map_err(disk_failure)?;
            return Err(match failure {
                Failure::Failed(why) => Failure::Failed(format!("{why}; rolled back")),
                Failure::Infeasible(why) => Failure::Failed(format!("{why}; rolled back")),
                Failure::Unknown(why) => Failure::Failed(format!("{why}; rolled back")),
                other => other,
            });
        }
        Ok(self.status())
    }

    /// End the trial.
    ///
    /// # Errors
    /// [`Failure::Refused`] when nothing is on trial.
    pub fn confirm(&mut self) -> Result<SlotStatus, Failure> {
        if !self.state.on_trial {
            return Err(Failure::Refused("nothing is on trial".into()));
        }
        self.switch(State { on_trial: false, ..self.state }).map_err(disk_failure)?;
        Ok(self.status())
    }

    /// Go back to what ran before; to nothing, when the very first student is on trial.
    ///
    /// # Errors
    /// [`Failure::Refused`] when there is nothing to go back to.
    pub fn rollback(&mut self) -> Result<SlotStatus, Failure> {
        if self.state.previous.is_none() && !self.state.on_trial {
            return Err(Failure::Refused("there is no previous student to go back to".into()));
        }
        self.switch(self.state.rolled_back()).map_err(disk_failure)?;
        Ok(self.status())
    }

    /// Make another state the true one.
    fn switch(&mut self, state: State) -> io::Result<()> {
        self.disk.write_state(state)?;
        // From here on it is the truth, even if the link for applications cannot follow; the next start mends that.
        self.state = state;
        self.disk.point_at(state.active)
    }

    async fn check_bytes(&self, slot: Slot) -> Result<(), Failure> {
        let disk = self.disk.clone();
        let checked = tokio::task::spawn_blocking(move || disk.verify(slot)).await;
        checked.map_err(|error| Failure::Failed(format!("reading the slot: {error}")))?
    }

    async fn check_answer(
        &self,
        slot: Slot,
        manifest: &BundleManifest,
        worker: &WorkerCommand,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        let BundleManifest { artifact, golden, .. } = manifest;
        let (path, seed) = (self.disk.model(slot), golden.input_seed);
        let answer =
            infer::answer_to_seed(seed, &path, &artifact.model, &artifact.execution, worker, cancel).await?;
        golden.check(&answer).map(drop).map_err(|error| Failure::Failed(format!("golden answer: {error}")))
    }

    async fn check_latency(
        &self,
        slot: Slot,
        manifest: &BundleManifest,
        limit_ns: u64,
        worker: &WorkerCommand,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        // Ten times the limit is too slow for sure; at least a second, for the first touch of every page.
        let max_inference_ms =
            (limit_ns.saturating_mul(10) / 1_000_000).clamp(1_000, u64::from(LATENCY_BUDGET_MS));
        let plan = MeasurePlan {
            model: manifest.artifact.model,
            place: Place::Store,
            execution: manifest.artifact.execution.clone(),
            min_processes: LATENCY_PROCESSES,
            max_processes: LATENCY_PROCESSES,
            samples_per_process: LATENCY_SAMPLES,
            half_width_ppm: 0,
            time_budget_ms: LATENCY_BUDGET_MS,
            max_load_ms: 60_000,
            max_inference_ms: max_inference_ms as u32,
            max_memory_bytes: LATENCY_MEMORY_BYTES,
            golden: None,
            resident_memory: false,
        };
        let found = measure::measure(&plan, &self.disk.model(slot), worker, &|_| {}, cancel).await?.latency;
        let upper_ns = found.interval.map_or(found.median_ns, |interval| interval.high_ns);
        if upper_ns <= limit_ns {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "its median latency here is up to {upper_ns} ns, the limit is {limit_ns} ns"
        )))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn disk_failure(error: io::Error) -> Failure {
    Failure::Failed(format!("the board's disk: {error}"))
}

#[cfg(test)]
mod tests;
