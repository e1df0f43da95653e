//! The two-stage search for a student (docs/method.md): layer removal, then layer shrinkage, both scored against the original
//! teacher.
//!
//! | file | what |
//! |---|---|
//! | `settings` | what decides a search, the presets |
//! | `laboratory` | the one seam to boards, trainers, the clock |
//! | `constraint` | limits: reading, resolving, violations, relaxation |
//! | `reward` | `paper` and `edge`, parts kept |
//! | `state` | features of units and groups |
//! | `policy`, `removal_policy`, `shrinkage_policy` | the LSTMs |
//! | `reinforce` | advantages and the gradient step |
//! | `searchers`, `crew` | REINFORCE, random, uniform width behind one interface, and who takes part |
//! | `candidate`, `cache` | the ladder from actions to a reward |
//! | `stages`, `stage` | the search: both stages in order; one stage within its budget |
//! | `teacher`, `kinds`, `event`, `error` | what all of these speak of |
//! | `unknowns` | how many candidates of unknown worth a search goes on with |
//! | `record`, `begin`, `tape`, `replay` | what is journaled, and going on from it |
//! | `result` | the finalists |
//!
//! Nothing here touches a file, a socket, a clock or the terminal: they come in as [`Laboratory`], a journal function and
//! an observer. A fault of the world is never scored and never reaches a policy.
//!
//! To add a searcher: one type in `searchers`, one [`SearcherKind`] in `kinds`, one share in [`Settings`], one line in `crew::of`.

// A new kind of layer, record or answer must be thought about wherever one is told from another.
#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

mod begin;
pub mod cache;
mod candidate;
pub mod constraint;
mod crew;
mod error;
mod event;
mod kinds;
pub mod laboratory;
pub mod policy;
pub mod random;
pub mod record;
pub mod reinforce;
pub mod removal_policy;
pub mod replay;
mod result;
pub mod reward;
mod searchers;
pub mod settings;
pub mod shrinkage_policy;
mod stage;
mod stages;
pub mod state;
mod tape;
mod teacher;
#[cfg(test)]
mod tests;
mod unknowns;

pub use candidate::smallest;
pub use constraint::{Bound, Limit, LimitError, Limits, Metric, Resources};
pub use error::SearchError;
pub use event::Event;
pub use kinds::{SearcherKind, StageKind};
pub use laboratory::{Fault, Job, Laboratory, Measured, Outcome, Rung, StartingWeights, Trained};
pub use record::{Record, Trial};
pub use result::{Finalist, SearchResult};
pub use reward::Preset;
pub use settings::{Budget, Promotion, Settings, Shares};
pub use stages::search;
pub use tape::{Journal, Observer};
pub use teacher::{Policies, Teacher};
