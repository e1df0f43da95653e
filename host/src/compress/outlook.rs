//! Which step of the job is at hand, and about how long the rest of the whole job takes. Arithmetic on events; no clock.
//!
//! Nothing is said before the first training step: until then nothing is known of this machine's speed.

use std::time::Duration;

use super::{Event, Phase, Plan};
use crate::search::{self, Budget, Metric};
use crate::training::TrainProgress;
use crate::training::recipe::Recipe;

/// A share of the budget from which its whole time can be told.
const TELLING_SHARE: f64 = 0.05;

/// What is left of one job, as far as is known.
pub(super) struct Outlook {
    phases: Vec<Phase>,
    /// The phase at hand, and when it began.
    at: Option<(Phase, Duration)>,
    /// Of the search.
    budget: Budget,
    /// Share of the budget that is spent.
    spent: f64,
    /// The budget's clock when the search's first batch was decided; `None` before.
    searched_from: Option<Duration>,
    /// Time that had been searched before this part of the job did.
    before: Duration,
    /// Optimiser steps of all retrainings of finalists, and of the long distillation.
    retraining_steps: usize,
    final_steps: usize,
    /// Careful measurements outside the search.
    measurements: u32,
    /// Time of one, as the teacher's took.
    measuring: Duration,
    /// Steps of the trainings at hand, and of how many.
    training: (usize, usize),
    /// When the last step was done.
    stepped: Option<Duration>,
    /// Time that so many steps took.
    speed: (Duration, usize),
}

impl Outlook {
    pub(super) fn new(plan: &Plan) -> Self {
        let configuration = &plan.configuration;
        let finale = configuration.finale;
        let mut phases = Phase::ALL.to_vec();
        phases.retain(|&phase| configuration.ship || phase != Phase::Shipping);
        let batches = Recipe::proxy().batches(plan.dataset.train.len() + plan.dataset.unlabelled.len());
        let latency_counts = configuration.search.goal == Some(Metric::Latency)
            || configuration.search.limits.iter().any(|limit| limit.metric == Metric::Latency);
        // Each finalist with a teacher after it, one before them all; the file with a teacher on each side.
        let measurements = if latency_counts { 2 * finale.finalists + 4 } else { 1 };
        Self {
            phases,
            at: None,
            budget: plan.budget.unwrap_or(configuration.search.budget),
            spent: 0.0,
            searched_from: None,
            before: Duration::ZERO,
            retraining_steps: finale.finalists * finale.seeds * finale.epochs * batches,
            final_steps: finale.final_epochs * batches,
            measurements: u32::try_from(measurements).unwrap_or(u32::MAX),
            measuring: Duration::ZERO,
            training: (0, 0),
            stepped: None,
            speed: (Duration::ZERO, 0),
        }
    }

    /// Something happened, `now` after the start.
    pub(super) fn see(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Phase(phase) => {
                if let Some((Phase::Board, began)) = self.at {
                    // Teacher and smallest student.
                    self.measuring = now.saturating_sub(began) / 2;
                }
                self.at = Some((*phase, now));
                (self.training, self.stepped) = ((0, 0), None);
            }
            Event::Training(TrainProgress { step, steps, .. }) => {
                let done = step.saturating_sub(self.training.0);
                if let Some(before) = self.stepped.filter(|_| done > 0) {
                    self.speed.0 += now.saturating_sub(before);
                    self.speed.1 += done;
                }
                (self.training, self.stepped) = ((*step, *steps), Some(now));
            }
            Event::Search(search::Event::Batch(batch)) => {
                self.spent = batch.spent.clamp(0.0, 1.0);
                self.stepped = None;
                let clock = Duration::from_nanos(batch.elapsed_ns);
                let from = *self.searched_from.get_or_insert(clock);
                if let Some((Phase::Search, began)) = self.at {
                    // A resumed search goes on with a clock that ran before.
                    self.before = clock.saturating_sub(from).saturating_sub(now.saturating_sub(began));
                }
            }
            Event::Search(_)
            | Event::Measuring
            | Event::Shipping(_)
            | Event::Note(_)
            | Event::Outlook { .. } => self.stepped = None,
        }
    }

    /// The step at hand, from 1, and how many there are.
    pub(super) fn step(&self) -> (usize, usize) {
        let phase = self.at.map(|(phase, _)| phase);
        let index = self.phases.iter().position(|one| Some(*one) == phase).unwrap_or(0);
        (index + 1, self.phases.len())
    }

    /// About how long the rest takes, `now` after the start.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        let (phase, began) = self.at?;
        if self.speed.1 == 0 {
            return None;
        }
        let training = |steps: usize| self.speed.0.mul_f64(steps as f64 / self.speed.1 as f64);
        let ahead = self.training.1.saturating_sub(self.training.0);
        let measuring = self.measuring * self.measurements;
        let (retraining, distillation) = (training(self.retraining_steps), training(self.final_steps));
        Some(match phase {
            Phase::Search => {
                self.search_left(self.before + now.saturating_sub(began))?
                    + measuring
                    + retraining
                    + distillation
            }
            // Before its first step all of it is ahead.
            Phase::Finalists if self.training.1 == 0 => measuring + retraining + distillation,
            Phase::Finalists => training(ahead) + distillation,
            Phase::Distillation if self.training.1 == 0 => distillation,
            Phase::Distillation => training(ahead),
            Phase::Teacher | Phase::Board | Phase::Check | Phase::Test | Phase::Shipping => return None,
        })
    }

    /// Share of the search's budget that is spent, `now` after the start; `None` outside the search.
    pub(super) fn searched(&self, now: Duration) -> Option<f64> {
        let (phase, began) = self.at?;
        let share = match self.budget {
            Budget::Time(time) => {
                let spent = self.before + now.saturating_sub(began);
                spent.as_secs_f64() / time.as_secs_f64().max(1e-9)
            }
            Budget::Candidates(_) => self.spent,
        };
        (phase == Phase::Search).then_some(share.clamp(0.0, 1.0))
    }

    fn search_left(&self, searched: Duration) -> Option<Duration> {
        match self.budget {
            Budget::Time(time) => Some(time.saturating_sub(searched)),
            Budget::Candidates(_) if self.spent < TELLING_SHARE => None,
            Budget::Candidates(_) => Some(searched.mul_f64(1.0 / self.spent - 1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(budget: Budget) -> Outlook {
        Outlook {
            phases: Phase::ALL.to_vec(),
            at: None,
            budget,
            spent: 0.0,
            searched_from: None,
            before: Duration::ZERO,
            retraining_steps: 100,
            final_steps: 200,
            measurements: 3,
            measuring: Duration::ZERO,
            training: (0, 0),
            stepped: None,
            speed: (Duration::ZERO, 0),
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stepped(step: usize, steps: usize) -> Event {
        Event::Training(TrainProgress {
            epoch: 0,
            step,
            steps,
            ended: None,
            loss: 1.0,
            images_per_second: 1.0,
        })
    }

    #[test]
    fn the_rest_is_the_budget_and_what_comes_after_it_at_the_speed_that_was_seen() {
        let mut outlook = outlook(Budget::Time(seconds(60)));
        outlook.see(&Event::Phase(Phase::Teacher), seconds(0));
        outlook.see(&Event::Phase(Phase::Board), seconds(2));
        outlook.see(&Event::Phase(Phase::Search), seconds(6));
        assert_eq!((outlook.step(), outlook.left(seconds(20))), ((3, 8), None), "no step was seen yet");
        assert_eq!((outlook.searched(seconds(21)), outlook.searched(seconds(99))), (Some(0.25), Some(1.0)));
        outlook.see(&stepped(1, 50), seconds(26));
        outlook.see(&stepped(11, 50), seconds(31));
        // Half a second a step: 60 - 25 of the search, three measurements of 2 s, 50 s and 100 s of training.
        assert_eq!(outlook.left(seconds(31)), Some(seconds(35 + 6 + 50 + 100)));
        outlook.see(&Event::Phase(Phase::Finalists), seconds(70));
        assert_eq!(outlook.left(seconds(70)), Some(seconds(6 + 50 + 100)));
        outlook.see(&stepped(20, 100), seconds(80));
        assert_eq!((outlook.step(), outlook.left(seconds(80))), ((4, 8), Some(seconds(40 + 100))));
        outlook.see(&Event::Phase(Phase::Distillation), seconds(120));
        outlook.see(&stepped(150, 200), seconds(121));
        assert_eq!(outlook.left(seconds(121)), Some(seconds(25)));
    }

    fn batch(number: usize, clock: u64, spent: f64) -> Event {
        Event::Search(search::Event::Batch(search::record::Batch {
            number,
            purpose: search::record::Purpose::Explore,
            searcher: "random".into(),
            elapsed_ns: clock * 1_000_000_000,
            spent,
            rung: search::Rung::Inherited,
            candidates: 5,
        }))
    }

    #[test]
    fn a_resumed_search_has_less_ahead() {
        let mut outlook = outlook(Budget::Time(seconds(60)));
        outlook.see(&Event::Phase(Phase::Search), seconds(5));
        outlook.see(&batch(0, 3, 0.0), seconds(5));
        outlook.see(&batch(1, 43, 0.66), seconds(6));
        assert_eq!(
            (outlook.searched(seconds(6)), outlook.searched(seconds(11))),
            (Some(40.0 / 60.0), Some(0.75))
        );
        outlook.see(&stepped(1, 50), seconds(11));
        outlook.see(&stepped(2, 50), seconds(12));
        assert_eq!(outlook.left(seconds(12)), Some(seconds(14 + 100 + 200)));
    }

    #[test]
    fn a_number_of_candidates_takes_the_time_of_those_so_far() {
        let mut outlook = outlook(Budget::Candidates(20));
        outlook.see(&Event::Phase(Phase::Search), seconds(0));
        outlook.see(&stepped(1, 10), seconds(1));
        outlook.see(&stepped(11, 10), seconds(11));
        assert_eq!(outlook.left(seconds(11)), None);
        outlook.see(&batch(1, 0, 0.25), seconds(20));
        assert_eq!(outlook.left(seconds(20)), Some(seconds(60 + 100 + 200)));
    }
}
