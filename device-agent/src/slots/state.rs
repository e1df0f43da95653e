//! Which slot holds what, and how that changes: the rules of shipping as pure functions.
//!
//! A student is staged, then activated on trial, then confirmed. Only what was confirmed is ever gone back to. It must not
//! touch files, clocks or processes.

use n2n_protocol::{Digest, limits};

/// One of the three slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    A,
    B,
    C,
}

impl Slot {
    pub(super) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    /// Name of its folder, and how people call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::A => "slot-a",
            Self::B => "slot-b",
            Self::C => "slot-c",
        }
    }

    /// The slot of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name() == name)
    }
}

/// A student, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its slot.
    pub(super) slot: Slot,
    /// Given when it was staged; never given twice.
    pub(super) id: u64,
    /// SHA-256 of its model file: what its bytes must be, even when the slot's own facts are lost.
    pub(super) digest: Digest,
}

/// Something that the board did or found by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// When, seconds since 1970.
    pub(super) at: u64,
    /// What, in words.
    pub(super) text: String,
}

/// Which slot holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The student that was confirmed last.
    pub(super) confirmed: Option<Entry>,
    /// The one that was confirmed before it.
    pub(super) before: Option<Entry>,
    /// Active, and not confirmed yet.
    pub(super) trial: Option<Entry>,
    /// Verified, not active yet.
    pub(super) staged: Option<Entry>,
    /// For the next student that is staged.
    pub(super) next_id: u64,
    /// Highest number of a bundle that was staged.
    pub(super) highest_number: u64,
    /// The newest, at most [`limits::NOTICES`].
    pub(super) notes: Vec<Note>,
}

/// A change that does not fit the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Nothing to activate.
    #[error("nothing is staged")]
    NothingStaged,
    /// Another student is staged by now.
    #[error("student {asked} is not staged any more: student {staged} is; ship again")]
    OtherStaged {
        /// What was to be activated.
        asked: u64,
        /// What is staged.
        staged: u64,
    },
    /// No trial to end.
    #[error("nothing is on trial")]
    NoTrial,
    /// The trial that was named is over.
    #[error("trial {0} has ended already")]
    TrialEnded(u64),
    /// No student to go back to.
    #[error("there is no confirmed student to go back to")]
    NoWayBack,
}

impl State {
    /// What runs.
    pub(super) fn active(&self) -> Option<Entry> {
        self.trial.or(self.confirmed)
    }

    /// What a roll-back returns to.
    pub(super) fn way_back(&self) -> Option<Entry> {
        if self.trial.is_some() { self.confirmed } else { self.before }
    }

    /// Every student that is of use, the active one first, then its way back.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for entry in [self.active(), self.way_back(), self.before, self.staged].into_iter().flatten() {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        entries
    }

    /// The slot that the next student goes to. Never the active one's, nor that of the student confirmed last: what was
    /// confirmed before that one gives way only during a trial, when no other slot is left.
    pub(super) fn free(&self) -> Slot {
        let holds = |entry: Option<Entry>, slot| entry.is_some_and(|entry| entry.slot == slot);
        let kept = |slot| holds(self.trial, slot) || holds(self.confirmed, slot);
        let open = Slot::ALL.into_iter().filter(|slot| !kept(*slot));
        let cost = |slot: &Slot| (holds(self.before, *slot), holds(self.staged, *slot));
        // Of three slots at most two are kept, so one is always open.
        open.min_by_key(cost).unwrap_or(Slot::A)
    }

    /// Without whatever lies in a slot that is to be filled anew.
    pub(super) fn emptied(&self, slot: Slot) -> Self {
        let elsewhere = |entry: Option<Entry>| entry.filter(|entry| entry.slot != slot);
        Self { before: elsewhere(self.before), staged: elsewhere(self.staged), ..self.clone() }
    }

    /// With a student staged that came in a bundle of this number.
    pub(super) fn staging(&self, entry: Entry, number: u64) -> Self {
        Self {
            staged: Some(entry),
            next_id: self.next_id.max(entry.id.saturating_add(1)),
            highest_number: self.highest_number.max(number),
            ..self.emptied(entry.slot)
        }
    }

    /// The staged student, if it is the one that is meant.
    pub(super) fn staged_as(&self, id: u64) -> Result<Entry, Unfit> {
        match self.staged {
            Some(entry) if entry.id == id => Ok(entry),
            Some(entry) => Err(Unfit::OtherStaged { asked: id, staged: entry.id }),
            None => Err(Unfit::NothingStaged),
        }
    }

    /// The student on trial, if it is the one that is meant.
    pub(super) fn trial_as(&self, id: u64) -> Result<Entry, Unfit> {
        match self.trial {
            Some(entry) if entry.id == id => Ok(entry),
            Some(_) => Err(Unfit::TrialEnded(id)),
            None if self.active().is_some() => Err(Unfit::TrialEnded(id)),
            None => Err(Unfit::NoTrial),
        }
    }

    /// With the staged student active, on trial. Whatever was on trial before is no way back.
    pub(super) fn activated(&self, id: u64) -> Result<Self, Unfit> {
        let entry = self.staged_as(id)?;
        Ok(Self { trial: Some(entry), staged: None, ..self.clone() })
    }

    /// With the trial confirmed. `way_back_is_whole`: a student that is known to be damaged is none to keep.
    pub(super) fn confirmed(&self, id: u64, way_back_is_whole: bool) -> Result<Self, Unfit> {
        let entry = self.trial_as(id)?;
        let before = self.confirmed.filter(|_| way_back_is_whole).or(self.before);
        Ok(Self { confirmed: Some(entry), before, trial: None, ..self.clone() })
    }

    /// What may be gone back to, best first.
    pub(super) fn ways_back(&self) -> impl Iterator<Item = Entry> {
        let confirmed = self.confirmed.filter(|_| self.trial.is_some());
        [confirmed, self.before].into_iter().flatten()
    }

    /// With an earlier student active again: one of [`Self::ways_back`], or nothing when the first student ever was on
    /// trial.
    pub(super) fn back_to(&self, entry: Option<Entry>) -> Self {
        let before = self.before.filter(|_| entry.is_some() && entry == self.confirmed);
        Self { confirmed: entry, before, trial: None, ..self.clone() }
    }

    /// With the student on trial confirmed for want of another that is whole.
    pub(super) fn kept(&self) -> Self {
        Self { confirmed: self.active(), before: None, trial: None, ..self.clone() }
    }

    /// Without a student that is damaged, unless it is active or its trial's only way back.
    pub(super) fn without(&self, damaged: Entry) -> Self {
        let other = |entry: Option<Entry>| entry.filter(|entry| *entry != damaged);
        Self { before: other(self.before), staged: other(self.staged), ..self.clone() }
    }

    /// With one more note, said once; the oldest give way.
    pub(super) fn noted(&self, note: Note) -> Self {
        let mut notes = self.notes.clone();
        notes.retain(|earlier| earlier.text != note.text);
        notes.push(note);
        notes.drain(..notes.len().saturating_sub(limits::NOTICES));
        Self { notes, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(slot: Slot, id: u64) -> Entry {
        Entry { slot, id, digest: Digest([id as u8; 32]) }
    }

    /// Stages into the free slot.
    fn stage(state: &State) -> State {
        let id = state.next_id;
        state.staging(entry(state.free(), id), id)
    }

    fn confirmed(state: &State) -> State {
        let state = stage(state);
        let id = state.staged.unwrap().id;
        state.activated(id).unwrap().confirmed(id, true).unwrap()
    }

    #[test]
    fn however_many_trials_follow_the_last_confirmed_student_stays_reachable() {
        let mut state = confirmed(&confirmed(&State::default()));
        let last = state.confirmed.unwrap();
        for _ in 0..5 {
            state = stage(&state);
            state = state.activated(state.staged.unwrap().id).unwrap();
            assert_eq!(state.way_back(), Some(last));
        }
        let back = state.back_to(state.way_back());
        assert_eq!((back.active(), back.trial), (Some(last), None));
    }

    #[test]
    fn a_late_host_ends_nobody_elses_trial() {
        let state = stage(&confirmed(&State::default()));
        let one = state.staged.unwrap().id;
        let state = stage(&state.activated(one).unwrap());
        let two = state.staged.unwrap().id;
        assert_eq!(state.activated(one), Err(Unfit::OtherStaged { asked: one, staged: two }));
        let state = state.activated(two).unwrap();
        assert_eq!(state.confirmed(one, true), Err(Unfit::TrialEnded(one)));
        assert_eq!(state.activated(two), Err(Unfit::NothingStaged));
        assert_eq!(State::default().confirmed(one, true), Err(Unfit::NoTrial));
    }

    #[test]
    fn going_back_from_a_confirmed_student_reaches_the_one_before_and_no_further() {
        let state = confirmed(&confirmed(&State::default()));
        let first = state.before.unwrap();
        assert_eq!(state.ways_back().collect::<Vec<_>>(), [first]);
        let back = state.back_to(Some(first));
        assert_eq!((back.active(), back.way_back()), (Some(first), None));
        assert_eq!(back.ways_back().count(), 0);
    }

    #[test]
    fn a_damaged_way_back_of_a_trial_is_not_kept_when_the_trial_is_confirmed() {
        let state = stage(&confirmed(&confirmed(&State::default())));
        let (id, before) = (state.staged.unwrap().id, state.before);
        let trial = state.activated(id).unwrap();
        assert_eq!(trial.confirmed(id, false).unwrap().before, before);
        assert_eq!(trial.confirmed(id, true).unwrap().before, trial.confirmed);
        assert_eq!(trial.kept().confirmed, trial.trial);
    }

    #[test]
    fn notes_are_the_newest() {
        let mut state = State::default();
        for at in 0..20 {
            state = state.noted(Note { at, text: format!("note {at}") });
        }
        state = state.noted(Note { at: 20, text: "note 15".into() });
        let at: Vec<u64> = state.notes.iter().map(|note| note.at).collect();
        assert_eq!(at, [12, 13, 14, 16, 17, 18, 19, 20], "the newest, and none twice");
    }

    proptest! {
        #[test]
        fn whatever_happens_students_do_not_share_a_slot_and_none_in_use_is_overwritten(
            steps in prop::collection::vec((0_u8..5, any::<bool>()), 1..60)
        ) {
            let mut state = State::default();
            for (step, whole) in steps {
                let last = state.confirmed;
                let next = match step {
                    0 => stage(&state),
                    1 => state.staged.map_or(state.clone(), |it| state.activated(it.id).unwrap()),
                    2 => state.trial.map_or(state.clone(), |it| state.confirmed(it.id, whole).unwrap()),
                    3 => state.ways_back().next().map_or(state.clone(), |it| state.back_to(Some(it))),
                    _ => state.staged.map_or(state.clone(), |it| state.without(it)),
                };
                if matches!(step, 0 | 1 | 4) {
                    prop_assert_eq!(next.confirmed, last);
                }
                if step == 0 {
                    let filled = next.staged.unwrap().slot;
                    prop_assert!(state.active().is_none_or(|it| it.slot != filled));
                    prop_assert!(state.confirmed.is_none_or(|it| it.slot != filled));
                }
                let mut slots: Vec<Slot> =
                    [next.trial, next.confirmed, next.before, next.staged].into_iter().flatten().map(|it| it.slot).collect();
                let all = slots.len();
                slots.sort_by_key(|slot| slot.name());
                slots.dedup();
                prop_assert_eq!(slots.len(), all);
                state = next;
            }
        }
    }
}
