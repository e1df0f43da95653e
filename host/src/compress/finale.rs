//! From finalists to the student (method.md 4.9): measure them properly, retrain them, choose on the second half of the
//! validation split, distil the chosen one for long, and measure the very file that ships.
//!
//! The test split is not touched here.

use super::gauge::Specimen;
use super::laboratory::Live;
use super::side_by_side::{self, SideBySide};
use super::stopwatch::Stopwatch;
use super::{Error, Event, Finale, Phase, Plan};
use crate::data::Dataset;
use crate::model_io::Weights;
use crate::network::Network;
use crate::search::Finalist;
use crate::search::constraint::{Limits, Metric, Resources, violation};
use crate::search::laboratory::{Laboratory as _, Measured, Outcome};
use crate::training::recipe::{Length, Recipe};

/// A student that keeps the limits, trained and measured.
pub(super) struct Chosen {
    pub(super) network: Network,
    /// Batch norm alive.
    pub(super) weights: Weights,
    /// The file that ships.
    pub(super) specimen: Specimen,
    /// Measured beside its teacher.
    pub(super) pair: SideBySide,
    pub(super) searcher: String,
}

/// A finalist that keeps the limits by a careful measurement, with the best of its retrained weights.
struct Contender<'a> {
    finalist: &'a Finalist,
    weights: Weights,
    /// Mean over the seeds, on the second half of the validation split.
    accuracy: f64,
}

/// The student; `None` if no finalist keeps the limits.
pub(super) fn finale(
    lab: &mut Live<'_>,
    dataset: &Dataset,
    plan: &Plan,
    limits: &Limits,
    finalists: &[Finalist],
    clock: &mut Stopwatch<'_>,
) -> Result<Option<Chosen>, Error> {
    let (settings, seed) = (plan.configuration.finale, plan.configuration.search.seed);
    let mut contenders = Vec::new();
    for finalist in finalists {
        if contenders.len() < settings.finalists && keeps_limits(lab, plan, limits, finalist)? {
            contenders.push(retrained(lab, dataset, settings, seed, finalist)?);
        }
    }
    contenders.sort_by(|one, other| other.accuracy.total_cmp(&one.accuracy));

    for contender in contenders {
        clock.begin(Phase::Distillation);
        let network = &contender.finalist.job.network;
        let recipe = Recipe { length: Length::Epochs(settings.final_epochs), seed, ..Recipe::finale() };
        let observer = lab.observer;
        let weights = lab.distiller.finish(network, &contender.weights, &recipe, &mut |progress| {
            observer(&Event::Training(*progress));
        })?;
        clock.begin(Phase::Check);
        let specimen = Specimen::trained(network, &weights, &lab.info)?;
        let Outcome::Done(pair) = side_by_side::measure(lab, plan, &specimen)? else { continue };
        let late = broken(&pair.limits, network, Some(pair.student.0));
        if late.is_empty() {
            let searcher = contender.finalist.trial.searcher.to_string();
            return Ok(Some(Chosen { network: network.clone(), weights, specimen, pair, searcher }));
        }
        (lab.observer)(&Event::Note(format!("the trained student breaks {late}; on to the next finalist")));
    }
    Ok(None)
}

/// By a true interval, with seeded weights: latency does not depend on them, and training is what costs. What the
/// network alone decides needs no board.
fn keeps_limits(
    lab: &mut Live<'_>,
    plan: &Plan,
    limits: &Limits,
    finalist: &Finalist,
) -> Result<bool, Error> {
    let network = &finalist.job.network;
    let certain = broken(limits, network, None);
    if !certain.is_empty() {
        (lab.observer)(&Event::Note(format!("a finalist breaks {certain}")));
        return Ok(false);
    }
    let specimen = Specimen::untrained(network, &lab.info)?;
    match side_by_side::measure(lab, plan, &specimen)? {
        Outcome::Done(pair) => {
            let broken = broken(&pair.limits, network, Some(pair.student.0));
            if !broken.is_empty() {
                (lab.observer)(&Event::Note(format!("a finalist breaks {broken} by a careful measurement")));
            }
            Ok(broken.is_empty())
        }
        Outcome::Infeasible(reason) => {
            (lab.observer)(&Event::Note(format!(
                "a finalist is infeasible by a careful measurement: {reason}"
            )));
            Ok(false)
        }
    }
}

/// The limits that are broken as far as is known, for people; empty if none.
fn broken(limits: &Limits, network: &Network, measured: Option<Measured>) -> String {
    let resources = Resources { measured, ..Resources::of(network) };
    let excess = limits.excess(&resources);
    if violation(&excess) == 0.0 {
        return String::new();
    }
    let names: Vec<String> = excess
        .iter()
        .filter(|excess| excess.relative > 0.0)
        .map(|excess| {
            let value =
                resources.bound_value(excess.metric).map_or_else(String::new, |v| excess.metric.show(v));
            format!("{} ({value})", excess.metric)
        })
        .collect();
    names.join(", ")
}

fn retrained<'a>(
    lab: &mut Live<'_>,
    dataset: &Dataset,
    settings: Finale,
    seed: u64,
    finalist: &'a Finalist,
) -> Result<Contender<'a>, Error> {
    let network = &finalist.job.network;
    let start = lab.weights(&finalist.job)?;
    let select = &dataset.validation_select;
    if settings.epochs == 0 || settings.seeds == 0 {
        let accuracy = lab.distiller.accuracy(network, &start, select)?.fraction();
        return Ok(Contender { finalist, weights: (*start).clone(), accuracy });
    }
    let mut best: Option<(f64, Weights)> = None;
    let mut sum = 0.0;
    for index in 0..settings.seeds as u64 {
        let recipe = Recipe {
            length: Length::Epochs(settings.epochs),
            seed: seed.wrapping_add(index),
            ..Recipe::finale()
        };
        let observer = lab.observer;
        let weights = lab.distiller.finish(network, &start, &recipe, &mut |progress| {
            observer(&Event::Training(*progress));
        })?;
        let accuracy = lab.distiller.accuracy(network, &weights, select)?.fraction();
        sum += accuracy;
        if best.as_ref().is_none_or(|(other, _)| accuracy > *other) {
            best = Some((accuracy, weights));
        }
    }
    let weights = best.map_or_else(|| (*start).clone(), |(_, weights)| weights);
    Ok(Contender { finalist, weights, accuracy: sum / settings.seeds as f64 })
}

/// The latency bound among the limits, ns.
pub(super) fn latency_bound(limits: &Limits) -> Option<u64> {
    limits.0.iter().find(|(metric, _)| *metric == Metric::Latency).map(|(_, bound)| *bound as u64)
}
