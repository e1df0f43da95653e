//! Answers are kept to nine digits: such numbers survive the journal's text exactly, so a replay computes the very same
//! rewards. Nothing that we measure is known better.

use super::answer::Measured;

/// Nine digits behind the point.
pub(super) fn nine(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// A measurement to nine digits.
pub(super) fn tidy(measured: Measured) -> Measured {
    Measured { noise: nine(measured.noise), ..measured }
}
