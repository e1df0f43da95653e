//! The trainer as a whole: gradients of a whole network, learning, distillation, statistics, determinism.

use std::ops::ControlFlow;
use std::time::Duration;

use candle_core::Tensor;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::batches::{Pick, View, source};
use super::evaluation::{Classify, evaluate, predictions};
use super::inheritance::initial_weights;
use super::kernels::loss::{Target, loss};
use super::kernels::tests::stock::Stock;
use super::kernels::{Backend, ChannelsLast, Kernels};
use super::model::{Mode, Model};
use super::optimiser::Method;
use super::recipe::Length;
use super::schedule::Schedule;
use super::trainer::train;
use super::*;
use crate::data::{Normalisation, Samples, UNLABELLED};
use crate::model_io::{Weights, reference};
use crate::network::layer::{Activation, BatchNorm, Conv, Dropout, Input, Layer, Linear, Pool};
use crate::network::zoo::{Architecture, build};
use crate::network::{Network, Node};

mod gpu;

const SIZE: usize = 8;
const CLASSES: usize = 4;

fn convolution(in_channels: usize, out_channels: usize, stride: usize, bias: bool) -> Layer {
    Layer::Conv(Conv { in_channels, out_channels, kernel: 3, stride, padding: 1, groups: 1, bias })
}

/// A chain with one residual block, both kinds of head and every layer that a zoo network has.
fn network(width: usize, dropout: f64) -> Network {
    let norm = |channels| Layer::BatchNorm(BatchNorm { channels, epsilon: 1e-5 });
    let relu = || Layer::Activation(Activation::Relu);
    let image = Input { channels: 2, height: SIZE, width: SIZE };
    let layers: Vec<(&str, Layer, Vec<usize>)> = vec![
        ("input", Layer::Input(image), vec![]),
        ("stem", convolution(2, width, 1, true), vec![0]),
        ("stem_norm", norm(width), vec![1]),
        ("stem_relu", relu(), vec![2]),
        ("pool", Layer::MaxPool(Pool { kernel: 2, stride: 2, padding: 0 }), vec![3]),
        ("conv1", convolution(width, width, 1, false), vec![4]),
        ("norm1", norm(width), vec![5]),
        ("relu1", relu(), vec![6]),
        ("conv2", convolution(width, width, 1, false), vec![7]),
        ("norm2", norm(width), vec![8]),
        ("add", Layer::Add, vec![9, 4]),
        ("relu2", relu(), vec![10]),
        ("mean", Layer::AveragePool(Pool { kernel: 2, stride: 2, padding: 0 }), vec![11]),
        ("flatten", Layer::Flatten, vec![12]),
        ("dropout", Layer::Dropout(Dropout { probability: dropout }), vec![13]),
        (
            "linear",
            Layer::Linear(Linear {
                in_features: width * SIZE / 4 * SIZE / 4,
                out_features: CLASSES,
                bias: true,
            }),
            vec![14],
        ),
        ("softmax", Layer::Softmax, vec![15]),
    ];
    let nodes = layers.into_iter().map(|(name, layer, inputs)| Node { name: name.into(), layer, inputs });
    Network::new(nodes.collect()).unwrap()
}

/// Noisy bars: the class is whether the bar lies or stands, and in which of two colours. Its place varies, so no single
/// pixel tells.
fn bars(count: usize, seed: u64) -> Samples {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut samples = Samples { channels: 2, height: SIZE, width: SIZE, ..Samples::default() };
    let mut pixels = Vec::new();
    for index in 0..count {
        let (standing, colour) = (index % 2, index / 2 % 2);
        let place = generator.random_range(1..SIZE - 1);
        for channel in 0..2 {
            for row in 0..SIZE {
                for column in 0..SIZE {
                    let on = (if standing == 1 { column } else { row }) == place && channel == colour;
                    let noise: u8 = generator.random_range(0..110);
                    pixels.push(if on { 90 + noise } else { noise });
                }
            }
        }
        samples.labels.push((standing * 2 + colour) as u16);
    }
    samples.pixels = pixels.into();
    samples
}

fn normalisation() -> Normalisation {
    Normalisation { mean: vec![0.25; 2], deviation: vec![0.2; 2] }
}

fn recipe() -> Recipe {
    Recipe {
        length: Length::Epochs(6),
        batch: 32,
        augmentation: Augmentation { padding: 1, flip: true },
        seed: 11,
        ..Recipe::teacher()
    }
}

fn quiet<K: Kernels>(_: &TrainProgress, _: &Model<K>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn trained(
    seed: u64,
    teacher: Option<&TeacherLogits>,
    recipe: &Recipe,
) -> (Model<ChannelsLast>, TrainSummary) {
    let network = network(8, 0.0);
    let mut model = Model::new(&network, &initial_weights(&network, seed), ChannelsLast).unwrap();
    let summary =
        train(&mut model, TrainingJob::new(&bars(512, 1), &normalisation(), teacher, recipe), &mut quiet)
            .unwrap();
    (model, summary)
}

#[test]
fn a_tiny_network_learns_what_no_single_pixel_tells() {
    let (model, summary) = trained(3, None, &recipe());
    let accuracy = evaluate(&model, &bars(400, 2), &normalisation()).unwrap();
    assert!(accuracy.fraction() > 0.9, "{accuracy}, {summary:?}");
    assert_eq!((summary.steps, summary.images), (96, 96 * 32));
    assert_eq!(summary.distillation, 0.0);
}

#[test]
fn the_same_seed_gives_the_same_bits_whatever_the_number_of_threads() {
    let recipe = Recipe { length: Length::Steps(6), ..recipe() };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| trained(3, None, &recipe).0.weights().unwrap())
    };
    let first = run(2);
    assert!(first == run(2));
    assert!(first == run(1));
    assert!(first == run(3));
    let other = trained(3, None, &Recipe { seed: 12, ..recipe.clone() }).0.weights().unwrap();
    assert!(first != other, "the seed does nothing");
}

/// As the candidates of an update are trained: tasks of the pool that their kernels use too.
#[test]
fn trainings_at_once_in_one_pool_give_what_they_give_alone() {
    use rayon::prelude::*;
    let run = |seed: u64| {
        let recipe = Recipe { length: Length::Steps(4), seed, ..recipe() };
        trained(seed, None, &recipe).0.weights().unwrap()
    };
    let alone: Vec<_> = (0..5).map(run).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let at_once: Vec<_> =
        pool.install(|| vec![0, 1, 2, 3, 4].into_par_iter().with_max_len(1).map(run).collect());
    assert!(alone == at_once);
    assert!(alone[0] != alone[1], "the seed does nothing");
}

#[test]
fn distillation_brings_the_logits_to_the_teachers() {
    let (teacher, _) = trained(3, None, &recipe());
    let samples = bars(512, 1);
    let distilling = Recipe {
        length: Length::Epochs(8),
        method: Method::AdamW { weight_decay: 0.0 },
        learning_rate: 1e-2,
        lambda: 1.0,
        ..recipe()
    };
    let answers =
        TeacherLogits::compute(&teacher, &samples, &normalisation(), distilling.augmentation, 2, 5).unwrap();
    assert_eq!((answers.views(), answers.images(), answers.classes()), (2, 512, CLASSES));
    let test = bars(200, 9);
    let of_teacher = Classify::logits(&teacher, &test, &normalisation()).unwrap();
    let distance = |model: &dyn Classify| -> f64 {
        let of_model = model.logits(&test, &normalisation()).unwrap();
        assert_eq!(of_model.len(), of_teacher.len());
        let squares = of_model.iter().zip(&of_teacher).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>() / of_teacher.len() as f64
    };
    let network = network(8, 0.0);
    let before = distance(&Model::new(&network, &initial_weights(&network, 4), ChannelsLast).unwrap());
    let (with, summary) = trained(4, Some(&answers), &distilling);
    let (without, _) = trained(4, None, &distilling);
    let (with, without) = (distance(&with), distance(&without));
    assert!(with < 0.3 * before && with < 0.5 * without, "{before} {with} {without} {summary:?}");
}

#[test]
fn teacher_logits_are_the_logits_of_the_very_view() {
    let (teacher, _) = trained(3, None, &Recipe { length: Length::Steps(3), ..recipe() });
    let (samples, augmentation) = (bars(20, 4), Augmentation { padding: 2, flip: true });
    let answers = TeacherLogits::compute(&teacher, &samples, &normalisation(), augmentation, 3, 77).unwrap();
    let image = map(&samples, &[Pick::of(13, answers.view(13, 2))]);
    let direct = teacher.logits(&image).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(answers.of(13, 2), direct);
    assert_ne!(answers.of(13, 1), answers.of(13, 2));

    let mut student = trained(5, None, &Recipe { length: Length::Steps(1), ..recipe() }).0;
    let error = train(
        &mut student,
        TrainingJob::new(&samples, &normalisation(), Some(&answers), &recipe()),
        &mut quiet,
    )
    .unwrap_err();
    assert!(matches!(error, TrainingError::Mismatch { what: "augmentation", .. }), "{error}");
    let error = train(
        &mut student,
        TrainingJob::new(&bars(21, 4), &normalisation(), Some(&answers), &recipe()),
        &mut quiet,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "teacher logits: expected 21 images of 4 classes, got 20 of 4");
}

#[test]
fn images_without_labels_are_learned_by_the_teachers_answers_alone() {
    let (teacher, _) = trained(3, None, &recipe());
    let unlabelled = Samples { labels: vec![UNLABELLED; 512], ..bars(512, 21) };
    let distilling = Recipe { length: Length::Epochs(8), lambda: 1.0, ..recipe() };
    let answers =
        TeacherLogits::compute(&teacher, &unlabelled, &normalisation(), distilling.augmentation, 2, 5)
            .unwrap();
    let network = network(8, 0.0);
    let mut student = Model::new(&network, &initial_weights(&network, 4), ChannelsLast).unwrap();
    let normalisation = normalisation();
    let job = TrainingJob::new(&unlabelled, &normalisation, Some(&answers), &distilling);
    let summary = train(&mut student, job, &mut quiet).unwrap();
    assert!(summary.cross_entropy == 0.0 && summary.distillation > 0.0, "{summary:?}");
    let accuracy = evaluate(&student, &bars(400, 2), &normalisation).unwrap();
    assert!(accuracy.fraction() > 0.8, "{accuracy}, {summary:?}");
    let job = TrainingJob::new(&unlabelled, &normalisation, None, &distilling);
    let error = train(&mut student, job, &mut quiet).unwrap_err();
    assert_eq!(error.to_string(), "label: expected below the network's 4 classes, got 65535");
}

/// Picked images as the CPU's kernels want them.
fn map(samples: &Samples, picks: &[Pick]) -> Tensor {
    ChannelsLast.batch(&source(samples, &normalisation()).unwrap(), picks).unwrap().images
}

fn plain(count: usize) -> Vec<Pick> {
    (0..count).map(|image| Pick::of(image, View::PLAIN)).collect()
}

fn images(count: usize) -> Tensor {
    map(&bars(count, 6), &plain(count))
}

/// What candle's own convolution makes of a map.
fn stem(model: &Model<ChannelsLast>, map: &Tensor) -> Tensor {
    ChannelsLast.map_to_nchw(map).unwrap().conv2d(&model.variables()[0].tensor, 1, 1, 1, 1).unwrap()
}

#[test]
fn running_statistics_follow_the_batches_as_in_pytorch() {
    let network = network(4, 0.0);
    let mut model = Model::new(&network, &initial_weights(&network, 1), ChannelsLast).unwrap();
    let x = images(16);
    model.forward(&x, Mode::Train).unwrap();
    let after = model.weights().unwrap();
    // The stem's output, from candle's own convolution.
    let stem = stem(&model, &x);
    let rows: Vec<Vec<f32>> =
        stem.transpose(0, 1).unwrap().contiguous().unwrap().reshape((4, ())).unwrap().to_vec2().unwrap();
    for (channel, row) in rows.iter().enumerate() {
        let mean = row.iter().map(|&value| f64::from(value)).sum::<f64>() / row.len() as f64;
        let squares = row.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
        let unbiased = squares / (row.len() - 1) as f64;
        let got = |name: &str| f64::from(after.get(name).unwrap().values[channel]);
        assert!((got("stem_norm.running_mean") - 0.1 * mean).abs() < 1e-5);
        assert!((got("stem_norm.running_var") - (0.9 + 0.1 * unbiased)).abs() < 1e-5 * unbiased.max(1.0));
    }
    model.freeze_batch_norm(true);
    model.forward(&x, Mode::Train).unwrap();
    model.forward(&x, Mode::Evaluate).unwrap();
    assert!(after == model.weights().unwrap(), "frozen statistics and evaluation change nothing");
}

#[test]
fn reestimation_replaces_statistics_by_the_mean_over_batches() {
    let network = network(4, 0.0);
    let mut spoiled = initial_weights(&network, 1);
    spoiled.insert("stem_norm.running_mean", vec![4], vec![50.0; 4]);
    let samples = bars(256, 8);
    let mut model = Model::new(&network, &spoiled, ChannelsLast).unwrap();
    batch_norm::reestimate(&mut model, &samples, &normalisation(), 256, 3).unwrap();
    let got = model.weights().unwrap();
    let x = map(&samples, &plain(256));
    let stem = stem(&model, &x);
    let means = stem.mean((0, 2, 3)).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(means.len(), 4);
    for (got, expected) in got.get("stem_norm.running_mean").unwrap().values.iter().zip(means) {
        assert!((got - expected).abs() < 1e-4, "{got} {expected}");
    }
    let spoiled = spoiled.get("stem.weight").unwrap().clone();
    assert_eq!(got.get("stem.weight").unwrap(), &spoiled, "weights are left alone");
}

/// Loss of one training forward pass, and its gradients.
fn gradients<K: Kernels<Tensor = Tensor>>(
    model: &mut Model<K>,
    x: &Tensor,
    labels: &[u16],
) -> (f64, Vec<Option<Tensor>>) {
    let (logits, tape) = model.forward_train(x).unwrap();
    let target = Target { labels, label_smoothing: 0.0, teacher: None };
    let kernels = model.kernels();
    let loss = loss(&kernels.values(&logits).unwrap(), CLASSES, target).unwrap();
    let gradient = kernels.tensor(loss.gradient, &[labels.len(), CLASSES]).unwrap();
    (loss.total, model.backward(tape, &gradient).unwrap())
}

#[test]
fn gradients_of_a_whole_network_match_candles_operations_and_differences() {
    let network = network(6, 0.0);
    let start = initial_weights(&network, 2);
    let (x, labels) = (images(6), bars(6, 6).labels);
    let mut ours = Model::new(&network, &start, ChannelsLast).unwrap();
    let mut stock = Model::new(&network, &start, Stock).unwrap();
    let (loss, ours_gradients) = gradients(&mut ours, &x, &labels);
    let nchw = ChannelsLast.map_to_nchw(&x).unwrap();
    let (stock_loss, stock_gradients) = gradients(&mut stock, &nchw, &labels);
    assert!((loss - stock_loss).abs() < 1e-5);
    for (index, variable) in ours.variables().iter().enumerate() {
        let [a, b] = [&ours_gradients, &stock_gradients].map(|gradients| {
            gradients[index]
                .as_ref()
                .expect("every variable has a gradient")
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        });
        // A bias before a batch norm has no slope: what is left is rounding.
        let scale = b.iter().fold(1e-2f32, |largest, value| largest.max(value.abs()));
        assert_eq!(a.len(), b.len(), "{}", variable.name);
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-4 * scale, "{}: {a} {b}", variable.name);
        }
    }
    let evaluated = [ours.logits(&x).unwrap(), stock.logits(&nchw).unwrap()]
        .map(|logits| logits.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert_eq!([evaluated[0].len(), evaluated[1].len()], [6 * CLASSES; 2]);
    for (a, b) in evaluated[0].iter().zip(&evaluated[1]) {
        assert!((a - b).abs() < 1e-4);
    }
    // Along the whole gradient at once, the f32 loss has digits enough for a difference.
    let squares: f64 = ours_gradients
        .iter()
        .flatten()
        .map(|gradient| f64::from(gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()))
        .sum();
    let step = 1e-3 / squares.sqrt();
    let moved_loss = |direction: f64| {
        let mut moved = start.clone();
        for (variable, gradient) in ours.variables().iter().zip(&ours_gradients) {
            let along = (gradient.as_ref().unwrap() * (direction * step)).unwrap();
            let values = (&variable.tensor + along).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            moved.insert(&variable.name, variable.tensor.dims().to_vec(), values);
        }
        let mut model = Model::new(&network, &moved, ChannelsLast).unwrap();
        gradients(&mut model, &x, &labels).0
    };
    let slope = (moved_loss(1.0) - moved_loss(-1.0)) / (2.0 * step);
    assert!((slope - squares).abs() < 0.02 * squares, "{slope} {squares}");
}

#[test]
fn evaluation_folds_batch_norm_without_changing_logits() {
    // A trained model has running statistics, scales and shifts of its own.
    let (model, _) = trained(3, None, &Recipe { length: Length::Steps(10), ..recipe() });
    let x = images(5);
    let folded = model.logits(&x).unwrap().to_vec2::<f32>().unwrap();
    // Frozen training mode runs convolution and norm apart.
    let mut apart = Model::new(model.network(), &model.weights().unwrap(), ChannelsLast).unwrap();
    apart.freeze_batch_norm(true);
    let apart = apart.forward(&x, Mode::Train).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!((folded.len(), folded[0].len()), (5, CLASSES));
    assert_eq!((apart.len(), apart[0].len()), (5, CLASSES));
    for (a, b) in folded.iter().flatten().zip(apart.iter().flatten()) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn dropout_zeroes_its_share_while_training_only() {
    let network = network(8, 0.5);
    let start = initial_weights(&network, 2);
    let x = images(4);
    let run = |seed: u64| {
        let mut model = Model::new(&network, &start, ChannelsLast).unwrap();
        model.seed_dropout(seed, 0);
        model.forward(&x, Mode::Train).unwrap().to_vec2::<f32>().unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let mut model = Model::new(&network, &start, ChannelsLast).unwrap();
    let first = model.forward(&x, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(first, model.forward(&x, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap());
    // The mean over masks is the activation: its gradient reaches what the mask kept, doubled.
    let (_, all) = gradients(&mut model, &x, &[0, 1, 2, 3]);
    let linear = all[all.len() - 2].as_ref().unwrap().to_vec2::<f32>().unwrap();
    let zeros = linear[0].iter().filter(|&&value| value == 0.0).count();
    assert!(zeros < linear[0].len(), "some inputs are kept");
}

#[test]
fn a_break_cancels_and_a_mad_rate_is_found_out() {
    let network = network(4, 0.0);
    let mut model = Model::new(&network, &initial_weights(&network, 1), ChannelsLast).unwrap();
    let mut seen = 0;
    let error = train(
        &mut model,
        TrainingJob::new(&bars(64, 1), &normalisation(), None, &recipe()),
        &mut |progress, _| {
            seen = progress.step;
            if progress.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )
    .unwrap_err();
    assert!(matches!(error, TrainingError::Cancelled { step: 3 }) && seen == 3, "{error}");

    let mad = Recipe {
        learning_rate: 1e30,
        schedule: Schedule::Constant,
        method: Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        ..recipe()
    };
    let error = train(&mut model, TrainingJob::new(&bars(64, 1), &normalisation(), None, &mad), &mut quiet)
        .unwrap_err();
    assert!(matches!(error, TrainingError::Diverged { .. }), "{error}");
}

#[test]
fn what_does_not_fit_is_named() {
    let network = network(4, 0.0);
    let mut model = Model::new(&network, &initial_weights(&network, 1), ChannelsLast).unwrap();
    let mut samples = bars(64, 1);
    samples.labels[5] = 4;
    let error = train(&mut model, TrainingJob::new(&samples, &normalisation(), None, &recipe()), &mut quiet)
        .unwrap_err();
    assert_eq!(error.to_string(), "label: expected below the network's 4 classes, got 4");
    let small = Samples { height: 4, width: 4, channels: 2, pixels: vec![0; 32].into(), labels: vec![0] };
    let error = predictions(&model, &small, &normalisation()).unwrap_err();
    assert_eq!(error.to_string(), "images: expected [N, [2, 8, 8]], got [1, 2, 4, 4]");
    let mut short = initial_weights(&network, 1);
    short.insert("stem.bias", vec![3], vec![0.0; 3]);
    assert!(matches!(Model::new(&network, &short, ChannelsLast), Err(TrainingError::Weights(_))));
}

#[test]
fn zoo_networks_give_the_logits_of_the_reference_forward_pass() {
    for architecture in [Architecture::Vgg11, Architecture::Resnet10] {
        zoo_network_matches(architecture, ChannelsLast);
    }
}

fn zoo_network_matches<K: Kernels>(architecture: Architecture, kernels: K) {
    let image = Input { channels: 3, height: 16, width: 16 };
    let network = build(architecture, image, 5, 0.07).unwrap();
    let mut model = Model::new(&network, &initial_weights(&network, 4), kernels).unwrap();
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let pixels: Vec<f32> = (0..8 * 3 * 256).map(|_| generator.random_range(-1.0..1.0)).collect();
    let x = model.kernels().tensor(pixels.clone(), &[8, 3, 16, 16]).unwrap();
    let x = model.kernels().map_from_nchw(&x).unwrap();
    // A training pass first, so that the running statistics are not the initial ones.
    model.forward(&x, Mode::Train).unwrap();
    let trained = model.weights().unwrap();
    let logits = model.kernels().values(&model.logits(&x).unwrap()).unwrap();
    assert_eq!(logits.len(), 8 * 5);
    for (row, image) in logits.chunks(5).zip(pixels.chunks(3 * 256)) {
        let expected = reference::forward(&network, &trained, image).unwrap();
        let largest = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        for (got, expected) in row.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-4 * largest, "{architecture}: {got} {expected}");
        }
    }
}

#[test]
fn a_model_can_be_trained_on_any_thread() {
    fn sent<T: Send + Sync>() {}
    sent::<Classifier>();
    sent::<TeacherLogits>();
    sent::<TrainingError>();
}

/// The weights of a training that went to its end, and of one that went on from its state after `stop` of its 4 steps.
fn whole_and_resumed<B: Backend>(backend: &B, method: Method, stop: usize) -> [Weights; 2] {
    let (samples, normalisation, network) = (bars(100, 1), normalisation(), network(8, 0.2));
    let recipe = Recipe { length: Length::Epochs(2), batch: 40, method, ..recipe() };
    let course = |from: Option<TrainingState>, stop: usize| {
        let mut model = Model::new(&network, &initial_weights(&network, 3), backend.clone()).unwrap();
        let mut kept = None;
        let mut keep = |state: &TrainingState| kept = Some(state.clone());
        let job = TrainingJob {
            checkpoints: Some(Checkpoints { from, interval: Duration::MAX, keep: &mut keep }),
            ..TrainingJob::new(&samples, &normalisation, None, &recipe)
        };
        let ended = train(&mut model, job, &mut |now, _| {
            if now.step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(ended.is_err(), stop < usize::MAX);
        (model.weights().unwrap(), kept)
    };
    let (_, state) = course(None, stop);
    assert!(state.is_some(), "an interruption keeps the state at once");
    [course(None, usize::MAX).0, course(state, usize::MAX).0]
}

#[test]
fn an_interrupted_training_draws_the_dropout_masks_that_are_left() {
    for stop in 1..=3 {
        let [whole, resumed] = whole_and_resumed(&ChannelsLast, Method::Adam { weight_decay: 1e-2 }, stop);
        assert!(whole == resumed, "interrupted after {stop} steps");
    }
}
