//! Who takes part in a stage: the searchers that have a share of it, set up from the settings.

use super::candidate::Base;
use super::constraint::{Limits, Resources, violation};
use super::error::SearchError;
use super::kinds::StageKind;
use super::policy::Policy;
use super::random;
use super::removal_policy::RemovalPolicy;
use super::searchers::{self, PolicySearcher, RandomSearcher, Searcher, UniformSearcher};
use super::settings::Settings;
use super::shrinkage_policy::ShrinkagePolicy;
use super::state::Scale;

/// Searchers, each with its share of the stage.
pub(super) type Crew = Vec<(Box<dyn Searcher>, f64)>;

/// The searchers of a stage that have a share.
pub(super) fn of(
    stage: StageKind,
    settings: &Settings,
    policy: Option<&[u8]>,
    bases: &[Base],
    limits: &Limits,
    scale: &Scale,
) -> Result<Crew, SearchError> {
    let rng = |purpose: &str| random::stream(settings.seed, &format!("{stage:?} {purpose}"));
    // The last base is the stage's own; uniform width is a baseline, and takes the teacher.
    let (Some(teacher), Some(base)) = (bases.first(), bases.last()) else { return Ok(Vec::new()) };
    let decisions = || match stage {
        StageKind::Removal => searchers::removal_decisions(&base.network, scale),
        StageKind::Shrinkage => searchers::shrinkage_decisions(base, scale, settings.channel_multiple),
    };
    let read: searchers::Reading = match stage {
        StageKind::Removal => searchers::read_removal,
        StageKind::Shrinkage => searchers::read_shrinkage,
    };
    let mut all: Crew = Vec::new();
    if settings.shares.reinforce > 0.0 {
        let (learning, prior) = (settings.learning(stage), settings.prior());
        let (mut init, rollouts) = (rng("policy"), rng("rollouts"));
        let load = |fresh: &dyn Policy| policy.map_or(Ok(()), |bytes| fresh.parameters().load(bytes));
        let searcher: Box<dyn Searcher> = match stage {
            StageKind::Removal => {
                let policy = RemovalPolicy::new(prior, &mut init)?;
                load(&policy)?;
                Box::new(PolicySearcher::new(policy, learning, decisions(), read, base.kind, rollouts)?)
            }
            StageKind::Shrinkage => {
                let policy = ShrinkagePolicy::new(prior, &mut init)?;
                load(&policy)?;
                Box::new(PolicySearcher::new(policy, learning, decisions(), read, base.kind, rollouts)?)
            }
        };
        all.push((searcher, settings.shares.reinforce));
    }
    if settings.shares.random > 0.0 {
        let (probe, limits) = (
            Base::new(base.kind, base.network.clone(), base.weights.clone(), settings.channel_multiple),
            limits.clone(),
        );
        let fits: searchers::Fits = Box::new(move |actions| {
            probe
                .apply(actions)
                .is_ok_and(|student| violation(&limits.excess(&Resources::of(&student.network))) == 0.0)
        });
        let searcher = RandomSearcher::new(decisions(), read, base.kind, fits, rng("random"));
        all.push((Box::new(searcher), settings.shares.random));
    }
    if settings.shares.uniform > 0.0 && stage == StageKind::Shrinkage {
        let searcher = UniformSearcher::new(teacher.shrinkable().len(), !limits.is_empty());
        all.push((Box::new(searcher), settings.shares.uniform));
    }
    Ok(all)
}
