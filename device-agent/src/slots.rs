//! The deployed student and its way in and out: stage, activate, confirm, roll back.
//!
//! | file | what |
//! |---|---|
//! | `state` | which slot holds what, and how that changes: pure |
//! | `copies` | the state on the medium, twice |
//! | `student` | a student's facts in its slot |
//! | `disk` | the folder: slots, the link for applications, students on their way in |
//! | `opening` | from what lies there to the state of a starting agent: pure |
//! | `current` | the state of a running agent; each change carried to the medium |
//! | `verify`, `trust` | whether bytes, signature and signer are right |
//! | `admit` | which bundles this board takes: pure |
//! | `examine` | a student tried by workers |
//! | `returning` | every way back |
//! | `told` | the user's program, told of a switch |
//! | `keeper` | what the agent does by itself: verify, end trials |
//! | `format1` | the same as agents of protocol 1 keep it |
//!
//! Three slots: the student that was confirmed last, the one before it or one on trial, and one to stage into, so that
//! staging never costs the way back. A student becomes active only after its bytes on the medium have the right digest and
//! give the golden answer, and is on trial until it is confirmed: a trial ends by that, by a roll-back, with its agent, or
//! at its deadline. Every change of state is short; copying, hashing and trying take no lock, so status and roll-back are
//! served meanwhile.
//!
//! Trust is on first use: the signer of the first staged bundle is the only one from then on, until somebody with access
//! to the board removes the file `signer`. Applications on the board open `active/model.onnx`, a symbolic link's target
//! that follows the state. This room must not run a model itself: workers do.

mod admit;
mod cause;
mod copies;
mod current;
mod disk;
mod examine;
mod format1;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keeper;
mod opening;
mod returning;
mod signed;
mod state;
mod student;
mod told;
mod trust;
mod verify;

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::medium::disk_failure;
use crate::store::Store;
use crate::worker_command::WorkerCommand;
use cause::Cause;
use current::{Current, unix_time};
use disk::{Disk, Incoming};
use n2n_protocol::{BundleManifest, Digest, Failure, Shipment, SlotStatus};
use signed::Form;
use state::{Entry, State, Unfit};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use student::Student;
use tokio::sync::watch;
use tokio::time::Instant;
use told::Switch;

/// How this board treats students; from its own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a student may be active without being confirmed.
    pub trial: Duration,
    /// Class of this board: bundles made for another are refused.
    pub class: String,
    /// Program of the user that is told of each switch.
    pub on_switch: Option<PathBuf>,
}

/// The slots of this board, shared. One agent owns the folder at a time.
#[derive(Clone, Debug)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Disk,
    settings: Settings,
    /// Taken on blocking threads only, for short changes.
    current: Mutex<Current>,
    /// What can be seen without waiting for a change.
    seen: watch::Sender<Seen>,
}

/// What can be seen at any time.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    status: SlotStatus,
    active: Option<Entry>,
    /// When the trial ends.
    deadline: Option<Instant>,
    /// Whether everything was verified since the agent started.
    ready: bool,
}

/// A student that was copied and is being tried.
struct Candidate {
    incoming: Incoming,
    student: Student,
    /// How often the board had gone back when it came.
    rollbacks: u64,
}

impl Slots {
    /// The slots in a folder, which is made if need be. Opening succeeds whatever is missing, damaged or cannot be written:
    /// the status says so. Verbs wait until [`Self::settle`] is done.
    pub fn open(folder: &Path, settings: Settings) -> Self {
        let current = Current::open(folder);
        let (disk, _) = Disk::open(folder);
        let (seen, _) = watch::channel(Seen::default());
        let inner = Inner { disk, settings, current: Mutex::new(current), seen };
        inner.publish(&inner.lock());
        Self(Arc::new(inner))
    }

    /// What is where, as of the last change. It never waits.
    pub fn status(&self) -> SlotStatus {
        let Seen { mut status, deadline, .. } = self.0.seen.borrow().clone();
        if let (Some(trial), Some(deadline)) = (&mut status.trial, deadline) {
            let left = deadline.saturating_duration_since(Instant::now());
            trial.seconds_left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
        }
        status
    }

    /// Returns when everything was verified for the first time.
    pub async fn ready(&self) {
        // The sender lives as long as this does.
        let _ = self.0.seen.subscribe().wait_for(|seen| seen.ready).await;
    }

    /// The file that applications are led to, if it is this student's.
    ///
    /// # Errors
    /// [`Failure::Refused`] when another student is active, or applications are led elsewhere.
    pub async fn active_model(&self, digest: Digest) -> Result<PathBuf, Failure> {
        let active = self.0.seen.borrow().active;
        let disk = self.0.disk.clone();
        let linked = blocking(move || disk.linked()).await?;
        match active {
            Some(entry) if entry.digest == digest && linked == Some(entry.slot) => {
                Ok(self.0.disk.model(entry.slot))
            }
            Some(entry) if entry.digest == digest => {
                Err(Failure::Refused(format!("applications are not led to {}", entry.slot.name())))
            }
            _ => Err(Failure::Refused(format!("student {digest} is not the active one"))),
        }
    }

    /// Copy a bundle into a slot and verify all of it: signature, class and number, digest of the bytes on the medium,
    /// golden answer, and latency if it has a limit. Replaces what was staged before; a student that is active already
    /// changes nothing.
    ///
    /// # Errors
    /// [`Failure::Refused`] for a bundle that this board does not take or a blob that is not here; [`Failure::Failed`] when
    /// a check fails; [`Failure::Cancelled`]. What is active stays so.
    pub async fn stage(
        &self,
        shipment: &Shipment,
        store: &Store,
        worker: &WorkerCommand,
        cancel: &Cancel,
    ) -> Result<SlotStatus, Failure> {
        self.ready().await;
        let bundle = &shipment.bundle;
        self.admit(shipment).await?;
        if self.is_active(bundle.artifact.model.digest).await? {
            return Ok(self.status());
        }
        let candidate = self.receive(bundle, store, cancel).await?;
        let model = candidate.incoming.model();
        examine::answer(&model, bundle, worker, cancel).await?;
        if let Some(limit_ns) = bundle.latency_limit_ns {
            examine::latency(&model, bundle, limit_ns, worker, cancel).await?;
        }
        let (disk, wanted) = (self.0.disk.clone(), cancel.clone());
        self.change(move |current| adopt(&disk, current, candidate, &wanted)).await??;
        Ok(self.status())
    }

    /// Make a staged student the active one, on trial, after another look at its bytes and its answer; and tell the user's
    /// program.
    ///
    /// # Errors
    /// [`Failure::Refused`] when it is not staged; [`Failure::Failed`] when it is not healthy, or the user's program
    /// failed: then the board has gone back.
    pub async fn activate(
        &self,
        id: u64,
        worker: &WorkerCommand,
        cancel: &Cancel,
    ) -> Result<SlotStatus, Failure> {
        self.ready().await;
        let staged = move |current: &mut Current| {
            let entry = current.state().staged_as(id)?;
            Ok((entry, current.name(entry), current.bundle(entry)))
        };
        let (entry, name, bundle) = self.change(staged).await?.map_err(unfit)?;
        if let Err(how) = self.check(entry).await? {
            return Err(Failure::Failed(format!(
                "the staged student `{name}` is damaged ({how}): ship it again"
            )));
        }
        let Some(bundle) = bundle else {
            return Err(Failure::Failed(format!("the facts of student `{name}` are lost: ship it again")));
        };
        let tried = examine::answer(&self.0.disk.model(entry.slot), &bundle, worker, cancel).await;
        if let Err(failure @ (Failure::Failed(_) | Failure::Infeasible(_) | Failure::Unknown(_))) = tried {
            let dropped = move |current: &mut Current| current.switch(current.state().without(entry));
            self.change(dropped).await?.map_err(disk_failure)?;
            return Err(failure);
        }
        tried?;
        // To its end, whoever goes meanwhile: an application must hear of every switch.
        let slots = self.clone();
        finished(tokio::spawn(async move { slots.switch_to(id).await }).await)?;
        Ok(self.status())
    }

    /// The switch itself, and the user's program told.
    async fn switch_to(&self, id: u64) -> Result<(), Failure> {
        let trial = self.0.settings.trial;
        let switch = move |current: &mut Current| {
            let state = current.state().activated(id).map_err(unfit)?;
            current.switch(state).map_err(disk_failure)?;
            current.trial_until = Some(Instant::now() + trial);
            Ok(current.now())
        };
        let now = self.change(switch).await??;
        let Some(program) = &self.0.settings.on_switch else { return Ok(()) };
        if let Err(why) = told::tell(program, Switch::Activated, now.as_ref()).await {
            self.go_back(Cause::Program(why.clone())).await?;
            return Err(Failure::Failed(format!("{why}; rolled back")));
        }
        Ok(())
    }

    /// End a trial: its student is healthy. Its bytes are looked at once more. Confirming twice is confirming once.
    ///
    /// # Errors
    /// [`Failure::Refused`] when this trial is over; [`Failure::Failed`] when the student is damaged: then the board has
    /// gone back.
    pub async fn confirm(&self, id: u64) -> Result<SlotStatus, Failure> {
        self.ready().await;
        let trial = move |current: &mut Current| match current.state().trial_as(id) {
            Ok(entry) => Ok(Some(entry)),
            Err(_) if is_confirmed(current.state(), id) => Ok(None),
            Err(other) => Err(other),
        };
        let Some(entry) = self.change(trial).await?.map_err(unfit)? else { return Ok(self.status()) };
        if let Err(how) = self.check(entry).await? {
            self.go_back_to_the_end(Cause::Damage(how.clone())).await?;
            return Err(Failure::Failed(format!("the student is damaged ({how}): not confirmed")));
        }
        let confirm = move |current: &mut Current| {
            let way_back = current.state().confirmed;
            let is_whole = way_back.is_none_or(|entry| current.damage(entry).is_none());
            let state = current.state().confirmed(id, is_whole).map_err(unfit)?;
            current.switch(state).map_err(disk_failure)?;
            current.trial_until = None;
            Ok(())
        };
        self.change(confirm).await??;
        Ok(self.status())
    }

    /// Go back to the student that was confirmed last, which is verified first: from the named trial, or from whatever is
    /// active. From the first student ever, while it is on trial, to nothing. A student that is being staged meanwhile is
    /// not taken.
    ///
    /// # Errors
    /// [`Failure::Refused`] when that trial is over, or nothing whole is there to go back to: what is active stays.
    pub async fn rollback(&self, id: Option<u64>) -> Result<SlotStatus, Failure> {
        self.ready().await;
        self.go_back_to_the_end(Cause::Asked(id)).await?;
        Ok(self.status())
    }

    /// To its end, whoever goes meanwhile.
    async fn go_back_to_the_end(&self, cause: Cause) -> Result<(), Failure> {
        let slots = self.clone();
        finished(tokio::spawn(async move { slots.go_back(cause).await }).await)
    }

    /// Whether this board takes a bundle, by what it says of itself.
    async fn admit(&self, shipment: &Shipment) -> Result<(), Failure> {
        let student = received(&shipment.bundle, 0, 0);
        let name = shipment.bundle.name.clone();
        trust::verify(&student)
            .map_err(|why| Failure::Refused(format!("signature of bundle `{name}`: {why}")))?;
        let disk = self.0.disk.clone();
        let trusted = blocking(move || disk.signer()).await?.map_err(disk_failure)?;
        let highest = self.change(|current| current.state().highest_number).await?;
        trust::admit(&name, &shipment.bundle.signer, trusted)
            .and_then(|()| admit::admit(shipment, &self.0.settings.class, highest))
            .map_err(Failure::Refused)
    }

    /// Whether this student is the active one, and whole.
    async fn is_active(&self, digest: Digest) -> Result<bool, Failure> {
        let active = self.change(|current| current.state().active()).await?;
        let Some(entry) = active.filter(|entry| entry.digest == digest) else { return Ok(false) };
        match self.check(entry).await? {
            Ok(()) => Ok(true),
            Err(how) => {
                // Then it is shipped like any other, and takes the place of what is damaged.
                self.go_back_to_the_end(Cause::Damage(how)).await?;
                Ok(false)
            }
        }
    }

    /// Copies a blob and its facts to where no slot is, and verifies the copy.
    async fn receive(
        &self,
        bundle: &BundleManifest,
        store: &Store,
        cancel: &Cancel,
    ) -> Result<Candidate, Failure> {
        let digest = bundle.artifact.model.digest;
        let (id, rollbacks) = self.change(|current| (current.new_id(), current.rollbacks)).await?;
        let (disk, store) = (self.0.disk.clone(), store.clone());
        let (cancel, bundle) = (cancel.clone(), bundle.clone());
        let copied = move || {
            let wanted = || !cancel.is_cancelled();
            let Some(blob) = store.pin(&digest)? else {
                return Err(Failure::Refused(format!("no blob {digest} on this board: put it first")));
            };
            let bytes = blob.path().metadata().map_err(disk_failure)?.len();
            store.make_room(bytes)?;
            let (incoming, found, bytes) = disk.receive(blob.path(), &wanted).map_err(stopped_or_disk)?;
            if found != digest {
                store.discard(&digest)?;
                return Err(Failure::Refused(format!(
                    "blob {digest} was damaged on this board and is removed: put it again"
                )));
            }
            let student = Student { id, ..received(&bundle, bytes, unix_time()) };
            disk.describe(&incoming, &student).map_err(disk_failure)?;
            let (kept, _) = crate::medium::read_back(&incoming.model(), &wanted).map_err(stopped_or_disk)?;
            if kept != digest {
                return Err(Failure::Failed(format!(
                    "the board's disk gave back digest {kept} for {digest}: its medium may be worn"
                )));
            }
            Ok((incoming, student))
        };
        let (incoming, student) = blocking(copied).await??;
        Ok(Candidate { incoming, student, rollbacks })
    }

    /// Look at a student's bytes and signature.
    async fn verify(&self, entry: Entry) -> Result<Result<(), String>, Failure> {
        let inner = Arc::clone(&self.0);
        let look = move || {
            let content = inner.lock().content(entry.slot).clone();
            verify::verify(&inner.disk, entry, &content, &crate::medium::always)
        };
        blocking(look).await
    }

    /// One short change, or a look, on a blocking thread.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Current) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let inner = Arc::clone(&self.0);
        let changed = move || {
            let mut current = inner.lock();
            let outcome = work(&mut current);
            inner.publish(&current);
            outcome
        };
        blocking(changed).await
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        // Every change is whole or taken back before anything can panic.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what holds now.
    fn publish(&self, current: &Current) {
        let (status, active) = (current.status(), current.state().active());
        let deadline = current.trial_until.filter(|_| current.state().trial.is_some());
        self.seen.send_if_modified(|seen| {
            let next = Seen { status, active, deadline, ready: seen.ready };
            let changed = next != *seen;
            *seen = next;
            changed
        });
    }
}

/// The last step of staging, under the lock: a student that is still wanted gets its slot.
fn adopt(disk: &Disk, current: &mut Current, candidate: Candidate, cancel: &Cancel) -> Result<(), Failure> {
    let Candidate { incoming, student, rollbacks } = candidate;
    if cancel.is_cancelled() {
        return Err(Failure::Cancelled);
    }
    if rollbacks != current.rollbacks {
        return Err(Failure::Refused(
            "the board went back to an earlier student while this one was verified; ship it again if it is still \
             wanted"
                .into(),
        ));
    }
    disk.trust(student.bundle.signer).map_err(disk_failure)?;
    let slot = current.state().free();
    // No name before there is something behind it, at every moment.
    current.switch(current.state().emptied(slot)).map_err(disk_failure)?;
    disk.adopt(incoming, slot).map_err(disk_failure)?;
    let entry = Entry { slot, id: student.id, digest: student.digest() };
    let state = current.state().staging(entry, student.bundle.artifact.number);
    current.filled(entry, student);
    current.switch(state).map_err(disk_failure)
}

/// A student as it came in a bundle of this protocol.
fn received(bundle: &BundleManifest, bytes: u64, staged_at: u64) -> Student {
    Student { id: 0, bytes, staged_at, form: Form::Two, bundle: bundle.clone() }
}

fn is_confirmed(state: &State, id: u64) -> bool {
    state.trial.is_none() && state.confirmed.is_some_and(|entry| entry.id == id)
}

fn finished<T>(outcome: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    outcome.unwrap_or_else(|error| Err(Failure::Failed(format!("a fault inside the agent: {error}"))))
}

#[allow(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn unfit(error: Unfit) -> Failure {
    Failure::Refused(error.to_string())
}

fn stopped_or_disk(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::Interrupted { Failure::Cancelled } else { disk_failure(error) }
}

#[cfg(test)]
mod tests;
