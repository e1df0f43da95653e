//! Why a board goes back to another student.

use std::time::Duration;

/// Why the board goes back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cause {
    /// Somebody asked: to end this trial, or whatever is active.
    Asked(Option<u64>),
    /// The agent that began the trial is gone.
    Restart,
    /// Nobody confirmed the trial in its time.
    Late(Duration),
    /// The user's program failed when it was told of the student; its words.
    Program(String),
    /// The active student's bytes are not what they must be; how.
    Damage(String),
}
