//! The files of slots read from any bytes, for `tests/fuzz` alone: nothing panics, and what is understood is written and
//! read again as itself.

use super::copies::{self, CHECKSUM};
use super::disk::Content;
use super::format1::{self, Former};
use super::opening::{self, Found};
use super::state::{Slot, State};
use super::student::Student;
use n2n_protocol::Digest;

/// Read the bytes as each of the files, and start an agent's state from what they are.
///
/// # Panics
/// When something of that does not hold.
pub fn read_as_every_file(bytes: &[u8]) {
    let mut contents = [Content::Unknown, Content::Unknown, Content::Unknown];
    if let Some(student) = format1::student(bytes) {
        let again = format1::manifest(&student).expect("a manifest that was read can be written");
        // By its bytes: a logit that is no number is unequal to itself.
        let known = format1::student(&again).and_then(|it| format1::manifest(&it).ok());
        assert_eq!(known, Some(again), "a manifest of format 1 changes");
        contents[0] = Content::Former(student);
    }
    let saved = copies::parse(bytes).ok().map(|(_, state)| state);
    assert!(saved.is_none(), "bytes that are made up have a checksum that fits");
    let text = String::from_utf8_lossy(bytes);
    let sealed = format!("{CHECKSUM}\"{}\"\n{text}", Digest::of(text.as_bytes()));
    let saved = copies::parse(sealed.as_bytes()).ok();
    if let Some((sequence, state)) = &saved {
        let (again, same) = copies::parse(&copies::render(state, *sequence)).expect("a state is written");
        // Notes are cut to fit.
        let without_notes = |state: &State| State { notes: Vec::new(), ..state.clone() };
        assert_eq!((again, without_notes(&same)), (*sequence, without_notes(state)), "a state changes");
    }
    match Student::read(&text) {
        Ok(student) => {
            let again = student.write().ok().map(|text| Student::read(&text).expect("a student is written"));
            // Facts of a bundle that is too long are refused when it is staged.
            let text = |student: &Student| student.write().ok();
            assert_eq!(again.as_ref().and_then(text), text(&student), "a student changes");
            contents[1] = Content::Student(student);
        }
        Err(Some(sketch)) => contents[2] = Content::Sketch(sketch),
        Err(None) => {}
    }
    let former = Former::read(&text).map(|_| &*text);
    for linked in [None, Some(Slot::A), Some(Slot::C)] {
        let saved = saved.clone().map(|(_, state)| state);
        let opened = opening::open(Found { saved, former, contents: &mut contents.clone(), linked });
        for entry in opened.state.entries() {
            let _ = (opened.state.emptied(entry.slot), opened.state.without(entry));
        }
        let _ = (opened.state.free(), opened.state.kept(), Former::of(&opened.state).write());
    }
}
