//! Which images make a batch, and in which variation: order, augmentation.
//!
//! Every random choice is a pure function of a seed and what it is for, so a batch can be made again, by a teacher as
//! well as by its student. Pixels stay `u8` until they are in a batch.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::kernels::source::Source;
pub use super::kernels::source::{Pick, View};
use super::{TrainingError, mismatch};
use crate::data::{Normalisation, Samples};

/// How training images vary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Augmentation {
    /// Black pixels added on each side before an image-sized window is cut at random; 0 for none.
    pub padding: usize,
    /// Whether every second image is mirrored left to right.
    pub flip: bool,
}

/// A well-mixed number from a seed and two indices (splitmix64's finaliser).
fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut state = seed;
    for part in [a, b] {
        state = state.wrapping_add(part.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
    }
    state
}

impl Augmentation {
    /// Images as they are.
    pub const NONE: Self = Self { padding: 0, flip: false };

    /// Variation number `view` of `image`.
    pub fn view(&self, seed: u64, image: usize, view: u64) -> View {
        let bits = mix(seed, image as u64, view);
        let choices = 2 * self.padding as u64 + 1;
        let shift = |bits: u64| (bits % choices) as isize - self.padding as isize;
        View {
            down: shift(bits & 0xFF_FFFF),
            right: shift(bits >> 24 & 0xFF_FFFF),
            mirrored: self.flip && bits >> 63 == 1,
        }
    }
}

/// One of `views` numbers, drawn for an image and an epoch.
pub(super) fn draw(seed: u64, image: usize, epoch: usize, views: u64) -> u64 {
    // Another constant than the views themselves use: number and content must not be tied.
    mix(seed ^ 0x5EED_0F00_D15E_A5ED, image as u64, epoch as u64) % views.max(1)
}

/// All images in the order of an epoch.
pub fn order(images: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(mix(seed, u64::MAX, epoch as u64));
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut generator);
    order
}

/// Images and their normalisation as what batches are made of.
///
/// # Errors
/// Another number of channels, deviations that nothing can be divided by, no images, pixels missing.
pub fn source<'a>(
    samples: &'a Samples,
    normalisation: &'a Normalisation,
) -> Result<Source<'a>, TrainingError> {
    let channels = (normalisation.mean.len(), normalisation.deviation.len());
    if channels != (samples.channels, samples.channels) {
        let got = format!("{} means, {} deviations", channels.0, channels.1);
        return Err(mismatch("normalisation", format!("{} channels", samples.channels), got));
    }
    if let Some(&bad) =
        normalisation.deviation.iter().find(|deviation| deviation.is_nan() || **deviation <= 0.0)
    {
        return Err(mismatch("normalisation", "deviations above 0", bad));
    }
    if samples.is_empty() || samples.pixels.len() != samples.len() * samples.image_len() {
        let expected = format!(
            "{} bytes for {} images, at least one",
            samples.len() * samples.image_len(),
            samples.len()
        );
        return Err(mismatch("samples", expected, samples.pixels.len()));
    }
    Ok(Source { samples, normalisation, answers: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        Samples { channels: 1, height: 2, width: 3, pixels: (0..12).collect(), labels: vec![0, 1] }
    }

    /// Values of image 1, to the nearest whole number.
    fn values(samples: &Samples, view: View) -> Vec<f32> {
        let scale = vec![1.0 / 255.0; samples.channels];
        let normalisation = Normalisation { mean: vec![0.0; samples.channels], deviation: scale };
        let source = source(samples, &normalisation).unwrap();
        source.values(&[Pick::of(1, view)]).unwrap().into_iter().map(f32::round).collect()
    }

    fn pixels(view: View) -> Vec<f32> {
        values(&samples(), view)
    }

    #[test]
    fn a_plain_view_is_the_image() {
        assert_eq!(pixels(View::PLAIN), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    }

    #[test]
    fn channels_come_last() {
        let samples = Samples { channels: 3, height: 1, width: 2, ..samples() };
        assert_eq!(values(&samples, View::PLAIN), [6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
    }

    #[test]
    fn shifts_bring_black_in_and_mirrors_turn_left_to_right() {
        assert_eq!(pixels(View { down: 1, right: 0, mirrored: false }), [9.0, 10.0, 11.0, 0.0, 0.0, 0.0]);
        assert_eq!(pixels(View { down: 0, right: -1, mirrored: false }), [0.0, 6.0, 7.0, 0.0, 9.0, 10.0]);
        assert_eq!(pixels(View { down: 0, right: 0, mirrored: true }), [8.0, 7.0, 6.0, 11.0, 10.0, 9.0]);
    }

    #[test]
    fn views_cover_every_shift_and_repeat_for_a_seed() {
        let augmentation = Augmentation { padding: 1, flip: true };
        let views: Vec<View> = (0..200).map(|image| augmentation.view(7, image, 3)).collect();
        assert_eq!(views, (0..200).map(|image| augmentation.view(7, image, 3)).collect::<Vec<_>>());
        for down in -1..=1 {
            for right in -1..=1 {
                for mirrored in [false, true] {
                    assert!(views.contains(&View { down, right, mirrored }), "{down} {right} {mirrored}");
                }
            }
        }
        assert_eq!(Augmentation::NONE.view(7, 5, 3), View::PLAIN);
    }

    #[test]
    fn an_epoch_is_a_permutation_and_epochs_differ() {
        let (first, second) = (order(100, 1, 0), order(100, 1, 1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(first, second);
        assert_eq!(first, order(100, 1, 0));
    }

    #[test]
    fn normalisation_of_other_channels_is_refused() {
        let wrong = Normalisation { mean: vec![0.0; 3], deviation: vec![1.0; 3] };
        let samples = samples();
        let error = source(&samples, &wrong).unwrap_err();
        assert_eq!(error.to_string(), "normalisation: expected 1 channels, got 3 means, 3 deviations");
    }
}
