//! From an error's kind to exit code and next step: the one table of both.

use super::Code;
use crate::board::{AddressError, BoardError, BookError};
use crate::compress;
use crate::data::DataError;
use crate::model_io::onnx::ModelFileError;
use crate::profile::ProfileError;
use crate::run::report::ReportError;
use crate::shipping::{KeyFileError, ShipError};
use crate::training::device::DeviceError;

const NO_GPU: &str = "--device cpu trains without; `n2n doctor` and host/cuda/README.md say what a GPU needs";

/// Looks through the chain of causes for the first kind that is known.
pub(super) fn classify(error: &anyhow::Error) -> (Code, Option<String>) {
    error.chain().find_map(known).unwrap_or((Code::Failed, None))
}

/// Code and hint of the kinds that have their own. Outer kinds come first in the chain, so they win.
fn known(cause: &(dyn std::error::Error + 'static)) -> Option<(Code, Option<String>)> {
    if let Some(error) = cause.downcast_ref::<DataError>() {
        let code = if matches!(error, DataError::Spec { .. }) { Code::Usage } else { Code::Failed };
        return Some((code, error.hint()));
    }
    if let Some(error) = cause.downcast_ref::<ModelFileError>() {
        return Some((Code::Failed, error.hint().map(str::to_owned)));
    }
    if let Some(error) = cause.downcast_ref::<ProfileError>() {
        let code = if matches!(error, ProfileError::Unknown { .. }) { Code::Usage } else { Code::Failed };
        return Some((code, error.hint()));
    }
    if let Some(error) = cause.downcast_ref::<compress::Error>() {
        if let compress::Error::Other(inner) = error {
            return Some(classify(inner));
        }
        return Some((job_code(error), error.hint().map(str::to_owned)));
    }
    if let Some(error) = cause.downcast_ref::<BoardError>() {
        return Some((board_code(error), error.hint().map(str::to_owned)));
    }
    if let Some(error) = cause.downcast_ref::<ReportError>() {
        return Some((Code::Failed, error.hint().map(str::to_owned)));
    }
    if let Some(error) = cause.downcast_ref::<BookError>() {
        let hint = matches!(error, BookError::Taken(_))
            .then(|| "`n2n board remove NAME` forgets the old one".into());
        return Some((book_code(error), hint));
    }
    if let Some(error) = cause.downcast_ref::<DeviceError>() {
        return Some(match error {
            DeviceError::Unknown(_) => (Code::Usage, None),
            DeviceError::Unavailable { .. } => (Code::Failed, Some(NO_GPU.into())),
        });
    }
    if cause.is::<AddressError>() {
        return Some((Code::Usage, None));
    }
    if let Some(error) = cause.downcast_ref::<ShipError>() {
        return Some((ship_code(error), error.hint().map(str::to_owned)));
    }
    cause.downcast_ref::<KeyFileError>().map(|error| (Code::Failed, error.hint()))
}

/// Whether the board is to blame, or what it was asked to do.
fn board_code(error: &BoardError) -> Code {
    match error {
        BoardError::Unavailable { .. }
        | BoardError::WrongKey { .. }
        | BoardError::Version { .. }
        | BoardError::Busy { .. }
        | BoardError::Disturbed(_) => Code::BoardUnavailable,
        BoardError::Book(error) => book_code(error),
        BoardError::Refused { .. }
        | BoardError::Infeasible(_)
        | BoardError::Unknown(_)
        | BoardError::Failed(_)
        | BoardError::Cancelled => Code::Failed,
    }
}

/// A name that is wrong is the command's fault, a file that is damaged is not.
fn book_code(error: &BookError) -> Code {
    if matches!(error, BookError::File { .. }) { Code::Failed } else { Code::Usage }
}

fn job_code(error: &compress::Error) -> Code {
    match error {
        compress::Error::ImpossibleLimit { .. } => Code::NoStudent,
        compress::Error::Profile { .. } => Code::Usage,
        compress::Error::Board(_) => Code::BoardUnavailable,
        compress::Error::Greeting(error) => board_code(error),
        compress::Error::Shipping(error) => ship_code(error),
        _ => Code::Failed,
    }
}

/// A board that is gone, or one that did not want the student.
fn ship_code(error: &ShipError) -> Code {
    match error {
        ShipError::NotActivated(error) | ShipError::OnTrial { source: error, .. } => board_code(error),
        ShipError::Bundle(_) | ShipError::RolledBack { .. } => Code::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_told_alike_by_every_verb() {
        let missing = || {
            crate::training::device::open("cuda:99".parse().unwrap())
                .map_or_else(anyhow::Error::from, |_| unreachable!("a hundred GPUs"))
        };
        for error in [missing(), compress::Error::from(missing()).into()] {
            assert_eq!(classify(&error), (Code::Failed, Some(NO_GPU.into())), "{error}");
        }
    }

    #[test]
    fn a_board_that_is_lost_while_shipping_is_unavailable_whichever_verb_ships() {
        let lost = || {
            ShipError::NotActivated(BoardError::Unavailable {
                board: "pi".into(),
                reason: "link lost".into(),
            })
        };
        for error in [anyhow::Error::from(lost()), compress::Error::from(lost()).into()] {
            assert_eq!(classify(&error).0, Code::BoardUnavailable, "{error}");
        }
        let refused =
            ShipError::NotActivated(BoardError::Refused { board: "pi".into(), reason: "too large".into() });
        assert_eq!(classify(&compress::Error::from(refused).into()).0, Code::Failed);
    }
}
