//! From an error's kind to exit code and next step: the one table of both.

use super::Code;
use crate::data::DataError;

/// Looks through the chain of causes for the first kind that is known.
pub(super) fn classify(error: &anyhow::Error) -> (Code, Option<String>) {
    error.chain().find_map(|cause| known(cause)).unwrap_or((Code::Failed, None))
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<(Code, Option<String>)> {
    if let Some(error) = cause.downcast_ref::<DataError>() {
        let code = if matches!(error, DataError::Spec { .. }) { Code::Usage } else { Code::Failed };
        return Some((code, error.hint()));
    }
    None
}
