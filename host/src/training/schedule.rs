//! How the learning rate moves over a training: a factor per step, pure.

use std::f64::consts::PI;

/// Course of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Up in a line over the first part, then down half a cosine to nearly 0.
    Cosine {
        /// Share of all steps spent going up, in `[0, 1)`.
        warm_up: f64,
    },
    /// Multiplied by `factor` each time a share `every` of all steps has passed.
    Step {
        /// Share of all steps between drops, above 0.
        every: f64,
        /// What a drop multiplies by.
        factor: f64,
    },
}

impl Schedule {
    /// Factor on the learning rate at `step` (from 0) of `steps`.
    pub fn factor(&self, step: usize, steps: usize) -> f64 {
        let (step, steps) = (step as f64, steps.max(1) as f64);
        match *self {
            Self::Constant => 1.0,
            Self::Cosine { warm_up } => {
                let rising = (warm_up * steps).floor();
                if step < rising {
                    (step + 1.0) / (rising + 1.0)
                } else {
                    let share = (step - rising) / (steps - rising).max(1.0);
                    f64::midpoint(1.0, (PI * share.min(1.0)).cos())
                }
            }
            Self::Step { every, factor } => factor.powf((step / (every * steps)).floor()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_rises_then_falls_to_almost_nothing() {
        let schedule = Schedule::Cosine { warm_up: 0.1 };
        let factors: Vec<f64> = (0..100).map(|step| schedule.factor(step, 100)).collect();
        assert!(factors[..10].windows(2).all(|pair| pair[0] < pair[1]));
        assert!((factors[10] - 1.0).abs() < 1e-12);
        assert!(factors[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(factors[99] > 0.0 && factors[99] < 1e-3);
    }

    #[test]
    fn steps_drop_at_their_shares() {
        let schedule = Schedule::Step { every: 0.5, factor: 0.1 };
        assert_eq!(schedule.factor(49, 100), 1.0);
        assert!((schedule.factor(50, 100) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::Constant.factor(99, 100), 1.0);
    }
}
