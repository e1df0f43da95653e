//! The state of a running agent, and how a change of it reaches the medium: the copies first, which are the truth, then the
//! link for applications, then the other form.
//!
//! If a change fails, everything is as before it, in memory as on the medium. It must not verify anything: it is held for
//! short changes only, on blocking threads.

use super::copies::Copies;
use super::disk::{Content, Disk};
use super::format1::{self, Former};
use super::opening::{self, Found, Opened};
use super::state::{Entry, Note, Slot, State};
use super::student::Student;
use super::told::Now;
use n2n_protocol::text::printable;
use n2n_protocol::{BundleManifest, Notice, SlotContent, SlotStatus, Trial};
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// What looking at a student's bytes told.
#[derive(Clone, Debug)]
struct Finding {
    entry: Entry,
    /// Seconds since 1970.
    at: u64,
    /// What is wrong with it.
    damage: Option<String>,
}

/// The slots of a running agent.
#[derive(Debug)]
pub(super) struct Current {
    disk: Disk,
    copies: Copies,
    /// What agents of format 1 read.
    former: Option<String>,
    state: State,
    contents: [Content; 3],
    findings: [Option<Finding>; 3],
    /// When the trial ends; `None` also for one that an earlier agent began.
    pub(super) trial_until: Option<Instant>,
    /// How often the board went back: a student that was being verified meanwhile is not wanted any more.
    pub(super) rollbacks: u64,
}

impl Current {
    /// From what lies in a folder. It always succeeds: what cannot be read or written is noted.
    pub(super) fn open(folder: &Path) -> Self {
        let (disk, made) = Disk::open(folder);
        let (copies, saved, wrong) = Copies::open(&disk);
        for why in &wrong {
            // Usual after a power cut: the other copy counts.
            tracing::warn!(%why, "a copy of the slots' state is damaged");
        }
        let both_damaged = saved.is_none() && !wrong.is_empty();
        let mut contents = Slot::ALL.map(|slot| disk.content(slot));
        let former = disk.former_state();
        let written = saved.clone().unwrap_or_default();
        let found =
            Found { saved, former: former.as_deref(), contents: &mut contents, linked: disk.linked() };
        let Opened { state, named, words } = opening::open(found);
        let mut current = Self {
            disk,
            copies,
            former,
            state: written,
            contents,
            findings: [const { None }; 3],
            trial_until: None,
            rollbacks: 0,
        };
        let outcome = made.and_then(|()| current.begin(state.clone(), &named));
        current.state = state;
        if let Err(error) = outcome {
            current.note(format!("the slots cannot be written, what they hold stays: {error}"));
        }
        if both_damaged {
            current.note(
                "both copies of the slots' state were damaged; what lies beside them took their place".into(),
            );
        }
        for words in words {
            current.note(words);
        }
        current
    }

    /// Brings the medium to the state that was found.
    fn begin(&mut self, state: State, named: &[Slot]) -> io::Result<()> {
        for slot in named {
            if let Content::Student(student) = &self.contents[*slot as usize] {
                self.disk.redescribe(*slot, student)?;
            }
        }
        self.switch(state)?;
        // Also when nothing changed: an earlier agent may have been cut off between any two of these.
        self.disk.point_at(self.state.active().map(|entry| entry.slot))?;
        if !self.copies.are_there() {
            let state = self.state.clone();
            self.copies.write(&state, &state)?;
        }
        self.follow();
        self.disk.tidy()
    }

    #[cfg(test)]
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What holds.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Make another state the true one.
    ///
    /// # Errors
    /// As for writing; then everything is as before.
    pub(super) fn switch(&mut self, state: State) -> io::Result<()> {
        if state == self.state {
            return Ok(());
        }
        self.copies.write(&state, &self.state)?;
        let slot = |state: &State| state.active().map(|entry| entry.slot);
        if let Err(error) = self.disk.point_at(slot(&state)) {
            // Applications and state must agree, whoever starts next.
            let undone = self.disk.point_at(slot(&self.state));
            let undone = undone.and(self.copies.write(&self.state, &state));
            if let Err(error) = undone {
                tracing::error!(%error, "a change of the slots could not be taken back; the next start mends it");
            }
            return Err(error);
        }
        self.state = state;
        self.follow();
        Ok(())
    }

    /// Write what agents of format 1 read. The truth stands already: a full disk costs only them something.
    fn follow(&mut self) {
        let text = Former::of(&self.state).write();
        if self.former.as_ref() == Some(&text) {
            return;
        }
        match self.disk.write(&self.disk.file(format1::STATE), text.as_bytes()) {
            Ok(()) => self.former = Some(text),
            Err(error) => tracing::warn!(%error, "the state for older agents is not written"),
        }
    }

    /// Note something for people, to be seen in every status; on the medium too if that takes it.
    pub(super) fn note(&mut self, text: String) {
        tracing::warn!("{text}");
        let state = self.state.noted(Note { at: unix_time(), text });
        if let Err(error) = self.switch(state.clone()) {
            tracing::warn!(%error, "a note on the slots is kept in memory only");
            self.state = state;
        }
    }

    /// An id for the next student.
    pub(super) fn new_id(&mut self) -> u64 {
        let id = self.state.next_id;
        // On the medium with the student; until then nobody has seen it.
        self.state.next_id += 1;
        id
    }

    /// A slot was given to a student, verified.
    pub(super) fn filled(&mut self, entry: Entry, student: Student) {
        self.contents[entry.slot as usize] = Content::Student(student);
        self.findings[entry.slot as usize] = Some(Finding { entry, at: unix_time(), damage: None });
    }

    /// What a slot's own files say of it.
    pub(super) fn content(&self, slot: Slot) -> &Content {
        &self.contents[slot as usize]
    }

    /// A student was looked at. Whether it is found damaged for the first time.
    pub(super) fn found(&mut self, entry: Entry, damage: Option<String>) -> bool {
        let known = self.damage(entry).is_some();
        let is_new = damage.is_some() && !known;
        self.findings[entry.slot as usize] = Some(Finding { entry, at: unix_time(), damage });
        is_new
    }

    /// What is known to be wrong with a student.
    pub(super) fn damage(&self, entry: Entry) -> Option<&str> {
        let finding = self.findings[entry.slot as usize].as_ref().filter(|finding| finding.entry == entry);
        finding?.damage.as_deref()
    }

    fn student(&self, entry: Entry) -> Option<&Student> {
        match &self.contents[entry.slot as usize] {
            Content::Student(student) if student.digest() == entry.digest => Some(student),
            _ => None,
        }
    }

    /// The bundle that a student came in, if its facts are understood.
    pub(super) fn bundle(&self, entry: Entry) -> Option<BundleManifest> {
        self.student(entry).map(|student| student.bundle.clone())
    }

    /// How people call a student.
    pub(super) fn name(&self, entry: Entry) -> String {
        match (self.student(entry), &self.contents[entry.slot as usize]) {
            (Some(student), _) => printable(&student.bundle.name).into_owned(),
            (None, Content::Sketch(sketch)) if sketch.digest == entry.digest && sketch.name.is_some() => {
                printable(sketch.name.as_deref().unwrap_or_default()).into_owned()
            }
            _ => format!("unknown {}", super::verify::short(&entry.digest)),
        }
    }

    /// The active student, as the user's program is told.
    pub(super) fn now(&self) -> Option<Now> {
        let entry = self.state.active()?;
        Some(Now { model: self.disk.active_model(), name: self.name(entry), digest: entry.digest })
    }

    /// What is where.
    pub(super) fn status(&self) -> SlotStatus {
        let whole = |entry: &Entry| self.damage(*entry).is_none();
        let content = |entry: Entry| self.describe(entry);
        SlotStatus {
            active: self.state.active().map(content),
            way_back: self.state.ways_back().find(whole).map(content),
            staged: self.state.staged.map(content),
            trial: self.state.trial.map(|entry| Trial { id: entry.id, seconds_left: 0 }),
            notices: self.state.notes.iter().map(|it| Notice { at: it.at, text: it.text.clone() }).collect(),
        }
    }

    fn describe(&self, entry: Entry) -> SlotContent {
        let finding = self.findings[entry.slot as usize].as_ref();
        let verified =
            finding.filter(|finding| finding.entry == entry && finding.damage.is_none()).map(|it| it.at);
        let artifact = self.student(entry).map(|student| &student.bundle.artifact);
        SlotContent {
            id: entry.id,
            name: self.name(entry),
            model: entry.digest,
            bytes: self.student(entry).map_or(0, |student| student.bytes),
            number: artifact.map_or(0, |artifact| artifact.number),
            target: artifact.map_or_else(String::new, |artifact| artifact.target.clone()),
            engine: artifact.map_or_else(String::new, |artifact| artifact.execution.engine.clone()),
            threads: artifact.map_or(1, |artifact| artifact.execution.threads),
            staged_at: self.student(entry).map_or(0, |student| student.staged_at),
            verified_at: verified.unwrap_or(0),
        }
    }
}

/// Seconds since 1970 by the board's clock.
pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
