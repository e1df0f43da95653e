//! Which removals the policy may choose: a unit at a time, given what was decided before it.

use super::removal::{cut, no_costlier};
use crate::network::Network;
use crate::network::unit::{Unit, parts};

/// May `units[decided.len()]` be removed, given keep flags of the units before it and keeping all after it?
///
/// Exact by induction: a sequence in which every removal was allowed here is always built by [`remove`](super::remove). Masked are
/// removals that leave no legal graph or no convolution, whose stride or change of shape nothing can take over, or that
/// make the network costlier in MACs or parameters than it was without them (a pool before a convolution).
pub fn may_remove(network: &Network, units: &[Unit], decided: &[bool]) -> bool {
    let Some(undecided) = units.len().checked_sub(decided.len() + 1) else {
        return false;
    };
    let sequence = |keep_this| [decided, &[keep_this], &vec![true; undecided]].concat();
    let parts = parts(network);
    let built = |keep_this| cut(network, &parts, &sequence(keep_this)).ok();
    match (built(true), built(false)) {
        (Some(with), Some(without)) => no_costlier(&with.network.cost(), &without.network.cost()).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};

    const CIFAR: Input = Input { channels: 3, height: 32, width: 32 };

    fn mask(network: &Network, removed: &[&str]) -> Vec<String> {
        let units = network.units();
        let keep: Vec<bool> = units.iter().map(|unit| !removed.contains(&unit.name.as_str())).collect();
        (0..units.len())
            .filter(|&k| may_remove(network, &units, &keep[..k]))
            .map(|k| units[k].name.clone())
            .collect()
    }

    #[test]
    fn in_a_vgg_every_convolution_may_go_and_no_pool() {
        let network = build(Architecture::Vgg11, CIFAR, 10, 0.1).unwrap();
        let allowed = mask(&network, &[]);
        assert_eq!(allowed.len(), 8, "{allowed:?}");
        assert!(allowed.iter().all(|name| name.starts_with("conv")), "{allowed:?}");
    }

    #[test]
    fn the_last_convolution_stays() {
        let network = build(Architecture::Vgg11, CIFAR, 10, 0.1).unwrap();
        let all_but_last = ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1"];
        assert!(!mask(&network, &all_but_last).contains(&"conv5_2".to_owned()));
    }

    #[test]
    fn a_resnet_keeps_its_stem_and_one_block_of_every_stage_that_changes_shape() {
        let network = build(Architecture::Resnet18, CIFAR, 10, 0.1).unwrap();
        assert_eq!(
            mask(&network, &["layer1.0", "layer2.0", "layer4.0"]).join(" "),
            "layer1.0 layer1.1 layer2.0 layer3.0 layer3.1 layer4.0"
        );
    }

    #[test]
    fn there_must_be_a_unit_left_to_decide() {
        let network = build(Architecture::Resnet18, CIFAR, 10, 1.0).unwrap();
        let units = network.units();
        assert!(!may_remove(&network, &units, &vec![true; units.len()]));
    }
}
