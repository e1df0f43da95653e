//! Why a call to a board has no answer. The kinds never mix: only [`BoardError::Infeasible`] may ever be scored.

use super::book::BookError;
use super::link::LinkError;
use n2n_protocol::channel::ChannelError;
use n2n_protocol::{Failure, Infeasible, Unknown};

/// Why a call to a board has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BoardError {
    /// The link is lost, the agent died or is silent: a fault, never the student's.
    #[error("board {board} is unavailable: {reason}")]
    Unavailable {
        /// The board's address.
        board: String,
        /// What happened.
        reason: String,
    },
    /// Host and board do not hold the same key.
    #[error("board {board}: the key is wrong: {reason}")]
    WrongKey {
        /// The board's address.
        board: String,
        /// Which side found out.
        reason: String,
    },
    /// Host and board would misread each other.
    #[error("board {board}: {reason}")]
    Version {
        /// The board's address.
        board: String,
        /// Both versions.
        reason: String,
    },
    /// A limit, a quota, or the order of calls.
    #[error("board {board} refused: {reason}")]
    Refused {
        /// The board's address.
        board: String,
        /// The agent's words.
        reason: String,
    },
    /// Every place in its line is taken, or our turn did not come for as long as we were willing to wait.
    #[error("board {board} is busy: {client} has had it for {since_s} s")]
    Busy {
        /// The board's address.
        board: String,
        /// Who.
        client: String,
        /// For how long, seconds.
        since_s: u32,
    },
    /// The student does not fit: the one kind that is scored.
    #[error("infeasible on this board: {0}")]
    Infeasible(Infeasible),
    /// This board cannot tell what the student costs, however often it is asked.
    #[error("unknown on this board: {0}")]
    Unknown(Unknown),
    /// The worker's, the file's or the disk's fault.
    #[error("{0}")]
    Failed(String),
    /// The board got too hot or too loaded for a trustworthy number.
    #[error("no trustworthy number: {0}")]
    Disturbed(String),
    /// We asked for it.
    #[error("cancelled")]
    Cancelled,
    /// The board book.
    #[error(transparent)]
    Book(#[from] BookError),
}

impl BoardError {
    /// The next step for a user, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable { board, .. } if board.contains("serial:") => {
                Some("does `n2n-agent serve --serial DEVICE --baud BAUD` run there, at the same speed?")
            }
            Self::Unavailable { .. } => Some("is the board on, and does `n2n-agent serve` run there?"),
            Self::WrongKey { .. } => {
                Some("`n2n-agent key` on the board shows its key; `n2n board add` keeps it here")
            }
            Self::Version { .. } => Some("install the same version of n2n on both sides"),
            Self::Busy { .. } => Some("wait for the other client, or use another board"),
            Self::Infeasible(_) => Some("a smaller student, or a higher limit"),
            Self::Disturbed(_) => Some("let the board cool down, stop what else runs there, and try again"),
            Self::Book(BookError::Unknown { .. } | BookError::NoKey(_)) => {
                Some("`n2n board add NAME ADDRESS` makes a board known, with its key")
            }
            Self::Unknown(Unknown::EngineMissing(_)) => {
                Some("`n2n board probe` lists the engines of a board")
            }
            Self::Unknown(_) => {
                Some("another network, or another engine: this one cannot run it on this board")
            }
            Self::Refused { .. } | Self::Failed(_) | Self::Cancelled | Self::Book(_) => None,
        }
    }

    /// Whether the same call may well succeed later, without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Busy { .. } | Self::Disturbed(_))
    }

    pub(super) fn of_link(board: &str, error: &LinkError) -> Self {
        let (board, reason) = (board.to_owned(), error.to_string());
        match error {
            LinkError::Channel(ChannelError::WrongKey | ChannelError::KeyRefused) => {
                Self::WrongKey { board, reason }
            }
            _ => Self::Unavailable { board, reason },
        }
    }

    pub(super) fn of_failure(board: &str, failure: Failure) -> Self {
        let board = board.to_owned();
        match failure {
            Failure::Infeasible(infeasible) => Self::Infeasible(infeasible),
            Failure::Failed(reason) => Self::Failed(reason),
            Failure::Busy { client, since_s } => Self::Busy { board, client, since_s },
            Failure::Disturbed(reason) => Self::Disturbed(reason),
            Failure::Refused(reason) => Self::Refused { board, reason },
            Failure::Cancelled => Self::Cancelled,
            Failure::Unknown(unknown) => Self::Unknown(unknown),
        }
    }
}
