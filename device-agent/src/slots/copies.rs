//! The state on the medium: two copies of one fixed length, overwritten in place, one after the other.
//!
//! In place, because a full disk has no block for a new file and must not stop a roll-back; two, because a power cut may
//! tear the one that is being written, and a medium may lose one: its checksum tells. The newest copy that is whole is the
//! state. It must not know what the state means.

use super::disk::Disk;
use super::state::{Entry, Note, Slot, State};
use n2n_protocol::Digest;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// The two files.
const NAMES: [&str; 2] = ["state-0.toml", "state-1.toml"];
/// Length of each, bytes: a state with all of its notes, and one block of most file systems.
const BYTES: usize = 4096;
/// Most that is read of one, bytes: a newer agent's may be longer.
const MAX_BYTES: u64 = 64 << 10;
/// Longest text of a note, bytes: a sentence with two names in it.
const NOTE_BYTES: usize = 320;
/// Version of the form that is written here.
const VERSION: u32 = 2;
/// Key of the first line, which holds the digest of all that follows it.
pub(super) const CHECKSUM: &str = "checksum = ";
/// What people should know who open it.
const HEAD: &str =
    "# Which slot holds what. Written by n2n-agent alone; what it adds up to is in the other copy too.\n";

/// The two copies.
#[derive(Debug)]
pub(super) struct Copies {
    disk: Disk,
    /// The copy that is written last, because the other one may be damaged.
    newest: usize,
    sequence: u64,
}

impl Copies {
    /// Reads both; what the newest whole one says, and what is wrong with the others, in words.
    pub(super) fn open(disk: &Disk) -> (Self, Option<State>, Vec<String>) {
        let mut copies = Self { disk: disk.clone(), newest: 0, sequence: 0 };
        let (mut best, mut wrong): (Option<State>, _) = (None, Vec::new());
        for (index, name) in NAMES.into_iter().enumerate() {
            match copies.read(index) {
                Ok(None) => {}
                Ok(Some((sequence, state))) => {
                    if best.is_none() || sequence > copies.sequence {
                        (copies.newest, copies.sequence, best) = (index, sequence, Some(state));
                    }
                }
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
        (copies, best, wrong)
    }

    fn read(&self, index: usize) -> io::Result<Option<(u64, State)>> {
        let file = match File::open(self.disk.file(NAMES[index])) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        parse(&bytes).map(Some).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
    }

    /// Makes a state the newest one, on the medium, in both copies. It holds when the first of them is written; if that
    /// fails, `before` is written again, so that a later start does not find what was answered with an error.
    ///
    /// # Errors
    /// As for writing and syncing the first copy.
    pub(super) fn write(&mut self, state: &State, before: &State) -> io::Result<()> {
        let (first, second) = (1 - self.newest, self.newest);
        self.sequence += 1;
        if let Err(error) = self.put(first, state) {
            self.sequence += 1;
            // If even that fails, the medium is lost for now and the other copy has the last word.
            let _ = self.put(first, before);
            return Err(error);
        }
        self.newest = first;
        match self.put(second, state) {
            Ok(()) => self.newest = second,
            Err(error) => tracing::warn!(%error, "the second copy of the slots' state is not written"),
        }
        Ok(())
    }

    /// Whether both copies are there, so that later writes need no room.
    pub(super) fn are_there(&self) -> bool {
        NAMES.iter().all(|name| self.disk.file(name).metadata().is_ok_and(|it| it.len() == BYTES as u64))
    }

    fn put(&self, index: usize, state: &State) -> io::Result<()> {
        let bytes = render(state, self.sequence);
        let path = self.disk.file(NAMES[index]);
        let is_new = !path.exists();
        self.disk.step()?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.write_all_at(&bytes, 0)?;
        if file.metadata()?.len() != BYTES as u64 {
            file.set_len(BYTES as u64)?;
        }
        self.disk.step()?;
        file.sync_data()?;
        if is_new { self.disk.sync() } else { Ok(()) }
    }
}

/// A copy as TOML. Unknown keys are passed over: a newer agent may have written them.
#[derive(Serialize, Deserialize)]
struct Form {
    version: u32,
    sequence: u64,
    next_id: u64,
    #[serde(default)]
    highest_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trial: Option<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged: Option<Place>,
    #[serde(default)]
    notes: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Place {
    slot: String,
    id: u64,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    text: String,
}

impl From<Entry> for Place {
    fn from(it: Entry) -> Self {
        Self { slot: it.slot.name().into(), id: it.id, digest: it.digest.to_string() }
    }
}

impl Place {
    fn entry(&self) -> Option<Entry> {
        let (slot, digest) = (Slot::of_name(&self.slot)?, self.digest.parse().ok()?);
        Some(Entry { slot, id: self.id, digest })
    }
}

/// The bytes of a copy, [`BYTES`] of them. Notes that do not fit are left out, oldest first.
pub(super) fn render(state: &State, sequence: u64) -> Vec<u8> {
    let clip = |text: &str| {
        let plain: String =
            text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        plain[..plain.floor_char_boundary(NOTE_BYTES)].to_owned()
    };
    let mut form = Form {
        version: VERSION,
        sequence,
        // TOML's integers have a sign; no board stages so many students.
        next_id: state.next_id.min(i64::MAX as u64),
        highest_number: state.highest_number.min(i64::MAX as u64),
        confirmed: state.confirmed.map(Place::from),
        before: state.before.map(Place::from),
        trial: state.trial.map(Place::from),
        staged: state.staged.map(Place::from),
        notes: state.notes.iter().map(|note| Line { at: note.at, text: clip(&note.text) }).collect(),
    };
    loop {
        // Numbers and texts: there is nothing that could not be written.
        let body = format!("{HEAD}{}", toml::to_string(&form).unwrap_or_default());
        let room = BYTES - CHECKSUM.len() - 64 - "\"\"\n".len();
        if body.len() <= room || form.notes.is_empty() {
            let body = body.clone() + &"\n".repeat(room.saturating_sub(body.len()));
            return format!("{CHECKSUM}\"{}\"\n{body}", Digest::of(body.as_bytes())).into_bytes();
        }
        form.notes.remove(0);
    }
}

/// Sequence and content of a copy.
pub(super) fn parse(bytes: &[u8]) -> Result<(u64, State), String> {
    let text = str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    let (first, body) = text.split_once('\n').ok_or("cut short")?;
    let sum = first.strip_prefix(CHECKSUM).map(|sum| sum.trim_matches('"')).ok_or("no checksum")?;
    if sum != Digest::of(body.as_bytes()).to_string() {
        return Err("its checksum does not fit".into());
    }
    let form: Form = toml::from_str(body).map_err(|error| error.message().to_owned())?;
    let entry = |place: &Option<Place>| place.as_ref().and_then(Place::entry);
    let state = State {
        confirmed: entry(&form.confirmed),
        before: entry(&form.before),
        trial: entry(&form.trial),
        staged: entry(&form.staged),
        next_id: form.next_id,
        highest_number: form.highest_number,
        notes: form.notes.into_iter().map(|line| Note { at: line.at, text: line.text }).collect(),
    };
    Ok((form.sequence, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> State {
        let entry = |slot, id| Some(Entry { slot, id, digest: Digest([0xab; 32]) });
        // Quotes of all kinds: they have to be escaped.
        let note = Note { at: u64::MAX >> 1, text: "\'\'\'\"\"\"".repeat(80) };
        State {
            confirmed: entry(Slot::A, i64::MAX as u64 - 1),
            before: entry(Slot::B, 2),
            trial: entry(Slot::C, 3),
            staged: None,
            next_id: i64::MAX as u64,
            highest_number: i64::MAX as u64,
            notes: vec![note; 8],
        }
    }

    #[test]
    fn every_state_fits_and_comes_back_its_oldest_notes_give_way() {
        let bytes = render(&full(), 5);
        assert_eq!(bytes.len(), BYTES);
        let (sequence, state) = parse(&bytes).unwrap();
        assert!(sequence == 5 && (4..8).contains(&state.notes.len()), "{}", state.notes.len());
        assert_eq!(State { notes: vec![], ..state }, State { notes: vec![], ..full() });
        let (_, state) = parse(&render(&State::default(), 1)).unwrap();
        assert_eq!(state, State::default());
    }

    #[test]
    fn a_copy_of_which_any_byte_changed_or_is_missing_is_not_believed() {
        let bytes = render(&full(), 5);
        for index in 0..bytes.len() {
            let mut torn = bytes.clone();
            torn[index] ^= 4;
            assert!(parse(&torn).is_err(), "byte {index}");
        }
        for length in (0..bytes.len()).step_by(100) {
            assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_a_newer_agent_added_is_passed_over() {
        let body = "version = 3\nsequence = 9\nnext_id = 4\nmood = \"good\"\n[confirmed]\nslot = \"slot-d\"\nid = 1\ndigest = \"00\"\n";
        let text = format!("{CHECKSUM}\"{}\"\n{body}", Digest::of(body.as_bytes()));
        let (sequence, state) = parse(text.as_bytes()).unwrap();
        assert_eq!((sequence, state.next_id, state.confirmed), (9, 4, None));
    }

    #[test]
    fn either_copy_alone_is_the_whole_truth() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, made) = Disk::open(folder.path());
        made.unwrap();
        let (mut copies, none, wrong) = Copies::open(&disk);
        assert_eq!((none, wrong.len(), copies.are_there()), (None, 0, false));
        let state = |next_id| State { next_id, ..State::default() };
        for id in 1..4 {
            copies.write(&state(id), &state(id - 1)).unwrap();
        }
        assert!(copies.are_there());
        let read = || Copies::open(&disk);
        let found = || read().1.map(|state| state.next_id);
        for (spoilt, other) in [(0, 1), (1, 0)] {
            let whole = std::fs::read(disk.file(NAMES[spoilt])).unwrap();
            std::fs::write(disk.file(NAMES[spoilt]), "torn").unwrap();
            assert_eq!((found(), read().2.len()), (Some(3), 1), "and it is said");
            // The whole one is not touched before the other is whole again.
            assert_eq!(read().0.newest, other);
            std::fs::write(disk.file(NAMES[spoilt]), whole).unwrap();
        }
        let (mut copies, ..) = read();
        std::fs::write(disk.file(NAMES[0]), "torn").unwrap();
        std::fs::write(disk.file(NAMES[1]), "torn").unwrap();
        assert_eq!(found(), None);
        copies.write(&state(4), &state(3)).unwrap();
        assert_eq!(found(), Some(4));
    }
}
