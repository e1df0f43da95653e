//! One-shot saliency under a knapsack: channels are kept in the order of their importance against what they cost, and the
//! limits say how many. A few ways to weigh the two, one candidate each; done after these.

use std::rc::Rc;

use super::super::base::Base;
use super::super::genome::{BaseId, Shape};
use super::super::policy::PolicyError;
use super::super::searcher::{Asked, Known, Searcher, Setup};
use crate::network::{Group, Network};
use crate::training::inheritance::importance;

/// How much the cost of a channel counts against its importance.
const EXPONENTS: [f64; 3] = [0.0, 0.5, 1.0];
/// Share of all channels that are kept before the limits scale the widths.
const KEPT: f64 = 0.4;

struct Saliency(Vec<Shape>);

#[expect(clippy::unnecessary_wraps, reason = "the registry's form")]
pub(crate) fn build(setup: &Setup<'_>) -> Result<Box<dyn Searcher>, PolicyError> {
    let mut shapes = Vec::new();
    for costs in [params_of as fn(&Network, &Group) -> f64, macs_of] {
        shapes.extend(EXPONENTS.map(|exponent| shape(&setup.base, costs, exponent)));
    }
    shapes.dedup();
    Ok(Box::new(Saliency(shapes)))
}

impl Searcher for Saliency {
    fn ask(&mut self, count: usize, _known: &Known<'_>) -> Result<Asked, PolicyError> {
        let rest = self.0.split_off(count.min(self.0.len()));
        Ok(Asked::fitted(std::mem::replace(&mut self.0, rest)))
    }
}

/// Factors by how many channels of a group are among the best of all.
fn shape(base: &Rc<Base>, cost: fn(&Network, &Group) -> f64, exponent: f64) -> Shape {
    let importances = importance(&base.network, &base.groups, &base.weights);
    let value = |group: &Group, importances: &[f32]| -> Vec<f64> {
        let mean =
            importances.iter().map(|&one| f64::from(one)).sum::<f64>() / importances.len().max(1) as f64;
        let price = cost(&base.network, group).max(1.0).powf(exponent);
        importances.iter().map(|&one| f64::from(one) / mean.max(1e-12) / price).collect()
    };
    let values: Vec<Vec<f64>> =
        base.groups.iter().zip(&importances).map(|(group, importances)| value(group, importances)).collect();
    let mut all: Vec<f64> = values.iter().flatten().copied().collect();
    all.sort_by(|a, b| b.total_cmp(a));
    let place = ((all.len() as f64 * KEPT) as usize).min(all.len().saturating_sub(1));
    let threshold = all.get(place).copied().unwrap_or(0.0);
    let factor = |(group, values): (&Group, &Vec<f64>)| {
        let kept = values.iter().filter(|value| **value > threshold).count().max(1);
        (group.name.clone(), kept as f64 / group.channels.max(1) as f64)
    };
    Shape {
        base: BaseId::Teacher,
        factors: base.groups.iter().zip(&values).map(factor).collect(),
        ..Shape::default()
    }
}

/// Parameters that go with a channel.
fn params_of(network: &Network, group: &Group) -> f64 {
    let mut params = 0.0;
    for member in &group.members {
        for (parameter, axis) in member.cuts(network) {
            let all: usize = parameter.dims.iter().product();
            params += (all / parameter.dims[axis].max(1) * member.block) as f64;
        }
    }
    params
}

/// Multiply-accumulates that go with a channel.
fn macs_of(network: &Network, group: &Group) -> f64 {
    let macs = network.node_macs();
    group.members.iter().map(|member| macs[member.node] as f64).sum::<f64>() / group.channels.max(1) as f64
}
