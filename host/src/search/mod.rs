//! The search for a student: candidates are proposed, fitted to the limits, looked at without training, and the promising of
//! them trained (docs/method.md#evaluation-cascade). All are scored against the original teacher.
//!
//! | file | what |
//! |---|---|
//! | `settings`, `effort`, `preset` | what decides a search; what it may spend; what the presets put into it |
//! | `evaluator`, `answer`, `hands`, `job` | the one seam to boards, trainers, the clock: tasks; answers; one machine's part; a training |
//! | `genome` | what a candidate is, as plain data |
//! | `base` | a network that genomes apply to |
//! | `constraint` | limits: reading, resolving, violations, relaxation |
//! | `fit`, `cost_model` | the largest student of a shape that keeps the limits; what the board may say of one |
//! | `simple` | uniform width, tapers, both without the last units: the first candidates |
//! | `searcher`, `registry`, `searchers` | who proposes: the interface, the names, one file each |
//! | `mutation` | random changes of shapes |
//! | `state`, `policy`, `removal_policy`, `shrinkage_policy`, `reinforce` | the LSTMs and how they learn |
//! | `cascade`, `cache` | from a proposal to a reward |
//! | `reward` | `paper` and `edge`, parts kept |
//! | `surrogate` | quality by structure, fitted to all looks |
//! | `first_look` | what the first batch costs |
//! | `search`, `first_batches`, `selection`, `spending` | batches in turns until the budget is spent; the simple students; what is trained next; what is spent |
//! | `teacher`, `event`, `error`, `digits` | what all of these speak of |
//! | `unknowns` | how many candidates of unknown worth a search goes on with |
//! | `record`, `begin`, `tape`, `replay` | what is journaled, and going on from it |
//! | `result`, `counts`, `smallest` | the finalists and the nearest misses; how many candidates came how far; the smallest student there is |
//!
//! Nothing here touches a file, a socket, a clock or the terminal: they come in as [`Evaluator`], a journal function and
//! an observer. A fault of the world is never scored and never reaches a policy.
//!
//! To add a searcher: one type in `searchers`, one line in [`registry`].

// A new kind of layer, record or answer must be thought about wherever one is told from another.
#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

pub mod answer;
pub mod base;
mod begin;
pub mod cache;
mod cascade;
pub mod constraint;
pub mod cost_model;
pub mod counts;
mod digits;
pub mod effort;
mod error;
pub mod evaluator;
mod event;
mod first_batches;
mod first_look;
pub mod fit;
pub mod genome;
pub mod hands;
pub mod job;
mod mutation;
pub mod policy;
mod preset;
pub mod random;
pub mod record;
pub mod registry;
pub mod reinforce;
pub mod removal_policy;
pub mod replay;
mod result;
pub mod reward;
#[expect(clippy::module_inception, reason = "the room's one verb")]
mod search;
pub mod searcher;
mod searchers;
mod selection;
pub mod settings;
pub mod shrinkage_policy;
pub mod simple;
mod smallest;
mod spending;
pub mod state;
pub mod surrogate;
mod tape;
mod teacher;
#[cfg(test)]
mod tests;
mod unknowns;

pub use answer::{Fault, Measured, Outcome, Rung, Trained};
pub use constraint::{Bound, Limit, LimitError, Limits, Metric, Resources};
pub use counts::{Counter, Counts};
pub use effort::{Budget, Rungs};
pub use error::SearchError;
pub use evaluator::Evaluator;
pub use event::Event;
pub use first_look::{FirstLook, first_look};
pub use hands::{Desk, Hands};
pub use job::{Job, StartingWeights};
pub use preset::{FINALISTS, Preset};
pub use record::{Record, Trial};
pub use result::{Finalist, NearMiss, SearchResult};
pub use search::search;
pub use settings::Settings;
pub use smallest::smallest;
pub use tape::{Journal, Observer};
pub use teacher::{Policies, Teacher};
