//! Inference engines: one file an engine, each behind the same two traits.
//!
//! | file | what |
//! |---|---|
//! | `form` | what every engine takes and gives alike |
//! | `seam`, `smallest` | the traits, the error; the model that an engine starts itself with |
//! | `tract` | pure Rust, in every agent |
//! | `onnxruntime` | ONNX Runtime, where the board has its library |
//! | `onnxruntime_version` | which one a library is |
//! | `installed` | which of them a board has, as plain data |
//!
//! To add one: a file here, its variant in [`Installed`], and a cargo feature if it is heavy. A plan names its engine; every
//! number names it again, with its version. An engine gets the bytes of a whole file and how to run it; it must not open
//! files of a plan, measure time, or limit itself: the worker, a process of its own, does the rest.

mod form;
mod installed;
mod onnxruntime;
mod onnxruntime_version;
mod seam;
mod smallest;
mod tract;

pub use installed::{Engines, Installed};
pub use onnxruntime::{Library, OnnxRuntime, Provider};
pub(crate) use seam::bytes_of;
pub use seam::{Engine, EngineError, Session};
pub use tract::Tract;
