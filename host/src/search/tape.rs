//! The journal as the search sees it: what was recorded before an interruption is checked off first, then writing goes on.
//!
//! A resumed search runs again from its first line with recorded answers (the cache) and recorded clock readings; it must
//! propose the recorded candidates again. Policy states are thereby rebuilt without being stored.

use std::collections::VecDeque;

use super::answer::Fault;
use super::error::SearchError;
use super::evaluator::Evaluator;
use super::event::Event;
use super::record::{Record, Trial};

/// Where records go.
pub type Journal<'a> = dyn FnMut(&Record) -> Result<(), Fault> + 'a;
/// Who is told about progress.
pub type Observer<'a> = dyn FnMut(&Event) + 'a;

/// Recorded lines still to be met, and the way on.
pub(super) struct Tape<'a> {
    expected: VecDeque<Record>,
    trials: u64,
    journal: &'a mut Journal<'a>,
    observer: &'a mut Observer<'a>,
}

impl<'a> Tape<'a> {
    pub(super) fn new(
        recorded: &[Record],
        journal: &'a mut Journal<'a>,
        observer: &'a mut Observer<'a>,
    ) -> Self {
        let progress =
            |record: &&Record| !matches!(record, Record::Started(_) | Record::Fault(_) | Record::Resumed(_));
        Self { expected: recorded.iter().filter(progress).cloned().collect(), trials: 0, journal, observer }
    }

    /// Whether everything recorded has been met.
    pub(super) fn is_live(&self) -> bool {
        self.expected.is_empty()
    }

    /// The budget's clock: the reading that the next recorded line was made with, or the evaluator's.
    pub(super) fn clock(&self, evaluator: &dyn Evaluator) -> u64 {
        match self.expected.front() {
            Some(Record::Batch(batch)) => batch.elapsed_ns,
            Some(Record::Finished(finished)) => finished.elapsed_ns,
            _ => u64::try_from(evaluator.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn observe(&mut self, event: &Event) {
        (self.observer)(event);
    }

    /// Numbers a trial and records it.
    pub(super) fn put_trial(&mut self, trial: &mut Trial) -> Result<(), SearchError> {
        trial.index = self.trials;
        self.trials += 1;
        if let Some(Record::Trial(recorded)) = self.expected.front() {
            // What it cost was paid before the interruption.
            trial.known = recorded.known;
            trial.measure_s = recorded.measure_s;
            trial.train_s = recorded.train_s;
        }
        self.put(&Record::Trial(Box::new(trial.clone())))
    }

    /// Records a line, or checks it against the recorded one.
    pub(super) fn put(&mut self, record: &Record) -> Result<(), SearchError> {
        match self.expected.pop_front() {
            Some(recorded) if same(&recorded, record) => {
                (self.observer)(&Event::Replayed(Box::new(recorded)));
                Ok(())
            }
            Some(recorded) => {
                Err(SearchError::Diverged { expected: describe(&recorded), got: describe(record) })
            }
            None => {
                (self.journal)(record)?;
                (self.observer)(&Event::Recorded(Box::new(record.clone())));
                Ok(())
            }
        }
    }

    /// Writes a line that is no part of the search's progress.
    pub(super) fn note(&mut self, record: &Record) -> Result<(), Fault> {
        (self.journal)(record)
    }
}

/// Whether both lines are the same step of the same search.
fn same(recorded: &Record, now: &Record) -> bool {
    match (recorded, now) {
        (Record::Trial(a), Record::Trial(b)) => {
            (a.index, a.batch, &a.searcher, a.rollout, a.rung)
                == (b.index, b.batch, &b.searcher, b.rollout, b.rung)
                && (&a.genome, &a.digest, &a.lineage) == (&b.genome, &b.digest, &b.lineage)
        }
        (Record::Batch(a), Record::Batch(b)) => {
            (a.number, a.purpose, &a.searcher, a.rung, a.candidates)
                == (b.number, b.purpose, &b.searcher, b.rung, b.candidates)
        }
        (Record::Measured(a), Record::Measured(b)) => a.digest == b.digest,
        (Record::Update(a), Record::Update(b)) => {
            (a.batch, &a.searcher, a.trials) == (b.batch, &b.searcher, b.trials)
        }
        (Record::Finished(a), Record::Finished(b)) => (a.batches, a.trials) == (b.batches, b.trials),
        _ => false,
    }
}

fn describe(record: &Record) -> String {
    match record {
        Record::Batch(batch) => format!("batch {} ({:?} by {})", batch.number, batch.purpose, batch.searcher),
        Record::Measured(tried) => format!("a measurement of {}", short(&tried.digest)),
        Record::Trial(trial) => {
            let digest = short(&trial.digest);
            format!("trial {} (batch {} by {}, digest {digest})", trial.index, trial.batch, trial.searcher)
        }
        Record::Update(update) => format!("update of batch {} by {}", update.batch, update.searcher),
        Record::Finished(finished) => format!("the end after {} batches", finished.batches),
        Record::Started(_) | Record::Fault(_) | Record::Resumed(_) => "a note".to_owned(),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or("none")
}
