//! How a compression ends without a student; each kind has its own exit code and next step.

use std::time::Duration;

use crate::board::BoardError;
use crate::exit::{Code, Diagnostic, Failure};
use crate::run::folder::FolderError;
use crate::run::journal::JournalError;
use crate::search::{Fault, Metric, SearchError};
use crate::training::TrainingError;

/// Why there is no student.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The teacher is no better than guessing, so the images are not what it was trained on.
    #[error("the teacher is {words}")]
    WeakTeacher {
        /// Its accuracy beside guessing's.
        words: String,
        /// The order of the classes that would fit its answers.
        order: Option<String>,
    },
    /// Teacher and data set do not belong together.
    #[error("{what}: the teacher has {teacher}, the data set {dataset}")]
    Mismatch {
        /// Image shape or number of classes.
        what: &'static str,
        /// Of the teacher.
        teacher: String,
        /// Of the data set.
        dataset: String,
    },
    /// The board that answers is of another kind than the profile is about.
    #[error("profile `{profile}` is about {expected}, the board that answers is {got}")]
    Profile {
        /// Name of the profile.
        profile: String,
        /// What it is about.
        expected: String,
        /// What answers.
        got: String,
    },
    /// Even the smallest legal student breaks a limit.
    #[error("no student can keep {metric} <= {bound}: the smallest one has {smallest}")]
    ImpossibleLimit {
        /// The limit's metric.
        metric: Metric,
        /// The limit, with unit.
        bound: String,
        /// The smallest student's value, with unit.
        smallest: String,
    },
    /// Nothing could be trained in the time that the search was given.
    #[error("--budget: expected about {} at the least, in which the first students are trained, got {}", humantime::format_duration(*.least), humantime::format_duration(*.given))]
    LeastBudget {
        /// What was asked for.
        given: Duration,
        /// ESTIMATED from the teacher's own speed.
        least: Duration,
    },
    /// A resumed run was given a budget that is no larger one.
    #[error("--budget: this run has {had}, which can grow and not become {given}")]
    Budget {
        /// What the run has, in all.
        had: String,
        /// What was asked for.
        given: String,
    },
    /// The board is gone; the run can be resumed.
    #[error("{0}")]
    Board(String),
    /// Greeting failed.
    #[error(transparent)]
    Greeting(#[from] BoardError),
    /// The teacher itself cannot be measured.
    #[error("the board cannot run the teacher: {0}")]
    Teacher(String),
    /// Too many candidates could not be judged; the run can be resumed.
    #[error("{0}")]
    Unknown(String),
    /// Ctrl-C; the run can be resumed.
    #[error("stopped")]
    Stopped,
    /// The run folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Anything else, with the code and the next step that it brought along.
    #[error("{0}")]
    Other(Failure),
}

impl Error {
    /// The next step for a user, where there is one.
    pub fn hint(&self) -> Option<String> {
        if let Self::WeakTeacher { order: Some(order), .. } = self {
            return Some(format!(
                "the classes seem to be in another order: {order}; name the folders as the teacher does"
            ));
        }
        self.fixed_hint().map(str::to_owned)
    }

    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Self::WeakTeacher { .. } => Some(
                "is this the data set that the teacher was trained on, with the same normalisation and class order?",
            ),
            Self::Mismatch { .. } => {
                Some("give the data set that the teacher was trained on as --data KIND:PATH")
            }
            Self::Profile { .. } => Some(
                "`n2n profile list` shows others, --board names another board, and --any-board takes this one all the same",
            ),
            Self::ImpossibleLimit { .. } => Some(
                "raise the limit, or begin with a narrower or shallower teacher (n2n teacher train --width)",
            ),
            Self::Board(_) => {
                Some("nothing is lost: when the board is back, go on with: n2n compress --resume --out RUN")
            }
            Self::Greeting(error) => error.hint(),
            Self::Teacher(_) => {
                Some("a teacher must run on the board to be compared with; begin with a smaller one")
            }
            Self::Unknown(_) => Some(
                "nothing is lost: mend the cause (`n2n measure` shows it for one model), then go on with: n2n compress --resume --out RUN",
            ),
            Self::Stopped => Some("nothing is lost: go on with: n2n compress --resume --out RUN"),
            Self::LeastBudget { .. } => {
                Some("give it more time, or a number of candidates; `--dry-run` tells what a budget buys")
            }
            Self::Budget { .. } => Some("give more of the same kind, or resume without --budget"),
            Self::Folder(_) | Self::Other(_) => None,
        }
    }
}

impl Diagnostic for Error {
    fn exit_code(&self) -> Code {
        match self {
            Self::ImpossibleLimit { .. } => Code::NoStudent,
            Self::Profile { .. } | Self::Budget { .. } | Self::LeastBudget { .. } => Code::Usage,
            Self::Board(_) => Code::BoardUnavailable,
            Self::Greeting(error) => error.exit_code(),
            Self::Other(failure) => failure.code(),
            Self::WeakTeacher { .. }
            | Self::Mismatch { .. }
            | Self::Teacher(_)
            | Self::Unknown(_)
            | Self::Stopped
            | Self::Folder(_) => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Self::Other(failure) => failure.next_step().map(str::to_owned),
            known => known.hint(),
        }
    }
}

impl Error {
    /// An error that says nothing about code and next step.
    pub(super) fn other(error: impl Into<anyhow::Error>) -> Self {
        Self::Other(Failure::new(Code::Failed, error))
    }

    /// An error that says both itself.
    pub(super) fn telling<E: Diagnostic>(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Cancelled => Self::Stopped,
            Fault::Board(reason) => Self::Board(reason),
            Fault::Training(_) | Fault::Journal(_) => Self::other(fault),
        }
    }
}

impl From<SearchError> for Error {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Fault(fault) => fault.into(),
            unknown @ SearchError::Unknown { .. } => Self::Unknown(unknown.to_string()),
            other => Self::other(other),
        }
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self::Folder(error.into())
    }
}

impl From<TrainingError> for Error {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::Cancelled { .. } => Self::Stopped,
            other => Self::other(other),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::telling(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::device::{self, DeviceError};

    fn no_such_gpu() -> DeviceError {
        device::open("cuda:99".parse().unwrap()).map(|_| ()).unwrap_err()
    }

    #[test]
    fn what_an_error_says_about_itself_is_kept_in_a_job() {
        let (alone, within) = (Failure::from(no_such_gpu()), Failure::from(Error::telling(no_such_gpu())));
        assert_eq!((alone.code(), alone.render()), (within.code(), within.render()));
        assert!(alone.next_step().unwrap().contains("--device cpu"), "{}", alone.render());
    }
}
