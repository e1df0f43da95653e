//! The smallest legal student, measured before anything is trained: a limit that even this one breaks is impossible.

use super::live::Live;
use super::{Error, Event};
use crate::network::Network;
use crate::search::answer::Outcome;
use crate::search::constraint::{Limits, Resources};
use crate::search::smallest;

/// Stops a search that cannot end well.
pub(super) fn refuse_impossible(
    lab: &mut Live<'_>,
    teacher: &Network,
    limits: &Limits,
    channel_multiple: usize,
) -> Result<(), Error> {
    if limits.is_empty() {
        return Ok(());
    }
    let network = smallest(teacher, channel_multiple);
    let measured = match lab.gauge.probe(&network, &lab.info)? {
        Outcome::Done(measured) => Some(measured),
        Outcome::Infeasible(reason) => {
            return Err(Error::Board(format!("the board cannot run even the smallest student: {reason}")));
        }
        Outcome::Unknown(reason) => {
            (lab.observer)(&Event::Note(format!(
                "what the smallest student costs on the board is unknown, so only the limits on the network itself were \
                 checked: {reason}"
            )));
            None
        }
    };
    let resources = Resources { measured, ..Resources::of(&network) };
    for excess in limits.excess(&resources) {
        let value = resources.bound_value(excess.metric).unwrap_or(0.0);
        let bound =
            limits.0.iter().find(|(metric, _)| *metric == excess.metric).map_or(0.0, |(_, bound)| *bound);
        if excess.relative > 0.0 {
            return Err(Error::ImpossibleLimit {
                metric: excess.metric,
                bound: excess.metric.show(bound),
                smallest: excess.metric.show(value),
            });
        }
        (lab.observer)(&Event::Note(format!(
            "{} <= {}: the smallest student has {}",
            excess.metric,
            excess.metric.show(bound),
            excess.metric.show(value)
        )));
    }
    Ok(())
}
