//! Evolution with a learned predictor: many mutations and crossings of the best candidates, of which only those are asked
//! about that the model of quality puts first.

use std::collections::BTreeSet;
use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::super::base::Base;
use super::super::genome::{BaseId, Shape};
use super::super::policy::PolicyError;
use super::super::record::Trial;
use super::super::searcher::{Asked, Known, Searcher, Setup};
use super::super::{mutation, random};

/// Parents: the best so many.
const PARENTS: usize = 8;
/// Children drawn for each that is asked about.
const DRAWN: usize = 16;
/// Probability that a width changes, and the deviation of its logarithm.
const CHANGED: f64 = 0.3;
const SPREAD: f64 = 0.3;
/// Probabilities of a removal, and of a second parent.
const REMOVAL: f64 = 0.15;
const CROSSED: f64 = 0.4;

struct Evolution {
    base: Rc<Base>,
    rng: ChaCha8Rng,
}

#[expect(clippy::unnecessary_wraps, reason = "the registry's form")]
pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    Ok(Box::new(Evolution { base: Rc::clone(&setup.base), rng: setup.random("evolution") }))
}

impl Evolution {
    /// A candidate's own widths as a shape.
    fn shape_of(&self, trial: &Trial) -> Shape {
        let factor = |group: &crate::network::Group| {
            let width = self.base.width(&trial.genome, group) as f64 / group.channels.max(1) as f64;
            (group.name.clone(), width)
        };
        Shape {
            base: BaseId::Teacher,
            removed: trial.genome.removed.clone(),
            factors: self.base.groups.iter().map(factor).collect(),
        }
    }

    fn child(&mut self, parents: &[Shape]) -> Shape {
        let mut child = parents[mutation::index(&mut self.rng, parents.len())].clone();
        if random::uniform(&mut self.rng) < CROSSED {
            let other = &parents[mutation::index(&mut self.rng, parents.len())];
            for group in &self.base.groups {
                if random::uniform(&mut self.rng) < 0.5 {
                    child.factors.insert(group.name.clone(), other.factor(&group.name));
                }
            }
        }
        mutation::widths(&self.base, &mut child, CHANGED, SPREAD, &mut self.rng);
        if random::uniform(&mut self.rng) < REMOVAL {
            mutation::removal(&self.base, &mut child, &mut self.rng);
        }
        child
    }
}

impl Searcher for Evolution {
    fn ask(&mut self, count: usize, known: &Known<'_>) -> Result<Asked, PolicyError> {
        let mut best: Vec<(&Trial, f64)> = known
            .trials
            .iter()
            .filter(|trial| trial.feasible && trial.genome.base == BaseId::Teacher)
            .filter_map(|trial| Some((trial, known.surrogate.quality_of(trial)?)))
            .collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut seen = BTreeSet::new();
        best.retain(|(trial, _)| seen.insert(&trial.lineage));
        let parents: Vec<Shape> = best.iter().take(PARENTS).map(|(trial, _)| self.shape_of(trial)).collect();
        if parents.is_empty() {
            return Ok(Asked::default());
        }
        let mut children: Vec<(Shape, f64)> = (0..count * DRAWN)
            .map(|_| {
                let child = self.child(&parents);
                let network = (known.fitted)(&child);
                let promise = network.map_or(f64::NEG_INFINITY, |it| known.surrogate.promise_of(&it));
                (child, promise)
            })
            .collect();
        children.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Asked::fitted(children.into_iter().take(count).map(|(child, _)| child)))
    }
}
