//! What an observer of a search may show. Nothing here is stored: the journal's lines are `record`'s.

use super::record::{Batch, Record};

/// What an observer may show.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A batch begins.
    Batch(&'a Batch),
    /// A recorded line was met again.
    Replayed(&'a Record),
    /// A line was written.
    Recorded(&'a Record),
}
