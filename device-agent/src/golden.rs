//! The answer comes before the time: whether logits are the right ones.
//!
//! Pure. It must not run a model: the worker and the slots do that.

use n2n_protocol::Golden;

/// Largest absolute difference between two rows of logits, relative to the largest expected magnitude (at least 1).
/// Infinite for rows of different lengths or when a number is not finite.
pub fn difference(expected: &[f32], got: &[f32]) -> f32 {
    if expected.len() != got.len() || expected.is_empty() {
        return f32::INFINITY;
    }
    let scale = expected.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
    let largest =
        expected.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0_f32, |largest, difference| {
            // `max` would swallow a NaN, and a NaN is the worst answer of all.
            if difference.is_finite() { largest.max(difference) } else { f32::INFINITY }
        });
    if scale.is_finite() { largest / scale } else { f32::INFINITY }
}

/// The difference, if it is within the tolerance.
///
/// # Errors
/// What was expected and what came instead.
pub fn check(golden: &Golden, got: &[f32]) -> Result<f32, String> {
    let found = difference(&golden.logits, got);
    if found <= golden.tolerance {
        return Ok(found);
    }
    Err(if golden.logits.len() == got.len() {
        format!("golden answer differs by {found:e} of its largest logit, tolerance {:e}", golden.tolerance)
    } else {
        format!("golden answer has {} logits, the model gave {}", golden.logits.len(), got.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_to_the_largest_logit_but_at_least_to_one() {
        assert_eq!(difference(&[10.0, -20.0], &[10.0, -18.0]), 0.1);
        assert_eq!(difference(&[0.25, 0.0], &[0.0, 0.0]), 0.25);
        assert_eq!(difference(&[1.0], &[1.0]), 0.0);
    }

    #[test]
    fn a_wrong_answer_is_never_within_tolerance() {
        let golden = Golden { input_seed: 1, logits: vec![1.0, 2.0], tolerance: 1e-3 };
        assert_eq!(check(&golden, &[1.0, 2.001]), Ok((2.001_f32 - 2.0) / 2.0));
        assert!(check(&golden, &[1.0, 2.1]).unwrap_err().contains("differs by"));
        assert!(check(&golden, &[f32::NAN, 2.0]).is_err());
        assert_eq!(check(&golden, &[1.0]), Err("golden answer has 2 logits, the model gave 1".into()));
        let absurd = Golden { tolerance: f32::NAN, ..golden };
        assert!(check(&absurd, &[1.0, 2.0]).is_err());
    }
}
