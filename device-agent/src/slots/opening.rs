//! From what lies on the medium to the state that an agent starts with.
//!
//! Nothing that may be whole is given up here, whatever is missing, damaged or written by another agent: which bytes are
//! right is found out later, in the background. It must not touch files: what lies there is handed in.

use super::disk::Content;
use super::format1::Former;
use super::state::{Entry, Slot, State};

/// Ids that are passed over when it is not known which were given: more than a board stages in its life.
const UNKNOWN_IDS: u64 = 1_000_000;

/// What lies there.
pub(super) struct Found<'a> {
    /// The newest copy of the state that is whole.
    pub(super) saved: Option<State>,
    /// What an agent of format 1 would read.
    pub(super) former: Option<&'a str>,
    /// Each slot, in the order of [`Slot::ALL`].
    pub(super) contents: &'a mut [Content; 3],
    /// Where applications are led to.
    pub(super) linked: Option<Slot>,
}

/// What an agent starts with.
#[derive(Debug, PartialEq)]
pub(super) struct Opened {
    /// The state. A trial in it ended when the agent that began it did.
    pub(super) state: State,
    /// Slots whose students got their ids now.
    pub(super) named: Vec<Slot>,
    /// What a person should know, in words.
    pub(super) words: Vec<String>,
}

/// Decides. Students that an agent of format 1 put there get their ids.
pub(super) fn open(found: Found<'_>) -> Opened {
    let Found { saved, former, contents, linked } = found;
    let mut words = Vec::new();
    let known = saved.clone();
    let mut next_id = match &known {
        Some(state) => state.next_id.max(1),
        None => contents.iter().filter_map(id_of).max().map_or(1, |id| id.saturating_add(UNKNOWN_IDS)),
    };
    let mut named = Vec::new();
    for (slot, content) in Slot::ALL.into_iter().zip(contents.iter_mut()) {
        if let Content::Former(student) = content {
            student.id = next_id;
            next_id += 1;
            *content = Content::Student(student.clone());
            named.push(slot);
        }
    }
    let contents: &[Content; 3] = contents;
    let entry = |slot: Slot| {
        let known = known.iter().flat_map(State::entries).find(|entry| entry.slot == slot);
        entry_of(slot, &contents[slot as usize]).or(known)
    };
    let left = former.and_then(Former::read);
    let is_ours = former.is_none_or(Former::is_ours);
    let state = match (saved, left) {
        (Some(saved), Some(left)) if !is_ours => {
            words.push("an agent of another version changed the slots; what it left is taken over".into());
            left.adopted(&saved, entry)
        }
        (Some(saved), _) => saved,
        (None, Some(left)) => left.adopted(&State::default(), entry),
        (None, None) => rebuilt(linked, entry, &mut words),
    };
    Opened { state: State { next_id, ..state }, named, words }
}

fn id_of(content: &Content) -> Option<u64> {
    match content {
        Content::Student(student) => Some(student.id),
        Content::Sketch(sketch) => sketch.id,
        Content::Unknown | Content::Former(_) => None,
    }
}

/// The student in a slot, by the slot's own files.
fn entry_of(slot: Slot, content: &Content) -> Option<Entry> {
    match content {
        Content::Student(student) => Some(Entry { slot, id: student.id, digest: student.digest() }),
        // An id that nothing else has: a slot holds one student.
        Content::Sketch(sketch) => Some(Entry { slot, id: sketch.id.unwrap_or(0), digest: sketch.digest }),
        Content::Unknown | Content::Former(_) => None,
    }
}

/// The state by the slots alone: applications were led to the student that was active. Which of the others were confirmed is
/// not known; the newer one is the way back.
fn rebuilt(linked: Option<Slot>, entry: impl Fn(Slot) -> Option<Entry>, words: &mut Vec<String>) -> State {
    let mut all: Vec<Entry> = Slot::ALL.into_iter().filter_map(&entry).collect();
    if all.is_empty() {
        return State::default();
    }
    words.push("the state of the slots was lost; it is rebuilt from what lies in them".into());
    all.sort_by_key(|entry| entry.id);
    let confirmed = linked.and_then(entry);
    let before = all.into_iter().rfind(|entry| confirmed.is_some() && Some(*entry) != confirmed);
    State { confirmed, before, ..State::default() }
}

#[cfg(test)]
mod tests {
    use super::super::student::Sketch;
    use super::super::student::tests::student;
    use super::*;
    use n2n_protocol::Digest;

    fn content(id: u64) -> Content {
        let mut it = student();
        it.id = id;
        it.bundle.artifact.model.digest = Digest([id as u8; 32]);
        Content::Student(it)
    }

    fn entry(slot: Slot, id: u64) -> Entry {
        Entry { slot, id, digest: Digest([id as u8; 32]) }
    }

    fn settled() -> State {
        State {
            confirmed: Some(entry(Slot::B, 2)),
            before: Some(entry(Slot::A, 1)),
            staged: Some(entry(Slot::C, 3)),
            next_id: 4,
            highest_number: 9,
            ..State::default()
        }
    }

    fn opened(saved: Option<State>, former: Option<&str>, linked: Option<Slot>) -> Opened {
        let mut contents = [content(1), content(2), content(3)];
        open(Found { saved, former, contents: &mut contents, linked })
    }

    #[test]
    fn our_own_state_counts_whatever_became_of_the_other_form() {
        let text = Former::of(&settled()).write();
        for former in [Some(text.as_str()), None, Some("torn"), Some("")] {
            let found = opened(Some(settled()), former, Some(Slot::B));
            assert_eq!((found.state, found.words.len()), (settled(), 0), "{former:?}");
        }
        // Cut off between the two: the other form is still that of the state before.
        let trial = settled().activated(3).unwrap();
        assert_eq!(opened(Some(trial.clone()), Some(&text), Some(Slot::B)).state, trial);
    }

    #[test]
    fn what_an_agent_of_format_1_changed_is_taken_over() {
        let left = "active = \"A\"\nstaged = \"C\"\non_trial = false\n";
        let found = opened(Some(settled()), Some(left), Some(Slot::A));
        let expected = State { confirmed: Some(entry(Slot::A, 1)), before: None, ..settled() };
        assert_eq!((found.state, found.words.len()), (expected, 1));
    }

    #[test]
    fn a_board_of_format_1_is_taken_over_and_its_students_get_ids() {
        let former = |id| match content(id) {
            Content::Student(it) => Content::Former(it),
            other => other,
        };
        let mut contents = [former(0), former(0), Content::Unknown];
        let text = "active = \"B\"\nprevious = \"A\"\nstaged = \"C\"\non_trial = true\n";
        let found =
            open(Found { saved: None, former: Some(text), contents: &mut contents, linked: Some(Slot::B) });
        assert_eq!(found.named, [Slot::A, Slot::B]);
        let ids = [found.state.confirmed, found.state.trial].map(|it| it.unwrap().id);
        assert_eq!((ids, found.state.staged, found.state.next_id), ([1, 2], None, 3));
        assert!(matches!(&contents[1], Content::Student(it) if it.id == 2));
    }

    #[test]
    fn without_any_state_the_student_that_applications_are_led_to_stays() {
        let found = opened(None, None, Some(Slot::A));
        assert_eq!(
            (found.state.confirmed, found.state.before),
            (Some(entry(Slot::A, 1)), Some(entry(Slot::C, 3)))
        );
        assert!(found.state.next_id > 1_000_000 && found.words.len() == 1);
        let found = opened(None, Some("torn"), Some(Slot::B));
        assert_eq!(found.state.confirmed, Some(entry(Slot::B, 2)));
        // Nobody was led anywhere: nothing is made active, and nothing is given up.
        let found = opened(None, None, None);
        assert_eq!((found.state.active(), found.state.before), (None, None));
    }

    #[test]
    fn a_student_of_which_little_is_understood_is_kept() {
        let sketch = Sketch { digest: Digest([2; 32]), name: None, id: None, why: "newer".into() };
        let mut contents = [content(1), Content::Sketch(sketch), Content::Unknown];
        let found = open(Found { saved: None, former: None, contents: &mut contents, linked: Some(Slot::B) });
        assert_eq!(found.state.confirmed, Some(Entry { slot: Slot::B, id: 0, digest: Digest([2; 32]) }));
        // Of a slot whose own files are lost, the state still knows what its bytes must be.
        let mut contents = [Content::Unknown, Content::Unknown, Content::Unknown];
        let found = open(Found {
            saved: Some(settled()),
            former: None,
            contents: &mut contents,
            linked: Some(Slot::B),
        });
        assert_eq!(found.state, settled());
    }
}
