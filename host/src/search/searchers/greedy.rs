//! Greedy, as NetAdapt: from the best simple student, one group of channels at a time gets less, what that frees goes to all
//! others, and the best of these becomes the next one, until none is better.

use std::rc::Rc;

use super::super::base::Base;
use super::super::genome::Shape;
use super::super::policy::PolicyError;
use super::super::record::Trial;
use super::super::reinforce::Learned;
use super::super::searcher::{Asked, Known, Searcher, Setup};

/// What is left of a group's factor in a step, and in the finer steps after the coarse ones.
const STEPS: [f64; 3] = [0.6, 0.8, 0.9];

struct Greedy {
    base: Rc<Base>,
    /// Where it stands, and what that is worth; `None` before the first ask.
    here: Option<(Shape, f64)>,
    /// Groups (by place) still to be tried from here.
    ahead: Vec<usize>,
    /// Place in [`STEPS`].
    step: usize,
    asked: Vec<Shape>,
    /// The best neighbour of `here` so far.
    best: Option<(Shape, f64)>,
}

#[expect(clippy::unnecessary_wraps, reason = "the registry's form")]
pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    let base = Rc::clone(&setup.base);
    Ok(Box::new(Greedy { base, here: None, ahead: Vec::new(), step: 0, asked: Vec::new(), best: None }))
}

impl Greedy {
    fn neighbour(&self, here: &Shape, group: usize) -> Shape {
        let mut shape = here.clone();
        let name = &self.base.groups[group].name;
        shape.factors.insert(name.clone(), here.factor(name) * STEPS[self.step]);
        shape
    }

    fn all_groups(&self) -> Vec<usize> {
        (0..self.base.groups.len()).collect()
    }

    /// All neighbours are known: go to the best of them, or on with smaller steps.
    fn advance(&mut self) {
        let Some((_, worth)) = &self.here else { return };
        match self.best.take() {
            Some(best) if best.1 > *worth => self.here = Some(best),
            _ => self.step += 1,
        }
        self.ahead = self.all_groups();
    }
}

impl Searcher for Greedy {
    fn ask(&mut self, count: usize, known: &Known<'_>) -> Result<Asked, PolicyError> {
        if self.here.is_none() {
            self.here = known.simple.first().cloned();
            self.ahead = self.all_groups();
        }
        if self.ahead.is_empty() {
            self.advance();
        }
        let Some((here, _)) = self.here.clone().filter(|_| self.step < STEPS.len()) else {
            return Ok(Asked::default());
        };
        let rest = self.ahead.split_off(count.min(self.ahead.len()));
        let now = std::mem::replace(&mut self.ahead, rest);
        self.asked = now.into_iter().map(|group| self.neighbour(&here, group)).collect();
        Ok(Asked::fitted(self.asked.clone()))
    }

    fn tell(&mut self, trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        for (shape, trial) in std::mem::take(&mut self.asked).into_iter().zip(trials) {
            let Some(worth) = trial.quality().filter(|_| trial.feasible) else { continue };
            if self.best.as_ref().is_none_or(|(_, best)| worth > *best) {
                self.best = Some((shape, worth));
            }
        }
        Ok(None)
    }
}
