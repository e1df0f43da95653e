//! Why a search ended without a result.

use super::answer::Fault;
use super::constraint::LimitError;
use super::policy::PolicyError;

/// Why a search ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The world's fault; the journal is whole, and the search can be resumed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A limit cannot be resolved.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A policy could not be loaded, or learning broke down.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// So many candidates are of unknown worth that the candidates are not the cause; the journal is whole, and the search
    /// can be resumed.
    #[error("the worth of {count} of {asked} candidates is unknown: {reasons}")]
    Unknown {
        /// Candidates that could not be judged since the search was started or resumed.
        count: usize,
        /// Candidates that were asked about since then.
        asked: usize,
        /// The most frequent reasons, with how often each came.
        reasons: String,
    },
    /// No search can be run with these.
    #[error("search settings: {0}")]
    Settings(String),
    /// The journal is of another search.
    #[error("cannot resume: {what} differs: expected {recorded} (in the journal), got {given}")]
    Different {
        /// What.
        what: String,
        /// In the journal.
        recorded: String,
        /// Now.
        given: String,
    },
    /// The search does not take the recorded way again.
    #[error(
        "cannot resume: the search proposes {got} where the journal has {expected}; it was written by another version or machine"
    )]
    Diverged {
        /// In the journal.
        expected: String,
        /// Now.
        got: String,
    },
}
