//! Candidates that the world could not tell the worth of: how many a search goes on with.
//!
//! One of them costs nothing but itself. Many mean that the cause is not the candidates: an engine that lacks an operator,
//! a board that loads too slowly. Then a search would spend its budget on nothing, so it ends and says why. Counted are
//! those that were found out since the search was started or resumed: after the cause is mended it can go on.

use std::collections::BTreeMap;

use super::answer::Outcome;
use super::error::SearchError;
use super::evaluator::Evaluated;

/// So many are always gone on with.
const ALLOWED: usize = 10;
/// Beyond that, at most one of so many candidates may be unknown.
const ONE_IN: usize = 5;
/// Reasons that an error lists.
const LISTED: usize = 5;
/// Longest reason in that list, bytes.
const REASON_BYTES: usize = 200;

/// What was asked of the world, and what it could not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Unknowns {
    asked: usize,
    count: usize,
    reasons: BTreeMap<String, usize>,
}

impl Unknowns {
    /// Count one answer.
    pub(super) fn add(&mut self, answer: &Evaluated) {
        self.asked += 1;
        let ((Some(Outcome::Unknown(reason)), _) | (_, Some(Outcome::Unknown(reason)))) =
            (&answer.measured, &answer.trained)
        else {
            return;
        };
        self.count += 1;
        let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES)).unwrap_or_default();
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// Whether a search may go on.
    ///
    /// # Errors
    /// [`SearchError::Unknown`] with the most frequent reasons.
    pub(super) fn check(&self) -> Result<(), SearchError> {
        if self.count <= ALLOWED || self.count * ONE_IN <= self.asked {
            return Ok(());
        }
        let mut reasons: Vec<(&String, &usize)> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let rest = reasons.len().saturating_sub(LISTED);
        let mut listed: Vec<String> =
            reasons.iter().take(LISTED).map(|(reason, count)| format!("{count} times: {reason}")).collect();
        if rest > 0 {
            listed.push(format!("{rest} more reasons"));
        }
        Err(SearchError::Unknown { count: self.count, asked: self.asked, reasons: listed.join("; ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(measured: Outcome<super::super::Measured>) -> Evaluated {
        Evaluated::measured(Some(measured), 0.0)
    }

    #[test]
    fn some_are_gone_on_with_and_many_end_the_search_with_their_reasons() {
        let mut unknowns = Unknowns::default();
        for _ in 0..ALLOWED {
            unknowns.add(&answer(Outcome::Unknown("no operator Sorcery".into())));
        }
        assert!(unknowns.check().is_ok());
        unknowns.add(&answer(Outcome::Unknown("crashed".into())));
        let error = unknowns.check().unwrap_err().to_string();
        assert!(error.contains("11 of 11 candidates"), "{error}");
        let (frequent, rare) = (error.find("10 times: no operator"), error.find("1 times: crashed"));
        assert!(frequent.unwrap() < rare.unwrap(), "{error}");
        // In a long search they may be more.
        for _ in 0..ALLOWED * ONE_IN {
            unknowns.add(&answer(Outcome::Infeasible("far too slow".into())));
        }
        assert!(unknowns.check().is_ok());
    }

    #[test]
    fn a_list_of_reasons_is_bounded() {
        let mut unknowns = Unknowns::default();
        for number in 0..50 {
            unknowns.add(&answer(Outcome::Unknown(format!("{number}: {}", "ä".repeat(1000)))));
        }
        let error = unknowns.check().unwrap_err().to_string();
        assert!(error.len() < (LISTED + 2) * (REASON_BYTES + 20), "{}", error.len());
        assert!(error.contains("45 more reasons"), "{error}");
    }
}
