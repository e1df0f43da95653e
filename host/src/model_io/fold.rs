//! The weights of a network whose batch norms are folded into its convolutions. The structure is folded by
//! `network::fold`; nothing here decides what may be folded.

use super::{Array, Weights};
use crate::network::fold::{foldable, folded, without_dropout};
use crate::network::{Network, Node, Parameter, Role};

/// [`folded`], with weights that give the same logits: `w' = w * scale / sqrt(variance + epsilon)`,
/// `b' = (b - mean) * scale / sqrt(variance + epsilon) + shift`, computed in f64.
///
/// A tensor that is missing in `weights` is missing in the result, so that [`Weights::verify`] names it.
pub fn fold_batch_norm(network: &Network, weights: &Weights) -> (Network, Weights) {
    let student = folded(network);
    let mut result = Weights::default();
    for parameter in student.parameters() {
        if let Some(Array { dims, values }) = weights.get(&parameter.name) {
            result.insert(parameter.name, dims.clone(), values.clone());
        }
    }
    let trained = without_dropout(network);
    for (conv, norm) in foldable(&trained) {
        fold_pair(&trained.nodes()[conv], &trained.nodes()[norm], weights, &mut result);
    }
    (student, result)
}

/// Writes the convolution's new weight and bias; nothing when a tensor is missing.
fn fold_pair(conv: &Node, norm: &Node, weights: &Weights, result: &mut Weights) -> Option<()> {
    let hyper = norm.layer.batch_norm()?;
    let tensor = |node: &Node, role: Role| weights.get(&name_of(node, role)?);
    let scale = tensor(norm, Role::Scale)?;
    let shift = tensor(norm, Role::Shift)?;
    let mean = tensor(norm, Role::RunningMean)?;
    let variance = tensor(norm, Role::RunningVariance)?;
    let weight = tensor(conv, Role::Weight)?;
    let bias = tensor(conv, Role::Bias);
    let gain: Vec<f64> = scale
        .values
        .iter()
        .zip(&variance.values)
        .map(|(&scale, &variance)| f64::from(scale) / (f64::from(variance) + hyper.epsilon).sqrt())
        .collect();
    let filter = weight.dims.iter().skip(1).product::<usize>().max(1);
    let values = weight
        .values
        .chunks(filter)
        .zip(&gain)
        .flat_map(|(filter, gain)| filter.iter().map(move |&value| (f64::from(value) * gain) as f32));
    result.insert(name_of(conv, Role::Weight)?, weight.dims.clone(), values.collect());
    let folded_bias: Vec<f32> = gain
        .iter()
        .zip(shift.values.iter().zip(&mean.values))
        .enumerate()
        .map(|(channel, (gain, (&shift, &mean)))| {
            let bias = bias.and_then(|bias| bias.values.get(channel)).map_or(0.0, |&bias| f64::from(bias));
            ((bias - f64::from(mean)) * gain + f64::from(shift)) as f32
        })
        .collect();
    result.insert(format!("{}.{}", conv.name, Role::Bias.suffix()), vec![folded_bias.len()], folded_bias);
    Some(())
}

fn name_of(node: &Node, role: Role) -> Option<String> {
    let find = |parameter: Parameter| (parameter.role == role).then_some(parameter.name);
    node.parameters().into_iter().find_map(find)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_io::reference::forward;
    use crate::network::Layer;
    use crate::network::arbitrary::{any_network, image, lively_weights, small_resnet};
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::Input;
    use crate::network::zoo::{Architecture, build};
    use proptest::prelude::*;

    #[test]
    fn folding_by_hand() {
        let mut b = Builder::new(Input { channels: 1, height: 1, width: 1 }).unwrap();
        let choice = ConvChoice { out_channels: 1, kernel: 1, stride: 1, padding: 0, bias: true };
        let conv = b.conv("conv", 0, choice).unwrap();
        let norm = b.batch_norm("norm", conv).unwrap();
        b.push("mean", Layer::GlobalAveragePool, &[norm]).unwrap();
        let network = b.finish().unwrap();
        let mut weights = Weights::default();
        // A variance of three epsilons: the gain is 0.1 / sqrt(4e-5) only if epsilon counts.
        let vectors = [
            ("norm.weight", 0.1),
            ("norm.bias", 2.0),
            ("norm.running_mean", 0.5),
            ("norm.running_var", 3e-5),
        ];
        for (name, value) in vectors.into_iter().chain([("conv.bias", 0.75)]) {
            weights.insert(name, vec![1], vec![value]);
        }
        weights.insert("conv.weight", vec![1, 1, 1, 1], vec![4.0]);
        let (_, folded) = fold_batch_norm(&network, &weights);
        let gain = 0.1 / 4e-5_f32.sqrt();
        let value = |name: &str| folded.get(name).unwrap().values[0];
        assert!((value("conv.weight") / (4.0 * gain) - 1.0).abs() < 1e-6);
        assert!((value("conv.bias") / (0.25 * gain + 2.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_folded_resnet_gives_the_same_logits() {
        let network = small_resnet();
        let weights = lively_weights(&network, 11);
        let (student, folded_weights) = fold_batch_norm(&network, &weights);
        let image = image(&network, 11);
        let before = forward(&network, &weights, &image).unwrap();
        let after = forward(&student, &folded_weights, &image).unwrap();
        let largest = before.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert_eq!(before.len(), after.len());
        for (b, a) in before.iter().zip(&after) {
            assert!((b - a).abs() <= 1e-5 * largest, "{before:?} against {after:?}");
        }
    }

    #[test]
    fn a_missing_tensor_stays_missing() {
        let network =
            build(Architecture::Vgg11, Input { channels: 1, height: 4, width: 4 }, 2, 0.05).unwrap();
        let (student, weights) = fold_batch_norm(&network, &Weights::default());
        assert!(weights.verify(&student).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Within 1e-4: the rounding of folded weights to f32 grows where large inner values cancel.
        #[test]
        fn folding_keeps_the_logits(network in any_network(), seed: u64) {
            let weights = lively_weights(&network, seed);
            let (student, folded_weights) = fold_batch_norm(&network, &weights);
            prop_assert_eq!(folded_weights.verify(&student), Ok(()));
            let image = image(&network, seed);
            let before = forward(&network, &weights, &image).unwrap();
            let after = forward(&student, &folded_weights, &image).unwrap();
            prop_assert_eq!(before.len(), after.len());
            for (b, a) in before.iter().zip(&after) {
                prop_assert!((b - a).abs() <= 1e-4 * b.abs().max(1.0), "{} against {}", b, a);
            }
        }
    }
}
