//! How a verb ends when a board cannot be used: whether the command, a file or the board is to blame, and what to do next.

use super::address::AddressError;
use super::book::BookError;
use super::error::BoardError;
use crate::exit::{Code, Diagnostic};

impl Diagnostic for AddressError {
    fn exit_code(&self) -> Code {
        Code::Usage
    }

    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}

impl Diagnostic for BookError {
    /// A name that is wrong is the command's fault, a file that is damaged is not.
    fn exit_code(&self) -> Code {
        match self {
            Self::File { .. } | Self::Unusable { .. } => Code::Failed,
            Self::Unknown { .. } | Self::Taken(_) | Self::Name(_) | Self::Address(_) | Self::NoKey(_) => {
                Code::Usage
            }
        }
    }

    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}

impl Diagnostic for BoardError {
    fn exit_code(&self) -> Code {
        match self {
            Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::WrongKey { .. }
            | Self::Version { .. }
            | Self::Busy { .. }
            | Self::Disturbed(_) => Code::BoardUnavailable,
            Self::Book(error) => error.exit_code(),
            Self::Refused { .. }
            | Self::Infeasible(_)
            | Self::Unknown(_)
            | Self::Failed(_)
            | Self::Cancelled => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Self::Book(error) => error.hint(),
            Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::WrongKey { .. }
            | Self::Version { .. }
            | Self::Refused { .. }
            | Self::Busy { .. }
            | Self::Infeasible(_)
            | Self::Unknown(_)
            | Self::Failed(_)
            | Self::Disturbed(_)
            | Self::Cancelled => self.hint().map(str::to_owned),
        }
    }
}
