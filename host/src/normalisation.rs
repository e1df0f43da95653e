//! How pixels become a network's inputs: stated by a model file, computed from a data set, applied by whoever runs the
//! network, or by the model file itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Per-channel mean and deviation of the training pixels, on the 0-1 scale; part of what a model file states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel, above 0.
    pub deviation: Vec<f32>,
}

/// What a model file takes: where normalisation happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputForm {
    /// Pixels from 0 to 1; the file normalises them.
    #[default]
    Plain,
    /// Bytes from 0 to 255; the file converts and normalises them.
    Uint8,
    /// Normalised values: whoever runs the file normalises.
    Normalised,
}

impl InputForm {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Uint8, Self::Normalised];

    /// As on the command line and in model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Uint8 => "uint8",
            Self::Normalised => "normalised",
        }
    }

    /// Factor and summand of each channel by which a file normalises what it takes; `None` where it does not.
    pub fn head(self, it: &Normalisation) -> Option<(Vec<f32>, Vec<f32>)> {
        let white = match self {
            Self::Plain => 1.0,
            Self::Uint8 => 255.0,
            Self::Normalised => return None,
        };
        let scale = it.deviation.iter().map(|&deviation| (1.0 / (white * f64::from(deviation))) as f32);
        let shift = it.mean.iter().zip(&it.deviation);
        let shift = shift.map(|(&mean, &deviation)| (-f64::from(mean) / f64::from(deviation)) as f32);
        Some((scale.collect(), shift.collect()))
    }

    /// What the file's network sees of `values`, channel by channel.
    pub fn normalise(self, values: &mut [f32], it: &Normalisation) {
        let Some((scale, shift)) = self.head(it) else { return };
        let plane = (values.len() / scale.len().max(1)).max(1);
        for ((values, scale), shift) in values.chunks_exact_mut(plane).zip(scale).zip(shift) {
            for value in values {
                *value = *value * scale + shift;
            }
        }
    }

    /// What the file takes for an image of bytes, channel by channel.
    pub fn of_pixels(self, pixels: &[u8], it: &Normalisation) -> Vec<f32> {
        let plain = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0);
        match self {
            Self::Plain => plain.collect(),
            Self::Uint8 => pixels.iter().map(|&pixel| f32::from(pixel)).collect(),
            Self::Normalised => {
                let plane = (pixels.len() / it.mean.len().max(1)).max(1);
                let by_channel = plain.enumerate().map(|(index, value)| (index / plane, value));
                by_channel
                    .map(|(channel, value)| (value - it.mean[channel]) / it.deviation[channel])
                    .collect()
            }
        }
    }
}

impl fmt::Display for InputForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for InputForm {
    /// What was expected.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|form| form.name() == text)
            .ok_or_else(|| format!("plain, uint8 or normalised, got `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_ends_in_the_same_normalised_values() {
        let it = Normalisation { mean: vec![0.2, 0.7], deviation: vec![0.5, 0.1] };
        let pixels = [0, 255, 51, 128];
        let wanted = InputForm::Normalised.of_pixels(&pixels, &it);
        assert!((wanted[1] - 1.6).abs() < 1e-6 && (wanted[2] + 5.0).abs() < 1e-5, "{wanted:?}");
        for form in InputForm::ALL {
            let mut values = form.of_pixels(&pixels, &it);
            form.normalise(&mut values, &it);
            for (value, wanted) in values.iter().zip(&wanted) {
                assert!((value - wanted).abs() < 1e-5, "{form}: {value} for {wanted}");
            }
            assert_eq!(form.name().parse(), Ok(form));
        }
    }
}
