//! A larger budget for a run that has begun: what it adds. Pure.

use super::Error;
use crate::run::journey::Milestones;
use crate::search::Budget;
use crate::units;

/// What a run may spend in all, after this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) from: Budget,
    pub(super) to: Budget,
}

impl Extension {
    /// What `given` does to a run that began with `begun`: nothing if it is what the run has already.
    ///
    /// # Errors
    /// Less than that, or a number of candidates where there was a time.
    pub(super) fn of(
        begun: Budget,
        milestones: &Milestones,
        given: Option<Budget>,
    ) -> Result<Option<Self>, Error> {
        let from = milestones.extensions().last().map_or(begun, |&(_, to)| to);
        let Some(to) = given.filter(|to| *to != from) else { return Ok(None) };
        match added(from, to) {
            Some(_) => Ok(Some(Self { from, to })),
            None => Err(Error::Budget { had: words(from), given: words(to) }),
        }
    }
}

/// What the extensions of a run added, one after the other.
pub(super) fn all(milestones: &Milestones) -> Vec<Budget> {
    milestones.extensions().iter().filter_map(|&(from, to)| added(from, to)).collect()
}

fn added(from: Budget, to: Budget) -> Option<Budget> {
    match (from, to) {
        (Budget::Time(from), Budget::Time(to)) => {
            to.checked_sub(from).filter(|more| !more.is_zero()).map(Budget::Time)
        }
        (Budget::Candidates(from), Budget::Candidates(to)) => {
            to.checked_sub(from).filter(|&more| more > 0).map(Budget::Candidates)
        }
        (Budget::Time(_), Budget::Candidates(_)) | (Budget::Candidates(_), Budget::Time(_)) => None,
    }
}

fn words(budget: Budget) -> String {
    match budget {
        Budget::Time(time) => units::duration(time),
        Budget::Candidates(count) => format!("{count} candidates"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_can_only_grow_and_keeps_its_kind() {
        let of = |given| Extension::of(Budget::Candidates(20), &Milestones::default(), given);
        assert_eq!((of(None).unwrap(), of(Some(Budget::Candidates(20))).unwrap()), (None, None));
        let larger = of(Some(Budget::Candidates(30))).unwrap().unwrap();
        assert_eq!((larger.from, larger.to), (Budget::Candidates(20), Budget::Candidates(30)));
        assert_eq!(added(larger.from, larger.to), Some(Budget::Candidates(10)));
        for wrong in [Budget::Candidates(19), Budget::Time(Duration::from_secs(9))] {
            let error = of(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains("20 candidates"), "{error}");
        }
    }
}
