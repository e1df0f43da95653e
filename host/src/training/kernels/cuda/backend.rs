//! Batches, the loss and the optimiser's step on a GPU: images, labels and the teacher's answers live there.

use candle_core::{Error, Result, bail};
use cudarc::driver::{CudaSlice, LaunchConfig};

use super::lane::{Argument, BLOCK, DevicePick, walk};
use super::table::Row;
use super::{Array, Cuda};
use crate::data::Samples;
use crate::training::kernels::source::{Pick, Source};
use crate::training::kernels::update::Rule;
use crate::training::kernels::{Backend, Batch, Kernels as _, Loss, Moving, Terms};

use Argument::{Float, Int, Null};

/// A source of batches in a GPU's memory.
#[derive(Debug)]
pub struct DeviceSource<'a> {
    source: Source<'a>,
    pixels: CudaSlice<u8>,
    /// `[channels, 256]`.
    tables: Array,
    /// `[rows, classes]`.
    answers: Option<Array>,
}

/// Momentum or first moment, and second moment.
#[derive(Debug)]
pub struct DeviceMemory {
    first: Array,
    second: Array,
}

fn int(what: &str, number: isize) -> Result<i32> {
    i32::try_from(number).map_err(|_| Error::msg(format!("{what}: expected below 2^31, got {number}")))
}

impl Backend for Cuda {
    type Source<'a> = DeviceSource<'a>;
    type Memory = DeviceMemory;

    fn source<'a>(&self, source: Source<'a>) -> Result<DeviceSource<'a>> {
        let tables = source.tables().concat();
        let answers = source.answers.map(|answers| {
            let rows = answers.values.len() / answers.classes.max(1);
            self.tensor(answers.values.to_vec(), &[rows, answers.classes])
        });
        Ok(DeviceSource {
            pixels: self.0.upload(&source.samples.pixels.bytes()?)?,
            tables: self.tensor(tables, &[source.samples.channels, 256])?,
            answers: answers.transpose()?,
            source,
        })
    }

    fn batch(&self, source: &DeviceSource<'_>, picks: &[Pick]) -> Result<Batch<Array>> {
        let Samples { channels, height, width, .. } = *source.source.samples;
        let rows = source.answers.as_ref().map_or(usize::MAX, |answers| answers.dims[0]);
        let device = |pick: &Pick| {
            // The label is looked up on the host, which also finds out an image that is not there.
            let label = i32::from(source.source.label(pick)?);
            if pick.answer >= rows {
                bail!("teacher logits: expected a row below {rows}, got {}", pick.answer);
            }
            Ok(DevicePick {
                image: int("image", pick.image as isize)?,
                down: int("shift", pick.view.down)?,
                right: int("shift", pick.view.right)?,
                mirrored: i32::from(pick.view.mirrored),
                answer: int("row", pick.answer as isize)?,
                label,
            })
        };
        let count = picks.len();
        let images = self.0.array(&[count, height, width, channels])?;
        let labels = self.0.array(&[count])?;
        let picks = self.0.upload(&picks.iter().map(device).collect::<Result<Vec<_>>>()?)?;
        let picks = Argument::Picks(&picks);
        let sizes = [count, channels, height, width].map(|size| Int(size as i32));
        let head = [
            Argument::Bytes(&source.pixels),
            Argument::Array(&source.tables),
            picks,
            Argument::Array(&images),
        ];
        self.0.launch("assemble", walk(images.len()), &[head, sizes].concat())?;
        self.0.launch("labels_of", walk(count), &[picks, Argument::Array(&labels), sizes[0]])?;
        let answers = source.answers.as_ref().map(|all| {
            let classes = all.dims[1];
            let answers = self.0.array(&[count, classes])?;
            let arguments =
                [picks, Argument::Array(all), Argument::Array(&answers), sizes[0], Int(classes as i32)];
            self.0.launch("answers_of", walk(answers.len()), &arguments)?;
            Ok::<_, Error>(answers)
        });
        Ok(Batch { images, labels, answers: answers.transpose()? })
    }

    fn loss(&self, logits: &Array, batch: &Batch<Array>, terms: Terms) -> Result<Loss<Array>> {
        let (&[images, classes], &[labels]) = (logits.dims.as_slice(), batch.labels.dims.as_slice()) else {
            bail!("loss: expected logits [N, classes] and labels [N], got {:?}", logits.dims);
        };
        if labels != images {
            bail!("loss: expected {images} labels, got {labels}");
        }
        if let Some(answers) = batch.answers.as_ref().filter(|answers| answers.dims != logits.dims) {
            bail!("loss: expected teacher logits {:?}, got {:?}", logits.dims, answers.dims);
        }
        let (gradient, parts) = (self.0.array(&logits.dims)?, self.0.array(&[2])?);
        let losses: CudaSlice<f64> = self.0.buffer(2 * images)?;
        let arguments = [
            Argument::Array(logits),
            Argument::Array(&batch.labels),
            batch.answers.as_ref().map_or(Null, Argument::Array),
            Argument::Array(&gradient),
            Argument::Doubles(&losses),
            Int(images as i32),
            Int(classes as i32),
            Float(terms.label_smoothing as f32),
            Float(terms.lambda as f32),
        ];
        self.0.launch("loss_of_images", walk(images), &arguments)?;
        let arguments =
            [Argument::Doubles(&losses), Argument::Array(&parts), Int(images as i32), Int(classes as i32)];
        let one = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 };
        self.0.launch("loss_parts", one, &arguments)?;
        Ok(Loss { gradient, parts })
    }

    fn memory(&self, variable: &Array) -> Result<DeviceMemory> {
        let zeros = || self.tensor(vec![0.0; variable.len()], &variable.dims);
        Ok(DeviceMemory { first: zeros()?, second: zeros()? })
    }

    fn moments(&self, memory: &DeviceMemory, _: &Array) -> Result<[Array; 2]> {
        Ok([memory.first.clone(), memory.second.clone()])
    }

    fn memory_of(&self, [first, second]: [Array; 2]) -> Result<DeviceMemory> {
        Ok(DeviceMemory { first, second })
    }

    fn update(
        &self,
        moving: &mut [Moving<Array, DeviceMemory>],
        gradients: &[Option<Array>],
        rule: Rule,
    ) -> Result<()> {
        let mut rows = Vec::with_capacity(moving.len());
        for (each, gradient) in moving.iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            if gradient.len() != each.variable.len() {
                bail!(
                    "optimiser: expected a gradient of {} values, got {}",
                    each.variable.len(),
                    gradient.len()
                );
            }
            let arrays = [&each.variable, gradient, &each.memory.first, &each.memory.second].map(Some);
            let factors = match if each.decays { rule } else { rule.without_decay() } {
                Rule::Momentum { decay, .. } => [decay, 1.0],
                Rule::Adam(step) => [step.decay, step.shrink],
            };
            rows.push(Row { arrays, factors, length: each.variable.len() });
        }
        match rule {
            Rule::Momentum { rate, momentum, nesterov, .. } => {
                let rest = [Float(rate), Float(momentum), Int(i32::from(nesterov))];
                self.launch_table("momentum_step", &rows, &rest)
            }
            Rule::Adam(step) => {
                let (first, second) = (step.first, step.second);
                let rest =
                    [step.rate, first.0, first.1, second.0, second.1, step.root_correction, step.epsilon];
                self.launch_table("adam_step", &rows, &rest.map(Float))
            }
        }
    }
}
