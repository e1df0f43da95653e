//! Seeded randomness of the search: one independent, platform-stable stream per purpose.
//!
//! The bits-to-number step is written out here, so that a new release of `rand` cannot change what a seed means.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};

/// The generator for one purpose, for example `("removal policy", seed)`; equal arguments give equal streams.
pub fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A seed for somebody else's generator, by the same rule as [`stream`].
pub fn seed_for(seed: u64, purpose: &str) -> u64 {
    stream(seed, purpose).next_u64()
}

/// Uniform in `[0, 1)`, 53 bits.
pub fn uniform(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// An index drawn with the given weights; illegal choices have weight 0 and are never drawn. `None` when all are 0.
pub fn choose(rng: &mut impl Rng, weights: &[f64]) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    let mut rest = uniform(rng) * total;
    let mut last = None;
    for (index, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            last = Some(index);
            if rest < weight {
                break;
            }
            rest -= weight;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_purpose_only() {
        let first = |seed, purpose| stream(seed, purpose).next_u64();
        assert_eq!(first(1, "a"), first(1, "a"));
        assert_ne!(first(1, "a"), first(1, "b"));
        assert_ne!(first(1, "a"), first(2, "a"));
    }

    #[test]
    fn choices_follow_their_weights_and_never_take_a_zero() {
        let mut rng = stream(3, "choose");
        let mut counts = [0_u32; 3];
        for _ in 0..4000 {
            counts[choose(&mut rng, &[1.0, 0.0, 3.0]).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
        assert_eq!(choose(&mut rng, &[0.0, 0.0]), None);
    }
}
