//! Which cheap look ranks candidates as their final training does? The evaluation cascade of `search` rests on the answer
//! (docs/results.md#what-ranks-candidates).
//!
//! Draws candidates around the simple students, all at one limit, looks at each after every rung, trains each to an end from
//! several seeds, and prints rank correlations with the mean of those ends, each with its 95 % interval by the bootstrap over
//! candidates; and the same for the model of quality that the search fits to all looks of a rung. The ends' own repeatability
//! is the ceiling. Uses the validation images alone.
//!
//! `cargo run --release -p n2n --example ruler -- --teacher teacher.onnx --data fashion-mnist --limit macs=0.25x`

#![expect(clippy::print_stdout, reason = "its result")]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use n2n::data::{self, DataSpec, Dataset, LoadOptions, Samples};
use n2n::model_io::onnx;
use n2n::network::Network;
use n2n::search::base::Base;
use n2n::search::fit::{Costs, fit};
use n2n::search::genome::{BaseId, Shape};
use n2n::search::simple;
use n2n::search::surrogate::{Surrogate, rank_correlation};
use n2n::search::{Limit, Limits, Resources, Rung, random};
use n2n::training::recipe::{Length, Recipe};
use n2n::training::{
    Augmentation, Classifier, Classify as _, Device, DeviceChoice, TeacherLogits, TrainingJob, device,
    inheritance,
};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Images of a look without training, and of batch norm's re-estimation.
const IMAGES: usize = 1000;
/// Deviation of a width factor's logarithm.
const SPREAD: f64 = 0.5;
/// How often a unit is taken out.
const REMOVED: f64 = 0.15;
/// Draws of the bootstrap.
const DRAWS: usize = 1000;

/// Which cheap look ranks candidates as their final training does?
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
    /// Candidates
    #[arg(long, default_value_t = 24)]
    count: usize,
    /// Final trainings of each, and their passes over the training images
    #[arg(long, default_value_t = 2)]
    finals: u64,
    #[arg(long, default_value_t = 5)]
    final_epochs: usize,
    /// Widths are multiples of this
    #[arg(long, default_value_t = 2)]
    channel_multiple: usize,
    /// Of everything that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// What the teacher is asked once.
struct World {
    dataset: Dataset,
    device: Device,
    plain: TeacherLogits,
    /// Teacher's logits of the search's and of the choosing half of the validation images.
    search: Vec<f32>,
    select: Vec<f32>,
}

/// How a model answers: figures of which more is better.
#[derive(Clone, Copy)]
struct Look {
    accuracy: f64,
    agreement: f64,
    /// Minus the negative log-likelihood.
    likelihood: f64,
}

const FIGURES: [&str; 3] = ["accuracy", "agreement", "likelihood"];

impl Look {
    fn of(model: &Classifier, samples: &Samples, teacher: &[f32], world: &World) -> anyhow::Result<Self> {
        let classes = world.dataset.classes.len();
        let logits = model.logits(samples, &world.dataset.normalisation)?;
        let (mut right, mut alike, mut likelihood) = (0.0, 0.0, 0.0);
        for ((row, teacher), &label) in
            logits.chunks_exact(classes).zip(teacher.chunks_exact(classes)).zip(&samples.labels)
        {
            let top = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            right += f64::from(u8::from(top(row) == Some(usize::from(label))));
            alike += f64::from(u8::from(top(row) == top(teacher)));
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&value| f64::from(value - most).exp()).sum();
            likelihood += f64::from(row[usize::from(label)] - most) - sum.ln();
        }
        let count = samples.len().max(1) as f64;
        Ok(Self { accuracy: right / count, agreement: alike / count, likelihood: likelihood / count })
    }

    fn figure(&self, index: usize) -> f64 {
        [self.accuracy, self.agreement, self.likelihood][index]
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let model = onnx::load(&args.teacher)?;
    let weights = Arc::new(model.weights().into_owned());
    let mut dataset = data::load(&args.data, &LoadOptions::default())?;
    dataset.normalisation = model.info.normalisation.clone();
    let device = device::open(DeviceChoice::Cpu)?;
    let teacher = Classifier::new(&model.network, &weights, &device)?;
    let world = World {
        plain: teacher.answers(&dataset.train, &dataset.normalisation, Augmentation::NONE, 1, 0)?,
        search: teacher.logits(&dataset.validation_search, &dataset.normalisation)?,
        select: teacher.logits(&dataset.validation_select, &dataset.normalisation)?,
        dataset,
        device,
    };
    let limits = Limits::resolve(&[args.limit], &Resources::of(&model.network))?;
    let base = Base::new(BaseId::Teacher, model.network.clone(), weights, args.channel_multiple);
    let rungs = [Rung::Inherited, Rung::Steps(100), Rung::Steps(400), Rung::Epochs(1), Rung::Steps(1200)];
    let mut surrogates: Vec<Surrogate> = rungs.iter().map(|_| Surrogate::new(&model.network)).collect();
    let mut looks: Vec<Vec<Look>> = Vec::new();
    let mut ends: Vec<Vec<Look>> = Vec::new();
    let mut networks = Vec::new();
    let mut rng = random::stream(args.seed, "ruler");
    while looks.len() < args.count {
        let shape = drawn(&base, looks.len(), &mut rng);
        let costs = Costs { limits: &limits, board: None, correction: 1.0 };
        let Ok(fitted) = fit(&base, &shape, costs) else { continue };
        let Ok(student) = base.student(&fitted.genome) else { continue };
        if fitted.beyond > 0.0 {
            continue;
        }
        let (start, _) =
            inheritance::inherit(&student.network, &student.inheritance, &base.weights, args.seed);
        let mut own = Vec::new();
        let cost = student.network.cost();
        print!("{}\t{}\t{}\t{}", looks.len(), fitted.genome.removed.len(), cost.params, cost.macs);
        for (rung, surrogate) in rungs.iter().zip(&mut surrogates) {
            let began = Instant::now();
            let mut model = Classifier::new(&student.network, &start, &world.device)?;
            let images = match rung_length(*rung) {
                None => world.dataset.validation_search.first(IMAGES),
                Some(length) => {
                    let recipe = Recipe { length, seed: args.seed, ..Recipe::proxy() };
                    train(&mut model, &world, &world.plain, &recipe)?;
                    world.dataset.validation_search.clone()
                }
            };
            model.reestimate(&world.dataset.train, &world.dataset.normalisation, IMAGES, args.seed)?;
            let look = Look::of(&model, &images, &world.search, &world)?;
            surrogate.look(&looks.len().to_string(), *rung, &student.network, look.agreement);
            print!("\t{rung}: {} {:.2} s", shown(look), began.elapsed().as_secs_f64());
            own.push(look);
        }
        looks.push(own);
        ends.push(
            (0..args.finals)
                .map(|seed| {
                    let recipe =
                        Recipe { seed, ..Recipe::finale(args.final_epochs, world.dataset.train.len()) }
                            .for_images(world.dataset.mirrors);
                    let answers = teacher.answers(
                        &world.dataset.train,
                        &world.dataset.normalisation,
                        recipe.augmentation,
                        4,
                        0,
                    )?;
                    let mut model = Classifier::new(&student.network, &start, &world.device)?;
                    train(&mut model, &world, &answers, &recipe)?;
                    Look::of(&model, &world.dataset.validation_select, &world.select, &world)
                })
                .collect::<anyhow::Result<_>>()?,
        );
        println!(
            "\tends: {}",
            ends.last().into_iter().flatten().map(|it| shown(*it)).collect::<Vec<_>>().join("; ")
        );
        networks.push(student.network);
    }
    report(&rungs, &looks, &ends, &mut surrogates, &networks);
    Ok(())
}

fn rung_length(rung: Rung) -> Option<Length> {
    match rung {
        Rung::Inherited => None,
        Rung::Steps(steps) => Some(Length::Steps(steps as usize)),
        Rung::Epochs(epochs) => Some(Length::Epochs(epochs as usize)),
    }
}

fn shown(look: Look) -> String {
    format!("{:.4} {:.4} {:.4}", look.accuracy, look.agreement, look.likelihood)
}

/// A simple student, in turn, with every width changed; the simple students themselves first.
fn drawn(base: &Base, index: usize, rng: &mut ChaCha8Rng) -> Shape {
    let simple = simple::all(base);
    let mut shape = simple[index % simple.len()].shape.clone();
    if index < simple.len() {
        return shape;
    }
    for group in &base.groups {
        // A sum of twelve uniform numbers is normal enough.
        let normal: f64 = (0..12).map(|_| random::uniform(rng)).sum::<f64>() - 6.0;
        let factor = shape.factor(&group.name) * (SPREAD * normal).exp();
        shape.factors.insert(group.name.clone(), factor);
    }
    for unit in &base.units {
        let mut more = shape.removed.clone();
        if random::uniform(rng) < REMOVED && more.insert(unit.name.clone()) && base.can_remove(&more) {
            shape.removed = more;
        }
    }
    shape
}

fn train(
    model: &mut Classifier,
    world: &World,
    answers: &TeacherLogits,
    recipe: &Recipe,
) -> anyhow::Result<()> {
    let Dataset { train, normalisation, .. } = &world.dataset;
    let job = TrainingJob::new(train, normalisation, Some(answers), recipe);
    model.train(job, &mut |_, _| ControlFlow::Continue(()))?;
    Ok(())
}

/// The table: each rung's figures against the mean of the ends.
fn report(
    rungs: &[Rung],
    looks: &[Vec<Look>],
    ends: &[Vec<Look>],
    surrogates: &mut [Surrogate],
    networks: &[Network],
) {
    let end = |candidate: usize, figure: usize| {
        let all = &ends[candidate];
        all.iter().map(|look| look.figure(figure)).sum::<f64>() / all.len().max(1) as f64
    };
    println!("\nrank correlation with the mean of the ends [95 % interval]");
    println!("look\tits figure\tend's accuracy\tend's likelihood");
    for (place, rung) in rungs.iter().enumerate() {
        for (index, name) in FIGURES.iter().enumerate() {
            let pair = |of: usize, it: usize| (looks[it][place].figure(index), end(it, of));
            let against =
                |of: usize| correlation(&(0..looks.len()).map(|it| pair(of, it)).collect::<Vec<_>>());
            println!("{rung}\t{name}\t{}\t{}", against(0), against(2));
        }
        surrogates[place].fit(*rung, false);
        let expected: Vec<f64> = networks.iter().map(|it| surrogates[place].expected_of(it)).collect();
        let pair = |of: usize, it: usize| (expected[it], end(it, of));
        let against =
            |of: usize| correlation(&(0..expected.len()).map(|it| pair(of, it)).collect::<Vec<_>>());
        println!("{rung}\tfitted model\t{}\t{}", against(0), against(2));
    }
    if ends.iter().all(|it| it.len() >= 2) {
        let pair = |of: usize, it: &[Look]| (it[0].figure(of), it[1].figure(of));
        let again = |of: usize| correlation(&ends.iter().map(|it| pair(of, it)).collect::<Vec<_>>());
        println!("one end\twith another\t{}\t{}", again(0), again(2));
    }
}

/// With its interval.
fn correlation(pairs: &[(f64, f64)]) -> String {
    let mut rng = random::stream(0, "bootstrap");
    let mut drawn: Vec<f64> = (0..DRAWS)
        .filter_map(|_| {
            let pick = |_| pairs[(random::uniform(&mut rng) * pairs.len() as f64) as usize % pairs.len()];
            rank_correlation(&pairs.iter().map(pick).collect::<Vec<_>>())
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * drawn.len() as f64) as usize).copied().unwrap_or(f64::NAN);
    let whole = rank_correlation(pairs).unwrap_or(f64::NAN);
    format!("{whole:+.2} [{:+.2}, {:+.2}]", at(0.025), at(0.975))
}
