//! Random search: a simple shape, drawn at random, with every width changed at random and now and then a unit.

use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::super::base::Base;
use super::super::genome::Shape;
use super::super::policy::PolicyError;
use super::super::searcher::{Asked, Known, Searcher, Setup};
use super::super::{mutation, random, simple};

/// Deviation of a width factor's logarithm.
const SPREAD: f64 = 0.4;
/// How often a unit is taken out or put back; again as often after each.
const REMOVALS: f64 = 0.35;

struct Random {
    base: Rc<Base>,
    starts: Vec<Shape>,
    rng: ChaCha8Rng,
}

#[expect(clippy::unnecessary_wraps, reason = "the registry's form")]
pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    let starts = simple::all(&setup.base).into_iter().map(|simple| simple.shape).collect();
    Ok(Box::new(Random { base: Rc::clone(&setup.base), starts, rng: setup.random("random") }))
}

impl Searcher for Random {
    fn ask(&mut self, count: usize, _known: &Known<'_>) -> Result<Asked, PolicyError> {
        let mut draw = || {
            let mut shape = self.starts[mutation::index(&mut self.rng, self.starts.len())].clone();
            mutation::widths(&self.base, &mut shape, 1.0, SPREAD, &mut self.rng);
            while random::uniform(&mut self.rng) < REMOVALS {
                mutation::removal(&self.base, &mut shape, &mut self.rng);
            }
            shape
        };
        Ok(Asked::fitted((0..count).map(|_| draw()).collect::<Vec<_>>()))
    }
}
