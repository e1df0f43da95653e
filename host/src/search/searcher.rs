//! The interface of whoever proposes candidates: it is asked for shapes, and told what they were worth. The search fits each
//! shape to the limits, so a searcher looks for the best way to share out what they leave.

use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::base::Base;
use super::constraint::Limits;
use super::genome::{Genome, Shape};
use super::policy::PolicyError;
use super::random;
use super::record::Trial;
use super::reinforce::Learned;
use super::settings::Settings;
use super::state::Scale;
use super::surrogate::Surrogate;
use super::teacher::Policies;
use crate::network::Network;

/// What a searcher wants to know the worth of.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    /// The largest student of this shape that keeps the limits.
    Fitted(Shape),
    /// This very student.
    Exact(Genome),
}

/// Candidates of one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// None when there is nothing left to try.
    pub proposals: Vec<Proposal>,
    /// How far the limits are relaxed for them, 0 to 1: a student that is further beyond is not trained.
    pub epsilon: f64,
}

impl Asked {
    /// Shapes at the limits, which are not relaxed.
    pub fn fitted(shapes: impl IntoIterator<Item = Shape>) -> Self {
        Self { proposals: shapes.into_iter().map(Proposal::Fitted).collect(), epsilon: 0.0 }
    }
}

/// What a searcher is set up from.
pub struct Setup<'a> {
    /// Of the whole search.
    pub settings: &'a Settings,
    /// The teacher.
    pub base: Rc<Base>,
    /// In base units.
    pub limits: &'a Limits,
    /// Sizes that features are relative to.
    pub scale: Scale,
    /// Policies to start from.
    pub start: &'a Policies,
}

impl Setup<'_> {
    /// The searcher's own stream of random numbers.
    pub fn random(&self, purpose: &str) -> ChaCha8Rng {
        random::stream(self.settings.seed, purpose)
    }
}

/// What the search knows by now.
pub struct Known<'a> {
    /// Share of the budget that is spent, 0 to 1.
    pub spent: f64,
    /// All judged candidates, in order.
    pub trials: &'a [Trial],
    /// Shapes of the simple students with their best trials, best first; empty where none was tried.
    pub simple: &'a [(Shape, f64)],
    /// Quality by structure, fitted to all looks.
    pub surrogate: &'a Surrogate,
    /// The network that a shape comes to at the limits, as far as costs are known by now; `None` if there is none.
    pub fitted: &'a dyn Fn(&Shape) -> Option<Network>,
}

/// Proposes candidates and learns from their worth.
pub trait Searcher {
    /// At most `count` candidates.
    ///
    /// # Errors
    /// The tensor library's, for policies.
    fn ask(&mut self, count: usize, known: &Known<'_>) -> Result<Asked, PolicyError>;

    /// The trials of what was asked last, in its order.
    ///
    /// # Errors
    /// The tensor library's, for policies.
    fn tell(&mut self, _trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        Ok(None)
    }

    /// A judged candidate, by its lineage, that it wants to go on from; asked after [`Self::tell`]. The search then calls
    /// [`Self::rebase`].
    fn next_base(&self, _spent: f64) -> Option<String> {
        None
    }

    /// The network that it wanted to go on from.
    ///
    /// # Errors
    /// The tensor library's, for policies.
    fn rebase(&mut self, _base: Rc<Base>) -> Result<(), PolicyError> {
        Ok(())
    }

    /// What its policies have learned, as files.
    ///
    /// # Errors
    /// A tensor cannot be read.
    fn policies(&self) -> Result<Policies, PolicyError> {
        Ok(Policies::default())
    }
}
