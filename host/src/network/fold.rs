//! Folding batch norm into the convolution before it: what ships and what a board measures. Teachers keep theirs live,
//! since a folded teacher breaks inheritance and training. The numbers are folded by `model_io::fold`.

use super::{Network, Node, NodeId};

/// The network that ships: batch norms folded into the convolutions that they alone read, dropout gone. Names stay; such
/// a convolution has a bias.
pub fn folded(network: &Network) -> Network {
    let network = without_dropout(network);
    let pairs = foldable(&network);
    let mut nodes = network.nodes().to_vec();
    for &(conv, _) in &pairs {
        if let Some(conv) = nodes[conv].layer.convolution_mut() {
            conv.bias = true;
        }
    }
    let gone: Vec<&str> = pairs.iter().map(|&(_, norm)| network.nodes()[norm].name.as_str()).collect();
    without(&checked(nodes), |node| gone.contains(&node.name.as_str()))
}

/// The network without what does nothing in a finished model (dropout): what a file holds.
pub fn without_dropout(network: &Network) -> Network {
    without(network, |node| node.layer.nature().training_only)
}

/// Pairs (convolution, batch norm) that [`folded`] makes one: the batch norm is the convolution's only reader. Ids are of a
/// network without dropout.
pub fn foldable(network: &Network) -> Vec<(NodeId, NodeId)> {
    let consumers = network.consumers();
    let pair = |(norm, node): (NodeId, &Node)| {
        let conv = *node.inputs.first()?;
        let alone = consumers[conv].len() == 1;
        let follows =
            network.nodes()[conv].layer.convolution().is_some() && node.layer.batch_norm().is_some();
        (alone && follows).then_some((conv, norm))
    };
    network.nodes().iter().enumerate().filter_map(pair).collect()
}

/// The network without some of its one-operand, shape-keeping nodes; their readers read the operand.
fn without(network: &Network, gone: impl Fn(&Node) -> bool) -> Network {
    let mut new_id: Vec<NodeId> = Vec::with_capacity(network.nodes().len());
    let mut nodes: Vec<Node> = Vec::new();
    for node in network.nodes() {
        if gone(node) {
            new_id.push(new_id[node.inputs[0]]);
            continue;
        }
        new_id.push(nodes.len());
        let inputs = node.inputs.iter().map(|&input| new_id[input]).collect();
        nodes.push(Node { inputs, ..node.clone() });
    }
    checked(nodes)
}

/// Only for edits that keep every shape and every name of a network that was checked before.
fn checked(nodes: Vec<Node>) -> Network {
    Network::new(nodes)
        .expect("dropping a shape-keeping node and adding a bias leave a checked network legal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layer;
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};

    #[test]
    fn a_zoo_model_loses_all_its_batch_norms() {
        let network =
            build(Architecture::Resnet18, Input { channels: 3, height: 8, width: 8 }, 10, 0.1).unwrap();
        let student = folded(&network);
        let norms =
            |n: &Network| n.nodes().iter().filter(|node| matches!(node.layer, Layer::BatchNorm(_))).count();
        assert_eq!((norms(&network), norms(&student)), (20, 0));
        assert_eq!(student.cost().macs, network.cost().macs);
        assert_eq!(folded(&student), student);
    }

    #[test]
    fn a_batch_norm_that_shares_its_operand_or_follows_no_convolution_stays() {
        let mut b = Builder::new(Input { channels: 2, height: 3, width: 3 }).unwrap();
        let early = b.batch_norm("early", 0).unwrap();
        let choice = ConvChoice { out_channels: 2, kernel: 1, stride: 1, padding: 0, bias: false };
        let conv = b.conv("conv", early, choice).unwrap();
        let norm = b.batch_norm("norm", conv).unwrap();
        let add = b.push("add", Layer::Add, &[norm, conv]).unwrap();
        b.push("mean", Layer::GlobalAveragePool, &[add]).unwrap();
        let network = b.finish().unwrap();
        assert_eq!(folded(&network), network);
    }
}
