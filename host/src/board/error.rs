//! Why a call to a board has no answer. The kinds never mix: only [`BoardError::Infeasible`] may ever be scored.

use super::book::BookError;
use super::link::LinkError;
use n2n_protocol::channel::ChannelError;
use n2n_protocol::text::printable;
use n2n_protocol::{Failure, Infeasible, Unknown};
use n2n_serial::DialError;
use std::io;

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
    /// There was no way to the agent at all, and we know where it ended.
    #[error("board {board} is unavailable: {reason}")]
    Unreachable {
        /// The board's address.
        board: String,
        /// What happened.
        reason: String,
        /// Where it ended.
        hurdle: Hurdle,
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

/// Where the way to an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurdle {
    /// The board's name has no address.
    Name,
    /// The serial device is not there, or not ours to open.
    Device,
    /// No agent answers on the serial line.
    Line,
    /// Nothing answers at the address.
    Nobody,
    /// The machine answers, and nobody listens at the port.
    Port,
    /// Something takes the connection and says nothing that an agent says.
    NoAgent,
    /// An agent answers, and strangers take the place of every connection before it can greet.
    Crowd,
}

impl Hurdle {
    /// The next step for a user.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Name => {
                "is it spelled right? Use the board's IP address, or NAME.local if both machines speak mDNS (avahi)"
            }
            Self::Device => {
                "is it plugged in (ls /dev/tty*), and may you open it (sudo usermod -aG dialout $USER, then log in again)?"
            }
            Self::Line => "does `n2n-agent serve --serial DEVICE --baud BAUD` run there, at the same speed?",
            Self::Nobody => "is the board on, in this network, and is its address still the same?",
            Self::Port => {
                "the machine is on: does `n2n-agent serve --listen 0.0.0.0:7117` run there? Without --listen only itself is \
                 served"
            }
            Self::NoAgent => "is this the agent's port, and does n2n-agent run there or another program?",
            Self::Crowd => {
                "the board is on; somebody floods its agent with connections: its log says from where, a firewall ends it"
            }
        }
    }
}

impl BoardError {
    /// The next step for a user, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { hurdle, .. } => Some(hurdle.hint()),
            Self::Unavailable { board, .. } if board.contains("serial:") => Some(Hurdle::Line.hint()),
            Self::Unavailable { .. } => Some("is the board on, and does `n2n-agent serve` run there?"),
            Self::WrongKey { .. } => Some(
                "compare the id with `n2n-agent key list` on the board; to pair again: `n2n board remove NAME`, then \
                 `ssh BOARD n2n-agent key | n2n board add NAME ADDRESS`",
            ),
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
        match self {
            Self::Unavailable { .. } | Self::Unreachable { .. } | Self::Busy { .. } | Self::Disturbed(_) => {
                true
            }
            Self::WrongKey { .. }
            | Self::Version { .. }
            | Self::Refused { .. }
            | Self::Infeasible(_)
            | Self::Unknown(_)
            | Self::Failed(_)
            | Self::Cancelled
            | Self::Book(_) => false,
        }
    }

    pub(super) fn of_link(board: &str, error: &LinkError) -> Self {
        let (board, reason) = (board.to_owned(), printable(&error.to_string()).into_owned());
        let hurdle = match error {
            LinkError::Key { .. } => return Self::WrongKey { board, reason },
            LinkError::OldAgent(_) => return Self::Version { board, reason },
            LinkError::Channel(ChannelError::NotAPeer(_)) | LinkError::Closed => Hurdle::NoAgent,
            LinkError::Lost(_) | LinkError::Late(_) | LinkError::Channel(_) => {
                return Self::Unavailable { board, reason };
            }
            LinkError::Name(_) => Hurdle::Name,
            LinkError::Connect { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
                Hurdle::Port
            }
            LinkError::Connect { .. } => Hurdle::Nobody,
            LinkError::Crowded(_) => Hurdle::Crowd,
            LinkError::Dial(DialError::Device { .. }) => Hurdle::Device,
            LinkError::Dial(DialError::NoAgent { .. }) => Hurdle::Line,
        };
        Self::Unreachable { board, reason, hurdle }
    }

    pub(super) fn of_failure(board: &str, failure: Failure) -> Self {
        let board = board.to_owned();
        // Texts of the board, and of hosts that it heard of, go to a terminal.
        match failure.map_texts(|text| printable(&text).into_owned()) {
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
