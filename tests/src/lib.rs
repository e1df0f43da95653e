//! Harness: runs the real programs with a home folder of their own, a deadline, and their output caught.
//!
//! `candidate` is something to measure, `small` a job to do, `photos` folders of pictures, `cable` a serial line that can be bad, `relay` a network that is
//! slow; `by_hand` are both sides of the protocol without their care, `scripted` an agent that says what a test wants,
//! `board` an agent that can be killed and its disk filled, `replay` a file system after a power cut, `strangers` those who attack; `snapshot` is output that people have read, `shape` what scripts rely on in JSON.
//!
//! Nothing else here knows what the programs mean. The paths of the programs come from the tests (`env!("CARGO_BIN_EXE_…")`
//! exists only there).

pub mod board;
pub mod by_hand;
pub mod cable;
pub mod candidate;
pub mod photos;
pub mod relay;
pub mod replay;
pub mod scripted;
pub mod shape;
pub mod small;
pub mod snapshot;
pub mod strangers;
mod world;

pub use world::{Finished, Process, Running, World, signal, wait_for};
