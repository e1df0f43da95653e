//! The answer comes before the time: a known input, its right answer, and the one check of both sides.
//!
//! Pure. It must not run a model: workers, slots and the host's reference do that.

use crate::bounded::{list, tolerance};
use crate::limits;
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// An input by seed and its right answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Golden {
    /// Seed of [`crate::generator::input`].
    pub input_seed: u64,
    /// Logits by the host.
    #[serde(deserialize_with = "list::<{ limits::LOGITS }, _, _>")]
    pub logits: Vec<f32>,
    /// Largest allowed difference, as [`difference`] counts it: above 0, at most [`limits::TOLERANCE`].
    #[serde(deserialize_with = "tolerance")]
    pub tolerance: f32,
}

/// An answer that is not the golden one.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WrongAnswer {
    /// Other logits.
    #[error("it differs by {found:e} of its largest logit, tolerance {tolerance:e}")]
    Differs {
        /// As [`difference`] counts it.
        found: f32,
        /// What was allowed.
        tolerance: f32,
    },
    /// Another number of logits.
    #[error("expected {expected} logits, got {got}")]
    Length {
        /// Logits of the golden answer.
        expected: usize,
        /// Logits that came.
        got: usize,
    },
    /// A tolerance that would let anything pass, or nothing.
    #[error("a tolerance of {0}: expected above 0 and at most {max}", max = limits::TOLERANCE)]
    Tolerance(f32),
}

impl Golden {
    /// The difference of an answer from the golden one, if it is within the tolerance.
    ///
    /// # Errors
    /// [`WrongAnswer`], which says what was expected and what came.
    pub fn check(&self, got: &[f32]) -> Result<f32, WrongAnswer> {
        if !is_tolerance(self.tolerance) {
            return Err(WrongAnswer::Tolerance(self.tolerance));
        }
        if self.logits.len() != got.len() || self.logits.is_empty() {
            return Err(WrongAnswer::Length { expected: self.logits.len(), got: got.len() });
        }
        let found = difference(&self.logits, got);
        if found <= self.tolerance {
            return Ok(found);
        }
        Err(WrongAnswer::Differs { found, tolerance: self.tolerance })
    }
}

/// Whether a tolerance means something.
pub(crate) fn is_tolerance(tolerance: f32) -> bool {
    tolerance > 0.0 && tolerance <= limits::TOLERANCE
}

/// Largest absolute difference between two rows of logits, relative to the largest expected magnitude (at least 1).
/// Infinite for rows of different lengths, for empty rows, and when a number is not finite.
pub fn difference(expected: &[f32], got: &[f32]) -> f32 {
    if expected.len() != got.len() || expected.is_empty() {
        return f32::INFINITY;
    }
    let mut scale = 1.0_f32;
    let mut largest = 0.0_f32;
    for (expected, got) in expected.iter().zip(got) {
        let difference = (expected - got).abs();
        // `max` would swallow a NaN, and a NaN is the worst answer of all.
        if !difference.is_finite() {
            return f32::INFINITY;
        }
        largest = largest.max(difference);
        scale = scale.max(expected.abs());
    }
    largest / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn differences_are_relative_to_the_largest_logit_but_at_least_to_one() {
        assert_eq!(difference(&[10.0, -20.0], &[10.0, -18.0]), 0.1);
        assert_eq!(difference(&[0.25, 0.0], &[0.0, 0.0]), 0.25);
        assert_eq!(difference(&[1.0], &[1.0]), 0.0);
        assert_eq!(difference(&[], &[]), f32::INFINITY);
        assert_eq!(difference(&[f32::NAN], &[1.0]), f32::INFINITY);
        assert_eq!(difference(&[f32::INFINITY], &[f32::INFINITY]), f32::INFINITY);
    }

    #[test]
    fn a_wrong_answer_never_passes_whatever_the_tolerance_says() {
        let golden = Golden { input_seed: 1, logits: vec![1.0, 2.0], tolerance: 1e-3 };
        assert_eq!(golden.check(&[1.0, 2.001]), Ok((2.001_f32 - 2.0) / 2.0));
        assert!(matches!(golden.check(&[1.0, 2.1]), Err(WrongAnswer::Differs { .. })));
        assert!(matches!(golden.check(&[f32::NAN, 2.0]), Err(WrongAnswer::Differs { .. })));
        assert_eq!(golden.check(&[1.0]), Err(WrongAnswer::Length { expected: 2, got: 1 }));
        for tolerance in [f32::INFINITY, f32::NAN, 0.0, -1.0, limits::TOLERANCE * 1.01] {
            let absurd = Golden { tolerance, ..golden.clone() };
            assert!(matches!(absurd.check(&[1.0, 2.0]), Err(WrongAnswer::Tolerance(_))), "{tolerance}");
        }
        let empty = Golden { logits: vec![], ..golden };
        assert!(empty.check(&[]).is_err());
    }
}
