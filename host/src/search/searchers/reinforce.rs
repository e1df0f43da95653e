//! The preset `edge`'s policies: recurrent ones that learn by REINFORCE how the best simple student is to be changed.
//!
//! One batch decides about units, the next about widths, each in turn beside what the simple student has of the other. The
//! limits set the common scale, so a policy says only who gets more and who gets less. Its actions are changes, so a policy
//! that learned on one teacher means the same on another.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::super::base::Base;
use super::super::genome::Shape;
use super::super::policy::{Decisions, Legal, Policy, PolicyError};
use super::super::preset::{EDGE_REMOVAL, EDGE_SHRINKAGE};
use super::super::record::Trial;
use super::super::reinforce::{Learned, Reinforce};
use super::super::removal_policy::{KEEP, REMOVE, RemovalPolicy};
use super::super::searcher::{Asked, Known, Searcher, Setup};
use super::super::shrinkage_policy::{ACTIONS, ShrinkagePolicy};
use super::super::state::{self, Scale};
use super::super::teacher::Policies;

/// What a width factor is multiplied with, by action index.
const CHANGES: [f64; ACTIONS] = [0.25, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.45, 2.0, 2.8];
/// Starting logits: a new policy changes little.
const CHANGE_PRIOR: [f64; ACTIONS] = [-1.0, -0.5, 0.0, 0.7, 1.2, 1.8, 1.2, 0.7, 0.0, -1.0];
/// Starting logit of leaving a unit as it is in the simple student.
const UNIT_PRIOR: f64 = 2.5;

struct EdgePolicies {
    base: Rc<Base>,
    scale: Scale,
    removal: Reinforce<RemovalPolicy>,
    shrinkage: Reinforce<ShrinkagePolicy>,
    rng: ChaCha8Rng,
    /// The simple student that is changed, once one is known.
    centre: Option<Shape>,
    /// Which policy asked last, with what.
    asked: Vec<Vec<usize>>,
    by_removal: bool,
}

pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    let mut init = setup.random("reinforce policy");
    let removal = RemovalPolicy::new(UNIT_PRIOR, &mut init)?;
    let shrinkage = ShrinkagePolicy::new(&CHANGE_PRIOR, &mut init)?;
    if let Some(bytes) = &setup.start.removal {
        removal.parameters().load(bytes)?;
    }
    if let Some(bytes) = &setup.start.shrinkage {
        shrinkage.parameters().load(bytes)?;
    }
    Ok(Box::new(EdgePolicies {
        base: Rc::clone(&setup.base),
        scale: setup.scale.clone(),
        removal: Reinforce::new(removal, EDGE_REMOVAL)?,
        shrinkage: Reinforce::new(shrinkage, EDGE_SHRINKAGE)?,
        rng: setup.random("reinforce rollouts"),
        centre: None,
        asked: Vec::new(),
        by_removal: true,
    }))
}

impl EdgePolicies {
    fn units(&self, centre: &Shape) -> Decisions {
        let features = state::of_units(&self.base.network, &self.base.units, &self.scale);
        let (base, kept) = (Rc::clone(&self.base), centre.removed.clone());
        let known: RefCell<HashMap<Vec<usize>, bool>> = RefCell::default();
        let legal: Legal = Box::new(move |earlier| {
            let possible = |action: usize| {
                let mut episode = earlier.to_vec();
                episode.push(action);
                let mut known = known.borrow_mut();
                *known.entry(episode).or_insert_with_key(|it| base.can_remove(&flipped(&base, &kept, it)))
            };
            let (flip, leave) = (possible(REMOVE), possible(KEEP));
            let mut mask = vec![false; 2];
            // Units still to come are left as they are; if neither way can be built now, a later flip may mend it.
            (mask[REMOVE], mask[KEEP]) = if flip || leave { (flip, leave) } else { (true, true) };
            mask
        });
        Decisions { features, actions: 2, legal }
    }

    fn widths(&self) -> Decisions {
        let features = state::of_groups(&self.base.network, &self.base.groups, &self.scale);
        Decisions { features, actions: ACTIONS, legal: Box::new(|_| vec![true; ACTIONS]) }
    }
}

/// The units that are out when a policy has decided about the first so many, and the rest is as in the simple student.
fn flipped(base: &Base, kept: &BTreeSet<String>, episode: &[usize]) -> BTreeSet<String> {
    let is_out = |(place, name): (usize, &String)| {
        kept.contains(name) != episode.get(place).is_some_and(|action| *action == REMOVE)
    };
    let names = base.units.iter().map(|unit| &unit.name).enumerate();
    names.filter(|&(place, name)| is_out((place, name))).map(|(_, name)| name.clone()).collect()
}

impl Searcher for EdgePolicies {
    fn ask(&mut self, count: usize, known: &Known<'_>) -> Result<Asked, PolicyError> {
        if self.centre.is_none() {
            self.centre = known.simple.first().map(|(shape, _)| shape.clone());
        }
        let Some(centre) = self.centre.clone() else { return Ok(Asked::default()) };
        self.by_removal = !self.by_removal && !self.base.units.is_empty();
        if self.by_removal {
            let decisions = self.units(&centre);
            self.asked = self.removal.policy().sample(&decisions, count, &mut self.rng)?;
            return Ok(Asked::fitted(self.asked.iter().map(|episode| Shape {
                removed: flipped(&self.base, &centre.removed, episode),
                ..centre.clone()
            })));
        }
        if self.base.groups.is_empty() {
            return Ok(Asked::default());
        }
        self.asked = self.shrinkage.policy().sample(&self.widths(), count, &mut self.rng)?;
        Ok(Asked::fitted(self.asked.iter().map(|episode| {
            let changed =
                self.base.groups.iter().zip(episode).map(|(group, &action)| {
                    (group.name.clone(), centre.factor(&group.name) * CHANGES[action])
                });
            Shape { factors: changed.collect(), ..centre.clone() }
        })))
    }

    fn tell(&mut self, trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        let Some(centre) = self.centre.clone() else { return Ok(None) };
        // A rollout of unknown worth says nothing: it is no part of the batch, neither of its mean nor of its gradient.
        let rewarded = |(episode, trial): (Vec<usize>, &Trial)| Some((episode, trial.reward.as_ref()?.total));
        let (episodes, rewards): (Vec<Vec<usize>>, Vec<f64>) =
            std::mem::take(&mut self.asked).into_iter().zip(trials).filter_map(rewarded).unzip();
        if self.by_removal {
            let decisions = self.units(&centre);
            self.removal.learn(&decisions, &episodes, &rewards).map(Some)
        } else {
            let decisions = self.widths();
            self.shrinkage.learn(&decisions, &episodes, &rewards).map(Some)
        }
    }

    fn policies(&self) -> Result<Policies, PolicyError> {
        Ok(Policies {
            removal: Some(self.removal.policy().parameters().save()?),
            shrinkage: Some(self.shrinkage.policy().parameters().save()?),
        })
    }
}
