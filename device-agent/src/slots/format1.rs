//! Slots as agents of protocol 1 keep them: read once when a board is upgraded, written beside our own files so that such
//! an agent, put back, finds every student that is whole.
//!
//! Our own files are the truth. `state.toml` and each slot's `manifest.bin` follow them; an agent of format 1 that ran
//! meanwhile and changed something has written `state.toml` anew, without the comment that ours begins with, and what it
//! says is then taken over. It must not write anything itself.

use super::signed::Form;
use super::state::{Entry, Slot, State};
use super::student::Student;
use n2n_protocol::{Artifact, BundleManifest, Digest, Execution, Golden, Model};
use serde::{Deserialize, Serialize};

/// File of the state.
pub(super) const STATE: &str = "state.toml";
/// File of a student's facts, in its slot.
pub(super) const MANIFEST: &str = "manifest.bin";
/// Largest manifest that agents of format 1 read, bytes.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// First line of a `state.toml` of ours. Agents of format 1 read past it and never write it.
const MARK: &str = "# Follows state-0.toml and state-1.toml, for agents of protocol 1.\n";

/// `state.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Former {
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<Name>,
    on_trial: bool,
}

/// A slot, as `state.toml` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Name {
    A,
    B,
    C,
}

impl From<Slot> for Name {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::A => Self::A,
            Slot::B => Self::B,
            Slot::C => Self::C,
        }
    }
}

impl From<Name> for Slot {
    fn from(name: Name) -> Self {
        match name {
            Name::A => Self::A,
            Name::B => Self::B,
            Name::C => Self::C,
        }
    }
}

impl Former {
    /// The state of a file's text; `None` if it is damaged.
    pub(super) fn read(text: &str) -> Option<Self> {
        toml::from_str(text).ok()
    }

    /// What an agent of format 1 is to find. It erases each slot that is not named and ends a trial when it starts, so
    /// whatever is whole has a name that outlives that.
    pub(super) fn of(state: &State) -> Self {
        let slot = |entry: Option<Entry>| entry.map(|entry| Name::from(entry.slot));
        let (active, previous) = (state.active(), state.way_back());
        let named = |entry: &Entry| [active, previous].contains(&Some(*entry));
        let third = state.staged.or(state.before.filter(|entry| !named(entry))).or(state.trial);
        Self {
            active: slot(active),
            previous: slot(previous),
            staged: slot(third),
            on_trial: state.trial.is_some(),
        }
    }

    /// The text of its file.
    pub(super) fn write(self) -> String {
        // Names and a truth value: there is nothing that could not be written.
        format!("{MARK}{}", toml::to_string(&self).unwrap_or_default())
    }

    /// Whether we wrote a text, and not an agent of format 1.
    pub(super) fn is_ours(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// The state that an agent of format 1 left. `entry` finds the student in a slot; `known` is our own state of before.
    pub(super) fn adopted(self, known: &State, entry: impl Fn(Slot) -> Option<Entry>) -> State {
        let of = |name: Option<Name>| name.and_then(|name| entry(name.into()));
        let (active, previous, staged) = (of(self.active), of(self.previous), of(self.staged));
        let (trial, confirmed) = if self.on_trial { (active, previous) } else { (None, active) };
        let before = previous.filter(|_| trial.is_none());
        // What we lent the name of a staged student to outlive the other agent.
        let lent = staged.filter(|entry| before.is_none() && known.before == Some(*entry));
        let staged = staged.filter(|entry| lent.is_none() && Some(*entry) != active);
        // A way back of ours that it forgot and did not erase.
        let used = [trial, confirmed, before, staged];
        let forgotten =
            known.before.filter(|known| entry(known.slot) == Some(*known) && !used.contains(&Some(*known)));
        State { confirmed, before: before.or(lent).or(forgotten), trial, staged, ..known.clone() }
    }
}

/// `manifest.bin`: the position of each field is its name.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    model: [u8; 32],
    input_seed: u64,
    logits: Vec<f32>,
    tolerance: f32,
    latency_limit_ns: Option<u64>,
    signer: [u8; 32],
    signature: Vec<u8>,
    bytes: u64,
    staged_at: u64,
}

/// The student of a `manifest.bin`, if it is one; its id is still to be given.
pub(super) fn student(manifest: &[u8]) -> Option<Student> {
    let it: Stored = postcard::from_bytes(manifest).ok()?;
    let bundle = BundleManifest {
        name: it.name,
        artifact: Artifact {
            model: Model::onnx(Digest(it.model)),
            // The engine is not known, but agents of format 1 checked every student on one thread.
            execution: Execution { engine: String::new(), threads: 1, batch: 1, pace_us: 0 },
            classes: Vec::new(),
            target: String::new(),
            number: 0,
        },
        golden: Golden { input_seed: it.input_seed, logits: it.logits, tolerance: it.tolerance },
        latency_limit_ns: it.latency_limit_ns,
        signer: it.signer,
        signature: it.signature,
    };
    Some(Student { id: 0, bytes: it.bytes, staged_at: it.staged_at, form: Form::One, bundle })
}

/// The `manifest.bin` of a student. Agents of format 1 do not look at the signature of what is in a slot already.
///
/// # Errors
/// In words; it cannot happen for a student that was read.
pub(super) fn manifest(student: &Student) -> Result<Vec<u8>, String> {
    let BundleManifest { name, golden, latency_limit_ns, signer, signature, .. } = &student.bundle;
    let stored = Stored {
        name: name.clone(),
        model: student.digest().0,
        input_seed: golden.input_seed,
        logits: golden.logits.clone(),
        tolerance: golden.tolerance,
        latency_limit_ns: *latency_limit_ns,
        signer: *signer,
        signature: signature.clone(),
        bytes: student.bytes,
        staged_at: student.staged_at,
    };
    postcard::to_stdvec(&stored).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::trust;
    use super::*;

    fn entry(slot: Slot, id: u64) -> Entry {
        Entry { slot, id, digest: Digest([id as u8; 32]) }
    }

    /// What an agent of format 1 makes of a state when it starts.
    fn restarted(it: Former) -> Former {
        if it.on_trial {
            Former { active: it.previous, previous: None, staged: it.staged, on_trial: false }
        } else {
            it
        }
    }

    #[test]
    fn a_manifest_that_was_recorded_is_read_its_signature_holds_and_it_is_written_alike() {
        let recorded = include_bytes!("../../tests/fixtures/format1/on-trial/slots/slot-b/manifest.bin");
        let it = student(recorded).unwrap();
        assert_eq!((it.bundle.name.as_str(), it.bytes), ("two", 2900));
        assert_eq!(it.bundle.latency_limit_ns, Some(1_000_000_000));
        assert_eq!(trust::verify(&it), Ok(()));
        assert_eq!(manifest(&it).unwrap(), recorded);
        let mut forged = it;
        forged.bundle.name.push('x');
        assert!(trust::verify(&forged).is_err());
        assert_eq!(student(b"no manifest"), None);
    }

    #[test]
    fn a_state_that_was_recorded_is_read() {
        let recorded = include_str!("../../tests/fixtures/format1/on-trial/slots/state.toml");
        let it = Former::read(recorded).unwrap();
        assert_eq!(it.write(), format!("{MARK}{recorded}"));
        assert!(Former::is_ours(&it.write()) && !Former::is_ours(recorded));
        assert_eq!(Former::read(&it.write()), Some(it));
        let entries = |slot| Some(entry(slot, 1 + slot as u64));
        let state = it.adopted(&State::default(), entries);
        assert_eq!((state.trial, state.confirmed), (entries(Slot::C), entries(Slot::B)));
        assert_eq!(Former::read("active = \"D\"\non_trial = false\n"), None);
    }

    #[test]
    fn every_whole_student_outlives_an_agent_of_format_1_and_comes_back_as_what_it_was() {
        let (a, b, c) = (Some(entry(Slot::A, 1)), Some(entry(Slot::B, 2)), Some(entry(Slot::C, 3)));
        let all = |slot| [a, b, c].into_iter().flatten().find(|entry| entry.slot == slot);
        let settled = State { confirmed: b, before: a, staged: c, ..State::default() };
        assert_eq!(restarted(Former::of(&settled)).adopted(&settled, all), settled);

        let trial = State { confirmed: b, before: a, trial: c, ..State::default() };
        let back = restarted(Former::of(&trial)).adopted(&trial, all);
        assert_eq!(back, State { trial: None, ..trial }, "the restart has ended the trial");

        // It went back from C to B, which costs it A, and has not started since: A still lies there.
        let left = Former { active: Some(Name::B), ..Former::default() };
        let back = left.adopted(&State { confirmed: c, before: a, ..State::default() }, all);
        assert_eq!((back.confirmed, back.before, back.staged), (b, a, None));

        let first = State { trial: a, ..State::default() };
        let left = restarted(Former::of(&first));
        assert_eq!((left.active, left.staged), (None, Some(Name::A)), "its slot has a name");
    }
}
