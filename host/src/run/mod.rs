//! The run folder: everything that one compression leaves behind, and what an interrupted one goes on from.
//!
//! | file | what |
//! |---|---|
//! | `folder` | the layout and the lock |
//! | `manifest` | `run.toml`: the resolved configuration |
//! | `journal` | `trials.jsonl`: one record a line |
//! | `journey` | `journey.jsonl`: how far the job has come, one milestone a line |
//! | `summary` | `summary.json`: what came out |
//! | `report/` | `report.html`: the run as one page |
//!
//! Must not decide anything about students: records are `crate::search`'s, configuration is the caller's.

pub mod folder;
pub mod journal;
pub mod journey;
pub mod manifest;
pub mod report;
pub mod summary;
