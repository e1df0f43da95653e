//! Weights for a student: the teacher's where a slice exists, initial ones elsewhere; and which channels are worth keeping.
//!
//! Pure over [`Weights`]: no tensor library, no clock, and randomness only from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use crate::model_io::{Array, Weights};
use crate::network::{Group, Inheritance, Member, Network, Parameter, Role, Source};

/// Importance of every channel of every group (docs/method.md#inheritance): the L2 norm of the channel's slice of each tensor that the
/// group cuts (filters that write it, batch-norm scale, weights that read it), divided by the whole tensor's L2 norm, and
/// summed. Only ranks within a group mean something. Biases, shifts and statistics do not count.
///
/// A tensor that is missing from `weights`, or all zero, adds nothing.
pub fn importance(network: &Network, groups: &[Group], weights: &Weights) -> Vec<Vec<f32>> {
    let of_group = |group: &Group| {
        let mut total = vec![0.0_f64; group.channels];
        for member in &group.members {
            for (parameter, axis) in member.cuts(network) {
                if let (Role::Weight | Role::Scale, Some(array)) =
                    (parameter.role, weights.get(&parameter.name))
                {
                    add_norms(&mut total, array, axis, member);
                }
            }
        }
        total.into_iter().map(|value| value as f32).collect()
    };
    groups.iter().map(of_group).collect()
}

/// The `width` channels of largest importance, ascending; of equal ones those with the lower index. A value that is
/// not a number ranks last.
pub fn keep_largest(importance: &[f32], width: usize) -> Vec<usize> {
    let rank = |index: usize| {
        let value = importance[index];
        if value.is_nan() { f32::NEG_INFINITY } else { value }
    };
    let mut order: Vec<usize> = (0..importance.len()).collect();
    order.sort_by(|&left, &right| rank(right).total_cmp(&rank(left)));
    order.truncate(width);
    order.sort_unstable();
    order
}

/// The student's weights, and the names of the tensors that had to be initialised anew, for the journal. A slice that `teacher`
/// does not have, or that has not the student's dimensions, counts as none.
pub fn inherit(
    student: &Network,
    inheritance: &Inheritance,
    teacher: &Weights,
    seed: u64,
) -> (Weights, Vec<String>) {
    let mut weights = Weights::default();
    let mut fresh = Vec::new();
    for parameter in student.parameters() {
        let slice = match inheritance.get(&parameter.name) {
            Some(Source::Slice { tensor, axes }) => teacher.get(tensor).and_then(|array| take(array, axes)),
            Some(Source::Fresh) | None => None,
        };
        let array = slice.filter(|array| array.dims == parameter.dims).unwrap_or_else(|| {
            fresh.push(parameter.name.clone());
            initial(&parameter, seed)
        });
        weights.insert(parameter.name, array.dims, array.values);
    }
    (weights, fresh)
}

/// Weights before any training: He's normal distribution (deviation `sqrt(2 / fan_in)`) for convolutions and linear layers,
/// ones for batch-norm scale and variance, zeros for the rest. Each tensor has its own stream, from seed and name, so a network
/// with one layer more starts with the same values elsewhere.
pub fn initial_weights(network: &Network, seed: u64) -> Weights {
    let mut weights = Weights::default();
    for parameter in network.parameters() {
        let array = initial(&parameter, seed);
        weights.insert(parameter.name, array.dims, array.values);
    }
    weights
}

fn initial(parameter: &Parameter, seed: u64) -> Array {
    let count = parameter.dims.iter().product();
    let values = match parameter.role {
        Role::Weight => {
            let mut hash = Sha256::new();
            hash.update(seed.to_le_bytes());
            hash.update(parameter.name.as_bytes());
            let mut generator = ChaCha8Rng::from_seed(hash.finalize().into());
            let deviation = (2.0 / parameter.fan_in.max(1) as f64).sqrt();
            std::iter::repeat_with(|| normal_pair(&mut generator))
                .flatten()
                .map(|value| (value * deviation) as f32)
                .take(count)
                .collect()
        }
        Role::Scale | Role::RunningVariance => vec![1.0; count],
        Role::Bias | Role::Shift | Role::RunningMean => vec![0.0; count],
    };
    Array { dims: parameter.dims.clone(), values }
}

/// Two independent standard normal values (Box and Muller 1958).
fn normal_pair(generator: &mut ChaCha8Rng) -> [f64; 2] {
    // 53 random bits, as many as an f64 holds; in (0, 1], so that the logarithm is finite.
    let mut uniform = || ((generator.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let radius = (-2.0 * uniform().ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * uniform()).sin_cos();
    [radius * cosine, radius * sine]
}

/// Adds each channel's share of the tensor's norm along `axis`.
fn add_norms(total: &mut [f64], array: &Array, axis: usize, member: &Member) {
    let Some(&length) = array.dims.get(axis) else { return };
    let inner: usize = array.dims[axis + 1..].iter().product();
    let mut squares = vec![0.0_f64; total.len()];
    for slice in array.values.chunks((length * inner).max(1)) {
        for (index, values) in slice.chunks(inner.max(1)).enumerate() {
            if let Some(square) = squares.get_mut(index / member.block) {
                *square += values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
            }
        }
    }
    let whole = squares.iter().sum::<f64>().sqrt();
    if whole > 0.0 {
        total.iter_mut().zip(squares).for_each(|(total, square)| *total += square.sqrt() / whole);
    }
}

/// The slice of `array` at the given indices of each axis; `None` if ranks differ or an index is out of range.
fn take(array: &Array, axes: &[Option<Vec<usize>>]) -> Option<Array> {
    if axes.len() != array.dims.len() {
        return None;
    }
    let mut current = array.clone();
    for (axis, indices) in axes.iter().enumerate() {
        if let Some(indices) = indices {
            current = take_along(&current, axis, indices)?;
        }
    }
    Some(current)
}

fn take_along(array: &Array, axis: usize, indices: &[usize]) -> Option<Array> {
    let length = array.dims[axis];
    let inner: usize = array.dims[axis + 1..].iter().product();
    let outer: usize = array.dims[..axis].iter().product();
    let mut values = Vec::with_capacity(outer * indices.len() * inner);
    for block in array.values.chunks((length * inner).max(1)) {
        for &index in indices {
            values.extend_from_slice(block.get(index * inner..(index + 1) * inner)?);
        }
    }
    let mut dims = array.dims.clone();
    dims[axis] = indices.len();
    Some(Array { dims, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::arbitrary::{any_network, small_resnet};
    use crate::network::builder::{Builder, ConvChoice};
    use crate::network::layer::{Input, Layer};
    use crate::network::surgery::shrink;
    use proptest::prelude::*;

    #[test]
    fn initial_weights_have_he_scale_and_do_not_depend_on_order() {
        let network = small_resnet();
        let weights = initial_weights(&network, 7);
        assert_eq!(weights.verify(&network), Ok(()));
        assert_eq!(weights, initial_weights(&network, 7));
        assert_ne!(weights, initial_weights(&network, 8));
        let mut b = Builder::new(Input { channels: 64, height: 3, width: 3 }).unwrap();
        let choice = ConvChoice { out_channels: 64, kernel: 3, stride: 1, padding: 1, bias: true };
        let conv = b.conv("conv", 0, choice).unwrap();
        b.push("pool", Layer::GlobalAveragePool, &[conv]).unwrap();
        let values = initial_weights(&b.finish().unwrap(), 1).get("conv.weight").unwrap().values.clone();
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count;
        let expected = 2.0 / (64.0 * 9.0);
        assert!(mean.abs() < 5.0 * (expected / count).sqrt(), "{mean}");
        // The variance of 36,864 normal values is within 5 deviations of sqrt(2 / n).
        assert!(
            (variance / expected - 1.0).abs() < 5.0 * (2.0 / count).sqrt(),
            "{variance} against {expected}"
        );
    }

    #[test]
    fn ties_go_to_the_lower_index_and_nan_goes_first() {
        assert_eq!(keep_largest(&[1.0, 3.0, 1.0, 2.0, 1.0], 3), [0, 1, 3]);
        assert_eq!(keep_largest(&[f32::NAN, 0.0, -1.0], 2), [1, 2]);
        assert_eq!(keep_largest(&[1.0, 2.0], 5), [0, 1]);
    }

    #[test]
    fn importance_sums_shares_of_writers_and_readers() {
        let mut b = Builder::new(Input { channels: 1, height: 1, width: 2 }).unwrap();
        let point = ConvChoice { out_channels: 2, kernel: 1, stride: 1, padding: 0, bias: true };
        let conv = b.conv("conv", 0, point).unwrap();
        let flat = b.push("flat", Layer::Flatten, &[conv]).unwrap();
        b.linear("fc", flat, 1).unwrap();
        let network = b.finish().unwrap();
        let mut weights = initial_weights(&network, 1);
        weights.insert("conv.weight", vec![2, 1, 1, 1], vec![30.0, 40.0]);
        weights.insert("conv.bias", vec![2], vec![1000.0, 0.0]);
        // Features 0 and 1 are channel 0, features 2 and 3 channel 1.
        weights.insert("fc.weight", vec![1, 4], vec![1.2, 0.5, 0.0, 0.0]);
        let groups = network.groups();
        let of_conv = groups.iter().position(|group| group.name == "conv").unwrap();
        let scores = &importance(&network, &groups, &weights)[of_conv];
        assert!((scores[0] - 1.6).abs() < 1e-6 && (scores[1] - 0.8).abs() < 1e-6, "{scores:?}");
    }

    #[test]
    fn a_slice_takes_rows_and_columns() {
        let array = Array { dims: vec![2, 3], values: vec![0., 1., 2., 10., 11., 12.] };
        let rows = take(&array, &[Some(vec![1]), Some(vec![0, 2])]).unwrap();
        assert_eq!(rows, Array { dims: vec![1, 2], values: vec![10., 12.] });
        assert_eq!(take(&array, &[None, Some(vec![3])]), None);
        assert_eq!(take(&array, &[None]), None);
    }

    #[test]
    fn what_the_teacher_lacks_is_initialised_and_named() {
        let network = small_resnet();
        let (weights, fresh) = inherit(&network, &Inheritance::identity(&network), &Weights::default(), 7);
        assert_eq!(weights, initial_weights(&network, 7));
        assert_eq!(fresh.len(), network.parameters().len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn shrinking_to_the_most_important_channels_inherits_everything(network in any_network(), seed: u64, factor in 0.1..1.0_f64) {
            let groups = network.groups();
            let teacher = initial_weights(&network, seed);
            let scores = importance(&network, &groups, &teacher);
            let kept: Vec<Vec<usize>> = groups
                .iter()
                .zip(&scores)
                .map(|(group, scores)| {
                    prop_assert_eq!(scores.len(), group.channels);
                    let factor = if group.shrinkable { factor } else { 1.0 };
                    Ok(keep_largest(scores, crate::network::surgery::rounded_width(group.channels, factor, 2)))
                })
                .collect::<Result<_, TestCaseError>>()?;
            let surgery = shrink(&network, &kept).unwrap();
            let (student, fresh) = inherit(&surgery.network, &surgery.inheritance, &teacher, seed);
            prop_assert!(fresh.is_empty());
            prop_assert_eq!(student.verify(&surgery.network), Ok(()));
        }
    }
}
