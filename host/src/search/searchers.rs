//! Who proposes candidates: the policies, random search, uniform width. All stand behind [`Searcher`] and get the same
//! ladder, so that the report may compare them (docs/method.md#baselines).

use std::cell::RefCell;
use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;

use super::candidate::{Base, Proposal};
use super::kinds::{BaseKind, SearcherKind};
use super::policy::{Decisions, Legal, Policy, PolicyError};
use super::random;
use super::record::{Actions, Trial};
use super::reinforce::{Learned, Learning, Reinforce};
use super::removal_policy::{KEEP, REMOVE};
use super::shrinkage_policy::FACTORS;
use super::state::{self, Scale};
use crate::network::surgery::rounded_width;
use crate::network::{Network, may_remove};

/// Proposes candidates and learns from their scores.
pub(super) trait Searcher {
    /// Its name in the journal.
    fn kind(&self) -> SearcherKind;

    /// At most `count` candidates; none when there is nothing left to try.
    fn propose(&mut self, count: usize) -> Result<Vec<Proposal>, PolicyError>;

    /// The scores of the last proposals, in their order.
    fn learn(&mut self, trials: &[Trial]) -> Result<Option<Learned>, PolicyError>;

    /// Whether it can learn from a student beyond the limits. Those that cannot have such students not trained.
    fn learns_from_violations(&self) -> bool;

    /// Its policy as a safetensors file.
    fn policy(&self) -> Option<Result<Vec<u8>, PolicyError>>;
}

/// The decisions of the removal stage; masks depend on earlier decisions (`may_remove`), and are remembered.
pub(super) fn removal_decisions(network: &Network, scale: &Scale) -> Decisions {
    let units = network.units();
    let features = state::of_units(network, &units, scale);
    let network = network.clone();
    let known: RefCell<HashMap<Vec<bool>, bool>> = RefCell::default();
    let legal: Legal = Box::new(move |earlier| {
        let decided: Vec<bool> = earlier.iter().map(|&action| action == KEEP).collect();
        let mut known = known.borrow_mut();
        let removable = if let Some(&removable) = known.get(&decided) {
            removable
        } else {
            let removable = may_remove(&network, &units, &decided);
            known.insert(decided, removable);
            removable
        };
        let mut mask = vec![true; 2];
        mask[REMOVE] = removable;
        mask
    });
    Decisions { features, actions: 2, legal }
}

/// The decisions of the shrinkage stage, one per coupled shrinkable group. Factors that round to one width are one
/// action: the largest of them stays.
pub(super) fn shrinkage_decisions(base: &Base, scale: &Scale, channel_multiple: usize) -> Decisions {
    let groups = base.shrinkable();
    let features = state::of_groups(&base.network, &groups, scale);
    let mask = |channels: usize| {
        let widths = FACTORS.map(|factor| rounded_width(channels, factor, channel_multiple));
        let distinct = |(index, width): (usize, &usize)| widths.get(index + 1) != Some(width);
        widths.iter().enumerate().map(distinct).collect::<Vec<bool>>()
    };
    let masks: Vec<Vec<bool>> = groups.iter().map(|group| mask(group.channels)).collect();
    let legal: Legal = Box::new(move |earlier| {
        masks.get(earlier.len()).cloned().unwrap_or_else(|| vec![true; FACTORS.len()])
    });
    Decisions { features, actions: FACTORS.len(), legal }
}

/// Action indices as what is journaled.
pub(super) type Reading = fn(&[usize]) -> Actions;

/// Keep flags.
pub(super) fn read_removal(episode: &[usize]) -> Actions {
    Actions::Removal(episode.iter().map(|&action| action == KEEP).collect())
}

/// Width factors.
pub(super) fn read_shrinkage(episode: &[usize]) -> Actions {
    Actions::Shrinkage(episode.iter().map(|&action| FACTORS[action]).collect())
}

/// A policy learning by REINFORCE.
pub(super) struct PolicySearcher<P> {
    reinforce: Reinforce<P>,
    decisions: Decisions,
    read: Reading,
    base: BaseKind,
    rng: ChaCha8Rng,
    episodes: Vec<Vec<usize>>,
}

impl<P: Policy> PolicySearcher<P> {
    pub(super) fn new(
        policy: P,
        learning: Learning,
        decisions: Decisions,
        read: Reading,
        base: BaseKind,
        rng: ChaCha8Rng,
    ) -> Result<Self, PolicyError> {
        Ok(Self {
            reinforce: Reinforce::new(policy, learning)?,
            decisions,
            read,
            base,
            rng,
            episodes: Vec::new(),
        })
    }
}

impl<P: Policy> Searcher for PolicySearcher<P> {
    fn kind(&self) -> SearcherKind {
        SearcherKind::Reinforce
    }

    fn propose(&mut self, count: usize) -> Result<Vec<Proposal>, PolicyError> {
        if self.decisions.features.is_empty() {
            return Ok(Vec::new());
        }
        self.episodes = self.reinforce.policy().sample(&self.decisions, count, &mut self.rng)?;
        let propose = |episode: &Vec<usize>| Proposal { base: self.base, actions: (self.read)(episode) };
        Ok(self.episodes.iter().map(propose).collect())
    }

    fn learn(&mut self, trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        // A rollout of unknown worth says nothing: it is no part of the batch, neither of its mean nor of its gradient.
        let rewarded = |(episode, trial): (Vec<usize>, &Trial)| Some((episode, trial.reward.as_ref()?.total));
        let (episodes, rewards): (Vec<Vec<usize>>, Vec<f64>) =
            std::mem::take(&mut self.episodes).into_iter().zip(trials).filter_map(rewarded).unzip();
        self.reinforce.learn(&self.decisions, &episodes, &rewards).map(Some)
    }

    fn learns_from_violations(&self) -> bool {
        true
    }

    fn policy(&self) -> Option<Result<Vec<u8>, PolicyError>> {
        Some(self.reinforce.policy().parameters().save())
    }
}

/// Whether exact graph costs leave a candidate a chance.
pub(super) type Fits = Box<dyn Fn(&Actions) -> bool>;

/// Draws until the exact graph costs fit (or the draws run out): the baseline gets what costs nothing.
const MOST_DRAWS: usize = 30;
/// How far one group's factor may lie from its candidate's own centre, in actions.
const SPREAD: f64 = 2.5;

/// Random search. Each candidate draws its own severity first: independent fair coins would only ever try networks of
/// about half the size.
pub(super) struct RandomSearcher {
    decisions: Decisions,
    read: Reading,
    base: BaseKind,
    fits: Fits,
    rng: ChaCha8Rng,
}

impl RandomSearcher {
    pub(super) fn new(
        decisions: Decisions,
        read: Reading,
        base: BaseKind,
        fits: Fits,
        rng: ChaCha8Rng,
    ) -> Self {
        Self { decisions, read, base, fits, rng }
    }

    fn draw(&mut self) -> Result<Vec<usize>, PolicyError> {
        // The centre lies on the scale of action indices; with two actions it acts as the share of kept units.
        let centre = random::uniform(&mut self.rng) * self.decisions.actions as f64;
        let mut episode = Vec::with_capacity(self.decisions.features.len());
        for step in 0..self.decisions.features.len() {
            let legal = (self.decisions.legal)(&episode);
            let weight = |(index, legal): (usize, &bool)| {
                let distance = (index as f64 + 0.5 - centre).abs();
                let near = if self.decisions.actions == 2 { 1.0 - distance / 2.0 } else { SPREAD - distance };
                if *legal { near.max(1e-3) } else { 0.0 }
            };
            let weights: Vec<f64> = legal.iter().enumerate().map(weight).collect();
            episode.push(random::choose(&mut self.rng, &weights).ok_or(PolicyError::Stuck(step))?);
        }
        Ok(episode)
    }
}

impl Searcher for RandomSearcher {
    fn kind(&self) -> SearcherKind {
        SearcherKind::Random
    }

    fn propose(&mut self, count: usize) -> Result<Vec<Proposal>, PolicyError> {
        if self.decisions.features.is_empty() {
            return Ok(Vec::new());
        }
        let mut proposals = Vec::with_capacity(count);
        for _ in 0..count {
            let mut actions = (self.read)(&self.draw()?);
            for _ in 1..MOST_DRAWS {
                if (self.fits)(&actions) {
                    break;
                }
                actions = (self.read)(&self.draw()?);
            }
            proposals.push(Proposal { base: self.base, actions });
        }
        Ok(proposals)
    }

    fn learn(&mut self, _trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        Ok(None)
    }

    fn learns_from_violations(&self) -> bool {
        false
    }

    fn policy(&self) -> Option<Result<Vec<u8>, PolicyError>> {
        None
    }
}

/// Bisection stops at this distance: widths are multiples of some channels anyway.
const FINEST: f64 = 0.02;
/// Narrower than this is no student of interest.
const NARROWEST: f64 = 0.05;
/// Tried from wide to narrow when there is no limit to bisect for.
const GRID: [f64; 8] = [0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.12];

/// One width factor for the whole teacher: the widest that meets the limits, by bisection; a grid without limits.
pub(super) struct UniformSearcher {
    groups: usize,
    limited: bool,
    within: f64,
    beyond: f64,
    tried: usize,
    asked: f64,
}

impl UniformSearcher {
    pub(super) fn new(groups: usize, limited: bool) -> Self {
        Self { groups, limited, within: NARROWEST, beyond: 1.0, tried: 0, asked: 1.0 }
    }

    fn next(&self) -> Option<f64> {
        if self.limited {
            // The teacher itself may fit already.
            let middle = if self.tried == 0 { 1.0 } else { f64::midpoint(self.within, self.beyond) };
            (self.beyond - self.within > FINEST).then_some(middle)
        } else {
            GRID.get(self.tried).copied()
        }
    }
}

impl Searcher for UniformSearcher {
    fn kind(&self) -> SearcherKind {
        SearcherKind::Uniform
    }

    fn propose(&mut self, _count: usize) -> Result<Vec<Proposal>, PolicyError> {
        let Some(factor) = self.next().filter(|_| self.groups > 0) else { return Ok(Vec::new()) };
        self.asked = factor;
        self.tried += 1;
        Ok(vec![Proposal { base: BaseKind::Teacher, actions: Actions::Shrinkage(vec![factor; self.groups]) }])
    }

    fn learn(&mut self, trials: &[Trial]) -> Result<Option<Learned>, PolicyError> {
        // Of a width of unknown worth too it is narrower ones that are tried next.
        if trials.iter().all(|trial| trial.feasible) {
            self.within = self.asked;
        } else {
            self.beyond = self.asked;
        }
        Ok(None)
    }

    fn learns_from_violations(&self) -> bool {
        false
    }

    fn policy(&self) -> Option<Result<Vec<u8>, PolicyError>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{self, Architecture};
    use crate::training::inheritance::initial_weights;

    fn base(architecture: Architecture) -> Base {
        let input = Input { channels: 3, height: 32, width: 32 };
        let network = zoo::build(architecture, input, 10, 0.25).unwrap();
        let weights = Arc::new(initial_weights(&network, 1));
        Base::new(BaseKind::Teacher, network, weights, 8)
    }

    fn random_searcher(decisions: Decisions, read: Reading) -> RandomSearcher {
        RandomSearcher::new(decisions, read, BaseKind::Teacher, Box::new(|_| true), random::stream(1, "test"))
    }

    #[test]
    fn whatever_the_masks_allow_can_be_built() {
        for architecture in [Architecture::Vgg13, Architecture::Resnet18] {
            let base = base(architecture);
            let scale = Scale::of(&base.network);
            let removal = random_searcher(removal_decisions(&base.network, &scale), read_removal).propose(40);
            let shrinkage =
                random_searcher(shrinkage_decisions(&base, &scale, 8), read_shrinkage).propose(40);
            for proposal in removal.unwrap().into_iter().chain(shrinkage.unwrap()) {
                let student = base.apply(&proposal.actions).unwrap();
                assert!(student.network.cost().params <= base.network.cost().params, "{proposal:?}");
            }
        }
    }

    #[test]
    fn no_two_legal_factors_give_one_width_and_keeping_all_is_legal() {
        let base = base(Architecture::Resnet18);
        let decisions = shrinkage_decisions(&base, &Scale::of(&base.network), 8);
        let mut episode = Vec::new();
        for group in base.shrinkable() {
            let mask = (decisions.legal)(&episode);
            let legal = FACTORS.iter().zip(&mask).filter(|(_, legal)| **legal);
            let widths: Vec<usize> =
                legal.map(|(factor, _)| rounded_width(group.channels, *factor, 8)).collect();
            assert!(widths.windows(2).all(|pair| pair[0] < pair[1]), "{}: {widths:?}", group.name);
            assert_eq!(widths.last(), Some(&group.channels));
            episode.push(FACTORS.len() - 1);
        }
    }

    #[test]
    fn each_factor_acts_on_its_own_group_also_behind_projection_shortcuts() {
        let base = base(Architecture::Resnet18);
        let groups = base.shrinkable();
        for (index, group) in groups.iter().enumerate() {
            let mut factors = vec![1.0; groups.len()];
            factors[index] = 0.5;
            let student = base.apply(&Actions::Shrinkage(factors)).unwrap().network;
            for other in student.groups().into_iter().filter(|other| other.shrinkable) {
                let before = groups.iter().find(|before| before.name == other.name).unwrap().channels;
                let expected = if other.name == group.name { rounded_width(before, 0.5, 8) } else { before };
                assert_eq!(other.channels, expected, "{} while {} is cut", other.name, group.name);
            }
        }
    }

    #[test]
    fn each_keep_flag_acts_on_its_own_unit() {
        let base = base(Architecture::Vgg13);
        let units = base.network.units();
        for (index, unit) in units.iter().enumerate() {
            let keep: Vec<bool> = (0..units.len()).map(|other| other != index).collect();
            let Ok(student) = base.apply(&Actions::Removal(keep)) else { continue };
            for other in &units {
                assert_eq!(student.network.find(&other.name).is_none(), other.name == unit.name);
            }
        }
    }

    #[test]
    fn uniform_width_bisects_to_the_widest_that_fits() {
        let mut searcher = UniformSearcher::new(3, true);
        let mut best: f64 = 0.0;
        for _ in 0..20 {
            let proposals = searcher.propose(5).unwrap();
            let Some(Actions::Shrinkage(factors)) = proposals.first().map(|proposal| &proposal.actions)
            else {
                break;
            };
            let factor = factors[0];
            if factor <= 0.37 {
                best = best.max(factor);
                searcher.within = factor;
            } else {
                searcher.beyond = factor;
            }
        }
        assert!(searcher.propose(1).unwrap().is_empty(), "it ends by itself");
        assert!((0.35..=0.37).contains(&best), "{best}");
    }
}
