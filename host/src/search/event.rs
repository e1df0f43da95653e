//! What an observer of a search may show. Nothing here is stored: the journal's lines are `record`'s.

use super::kinds::{SearcherKind, StageKind};
use super::record::Record;

/// What an observer may show.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stage begins.
    Stage(StageKind),
    /// A batch begins.
    Batch {
        /// The stage.
        stage: StageKind,
        /// Whose.
        searcher: SearcherKind,
        /// Which.
        update: usize,
        /// How many candidates.
        candidates: usize,
        /// Share of the stage's budget that is spent, or (but in the last stage) left to the next one.
        spent: f64,
    },
    /// One of the stage's best is trained again at the higher rung.
    Promotion {
        /// The stage.
        stage: StageKind,
        /// Which, from 0.
        number: usize,
        /// Share of the stage's budget that is spent, where it is one of time.
        spent: Option<f64>,
    },
    /// A recorded line was met again.
    Replayed(&'a Record),
    /// A line was written.
    Recorded(&'a Record),
}
