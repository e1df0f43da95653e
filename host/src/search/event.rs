//! What a search tells whoever watches: owned, plain data. The journal's lines are `record`'s.

use serde::{Deserialize, Serialize};

use super::record::{Batch, Record};

/// Something that happened in a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "what", rename_all = "snake_case")]
pub enum Event {
    /// A batch begins.
    Batch(Batch),
    /// A recorded line was met again.
    Replayed(Box<Record>),
    /// A line was written.
    Recorded(Box<Record>),
}
