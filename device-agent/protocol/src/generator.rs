//! Weights and inputs out of a seed, so that a candidate travels in some kilobytes and a golden input in eight bytes.
//!
//! Host and board must get the very same bits, on ARM and on x86: the random part is made of integers by a counter
//! (SplitMix64: Steele, Lea, Flood, OOPSLA 2014), the scale by an integer square root, and a value is one exact
//! conversion and one multiplication. No libm. Nothing here is zero, denormal or huge, since all of these change an
//! engine's speed. Must not be used where unpredictability matters.

use crate::model::Element;

/// Key of the metadata entry of an ONNX model without weights; its value is the seed in decimal digits.
pub const WEIGHTS_SEED_KEY: &str = "n2n.weights_seed";

/// Half-width of one-dimensional tensors: small beside activations of unit variance.
const VECTOR_BOUND: f32 = 1.0 / 16.0;

/// Random bits in a value: with the sign, as many as an f32 holds exactly.
const VALUE_BITS: u32 = 24;

/// Fill an initialiser.
///
/// Kernels and matrices (two dimensions and more; outputs first, as in ONNX `Conv` and `Gemm` with `transB`) are uniform
/// in `±sqrt(6 / fan_in)`: He's scale, which keeps activations alive through any depth. Vectors (biases) are uniform in
/// `(0, 1/16)`: positive, so that a vector of variances would still be legal.
///
/// `name` separates the tensors of one seed; `values` is the whole tensor, row-major.
pub fn fill(seed: u64, name: &str, dimensions: &[usize], values: &mut [f32]) {
    let stream = Stream::new(seed, name.as_bytes());
    if dimensions.len() < 2 {
        let scale = VECTOR_BOUND / (1u32 << VALUE_BITS) as f32;
        for (counter, value) in (0..).zip(values) {
            *value = (stream.bits(counter) | 1) as f32 * scale;
        }
    } else {
        let fan_in =
            dimensions.iter().skip(1).fold(1u64, |product, &size| product.saturating_mul(size as u64));
        stream.symmetric(he_bound(fan_in), values);
    }
}

/// Fill an input: uniform in `(-1, 1)`, like a normalised image.
pub fn fill_input(seed: u64, values: &mut [f32]) {
    Stream::new(seed, b"input").symmetric(1.0, values);
}

/// An input of `len` values; see [`fill_input`].
pub fn input(seed: u64, len: usize) -> alloc::vec::Vec<f32> {
    let mut values = alloc::vec![0.0; len];
    fill_input(seed, &mut values);
    values
}

/// An input of `len` values of this type, as numbers: floats in `(-1, 1)`, bytes from 0 to 255; `None` for types that nobody
/// generates.
pub fn input_as(seed: u64, len: usize, element: Element) -> Option<alloc::vec::Vec<f32>> {
    let mut values = input(seed, len);
    match element {
        Element::F32 => {}
        // Truncated towards zero, which is a byte for every number below 256.
        Element::U8 => values.iter_mut().for_each(|value| *value = f32::from(((*value + 1.0) * 128.0) as u8)),
        Element::I8 | Element::F16 => return None,
    }
    Some(values)
}

/// `sqrt(6 / fan_in)`, by integers up to the last rounding.
fn he_bound(fan_in: u64) -> f32 {
    /// Fraction bits of the root; its square has twice as many, and 6 still fits before them.
    const FRACTION_BITS: u32 = 60;
    let ratio = (6u128 << (2 * FRACTION_BITS)) / u128::from(fan_in.max(1));
    ratio.isqrt() as f32 / (1u64 << FRACTION_BITS) as f32
}

/// A sequence of random bits, any of which can be had without those before it.
struct Stream {
    start: u64,
}

/// The odd number nearest to 2^64 divided by the golden ratio (SplitMix64).
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl Stream {
    fn new(seed: u64, name: &[u8]) -> Self {
        // FNV-1a: names are short, and the mixing afterwards is strong.
        let name = name.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        Self { start: mix(mix(seed.wrapping_add(GOLDEN_GAMMA)) ^ name) }
    }

    /// [`VALUE_BITS`] random bits.
    fn bits(&self, counter: u64) -> u32 {
        let state = self.start.wrapping_add(counter.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA));
        (mix(state) >> (64 - VALUE_BITS)) as u32
    }

    /// Odd numbers in `(-2^24, 2^24)`, scaled: symmetric about zero, which is never hit.
    fn symmetric(&self, bound: f32, values: &mut [f32]) {
        let scale = bound / (1u32 << VALUE_BITS) as f32;
        for (counter, value) in (0..).zip(values) {
            let odd = ((self.bits(counter) << 1) | 1) as i32 - (1 << VALUE_BITS);
            *value = odd as f32 * scale;
        }
    }
}

/// SplitMix64's output function.
fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn filled(seed: u64, name: &str, dimensions: &[usize]) -> Vec<f32> {
        let mut values = vec![0.0; dimensions.iter().product()];
        fill(seed, name, dimensions, &mut values);
        values
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    /// Computed by an independent program with exact rational numbers.
    #[test]
    fn values_are_pinned() {
        assert_eq!(
            bits(&filled(7, "conv1.weight", &[2, 3, 1, 1])[..4]),
            [0xbe69_7127, 0x3f38_78a6, 0x3f84_b1ed, 0xbe20_e1a2]
        );
        assert_eq!(bits(&filled(7, "conv1.bias", &[2])), [0x3cc6_869e, 0x3d64_4ae3]);
        assert_eq!(bits(&input(42, 3)), [0xbf62_cf93, 0xbf2b_ec9b, 0xbc8b_a2e0]);
    }

    #[test]
    fn he_bounds_are_the_nearest_float_to_the_root() {
        for fan_in in [1, 2, 3, 9, 27, 64, 576, 4608, 25_088, 1 << 40] {
            let exact = (6.0f64 / fan_in as f64).sqrt() as f32;
            assert_eq!(he_bound(fan_in).to_bits(), exact.to_bits(), "fan-in {fan_in}");
        }
        assert_eq!(he_bound(0).to_bits(), he_bound(1).to_bits());
        assert!(he_bound(u64::MAX).is_normal());
    }

    #[test]
    fn spread_is_uniform_and_nothing_is_zero_or_denormal() {
        let weights = filled(1, "w", &[64, 64, 3, 3]);
        let bound = he_bound(576);
        assert!(weights.iter().all(|weight| weight.is_normal() && weight.abs() < bound));
        let count = weights.len() as f64;
        let mean = weights.iter().map(|&weight| f64::from(weight)).sum::<f64>() / count;
        let square = weights.iter().map(|&weight| f64::from(weight) * f64::from(weight)).sum::<f64>() / count;
        // Variance of the uniform distribution is bound^2 / 3 = 2 / fan_in; 36,864 values leave 1 % of error.
        assert!((square * 288.0 - 1.0).abs() < 0.03, "{square}");
        assert!(mean.abs() < 0.001, "{mean}");
        let biases = filled(1, "b", &[4096]);
        assert!(biases.iter().all(|&bias| bias.is_normal() && bias > 0.0 && bias < VECTOR_BOUND));
    }

    #[test]
    fn seeds_and_names_give_other_values_and_positions_do_not_depend_on_the_length() {
        let weights = filled(1, "w", &[4, 4]);
        assert_ne!(weights, filled(2, "w", &[4, 4]));
        assert_ne!(weights, filled(1, "v", &[4, 4]));
        assert_eq!(weights[..8], filled(1, "w", &[2, 4])[..]);
        assert_eq!(input(3, 5), input(3, 9)[..5]);
    }
}
