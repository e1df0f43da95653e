//! What of the budget is spent, on what, and when the rest is given up: arithmetic on readings of the clock.

use std::time::Duration;

use super::answer::Rung;
use super::effort::Budget;
use super::record::Purpose;

/// What is in flight at the end of a budget of time has so long to come to its end, or this share of the budget if that is
/// more: a training that is nearly done is not thrown away.
const GRACE: Duration = Duration::from_secs(3);
const GRACE_SHARE: f64 = 0.05;

/// A budget and what became of it.
pub(super) struct Spending {
    pub(super) budget: Budget,
    /// Reading of the clock at which it began, ns.
    pub(super) start_ns: u64,
    /// Proposals, without promotions.
    pub(super) proposed: usize,
    /// Time spent on proposals and on promotions, ns.
    exploring_ns: u64,
    promoting_ns: u64,
    /// How long the last batch of proposals took, ns.
    last_explore_ns: u64,
    /// What one step of one student's training took in the last batch that trained some, ns; 0 before.
    step_ns: f64,
    batch: Option<Unsettled>,
}

/// A batch whose cost is not accounted for yet.
struct Unsettled {
    plan: (Purpose, Rung),
    began_ns: u64,
    /// Students that were trained in it.
    trained: usize,
    /// Whose it was, of proposals.
    seat: Option<usize>,
}

impl Spending {
    /// Of nothing yet.
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            budget,
            start_ns: 0,
            proposed: 0,
            exploring_ns: 0,
            promoting_ns: 0,
            last_explore_ns: 0,
            step_ns: 0.0,
            batch: None,
        }
    }

    /// A further budget from this reading of the clock on; what is known of this machine's speed stays.
    pub(super) fn begin_anew(&mut self, budget: Budget, now_ns: u64) {
        (self.budget, self.start_ns, self.proposed) = (budget, now_ns, 0);
        (self.exploring_ns, self.promoting_ns) = (0, 0);
    }

    /// Whether the budget is one of time.
    pub(super) fn is_by_time(&self) -> bool {
        matches!(self.budget, Budget::Time(_))
    }

    /// Half of what training so many students at this rung takes, as a share of the budget; 0 where that is not known.
    pub(super) fn half(&self, rung: Rung, students: usize) -> f64 {
        match (self.budget, rung) {
            (Budget::Time(time), Rung::Steps(steps)) => {
                let all_ns = self.step_ns * f64::from(steps) * students as f64;
                all_ns / time.as_nanos().max(1) as f64 / 2.0
            }
            (Budget::Time(_), Rung::Inherited | Rung::Epochs(_)) | (Budget::Candidates(_), _) => 0.0,
        }
    }

    /// Half of the last batch of proposals, as a share of the budget.
    pub(super) fn half_of_last(&self) -> f64 {
        match self.budget {
            Budget::Time(time) => self.last_explore_ns as f64 / time.as_nanos().max(1) as f64 / 2.0,
            Budget::Candidates(_) => 0.0,
        }
    }

    /// Of the time between proposals and promotions, the part that went into promotions.
    pub(super) fn promoting_share(&self) -> f64 {
        self.promoting_ns as f64 / (self.exploring_ns + self.promoting_ns).max(1) as f64
    }

    /// The reading of the clock at which whatever is in flight is given up.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.budget {
            Budget::Time(time) => {
                Some(Duration::from_nanos(self.start_ns) + time + GRACE.max(time.mul_f64(GRACE_SHARE)))
            }
            Budget::Candidates(_) => None,
        }
    }

    /// Share of the budget that is spent.
    pub(super) fn spent(&self, now_ns: u64) -> f64 {
        match self.budget {
            Budget::Time(time) => now_ns.saturating_sub(self.start_ns) as f64 / time.as_nanos().max(1) as f64,
            Budget::Candidates(count) => self.proposed as f64 / count.max(1) as f64,
        }
    }

    /// A batch was judged, which trained so many.
    pub(super) fn batch(&mut self, plan: (Purpose, Rung), began_ns: u64, trained: usize) {
        self.batch = Some(Unsettled { plan, began_ns, trained, seat: None });
    }

    /// The last batch was that seat's proposals.
    pub(super) fn batch_was_of(&mut self, seat: usize) {
        if let Some(batch) = &mut self.batch {
            batch.seat = Some(seat);
        }
    }

    /// Accounts for the last batch by this reading of the clock: whose it was, and what it took, ns.
    pub(super) fn settle(&mut self, now_ns: u64) -> Option<(usize, f64)> {
        let Unsettled { plan: (purpose, rung), began_ns, trained, seat } = self.batch.take()?;
        let took_ns = now_ns.saturating_sub(began_ns);
        if let (Rung::Steps(steps @ 1..), 1..) = (rung, trained) {
            self.step_ns = took_ns as f64 / (f64::from(steps) * trained as f64);
        }
        match purpose {
            Purpose::Explore => {
                self.exploring_ns += took_ns;
                self.last_explore_ns = took_ns;
            }
            Purpose::Promote => self.promoting_ns += took_ns,
            Purpose::Simple | Purpose::Choose => {}
        }
        seat.map(|seat| (seat, took_ns as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn time_is_shared_out_by_what_batches_took() {
        let mut spending = Spending::new(Budget::Time(Duration::from_secs(100)));
        assert_eq!((spending.half(Rung::Steps(400), 2), spending.settle(SECOND)), (0.0, None));
        spending.batch((Purpose::Promote, Rung::Steps(400)), 0, 2);
        spending.batch_was_of(3);
        assert_eq!(spending.settle(8 * SECOND), Some((3, 8e9)));
        spending.batch((Purpose::Explore, Rung::Inherited), 8 * SECOND, 0);
        spending.settle(10 * SECOND);
        assert!((spending.promoting_share() - 0.8).abs() < 1e-12);
        // Two of 400 steps took 8 s: four of 1200 will take 48 s.
        assert!((spending.half(Rung::Steps(1200), 4) - 0.24).abs() < 1e-12);
        assert!(
            (spending.half_of_last() - 0.01).abs() < 1e-12
                && (spending.spent(10 * SECOND) - 0.1).abs() < 1e-12
        );
        assert_eq!(spending.deadline(), Some(Duration::from_secs(105)));
        spending.begin_anew(Budget::Time(Duration::from_secs(20)), 100 * SECOND);
        assert_eq!((spending.spent(110 * SECOND), spending.promoting_share()), (0.5, 0.0));
        assert_eq!(
            spending.deadline(),
            Some(Duration::from_secs(123)),
            "three seconds are more than a twentieth"
        );
    }

    #[test]
    fn candidates_are_counted_and_never_given_up() {
        let mut spending = Spending::new(Budget::Candidates(40));
        spending.proposed = 10;
        assert_eq!((spending.spent(99 * SECOND), spending.deadline()), (0.25, None));
        assert!(!spending.is_by_time() && spending.half(Rung::Steps(400), 8) == 0.0);
    }
}
