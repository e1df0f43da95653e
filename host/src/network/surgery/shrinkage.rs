//! Layer shrinkage: keep some channels of every coupled group.

use std::collections::BTreeMap;

use super::{Infeasible, Inheritance, Source, Surgery};
use crate::network::group::{Member, Side};
use crate::network::{Group, Layer, Network};

/// Keeps `kept[g]` (ascending channel indices) of group `g`, in the order of [`Network::groups`].
///
/// # Errors
/// Lists that do not fit the groups; a group that must stay whole.
pub fn shrink(network: &Network, kept: &[Vec<usize>]) -> Result<Surgery, Infeasible> {
    let groups = network.groups();
    if groups.len() != kept.len() {
        return Err(Infeasible::ChannelLists { expected: groups.len(), got: kept.len() });
    }
    groups.iter().zip(kept).try_for_each(|(group, kept)| check(group, kept))?;
    let mut nodes = network.nodes().to_vec();
    let mut axes: BTreeMap<String, Vec<Option<Vec<usize>>>> =
        network.parameters().into_iter().map(|p| (p.name, vec![None; p.dims.len()])).collect();
    let cut = groups.iter().zip(kept).filter(|(group, kept)| kept.len() < group.channels);
    for (member, kept) in cut.flat_map(|(group, kept)| group.members.iter().map(move |member| (member, kept)))
    {
        let indices = member.indices(kept);
        resize(&mut nodes[member.node].layer, member, indices.len());
        for (parameter, axis) in member.cuts(network) {
            if let Some(axes) = axes.get_mut(&parameter.name) {
                axes[axis] = Some(indices.clone());
            }
        }
    }
    let sources = axes.into_iter().map(|(tensor, axes)| (tensor.clone(), Source::Slice { tensor, axes }));
    Ok(Surgery { network: Network::new(nodes)?, inheritance: Inheritance::new(sources) })
}

/// Width of a group of `channels` after shrinkage by `factor`: the nearest multiple of `multiple` (the board's preferred
/// one; ties go up), at least one multiple. Where that lies above `channels`, it is `channels`. A group that is no wider than one multiple
/// has no multiple to go to and gets the nearest whole width. A factor of 1 or more keeps everything.
pub fn rounded_width(channels: usize, factor: f64, multiple: usize) -> usize {
    if factor >= 1.0 {
        return channels;
    }
    let wanted = channels as f64 * factor.max(0.0);
    let step = if multiple >= channels { 1 } else { multiple.max(1) };
    let nearest = ((wanted / step as f64).round() as usize * step).max(step);
    nearest.min(channels)
}

fn check(group: &Group, kept: &[usize]) -> Result<(), Infeasible> {
    let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = kept.last().is_some_and(|&last| last < group.channels);
    if !ascending || !in_range {
        return Err(Infeasible::Channels {
            group: group.name.clone(),
            channels: group.channels,
            got: kept.to_vec(),
        });
    }
    if !group.shrinkable && kept.len() < group.channels {
        return Err(Infeasible::Unshrinkable {
            group: group.name.clone(),
            channels: group.channels,
            got: kept.len(),
        });
    }
    Ok(())
}

/// Sets the width on the member's side.
fn resize(layer: &mut Layer, member: &Member, width: usize) {
    match layer {
        Layer::Conv(conv) => match member.side {
            Side::Output => conv.out_channels = width,
            Side::Input => conv.in_channels = width,
            Side::Through => (conv.in_channels, conv.out_channels, conv.groups) = (width, width, width),
        },
        Layer::Linear(linear) => match member.side {
            Side::Output => linear.out_features = width,
            Side::Input | Side::Through => linear.in_features = width,
        },
        Layer::BatchNorm(norm) => norm.channels = width,
        // No member of a group: they have no width of their own.
        Layer::Input(_)
        | Layer::Activation(_)
        | Layer::MaxPool(_)
        | Layer::AveragePool(_)
        | Layer::GlobalAveragePool
        | Layer::Flatten
        | Layer::Add
        | Layer::Dropout(_)
        | Layer::Softmax => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_io::reference::forward;
    use crate::network::Role;
    use crate::network::arbitrary::{any_network, assert_sound, image, lively_weights};
    use crate::training::inheritance::inherit;
    use proptest::prelude::*;

    #[test]
    fn widths_are_rounded_to_the_multiple() {
        assert_eq!(rounded_width(64, 0.5, 8), 32);
        assert_eq!(rounded_width(64, 0.7, 8), 48, "44.8 is nearer to 48 than to 40");
        assert_eq!(rounded_width(64, 0.01, 8), 8, "never below one multiple");
        assert_eq!(rounded_width(20, 0.95, 8), 16);
        assert_eq!(rounded_width(23, 0.95, 8), 23, "24 does not exist");
        assert_eq!(rounded_width(20, 1.0, 8), 20, "a factor of one keeps a width that is no multiple");
        assert_eq!(rounded_width(6, 0.5, 8), 3, "below the multiple the width is free");
        assert_eq!(rounded_width(8, 0.5, 8), 4);
        assert_eq!(rounded_width(64, 0.7, 1), 45);
        assert_eq!(rounded_width(1, 0.1, 1), 1);
        assert_eq!(rounded_width(5, f64::NAN, 0), 1);
    }

    proptest! {
        #[test]
        fn a_rounded_width_is_legal(channels in 1_usize..300, factor in 0.0..1.2_f64, multiple in 0_usize..40) {
            let width = rounded_width(channels, factor, multiple);
            prop_assert!((1..=channels).contains(&width));
            prop_assert!(rounded_width(channels, factor * 0.9, multiple) <= width);
        }
    }

    #[test]
    fn wrong_lists_are_named() {
        let network = crate::network::arbitrary::small_resnet();
        let all: Vec<Vec<usize>> = network.groups().iter().map(|g| (0..g.channels).collect()).collect();
        let with = |group: usize, list: Vec<usize>| {
            let mut lists = all.clone();
            lists[group] = list;
            shrink(&network, &lists)
        };
        assert!(matches!(shrink(&network, &all[1..]), Err(Infeasible::ChannelLists { .. })));
        assert!(matches!(with(1, vec![]), Err(Infeasible::Channels { .. })));
        assert!(matches!(with(1, vec![1, 0]), Err(Infeasible::Channels { .. })));
        assert!(matches!(with(1, vec![0, 99]), Err(Infeasible::Channels { .. })));
        assert!(matches!(with(0, vec![0]), Err(Infeasible::Unshrinkable { .. })));
        assert!(matches!(with(all.len() - 1, vec![0]), Err(Infeasible::Unshrinkable { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn keeping_every_channel_changes_nothing(network in any_network()) {
            let all: Vec<Vec<usize>> = network.groups().iter().map(|g| (0..g.channels).collect()).collect();
            let surgery = shrink(&network, &all).unwrap();
            prop_assert!(surgery.inheritance.is_identity());
            prop_assert_eq!(surgery.network, network);
        }

        /// Channels that are zero in every producer carry nothing: without them the logits are the same.
        #[test]
        fn removing_silent_channels_keeps_the_logits(network in any_network(), seed: u64, coins in prop::collection::vec(any::<bool>(), 64)) {
            let groups = network.groups();
            let mut coin = coins.iter().cycle();
            let kept: Vec<Vec<usize>> = groups
                .iter()
                .map(|group| {
                    let mut kept: Vec<usize> =
                        (0..group.channels).filter(|_| !group.shrinkable || *coin.next().unwrap()).collect();
                    if kept.is_empty() {
                        kept.push(group.channels - 1);
                    }
                    kept
                })
                .collect();
            let mut teacher = lively_weights(&network, seed);
            for (group, kept) in groups.iter().zip(&kept) {
                for member in group.members.iter().filter(|member| member.side != Side::Input) {
                    for (parameter, _) in member.cuts(&network).into_iter().filter(|(p, _)| p.role != Role::RunningVariance) {
                        let mut array = teacher.get(&parameter.name).unwrap().clone();
                        let row = array.values.len() / array.dims[0];
                        for channel in (0..group.channels).filter(|channel| !kept.contains(channel)) {
                            array.values[channel * row..(channel + 1) * row].fill(0.0);
                        }
                        teacher.insert(parameter.name, array.dims, array.values);
                    }
                }
            }
            let surgery = shrink(&network, &kept).unwrap();
            assert_sound(&network, &surgery);
            let (student, fresh) = inherit(&surgery.network, &surgery.inheritance, &teacher, seed);
            prop_assert_eq!(fresh, Vec::<String>::new());
            let image = image(&network, seed);
            let before = forward(&network, &teacher, &image).unwrap();
            let after = forward(&surgery.network, &student, &image).unwrap();
            prop_assert_eq!(before.len(), after.len());
            for (b, a) in before.iter().zip(&after) {
                prop_assert!((b - a).abs() <= 1e-5 * b.abs().max(1.0), "{} against {}", b, a);
            }
        }
    }
}
