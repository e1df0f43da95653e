//! Uniform width: one factor for all layers, at the limits. The baseline that all others have to beat; done with one candidate.

use super::super::policy::PolicyError;
use super::super::searcher::{Asked, Known, Searcher, Setup};
use super::super::simple;

/// Asks once.
struct Uniform(Option<simple::Simple>);

#[expect(clippy::unnecessary_wraps, reason = "the registry's form")]
pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    Ok(Box::new(Uniform(Some(simple::uniform(&setup.base)))))
}

impl Searcher for Uniform {
    fn ask(&mut self, _count: usize, _known: &Known<'_>) -> Result<Asked, PolicyError> {
        Ok(Asked::fitted(self.0.take().map(|simple| simple.shape)))
    }
}
