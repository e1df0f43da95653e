//! The smallest legal student, measured before anything is trained: a limit that even this one breaks is impossible.

use super::laboratory::Live;
use super::{Error, Event};
use crate::network::Network;
use crate::network::surgery::{remove, rounded_width, shrink};
use crate::network::unit::may_remove;
use crate::search::constraint::{Limits, Resources};
use crate::search::laboratory::Outcome;

/// The smallest factor of the action space (method.md 1).
const SMALLEST_FACTOR: f64 = 0.1;

/// Everything removed that may be removed, the rest as narrow as the action space allows.
fn smallest(teacher: &Network, channel_multiple: usize) -> anyhow::Result<Network> {
    let units = teacher.units();
    let mut keep = Vec::with_capacity(units.len());
    for _ in &units {
        keep.push(!may_remove(teacher, &units, &keep));
    }
    let shallow = remove(teacher, &keep)?.network;
    let kept: Vec<Vec<usize>> = shallow
        .groups()
        .iter()
        .map(|group| {
            let factor = if group.shrinkable { SMALLEST_FACTOR } else { 1.0 };
            (0..rounded_width(group.channels, factor, channel_multiple)).collect()
        })
        .collect();
    Ok(shrink(&shallow, &kept)?.network)
}

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
    let network = smallest(teacher, channel_multiple)?;
    let measured = match lab.gauge.probe(&network, &lab.info)? {
        Outcome::Done(measured) => measured,
        Outcome::Infeasible(reason) => {
            return Err(Error::Board(format!("the board cannot run even the smallest student: {reason}")));
        }
    };
    let resources = Resources { measured: Some(measured), ..Resources::of(&network) };
    for excess in limits.excess(&resources) {
        let value = resources.bound_value(excess.metric).unwrap_or(0.0);
        let bound = limits.0.iter().find(|(metric, _)| *metric == excess.metric).map_or(0.0, |(_, bound)| *bound);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};

    #[test]
    fn the_smallest_student_is_legal_and_far_below_the_teacher() {
        let input = Input { channels: 1, height: 28, width: 28 };
        for architecture in [Architecture::Vgg13, Architecture::Resnet18] {
            let teacher = build(architecture, input, 10, 0.25).unwrap();
            let smallest = smallest(&teacher, 8).unwrap();
            assert!(smallest.cost().params * 50 < teacher.cost().params, "{architecture}");
            assert!(smallest.cost().macs * 10 < teacher.cost().macs, "{architecture}");
            assert_eq!(smallest.classes(), 10);
        }
    }
}
