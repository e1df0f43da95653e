//! What batches are made of: images in bytes, how they vary, and a teacher's answers about them.

use candle_core::{Result, bail};
use rayon::prelude::*;

use crate::data::{Normalisation, Samples};

/// One variation of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Rows that the window lies below the image's top, pixels.
    pub down: isize,
    /// Columns that it lies right of the image's left edge, pixels.
    pub right: isize,
    /// Mirrored after the cut.
    pub mirrored: bool,
}

impl View {
    /// The image as it is.
    pub const PLAIN: Self = Self { down: 0, right: 0, mirrored: false };
}

/// One image of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Its number.
    pub image: usize,
    /// Its variation.
    pub view: View,
    /// The row of the teacher's answers about it; 0 without a teacher.
    pub answer: usize,
}

impl Pick {
    /// A view of an image, compared with nothing.
    pub fn of(image: usize, view: View) -> Self {
        Self { image, view, answer: 0 }
    }
}

/// Images that a thread takes at once; two threads share a usual batch. Not tuned.
const IMAGES_AT_ONCE: usize = 32;

/// Images with their labels, and a teacher's logits about views of them.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Pixels are bytes until they are in a batch.
    pub samples: &'a Samples,
    /// As many channels as the samples have.
    pub normalisation: &'a Normalisation,
    /// Teacher's logits.
    pub answers: Option<Answers<'a>>,
}

/// Rows of logits.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// Row-major.
    pub values: &'a [f32],
    /// Values a row.
    pub classes: usize,
}

impl Source<'_> {
    /// For every channel, what each byte becomes: 256 values instead of a division a pixel.
    pub(super) fn tables(&self) -> Vec<[f32; 256]> {
        let channels = self.normalisation.mean.iter().zip(&self.normalisation.deviation);
        channels
            .map(|(mean, deviation)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / deviation))
            .collect()
    }

    /// The row of logits about a picked view.
    pub(super) fn answer(Answers { values, classes }: Answers<'_>, pick: &Pick) -> Result<Vec<f32>> {
        match values.get(pick.answer * classes..(pick.answer + 1) * classes) {
            Some(row) => Ok(row.to_vec()),
            None => {
                bail!("teacher logits: expected a row below {}, got {}", values.len() / classes, pick.answer)
            }
        }
    }

    /// The label of a picked image.
    pub(super) fn label(&self, pick: &Pick) -> Result<u16> {
        match self.samples.labels.get(pick.image) {
            Some(&label) => Ok(label),
            None => bail!("image index: expected below {}, got {}", self.samples.len(), pick.image),
        }
    }

    /// Normalised values of the picked images, `[H, W, C]` each; black comes in from outside.
    pub(in crate::training) fn values(&self, picks: &[Pick]) -> Result<Vec<f32>> {
        let (length, tables) = (self.samples.image_len().max(1), self.tables());
        let images = self.samples.pixels.len() / length;
        if let Some(pick) = picks.iter().find(|pick| pick.image >= images) {
            bail!("image index: expected below {images}, got {}", pick.image);
        }
        let mut values = vec![0.0; picks.len() * length];
        values
            .par_chunks_mut(length)
            .zip(picks)
            .with_min_len(IMAGES_AT_ONCE)
            .try_for_each(|(out, pick)| self.write(pick, &tables, out))?;
        Ok(values)
    }

    /// One image.
    fn write(&self, Pick { image, view, .. }: &Pick, tables: &[[f32; 256]], out: &mut [f32]) -> Result<()> {
        let Samples { channels, height, width, .. } = *self.samples;
        let pixels = self.samples.image(*image)?;
        for (channel, (plane, table)) in pixels.chunks_exact(height * width).zip(tables).enumerate() {
            for row in 0..height {
                let source = (row as isize + view.down).try_into().ok().filter(|&row: &usize| row < height);
                let source = source.map(|row| &plane[row * width..(row + 1) * width]);
                let pixel = |column: usize| {
                    let column = if view.mirrored { width - 1 - column } else { column };
                    let column = usize::try_from(column as isize + view.right).ok();
                    source.zip(column).and_then(|(row, column)| row.get(column)).copied().unwrap_or(0)
                };
                let start = channel + row * width * channels;
                let targets = out[start..].iter_mut().step_by(channels).take(width);
                for (column, value) in targets.enumerate() {
                    *value = table[usize::from(pixel(column))];
                }
            }
        }
        Ok(())
    }
}
