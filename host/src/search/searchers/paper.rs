//! The method as published (docs/method.md#published-method): policies remove units of the teacher for half of the budget, then
//! shrink the groups of the best student of that, from {0.1 .. 1.0}. Nothing is fitted to the limits; they are relaxed, and
//! harden with the updates.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rand_chacha::ChaCha8Rng;

use super::super::base::Base;
use super::super::constraint::epsilon_by_updates;
use super::super::genome::{BaseId, Genome};
use super::super::policy::{Decisions, Legal, Policy, PolicyError};
use super::super::preset::{PAPER_REMOVAL, PAPER_SHRINKAGE};
use super::super::record::Trial;
use super::super::reinforce::{Learned, Reinforce};
use super::super::removal_policy::{KEEP, REMOVE, RemovalPolicy};
use super::super::searcher::{Asked, Known, Proposal, Searcher, Setup};
use super::super::shrinkage_policy::{ACTIONS, FACTORS, ShrinkagePolicy};
use super::super::state::{self, Scale};
use super::super::teacher::Policies;
use crate::network::may_remove;
use crate::network::surgery::rounded_width;

/// Share of the budget after which the second stage begins.
const REMOVAL_SHARE: f64 = 0.5;

struct Paper {
    scale: Scale,
    removal: Reinforce<RemovalPolicy>,
    shrinkage: Reinforce<ShrinkagePolicy>,
    rng: ChaCha8Rng,
    /// The teacher, then the best student of the first stage.
    base: Rc<Base>,
    shrinks: bool,
    /// The best student so far and its reward.
    best: Option<(String, f64)>,
    /// Updates of this stage.
    updates: usize,
    asked: Vec<Vec<usize>>,
}

pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    let mut init = setup.random("paper policy");
    // Both start uniform.
    let removal = RemovalPolicy::new(0.0, &mut init)?;
    let shrinkage = ShrinkagePolicy::new(&[0.0; ACTIONS], &mut init)?;
    if let Some(bytes) = &setup.start.removal {
        removal.parameters().load(bytes)?;
    }
    if let Some(bytes) = &setup.start.shrinkage {
        shrinkage.parameters().load(bytes)?;
    }
    Ok(Box::new(Paper {
        scale: setup.scale.clone(),
        removal: Reinforce::new(removal, PAPER_REMOVAL)?,
        shrinkage: Reinforce::new(shrinkage, PAPER_SHRINKAGE)?,
        rng: setup.random("paper rollouts"),
        base: Rc::clone(&setup.base),
        shrinks: false,
        best: None,
        updates: 0,
        asked: Vec::new(),
    }))
}

impl Paper {
    /// Masks depend on earlier decisions (`may_remove`), and are remembered.
    fn units(&self) -> Decisions {
        let features = state::of_units(&self.base.network, &self.base.units, &self.scale);
        let base = Rc::clone(&self.base);
        let known: RefCell<HashMap<Vec<bool>, bool>> = RefCell::default();
        let legal: Legal = Box::new(move |earlier| {
            let decided: Vec<bool> = earlier.iter().map(|&action| action == KEEP).collect();
            let mut known = known.borrow_mut();
            let removable = *known
                .entry(decided)
                .or_insert_with_key(|decided| may_remove(&base.network, &base.units, decided));
            let mut mask = vec![true; 2];
            mask[REMOVE] = removable;
            mask
        });
        Decisions { features, actions: 2, legal }
    }

    /// One decision for each coupled group. Factors that round to one width are one action: the largest of them stays.
    fn widths(&self) -> Decisions {
        let features = state::of_groups(&self.base.network, &self.base.groups, &self.scale);
        let multiple = self.base.channel_multiple;
        let mask = |channels: usize| {
            let widths = FACTORS.map(|factor| rounded_width(channels, factor, multiple));
            let distinct = |(index, width): (usize, &usize)| widths.get(index + 1) != Some(width);
            widths.iter().enumerate().map(distinct).collect::<Vec<bool>>()
        };
        let masks: Vec<Vec<bool>> = self.base.groups.iter().map(|group| mask(group.channels)).collect();
        let legal: Legal =
            Box::new(move |earlier| masks.get(earlier.len()).cloned().unwrap_or_else(|| vec![true; ACTIONS]));
        Decisions { features, actions: ACTIONS, legal }
    }

    fn genome(&self, episode: &[usize]) -> Genome {
        let base = self.base.id.clone();
        let genome = if self.shrinks {
            let width = |(group, &action): (&crate::network::Group, &usize)| {
                let width = rounded_width(group.channels, FACTORS[action], self.base.channel_multiple);
                (width < group.channels).then(|| (group.name.clone(), width))
            };
            let widths = self.base.groups.iter().zip(episode).filter_map(width).collect();
            Genome { base, widths, ..Genome::default() }
        } else {
            let is_out = |(unit, &action): (&crate::network::Unit, &usize)| {
                (action == REMOVE).then(|| unit.name.clone())
            };
            let removed = self.base.units.iter().zip(episode).filter_map(is_out).collect();
            Genome { base, removed, ..Genome::default() }
        };
        self.base.tidied(genome)
    }
}

impl Searcher for Paper {
    fn ask(&mut self, count: usize, known: &Known<'_>) -> Result<Asked, PolicyError> {
        if !self.shrinks && known.spent >= REMOVAL_SHARE {
            (self.shrinks, self.updates) = (true, 0);
        }
        let decisions = if self.shrinks { self.widths() } else { self.units() };
        if decisions.features.is_empty() {
            return Ok(Asked::default());
        }
        self.asked = if self.shrinks {
            self.shrinkage.policy().sample(&decisions, count, &mut self.rng)?
        } else {
            self.removal.policy().sample(&decisions, count, &mut self.rng)?
        };
        let proposals = self.asked.iter().map(|episode| Proposal::Exact(self.genome(episode))).collect();
        Ok(Asked { proposals, epsilon: epsilon_by_updates(self.updates) })
    }

    fn tell(&mut self, trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        for trial in trials.iter().filter(|trial| trial.accuracy().is_some() && trial.feasible) {
            let Some(reward) = &trial.reward else { continue };
            if self.best.as_ref().is_none_or(|(_, best)| reward.total > *best) {
                self.best = Some((trial.lineage.clone(), reward.total));
            }
        }
        let rewarded = |(episode, trial): (Vec<usize>, &Trial)| Some((episode, trial.reward.as_ref()?.total));
        let (episodes, rewards): (Vec<Vec<usize>>, Vec<f64>) =
            std::mem::take(&mut self.asked).into_iter().zip(trials).filter_map(rewarded).unzip();
        self.updates += 1;
        if self.shrinks {
            let decisions = self.widths();
            self.shrinkage.learn(&decisions, &episodes, &rewards).map(Some)
        } else {
            let decisions = self.units();
            self.removal.learn(&decisions, &episodes, &rewards).map(Some)
        }
    }

    fn next_base(&self, spent: f64) -> Option<String> {
        let begins = !self.shrinks && spent >= REMOVAL_SHARE && self.base.id == BaseId::Teacher;
        self.best.as_ref().filter(|(_, reward)| begins && *reward > 0.0).map(|(lineage, _)| lineage.clone())
    }

    fn rebase(&mut self, base: Rc<Base>) -> Result<(), PolicyError> {
        self.base = base;
        Ok(())
    }

    fn policies(&self) -> Result<Policies, PolicyError> {
        Ok(Policies {
            removal: Some(self.removal.policy().parameters().save()?),
            shrinkage: Some(self.shrinkage.policy().parameters().save()?),
        })
    }
}
