//! What a policy sees of a layer (docs/method.md#policies: x_t = type, kernel, stride, padding, outputs, skip start, skip end),
//! every value scaled to about 0..1: raw magnitudes drown an LSTM (docs/method.md#raw-features).
//!
//! Sizes are logarithmic and relative to the *teacher*, so a row means the same in both stages and for a bigger teacher.

use crate::network::group::Group;
use crate::network::layer::{Conv, Layer, Pool};
use crate::network::unit::{Unit, UnitKind};
use crate::network::{Network, Node, NodeId};

/// Values per row. A saved policy depends on it: changing a feature makes old policy files unreadable.
pub const FEATURES: usize = 15;

/// Largest window that the logarithmic scale maps to 1.
const WIDEST_KERNEL: f32 = 7.0;
/// Largest stride or padding that the linear scale maps to 1.
const LARGEST_STEP: f32 = 4.0;

/// What sizes are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    channels: f32,
    params: f32,
    macs: f32,
}

impl Scale {
    /// The teacher's widest layer, all of its parameters and MACs.
    pub fn of(teacher: &Network) -> Self {
        let widest = teacher.shapes().iter().map(|shape| shape.channels()).max().unwrap_or(1);
        let cost = teacher.cost();
        Self { channels: widest as f32, params: cost.params as f32, macs: cost.macs as f32 }
    }

    /// ln(n + 1) relative to the teacher's widest layer.
    fn channels(&self, channels: usize) -> f32 {
        (channels as f32).ln_1p() / self.channels.ln_1p()
    }
}

/// One row per unit of `network`.
pub fn of_units(network: &Network, units: &[Unit], scale: &Scale) -> Vec<Vec<f32>> {
    let work = work(network);
    let row = |(step, unit): (usize, &Unit)| {
        let kind = |wanted| if unit.kind == wanted { 1.0 } else { 0.0 };
        let (params, macs) = sum(&work, &unit.nodes);
        vec![
            kind(UnitKind::Conv),
            kind(UnitKind::Residual),
            kind(UnitKind::Pool),
            kernel(unit.kernel),
            unit.stride as f32 / LARGEST_STEP,
            unit.padding as f32 / LARGEST_STEP,
            scale.channels(unit.in_channels),
            scale.channels(unit.out_channels),
            flag(unit.skip_start),
            flag(unit.skip_end),
            share(params, scale.params),
            share(macs, scale.macs),
            flag(unit.in_channels == unit.out_channels && unit.stride == 1),
            position(step, units.len()),
            (units.len() as f32).ln_1p() / 5.0,
        ]
    };
    units.iter().enumerate().map(row).collect()
}

/// One row per group, in the order given; a group is described by its first layer.
pub fn of_groups(network: &Network, groups: &[Group], scale: &Scale) -> Vec<Vec<f32>> {
    let work = work(network);
    let consumers = network.consumers();
    let row = |(step, group): (usize, &Group)| {
        let (is_conv, window, stride, padding, inputs) = match &network.nodes()[group.first].layer {
            Layer::Conv(Conv { kernel, stride, padding, in_channels, .. }) => {
                (true, *kernel, *stride, *padding, *in_channels)
            }
            Layer::Linear(linear) => (false, 1, 1, 0, linear.in_features),
            Layer::MaxPool(Pool { kernel, stride, padding })
            | Layer::AveragePool(Pool { kernel, stride, padding }) => {
                (false, *kernel, *stride, *padding, group.channels)
            }
            // Only a network's image and what has no tensors: there is nothing to describe.
            Layer::Input(_)
            | Layer::BatchNorm(_)
            | Layer::Activation(_)
            | Layer::GlobalAveragePool
            | Layer::Flatten
            | Layer::Add
            | Layer::Dropout(_)
            | Layer::Softmax => (false, 1, 1, 0, group.channels),
        };
        let (starts, ends) = skips(network, &consumers, &group.producers);
        let (params, macs) = sum(&work, &group.producers);
        vec![
            flag(is_conv),
            flag(group.producers.len() > 1),
            flag(!is_conv),
            kernel(window),
            stride as f32 / LARGEST_STEP,
            padding as f32 / LARGEST_STEP,
            scale.channels(inputs),
            scale.channels(group.channels),
            flag(starts),
            flag(ends),
            share(params, scale.params),
            share(macs, scale.macs),
            (group.producers.len() as f32).ln_1p() / 3.0,
            position(step, groups.len()),
            (groups.len() as f32).ln_1p() / 5.0,
        ]
    };
    groups.iter().enumerate().map(row).collect()
}

/// Whether a skip starts behind (several readers) or ends in (an add reads) what the producers write.
fn skips(network: &Network, consumers: &[Vec<NodeId>], producers: &[NodeId]) -> (bool, bool) {
    let (mut starts, mut ends) = (false, false);
    for &producer in producers {
        let mut node = producer;
        while let [reader] = consumers[node][..]
            && network.nodes()[reader].layer.nature().element_wise
        {
            node = reader;
        }
        starts |= consumers[node].len() > 1;
        ends |= consumers[node].iter().any(|&reader| network.nodes()[reader].layer.nature().sum);
    }
    (starts, ends)
}

/// Trained parameters and MACs of each node.
fn work(network: &Network) -> Vec<(f32, f32)> {
    let params = |node: &Node| -> usize {
        let trained = node.parameters().into_iter().filter(|parameter| parameter.role.is_trained());
        trained.map(|parameter| parameter.dims.iter().product::<usize>()).sum()
    };
    network
        .nodes()
        .iter()
        .zip(network.node_macs())
        .map(|(node, macs)| (params(node) as f32, macs as f32))
        .collect()
}

fn sum(work: &[(f32, f32)], nodes: &[NodeId]) -> (f32, f32) {
    nodes.iter().fold((0.0, 0.0), |(params, macs), &node| (params + work[node].0, macs + work[node].1))
}

/// Square root: a layer with 1 % of the teacher's parameters must still be told from one with none.
fn share(part: f32, whole: f32) -> f32 {
    (part / whole.max(1.0)).sqrt()
}

fn kernel(edge: usize) -> f32 {
    (edge as f32).ln_1p() / WIDEST_KERNEL.ln_1p()
}

fn position(step: usize, steps: usize) -> f32 {
    step as f32 / steps.saturating_sub(1).max(1) as f32
}

fn flag(on: bool) -> f32 {
    if on { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo;

    fn zoo_network(name: &str) -> Network {
        let input = Input { channels: 3, height: 32, width: 32 };
        zoo::build(name.parse().unwrap(), input, 10, 0.25).unwrap()
    }

    #[test]
    fn rows_are_complete_finite_and_of_about_unit_size() {
        for name in ["vgg13", "resnet18"] {
            let network = zoo_network(name);
            let scale = Scale::of(&network);
            let units = network.units();
            let groups = network.groups();
            for row in of_units(&network, &units, &scale).iter().chain(&of_groups(&network, &groups, &scale))
            {
                assert_eq!(row.len(), FEATURES);
                assert!(row.iter().all(|value| (0.0..=1.5).contains(value)), "{name}: {row:?}");
            }
        }
    }

    #[test]
    fn skips_are_seen_in_residual_networks_only() {
        let any = |name, column: usize| {
            let network = zoo_network(name);
            let rows = of_groups(&network, &network.groups(), &Scale::of(&network));
            rows.iter().any(|row| row[column] == 1.0)
        };
        assert!(any("resnet18", 8) && any("resnet18", 9));
        assert!(!any("vgg13", 8) && !any("vgg13", 9));
        let network = zoo_network("resnet18");
        let rows = of_units(&network, &network.units(), &Scale::of(&network));
        assert!(rows.iter().any(|row| row[8] == 1.0) && rows.iter().any(|row| row[9] == 1.0));
    }
}
