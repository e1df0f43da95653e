//! From finalists to the student (docs/method.md#final-student): measure them properly, retrain them, choose on the second half of the
//! validation split, distil the chosen one for long, and measure the very file that ships.
//!
//! The test split is not touched here.

use super::distiller::Distillation;
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
use crate::training::TrainProgress;

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
    let mut keeping = Vec::new();
    for finalist in finalists {
        if keeping.len() < settings.finalists && keeps_limits(lab, plan, limits, finalist)? {
            keeping.push(finalist);
        }
    }
    let mut contenders = retrained(lab, dataset, settings, seed, &keeping)?;
    contenders.sort_by(|one, other| other.accuracy.total_cmp(&one.accuracy));

    for contender in contenders {
        clock.begin(Phase::Distillation);
        let network = &contender.finalist.job.network;
        let distillation =
            Distillation { network, start: &contender.weights, epochs: settings.final_epochs, seed };
        let Some(weights) = finish(lab, &[distillation])?.pop() else { continue };
        clock.begin(Phase::Check);
        let specimen = Specimen::trained(network, &weights, &lab.info)?;
        let pair = match side_by_side::measure(lab, plan, &specimen)? {
            Outcome::Done(pair) => pair,
            other => {
                (lab.observer)(&Event::Note(format!("the trained student {}", without_number(&other))));
                continue;
            }
        };
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
        other => {
            (lab.observer)(&Event::Note(format!("a finalist {}", without_number(&other))));
            Ok(false)
        }
    }
}

/// What a careful measurement said of a student instead of a number.
fn without_number<T>(outcome: &Outcome<T>) -> String {
    match outcome {
        Outcome::Done(_) => "was measured".into(),
        Outcome::Infeasible(reason) => {
            format!("is infeasible by a careful measurement: {reason}; on to the next")
        }
        Outcome::Unknown(reason) => {
            format!(
                "cannot be measured carefully, so whether it keeps the limits is unknown: {reason}; on to the next"
            )
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

/// All finalists from all seeds, at once.
fn retrained<'a>(
    lab: &mut Live<'_>,
    dataset: &Dataset,
    settings: Finale,
    seed: u64,
    finalists: &[&'a Finalist],
) -> Result<Vec<Contender<'a>>, Error> {
    let select = &dataset.validation_select;
    let mut starts = Vec::with_capacity(finalists.len());
    for finalist in finalists {
        starts.push(lab.weights(&finalist.job)?);
    }
    let seeds = if settings.epochs == 0 { 0 } else { settings.seeds };
    let mut students = Vec::with_capacity(finalists.len() * seeds);
    for (finalist, start) in finalists.iter().zip(&starts) {
        for index in 0..seeds as u64 {
            let (network, seed) = (&finalist.job.network, seed.wrapping_add(index));
            students.push(Distillation { network, start, epochs: settings.epochs, seed });
        }
    }
    let mut weights = finish(lab, &students)?.into_iter();
    let mut contenders = Vec::with_capacity(finalists.len());
    for (finalist, start) in finalists.iter().zip(&starts) {
        let network = &finalist.job.network;
        let mut tried: Vec<Weights> = weights.by_ref().take(seeds).collect();
        if tried.is_empty() {
            tried.push((**start).clone());
        }
        let mut accuracies = Vec::with_capacity(tried.len());
        for weights in &tried {
            accuracies.push(lab.distiller.share(network, weights, select)?);
        }
        let accuracy = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        let best = (1..tried.len()).fold(
            0,
            |best, index| {
                if accuracies[index] > accuracies[best] { index } else { best }
            },
        );
        contenders.push(Contender { finalist, weights: tried.swap_remove(best), accuracy });
    }
    Ok(contenders)
}

fn finish(lab: &mut Live<'_>, students: &[Distillation<'_>]) -> Result<Vec<Weights>, Error> {
    let observer = lab.observer;
    let mut tell = |progress: &TrainProgress| observer(&Event::Training(*progress));
    Ok(lab.distiller.finish(students, &mut tell)?)
}

/// The latency bound among the limits, ns.
pub(super) fn latency_bound(limits: &Limits) -> Option<u64> {
    limits.0.iter().find(|(metric, _)| *metric == Metric::Latency).map(|(_, bound)| *bound as u64)
}
