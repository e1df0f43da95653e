//! `n2n teacher inspect`: what a model is made of, layer by layer, and what a search may change.

use super::super::json::{self, Inspected, SCHEMA};
use super::super::{Context, model};
use crate::exit::{Code, Failure};
use crate::network::{Network, NodeId};
use crate::run::report::{geometry, trained_parameters};
use crate::{ui, units};

/// Shows layers, costs, removable units and channel groups of a model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  n2n teacher inspect teacher.onnx\n  n2n teacher inspect zoo:resnet18/3x32x32/10 --json"
)]
pub(crate) struct Args {
    /// An .onnx file, a run folder (its student), or zoo:ARCH[@WIDTH][/CxHxW/CLASSES]
    #[arg(value_name = "MODEL")]
    model: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let model = model::load(&args.model)?;
    let inspected = inspect(&args.model, &model.network);
    context.ui.result(&inspected, || text(&inspected))?;
    Ok(Code::Done)
}

fn inspect(model: &str, network: &Network) -> Inspected {
    let cost = network.cost();
    let macs = network.node_macs();
    let name = |id: &NodeId| network.nodes()[*id].name.clone();
    let layers = network.nodes().iter().enumerate().map(|(id, node)| json::Layer {
        name: node.name.clone(),
        kind: geometry(&node.layer),
        shape: network.shapes()[id].to_string(),
        params: trained_parameters(network, id),
        macs: macs[id],
    });
    Inspected {
        schema: SCHEMA,
        model: model.into(),
        params: cost.params,
        macs: cost.macs,
        weight_bytes: cost.weight_bytes,
        planned_activation_bytes: cost.peak_activation_bytes,
        layers: layers.collect(),
        units: network.units().iter().map(|unit| unit_of(network, unit)).collect(),
        groups: network
            .groups()
            .iter()
            .filter(|group| !group.producers.is_empty())
            .map(|group| json::Group {
                name: group.name.clone(),
                layers: group.producers.iter().map(name).collect(),
                channels: group.channels,
                shrinkable: group.shrinkable,
            })
            .collect(),
    }
}

fn unit_of(network: &Network, unit: &crate::network::unit::Unit) -> json::Unit {
    json::Unit {
        name: unit.name.clone(),
        kind: match unit.kind {
            crate::network::unit::UnitKind::Conv => "conv",
            crate::network::unit::UnitKind::Residual => "residual",
            crate::network::unit::UnitKind::Pool => "pool",
        },
        layers: unit.nodes.iter().map(|&id| network.nodes()[id].name.clone()).collect(),
        params: unit.nodes.iter().map(|&id| trained_parameters(network, id)).sum(),
    }
}

fn text(it: &Inspected) -> String {
    let rows = it.layers.iter().map(|layer| {
        let count = |value: u64| if value == 0 { String::new() } else { units::count(value) };
        [layer.name.clone(), layer.kind.clone(), layer.shape.clone(), count(layer.params), count(layer.macs)]
    });
    let units = it.units.iter().map(|unit| [unit.name.clone(), unit.kind.into(), units::count(unit.params)]);
    let groups = it.groups.iter().map(|group| {
        let cut = if group.shrinkable { "" } else { "fixed" };
        [group.name.clone(), group.layers.join(", "), group.channels.to_string(), cut.into()]
    });
    let shrinkable: Vec<&json::Group> = it.groups.iter().filter(|group| group.shrinkable).collect();
    let tied = shrinkable.iter().filter(|group| group.layers.len() > 1).count();
    let mut text = ui::table(["layer", "kind", "output", "params", "MACs"], rows);
    for (title, table) in [
        ("Units: what layer removal keeps or removes", ui::table(["unit", "kind", "params"], units)),
        ("Groups: channels that layer shrinkage cuts together", {
            ui::table(["group", "written by", "channels", ""], groups)
        }),
    ] {
        text = [&text, "\n\n", title, "\n", &table].concat();
    }
    text.push_str("\n\n");
    text += &ui::facts([
        ("parameters", format!("{} ({})", it.params, units::count(it.params))),
        ("MACs", format!("{} ({})", it.macs, units::count(it.macs))),
        ("weights", units::bytes(it.weight_bytes)),
        ("peak activation", units::bytes(it.planned_activation_bytes)),
        ("removable units", it.units.len().to_string()),
        ("shrinkable groups", format!("{}, {tied} of them tie several layers", shrinkable.len())),
    ]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};

    #[test]
    fn a_vgg_is_shown_with_its_exact_costs() {
        let input = Input { channels: 3, height: 32, width: 32 };
        let network = build(Architecture::Vgg13, input, 10, 1.0).unwrap();
        let inspected = inspect("zoo:vgg13/3x32x32/10", &network);
        assert_eq!(inspected.params, 9_416_010);
        assert_eq!(inspected.layers.iter().map(|it| it.params).sum::<u64>(), inspected.params);
        assert_eq!(inspected.layers.iter().map(|it| it.macs).sum::<u64>(), inspected.macs);
        let text = text(&inspected);
        assert!(text.contains("9416010 (9.42 M)") && text.contains("conv 3x3"), "{text}");
    }

    #[test]
    fn a_residual_net_shows_tied_groups() {
        let input = Input { channels: 3, height: 32, width: 32 };
        let network = build(Architecture::Resnet10, input, 10, 0.25).unwrap();
        let inspected = inspect("zoo:resnet10", &network);
        assert!(inspected.groups.iter().any(|group| group.shrinkable && group.layers.len() > 1));
        assert!(inspected.units.iter().any(|unit| unit.kind == "residual"));
    }
}
