//! Removal: what is legal, what is inherited, and equality of logits where a removed unit was the identity.

use super::*;
use crate::model_io::Weights;
use crate::model_io::reference::forward;
use crate::network::arbitrary::{any_network, assert_sound, image, lively_weights, small_resnet};
use crate::network::builder::{Builder, ConvChoice};
use crate::network::layer::Input;
use crate::network::may_remove;
use crate::network::zoo::{Architecture, build};
use crate::training::inheritance::inherit;
use proptest::prelude::*;

const IMAGE: Input = Input { channels: 3, height: 8, width: 8 };

fn without(network: &Network, names: &[&str]) -> Result<Surgery, Infeasible> {
    let units = network.units();
    assert!(names.iter().all(|name| units.iter().any(|unit| unit.name == *name)), "{names:?} in {units:?}");
    let keep: Vec<bool> = units.iter().map(|unit| !names.contains(&unit.name.as_str())).collect();
    remove(network, &keep)
}

fn fresh(surgery: &Surgery) -> Vec<&str> {
    surgery.inheritance.iter().filter(|(_, source)| **source == Source::Fresh).map(|(name, _)| name).collect()
}

fn conv3(out_channels: usize, stride: usize) -> ConvChoice {
    ConvChoice { out_channels, kernel: 3, stride, padding: 1, bias: false }
}

fn fill(weights: &mut Weights, name: &str, value: f32) {
    let dims = weights.get(name).unwrap().dims.clone();
    let count = dims.iter().product();
    weights.insert(name, dims, vec![value; count]);
}

fn assert_same_logits(teacher: &Network, weights: &Weights, surgery: &Surgery) {
    assert_sound(teacher, surgery);
    let (student, fresh) = inherit(&surgery.network, &surgery.inheritance, weights, 1);
    assert!(fresh.is_empty(), "{fresh:?}");
    let image = image(teacher, 5);
    let before = forward(teacher, weights, &image).unwrap();
    let after = forward(&surgery.network, &student, &image).unwrap();
    assert_eq!(before.len(), after.len());
    for (b, a) in before.iter().zip(&after) {
        assert!((b - a).abs() <= 1e-5 * b.abs().max(1.0), "{before:?} against {after:?}");
    }
}

#[test]
fn the_reader_of_a_removed_convolution_starts_fresh_when_its_channels_change() {
    let vgg = build(Architecture::Vgg11, IMAGE, 10, 0.1).unwrap();
    let surgery = without(&vgg, &["conv3_1"]).unwrap();
    assert_sound(&vgg, &surgery);
    assert_eq!(fresh(&surgery), ["conv3_2.weight"]);
    let equal = without(&vgg, &["conv3_2", "conv5_1"]).unwrap();
    assert!(fresh(&equal).is_empty(), "equal channels inherit everything");
}

#[test]
fn a_linear_layer_behind_other_channels_starts_fresh() {
    let vgg = build(Architecture::Vgg11, IMAGE, 10, 0.1).unwrap();
    let surgery = without(&vgg, &["conv4_1", "conv4_2", "conv5_1", "conv5_2"]).unwrap();
    assert_eq!(fresh(&surgery), ["classifier.weight"]);
}

#[test]
fn as_many_features_of_another_map_are_not_the_same_features() {
    // 4 channels of 4x4 against 16 of 2x2: 64 features both times.
    let mut b = Builder::new(Input { channels: 4, height: 4, width: 4 }).unwrap();
    let a = b.conv("a", 0, conv3(4, 1)).unwrap();
    let down = b.conv("down", a, ConvChoice { kernel: 3, padding: 0, ..conv3(16, 1) }).unwrap();
    let flat = b.push("flat", Layer::Flatten, &[down]).unwrap();
    b.linear("fc", flat, 3).unwrap();
    let network = b.finish().unwrap();
    let surgery = without(&network, &["down"]).unwrap();
    assert_eq!(fresh(&surgery), ["fc.weight"]);
}

#[test]
fn a_removed_stride_moves_to_the_next_convolution() {
    let mut b = Builder::new(IMAGE).unwrap();
    let a = b.conv("a", 0, conv3(4, 2)).unwrap();
    let relu = b.relu("relu", a).unwrap();
    let drop = b.dropout("drop", relu, 0.1).unwrap();
    let c = b.conv("c", drop, conv3(4, 2)).unwrap();
    let pool = b.push("pool", Layer::GlobalAveragePool, &[c]).unwrap();
    b.linear("fc", pool, 3).unwrap();
    let network = b.finish().unwrap();
    let surgery = without(&network, &["a"]).unwrap();
    let c = surgery.network.find("c").unwrap();
    assert!(matches!(&surgery.network.nodes()[c].layer, Layer::Conv(conv) if conv.stride == 4));
    assert_eq!(surgery.network.shapes()[c], network.shapes()[network.find("c").unwrap()]);
    assert!(surgery.network.find("drop").is_none(), "dropout goes with its convolution");
    let lost = without(&network, &["c"]).unwrap_err();
    assert_eq!(lost, Infeasible::Stride { reader: "pool".into(), stride: 2 });
}

#[test]
fn depthwise_convolutions_follow_other_channels_and_grouped_ones_refuse() {
    let chain = |groups: usize| {
        let mut b = Builder::new(IMAGE).unwrap();
        let stem = b.conv("stem", 0, conv3(4, 1)).unwrap();
        let wide = b.conv("wide", stem, ConvChoice { kernel: 1, padding: 0, ..conv3(6, 1) }).unwrap();
        let conv = crate::network::layer::Conv {
            in_channels: 6,
            out_channels: 6,
            kernel: 3,
            stride: 1,
            padding: 1,
            groups,
            bias: false,
        };
        let middle = b.push("middle", Layer::Conv(conv), &[wide]).unwrap();
        let norm = b.batch_norm("norm", middle).unwrap();
        let pool = b.push("pool", Layer::GlobalAveragePool, &[norm]).unwrap();
        b.linear("fc", pool, 3).unwrap();
        b.finish().unwrap()
    };
    let surgery = without(&chain(6), &["wide"]).unwrap();
    assert_sound(&chain(6), &surgery);
    assert_eq!(fresh(&surgery).len(), 1 + 4 + 1, "depthwise weight, its batch norm, the linear weight");
    let refused = without(&chain(3), &["wide"]).unwrap_err();
    assert_eq!(refused, Infeasible::Grouped { node: "middle".into(), expected: 6, got: 4 });
}

#[test]
fn a_pool_whose_removal_costs_more_is_refused() {
    let vgg = build(Architecture::Vgg11, IMAGE, 10, 0.1).unwrap();
    assert!(matches!(without(&vgg, &["pool1"]), Err(Infeasible::Costlier { resource: "MACs", .. })));
}

#[test]
fn a_pool_before_the_global_mean_may_go() {
    let mut b = Builder::new(IMAGE).unwrap();
    let a = b.conv("a", 0, conv3(4, 1)).unwrap();
    let pool = b.max_pool("pool", a, 2).unwrap();
    let mean = b.push("mean", Layer::GlobalAveragePool, &[pool]).unwrap();
    b.linear("fc", mean, 3).unwrap();
    let network = b.finish().unwrap();
    assert!(may_remove(&network, &network.units(), &[true]));
    assert!(without(&network, &["pool"]).unwrap().network.find("pool").is_none());
}

#[test]
fn no_student_without_a_convolution_and_no_wrong_number_of_flags() {
    let vgg = build(Architecture::Vgg11, IMAGE, 10, 0.1).unwrap();
    let convs: Vec<String> =
        vgg.units().into_iter().map(|unit| unit.name).filter(|n| n.starts_with("conv")).collect();
    let convs: Vec<&str> = convs.iter().map(String::as_str).collect();
    assert_eq!(without(&vgg, &convs).unwrap_err(), Infeasible::NoConvolution);
    assert!(matches!(remove(&vgg, &[true]), Err(Infeasible::KeepFlags { got: 1, .. })));
}

#[test]
fn the_stem_of_a_resnet_stays() {
    let resnet = small_resnet();
    assert!(without(&resnet, &["conv1"]).is_err());
    assert!(!may_remove(&resnet, &resnet.units(), &[]));
}

#[test]
fn the_next_block_takes_over_the_change_of_shape_with_the_projection_left_behind() {
    let resnet =
        build(Architecture::Resnet34, Input { channels: 3, height: 16, width: 16 }, 4, 0.07).unwrap();
    let surgery = without(&resnet, &["layer2.0", "layer2.1"]).unwrap();
    assert_sound(&resnet, &surgery);
    let student = &surgery.network;
    let conv = |name: &str| *student.nodes()[student.find(name).unwrap()].layer.convolution().unwrap();
    let first = conv("layer2.2.conv1");
    assert_eq!((first.in_channels, first.out_channels, first.stride), (4, 9, 2));
    let projection = conv("layer2.0.shortcut.conv");
    assert_eq!((projection.in_channels, projection.out_channels, projection.stride), (4, 9, 2));
    assert_eq!(fresh(&surgery), ["layer2.2.conv1.weight"]);
    let stage_end = |network: &Network| network.shapes()[network.find("layer2.3.relu2").unwrap()];
    assert_eq!(stage_end(student), stage_end(&resnet));
    let units: Vec<String> = student.units().into_iter().map(|unit| unit.name).collect();
    assert!(units.contains(&"layer2.2".to_owned()), "the student's block is a block again: {units:?}");
}

#[test]
fn a_stage_that_changes_shape_keeps_a_block() {
    let resnet = small_resnet();
    let all = without(&resnet, &["layer2.0", "layer2.1"]).unwrap_err();
    assert_eq!(
        all.to_string(),
        "after `layer2.0` is gone, `layer3.0.conv1` cannot take over its change of shape from 4x8x8 to 6x4x4"
    );
    let last = without(&resnet, &["layer4.0", "layer4.1"]).unwrap_err();
    assert!(matches!(last, Infeasible::ShapeChange { reader, .. } if reader == "pool"));
}

#[test]
fn removing_an_identity_block_keeps_the_logits() {
    let resnet = small_resnet();
    let mut weights = lively_weights(&resnet, 3);
    for block in ["layer1.1", "layer3.1"] {
        fill(&mut weights, &format!("{block}.bn2.weight"), 0.0);
        fill(&mut weights, &format!("{block}.bn2.bias"), 0.0);
    }
    assert_same_logits(&resnet, &weights, &without(&resnet, &["layer1.1", "layer3.1"]).unwrap());
}

#[test]
fn removing_an_identity_convolution_keeps_the_logits() {
    let mut b = Builder::new(IMAGE).unwrap();
    let stem = b.conv("stem", 0, conv3(4, 1)).unwrap();
    let first = b.relu("first", stem).unwrap();
    let same = b.conv("same", first, conv3(4, 1)).unwrap();
    let second = b.relu("second", same).unwrap();
    let flat = b.push("flat", Layer::Flatten, &[second]).unwrap();
    b.linear("fc", flat, 3).unwrap();
    let network = b.finish().unwrap();
    let mut weights = lively_weights(&network, 8);
    let centre = |index: usize| if index % 9 == 4 && index / 36 == index / 9 % 4 { 1.0 } else { 0.0 };
    weights.insert("same.weight", vec![4, 4, 3, 3], (0..144).map(centre).collect());
    assert_same_logits(&network, &weights, &without(&network, &["same"]).unwrap());
}

#[test]
fn a_takeover_is_lossless_where_both_main_branches_are_silent() {
    let resnet = small_resnet();
    let mut weights = lively_weights(&resnet, 4);
    for block in ["layer3.0", "layer3.1"] {
        fill(&mut weights, &format!("{block}.bn2.weight"), 0.0);
        fill(&mut weights, &format!("{block}.bn2.bias"), 0.0);
    }
    let surgery = without(&resnet, &["layer3.0"]).unwrap();
    let (student, fresh) = inherit(&surgery.network, &surgery.inheritance, &weights, 1);
    assert_eq!(fresh, ["layer3.1.conv1.weight"], "silent behind the zero batch norm");
    let image = image(&resnet, 5);
    let before = forward(&resnet, &weights, &image).unwrap();
    assert_eq!(before, forward(&surgery.network, &student, &image).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn keeping_every_unit_changes_nothing(network in any_network()) {
        let surgery = remove(&network, &vec![true; network.units().len()]).unwrap();
        prop_assert!(surgery.inheritance.is_identity());
        prop_assert_eq!(surgery.network, network);
    }

    /// Any flags give a sound student or a reason, never a panic; flags that obey the mask always give a student.
    #[test]
    fn random_removals_are_sound(network in any_network(), coins in prop::collection::vec(any::<bool>(), 24), seed: u64) {
        let units = network.units();
        let flags: Vec<bool> = coins.iter().copied().cycle().take(units.len()).collect();
        if let Ok(surgery) = remove(&network, &flags) {
            assert_sound(&network, &surgery);
        }
        let mut obedient: Vec<bool> = Vec::new();
        for &keep in &flags {
            obedient.push(keep || !may_remove(&network, &units, &obedient));
        }
        let surgery = remove(&network, &obedient).unwrap();
        assert_sound(&network, &surgery);
        let (student, _) = inherit(&surgery.network, &surgery.inheritance, &lively_weights(&network, seed), seed);
        prop_assert_eq!(student.verify(&surgery.network), Ok(()));
        let logits = forward(&surgery.network, &student, &image(&network, seed)).unwrap();
        prop_assert!(logits.len() == network.classes() && logits.iter().all(|value| value.is_finite()));
        // A student is a network like any other: it can be operated on again.
        let units = surgery.network.units();
        let again = remove(&surgery.network, &vec![true; units.len()]).unwrap();
        prop_assert!(again.inheritance.is_identity());
    }
}
