//! Which recipe finishes a student best, after how many passes? `Recipe::finale` rests on the answer
//! (docs/results.md#how-a-student-is-finished).
//!
//! Each simple student that is asked for is fitted to the limit, trained for 400 steps as a search does, and then by each recipe
//! in turn from there. Uses the test images, so it is a study and no part of a job.
//!
//! `cargo run --release -p n2n --example finishing -- --teacher runs/quickstart-1/teacher.onnx --data bundled --limit params=0.03x`

#![expect(clippy::print_stdout, reason = "its result")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use n2n::data::{self, DataSpec, Dataset, LoadOptions};
use n2n::model_io::onnx;
use n2n::search::base::Base;
use n2n::search::fit::{Costs, fit};
use n2n::search::genome::BaseId;
use n2n::search::{Limit, Limits, Resources, simple};
use n2n::training::recipe::{Length, Recipe};
use n2n::training::{
    Augmentation, Classifier, DeviceChoice, TeacherLogits, TrainingJob, device, evaluation, inheritance,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps of the search's own training.
const STEPS: usize = 400;
/// Images for batch norm's re-estimation.
const IMAGES: usize = 1024;
/// Views of each image that the teacher answers.
const VIEWS: usize = 4;

/// Which recipe finishes a student best, after how many passes?
#[derive(Parser)]
struct Args {
    /// The trained network
    #[arg(long, value_name = "FILE")]
    teacher: PathBuf,
    /// Images, as `n2n compress` takes them
    #[arg(long, value_name = "KIND:PATH")]
    data: DataSpec,
    /// Limit on what the network alone decides: params, macs
    #[arg(long, value_name = "METRIC=BOUND")]
    limit: Limit,
    /// Which of the simple students, from 0: uniform width, tapers, both without the last units
    #[arg(long, value_delimiter = ',', default_value = "4,5,1")]
    students: Vec<usize>,
    /// Passes over the training images
    #[arg(long, value_delimiter = ',', default_value = "4,20")]
    passes: Vec<usize>,
    /// Widths are multiples of this
    #[arg(long, default_value_t = 2)]
    channel_multiple: usize,
    /// Of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = onnx::load(&args.teacher)?;
    let weights = Arc::new(model.weights().into_owned());
    let mut dataset = data::load(&args.data, &LoadOptions::default())?;
    dataset.normalisation = model.info.normalisation.clone();
    let device = device::open(DeviceChoice::Cpu)?;
    let teacher = Classifier::new(&model.network, &weights, &device)?;
    let full = Recipe::teacher().for_images(dataset.mirrors).augmentation;
    let augmentations = [
        ("plain", Augmentation::NONE),
        ("shifted by up to 1", Augmentation { padding: 1, flip: false }),
        ("mirrored", Augmentation { padding: 0, flip: dataset.mirrors }),
        ("shifted by up to 2 and mirrored", full),
    ];
    let Dataset { train, normalisation, .. } = &dataset;
    let answers: Vec<TeacherLogits> = augmentations
        .iter()
        .map(|(_, augmentation)| {
            let views = if *augmentation == Augmentation::NONE { 1 } else { VIEWS };
            teacher.answers(train, normalisation, *augmentation, views, 0)
        })
        .collect::<Result<_, _>>()?;
    println!("teacher: {}", evaluation::evaluate(&teacher, &dataset.test, normalisation)?);

    let limits = Limits::resolve(&[args.limit], &Resources::of(&model.network))?;
    let base = Base::new(BaseId::Teacher, model.network.clone(), weights, args.channel_multiple);
    let simple = simple::all(&base);
    for student in args.students.iter().filter_map(|&index| simple.get(index)) {
        let costs = Costs { limits: &limits, board: None, correction: 1.0 };
        let genome = fit(&base, &student.shape, costs).map_err(anyhow::Error::msg)?.genome;
        let made = base.student(&genome).map_err(anyhow::Error::msg)?;
        let (inherited, _) = inheritance::inherit(&made.network, &made.inheritance, &base.weights, args.seed);
        let mut start = Classifier::new(&made.network, &inherited, &device)?;
        let recipe = Recipe { length: Length::Steps(STEPS), seed: args.seed, ..Recipe::proxy() };
        train_by(&mut start, &dataset, &answers[0], &recipe)?;
        start.reestimate(train, normalisation, IMAGES, args.seed)?;
        let accuracy = evaluation::evaluate(&start, &dataset.test, normalisation)?;
        println!(
            "\n{}, {} parameters: {accuracy} after {STEPS} steps",
            student.name,
            made.network.cost().params
        );
        let start = start.weights()?;
        for &passes in &args.passes {
            for (name, method) in methods() {
                for ((images, augmentation), answers) in augmentations.iter().zip(&answers) {
                    let (length, seed) = (Length::Epochs(passes), args.seed + 10);
                    let recipe = Recipe { length, seed, augmentation: *augmentation, ..method.clone() };
                    let began = Instant::now();
                    let mut model = Classifier::new(&made.network, &start, &device)?;
                    train_by(&mut model, &dataset, answers, &recipe)?;
                    let accuracy = evaluation::evaluate(&model, &dataset.test, normalisation)?;
                    let seconds = began.elapsed().as_secs_f64();
                    println!("{passes} passes\t{name}\t{images}\t{accuracy}\t{seconds:.1} s");
                }
            }
        }
    }
    Ok(())
}

/// Optimisers with their learning rates.
fn methods() -> [(&'static str, Recipe); 4] {
    let sgd = |learning_rate| Recipe { learning_rate, lambda: 0.5, ..Recipe::teacher() };
    let adamw = |learning_rate| Recipe { learning_rate, ..Recipe::proxy() };
    [
        ("SGD 0.03", sgd(0.03)),
        ("SGD 0.1", sgd(0.1)),
        ("AdamW 0.002", adamw(2e-3)),
        ("AdamW 0.005", adamw(5e-3)),
    ]
}

fn train_by(
    model: &mut Classifier,
    dataset: &Dataset,
    answers: &TeacherLogits,
    recipe: &Recipe,
) -> anyhow::Result<()> {
    let job = TrainingJob::new(&dataset.train, &dataset.normalisation, Some(answers), recipe);
    model.train(job, &mut |_, _| ControlFlow::Continue(()))?;
    Ok(())
}
