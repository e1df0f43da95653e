//! The least time that a search can do anything with: the first batch, ESTIMATED from the teacher's own speed.
//!
//! A search that is shorter would look at its simple students, train none of them, and call that a result.

use std::time::Duration;

use super::Error;
use super::distiller::IMAGES_OF_A_LOOK;
use crate::search::{Budget, FirstLook, Limits, Rung, Settings};

/// A training step on an image costs so many forward passes: one forward, two backward.
const PASSES_OF_A_STEP: f64 = 3.0;
/// What is refused for certain: an estimate may be wrong by this factor, and small students have costs of their own.
const CERTAIN: f64 = 0.5;

/// What is known of a machine before its search begins.
pub(super) struct Speed {
    /// The teacher's forward pass of one image, all cores.
    pub(super) image: Duration,
    /// One measurement on the board.
    pub(super) measurement: Duration,
}

/// Refuses a budget of time in which not even the first students could be trained.
pub(super) fn refuse_less(
    settings: &Settings,
    limits: &Limits,
    first: FirstLook,
    batch: usize,
    speed: &Speed,
) -> Result<(), Error> {
    let (Budget::Time(given), Some(Rung::Steps(steps))) = (settings.budget, settings.rungs.promote) else {
        return Ok(());
    };
    let least = least(limits, first, f64::from(steps) * batch as f64, speed);
    if given >= least.mul_f64(CERTAIN) {
        return Ok(());
    }
    let whole = |time: Duration| Duration::from_secs(time.as_secs_f64().ceil() as u64);
    Err(Error::LeastBudget { given: whole(given), least: whole(least) })
}

/// About how long the first batch takes, with so many images a training.
fn least(limits: &Limits, first: FirstLook, images: f64, speed: &Speed) -> Duration {
    let forward = speed.image.mul_f64(first.share_of_macs);
    let looks = forward.mul_f64((first.students * IMAGES_OF_A_LOOK) as f64);
    let training = forward.mul_f64(images * PASSES_OF_A_STEP * first.trained as f64);
    let measured = if limits.need_the_board() { first.students } else { 0 };
    looks + training + speed.measurement.mul_f64(measured as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Metric, Preset};

    #[test]
    fn a_budget_that_trains_nothing_is_refused_with_the_least_that_does() {
        let first = FirstLook { students: 8, trained: 2, share_of_macs: 0.1 };
        let speed = Speed { image: Duration::from_millis(1), measurement: Duration::from_secs(1) };
        let (none, latency) = (Limits::default(), Limits(vec![(Metric::Latency, 1e6)]));
        // 8 x 2,024 images, 2 x 400 x 64 x 3 of them in training, at 0.1 ms; and eight measurements.
        let seconds = |limits: &Limits| least(limits, first, 400.0 * 64.0, &speed).as_secs_f64();
        assert!((seconds(&none) - (1.6192 + 15.36)).abs() < 1e-6, "{}", seconds(&none));
        assert!((seconds(&latency) - seconds(&none) - 8.0).abs() < 1e-6);
        let refused = |budget: Budget| {
            let settings = Settings { budget, ..Settings::new(Preset::Edge, 1) };
            refuse_less(&settings, &none, first, 64, &speed).err().map(|error| error.to_string())
        };
        assert!(
            refused(Budget::Time(Duration::from_secs(9))).is_none()
                && refused(Budget::Candidates(1)).is_none()
        );
        let words = refused(Budget::Time(Duration::from_secs(2))).unwrap();
        assert!(words.contains("got 2s") && words.contains("17s"), "{words}");
    }
}
