//! `n2n teacher train`: images and an architecture of the zoo -> a teacher as an ONNX file with live batch norm.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::super::json::SCHEMA;
use super::super::{Context, checkpoints, device, model, output, pictures};
use crate::checkpoint::{Checkpoint, Owner};
use crate::data::{DataSpec, Dataset};
use crate::exit::{Code, Failure};
use crate::model_io::onnx::{self, Filling, ModelInfo};
use crate::model_io::{Weights, atomic_file};
use crate::network::Network;
use crate::network::layer::Input;
use crate::network::zoo;
use crate::normalisation::InputForm;
use crate::training::recipe::Length;
use crate::training::state::EpochResult;
use crate::training::{
    Accuracy, Checkpoints, ClassAccuracy, Classifier, Confusion, DeviceChoice, Guessing, Recipe,
    TrainingError, TrainingJob, TrainingState, Weighing, evaluation, inheritance,
};
use crate::{training, ui, units, wording};

const EXAMPLES: &str = "\
Examples:
  n2n teacher train --arch vgg13 --width 0.25 --data fashion-mnist --epochs 20 --out teacher.onnx
  n2n teacher train --arch resnet10 --width 0.5 --data folder:photos --image-size 96x96 --out photos.onnx
  n2n teacher train --arch resnet18 --data cifar10:/data/cifar-10-batches-bin --out resnet18.onnx

The file is written by a training that went to its end. One that was interrupted, by
Ctrl-C or otherwise, has its state in FILE.checkpoint; the same command goes on inside.";

/// Most passes over the training images that make sense to ask for.
const MAX_EPOCHS: usize = 10_000;

/// Trains a teacher from the zoo
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// vgg11, vgg13, vgg16, vgg19, resnet10, resnet18 or resnet34
    #[arg(long, value_name = "NAME")]
    arch: String,
    /// Multiplier of all widths
    #[arg(long, value_name = "SHARE", default_value = "1.0")]
    width: String,
    /// Images: bundled, or KIND:PATH with KIND one of fashion-mnist, mnist, idx, cifar10, cifar100, svhn, folder, npz
    #[arg(long, value_name = "KIND:PATH")]
    data: String,
    /// Passes over the training images
    #[arg(long, value_name = "N", default_value_t = 20)]
    epochs: usize,
    /// Of initial weights, order and augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// ONNX file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    pictures: pictures::Args,
    #[command(flatten)]
    device: device::Args,
    #[command(flatten)]
    checkpoints: checkpoints::Args,
}

/// What to train.
pub(in crate::cli) struct Wish {
    /// The family member.
    pub architecture: zoo::Architecture,
    /// Multiplier of all widths.
    pub width: f64,
    /// Passes over the training images.
    pub epochs: usize,
    /// Of everything random.
    pub seed: u64,
    /// Where.
    pub device: DeviceChoice,
    /// ONNX file to write; the state of an unfinished training is kept beside it.
    pub out: PathBuf,
    /// Time between two states.
    pub checkpoint_interval: Duration,
}

/// A trained teacher.
pub(in crate::cli) struct Trained {
    /// Structure.
    pub network: Network,
    /// On both validation halves together: the test images are not for this.
    pub validation: Accuracy,
    /// The same by class, in label order.
    classes: Vec<ClassAccuracy>,
    /// How it came about, epoch by epoch.
    epochs: Vec<Epoch>,
    weights: Weights,
    info: ModelInfo,
    out: PathBuf,
    checkpoint: Checkpoint,
}

/// A pass over the training images.
#[derive(Clone, Copy, Serialize)]
struct Epoch {
    /// Mean training loss of its steps.
    loss: f64,
    /// At its end, on both validation halves together.
    validation_accuracy: f64,
}

/// Accuracy on one class.
#[derive(Serialize)]
struct Class {
    name: String,
    /// Its validation images.
    images: u32,
    /// Share of right answers on them, 0 to 1; `null` without images.
    validation_accuracy: Option<f64>,
}

/// `n2n teacher train --json`.
#[derive(Serialize)]
struct Written {
    schema: u32,
    file: String,
    validation_accuracy: f64,
    /// The same by class, in label order.
    classes: Vec<Class>,
    epochs: Vec<Epoch>,
    params: u64,
    macs: u64,
    seconds: f64,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Code, Failure> {
    let wish = Wish {
        architecture: model::architecture(&args.arch)
            .map_err(|expected| Failure::usage(format!("architecture: expected {expected}")))?,
        width: model::width_multiplier(&args.width)
            .map_err(|expected| Failure::usage(format!("width: expected {expected}")))?,
        epochs: Some(args.epochs).filter(|epochs| (1..=MAX_EPOCHS).contains(epochs)).ok_or_else(|| {
            Failure::usage(format!("epochs: expected 1 to {MAX_EPOCHS}, got {}", args.epochs))
        })?,
        seed: args.seed,
        device: args.device.choice(&context.config)?,
        out: args.out.clone(),
        checkpoint_interval: args.checkpoints.interval()?,
    };
    let spec: DataSpec = args.data.parse()?;
    let began = std::time::Instant::now();
    let wishes = args.pictures.wishes()?;
    output::check(&args.out)?;
    let dataset = pictures::load(&spec, wishes, args.seed, context)?;
    let trained = train(&wish, &dataset, context)?;
    trained.write()?;

    let cost = trained.network.cost();
    let written = Written {
        schema: SCHEMA,
        file: args.out.display().to_string(),
        validation_accuracy: trained.validation.fraction(),
        classes: trained.classes.iter().map(Class::from).collect(),
        epochs: trained.epochs,
        params: cost.params,
        macs: cost.macs,
        seconds: began.elapsed().as_secs_f64(),
    };
    context.ui.result(&written, || {
        let facts = ui::facts([
            ("teacher", written.file.clone()),
            ("network", format!("{} at width {}", args.arch, args.width)),
            ("validation accuracy", units::percent(written.validation_accuracy)),
            ("parameters", units::count(written.params)),
            ("MACs", units::count(written.macs)),
            ("time", units::duration(began.elapsed())),
        ]);
        let rows = wording::of_classes(&trained.classes);
        format!("{facts}\n\n{}", ui::table(["validation accuracy by class (images)", "teacher"], rows))
    })?;
    Ok(Code::Done)
}

/// Trains with progress, from where an earlier try was interrupted; an interrupt ends it without a result.
pub(in crate::cli) fn train(wish: &Wish, dataset: &Dataset, context: &Context) -> Result<Trained, Failure> {
    let images = &dataset.train;
    let input = Input { channels: images.channels, height: images.height, width: images.width };
    let network =
        zoo::build(wish.architecture, input, dataset.classes.len(), wish.width).map_err(Failure::usage)?;
    let weights = inheritance::initial_weights(&network, wish.seed);
    let mut model = Classifier::new(&network, &weights, &training::device::open(wish.device)?)?;
    let recipe = Recipe { length: Length::Epochs(wish.epochs), seed: wish.seed, ..Recipe::teacher() };
    let recipe = recipe.for_images(dataset.mirrors);
    let title = format!("training {} on {}", wish.architecture, dataset.name);
    tracing::info!("{title}: {} epochs of {} images", wish.epochs, images.len());
    let progress = context.ui.progress(title, recipe.steps(images.len()) as u64);
    let owner = Owner::new(&network, &weights, &recipe, &dataset.digest()?, None, &wish.device.to_string());
    let checkpoint = Checkpoint::new(beside(&wish.out), &network, owner, wish.checkpoint_interval);
    let from = checkpoint.resume();
    if let Some(state) = &from {
        tracing::info!("going on after step {} of {}", state.position.step, recipe.steps(images.len()));
    }
    let mut keep = |state: &TrainingState| checkpoint.keep(state);
    let job = TrainingJob {
        // Both halves together: the test images are not for this.
        validation: &[&dataset.validation_search, &dataset.validation_select],
        checkpoints: Some(Checkpoints { from, interval: checkpoint.interval, keep: &mut keep }),
        ..TrainingJob::new(images, &dataset.normalisation, None, &recipe)
    };
    let outcome = model.train(job, &mut |now, _| {
        progress.set(
            now.step as u64,
            format!("epoch {}, loss {:.3}, {:.0} images/s", now.epoch + 1, now.loss, now.images_per_second),
        );
        if let Some(EpochResult { loss, validation }) = now.ended {
            let accuracy = units::percent(validation.fraction());
            tracing::info!("epoch {}: loss {loss:.3}, validation accuracy {accuracy}", now.epoch + 1);
        }
        if context.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(progress);
    let summary = match outcome {
        Ok(summary) => summary,
        Err(TrainingError::Cancelled { step }) => {
            return Err(Failure::failed(format_args!(
                "stopped after step {step} of {}; no file was written",
                recipe.steps(images.len())
            ))
            .hint("nothing is lost: the same command goes on after that step"));
        }
        Err(error) => return Err(error.into()),
    };
    let validation = validate(&model, dataset)?;
    if let Some(warning) = wording::weak(&Guessing::of(&validation, Weighing::Images)) {
        tracing::warn!("the teacher {warning}");
    }
    let info = ModelInfo {
        dataset: dataset.name.clone(),
        classes: dataset.classes.clone(),
        normalisation: dataset.normalisation.clone(),
        fit: dataset.facts.fit,
        split: dataset.facts.split(),
        input: InputForm::Normalised,
    };
    let epoch = |it: &EpochResult| Epoch { loss: it.loss, validation_accuracy: it.validation.fraction() };
    Ok(Trained {
        network,
        validation: validation.accuracy(),
        classes: validation.named(&dataset.classes),
        epochs: summary.epochs.iter().map(epoch).collect(),
        weights: model.weights()?,
        info,
        out: wish.out.clone(),
        checkpoint,
    })
}

impl From<&ClassAccuracy> for Class {
    fn from(it: &ClassAccuracy) -> Self {
        let ClassAccuracy { class, accuracy } = it;
        let validation_accuracy = (accuracy.total > 0).then(|| accuracy.fraction());
        Self { name: class.clone(), images: accuracy.total, validation_accuracy }
    }
}

/// Where the state of an unfinished training is kept.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".checkpoint");
    name.into()
}

/// Answers on both validation halves together.
fn validate(model: &Classifier, dataset: &Dataset) -> Result<Confusion, TrainingError> {
    let half = |samples| evaluation::confusion(model, samples, &dataset.normalisation);
    Ok(half(&dataset.validation_search)?.and(&half(&dataset.validation_select)?))
}

impl Trained {
    /// Writes the ONNX file, batch norm alive: a folded teacher could not be inherited from.
    pub(in crate::cli) fn write(&self) -> Result<(), Failure> {
        let bytes = onnx::write(&self.network, Filling::Weights(&self.weights), &self.info)?;
        atomic_file::write(&self.out, &bytes)?;
        self.checkpoint.remove();
        Ok(())
    }
}
