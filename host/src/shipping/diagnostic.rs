//! How a verb ends when a student is not shipped: a board that is gone, one that did not want the student, a bad key file.

use super::deploy::ShipError;
use super::key::KeyFileError;
use crate::exit::{Code, Diagnostic};

impl Diagnostic for ShipError {
    fn exit_code(&self) -> Code {
        match self {
            Self::NotActivated(error) | Self::OnTrial { source: error, .. } => error.exit_code(),
            Self::Owned { .. } => Code::BoardUnavailable,
            Self::Bundle(_) | Self::RolledBack { .. } => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        self.hint().map(str::to_owned)
    }
}

impl Diagnostic for KeyFileError {
    fn next_step(&self) -> Option<String> {
        self.hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardError;

    #[test]
    fn only_a_board_that_is_lost_or_owned_by_another_is_unavailable() {
        let lost = BoardError::Unavailable { board: "pi".into(), reason: "link lost".into() };
        assert_eq!(ShipError::NotActivated(lost).exit_code(), Code::BoardUnavailable);
        let owned = ShipError::Owned { board: "local".into(), owner: Some(7) };
        assert_eq!(owned.exit_code(), Code::BoardUnavailable);
        let refused = BoardError::Refused { board: "pi".into(), reason: "too large".into() };
        assert_eq!(ShipError::NotActivated(refused).exit_code(), Code::Failed);
    }
}
