//! The normalisation of a data set: mean and deviation of its training pixels.

use std::io;

use super::samples::Samples;
use crate::normalisation::Normalisation;

impl Normalisation {
    /// Smallest deviation stated: a channel that never changes must not be divided by zero.
    const MIN_DEVIATION: f64 = 1e-3;

    /// Of all pixels, per channel. Of no images: mean 0, deviation 1.
    ///
    /// # Errors
    /// Their file cannot be read.
    pub fn of(samples: &Samples) -> io::Result<Self> {
        let plane = samples.height * samples.width;
        // Whole numbers: sums are exact, so the result does not depend on any order.
        let mut sums = vec![(0_u64, 0_u64); samples.channels];
        if plane > 0 && samples.channels > 0 {
            for index in 0..samples.len() {
                for (pixels, (sum, squares)) in samples.image(index)?.chunks_exact(plane).zip(&mut sums) {
                    *sum += pixels.iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
                    *squares += pixels.iter().map(|&pixel| u64::from(pixel).pow(2)).sum::<u64>();
                }
            }
        }
        let count = (samples.len() * plane) as f64;
        let (mean, deviation) = sums
            .into_iter()
            .map(|(sum, squares)| {
                if count == 0.0 {
                    return (0.0, 1.0);
                }
                let mean = sum as f64 / count / 255.0;
                let variance = squares as f64 / count / (255.0 * 255.0) - mean * mean;
                (mean as f32, variance.max(0.0).sqrt().max(Self::MIN_DEVIATION) as f32)
            })
            .unzip();
        Ok(Self { mean, deviation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_is_per_channel_and_exact() {
        let samples = Samples {
            channels: 2,
            height: 1,
            width: 2,
            pixels: vec![0, 255, 255, 255, 0, 255, 255, 255].into(),
            labels: vec![0, 1],
        };
        let normalisation = Normalisation::of(&samples).unwrap();
        assert_eq!(normalisation.mean, [0.5, 1.0]);
        assert_eq!(normalisation.deviation, [0.5, 1e-3]);
        assert_eq!(
            Normalisation::of(&Samples { channels: 1, ..Samples::default() }).unwrap().deviation,
            [1.0]
        );
    }
}
