//! A GPU against the CPU: the same recipe must give the same model, up to rounding. Run by
//! `an_emulated_gpu_passes_every_training_test`, or on a real one by `N2N_TEST_GPU=1 cargo test -- --ignored a_gpu`.

use super::*;
use crate::training::kernels::Cuda;
use crate::training::kernels::tests::gpu;

fn cuda() -> Cuda {
    Cuda::new(gpu().expect("N2N_TEST_GPU is not set")).unwrap()
}

/// Trains on a backend and gives weights, logits and losses.
fn course<B: Backend>(
    backend: B,
    recipe: &Recipe,
    answers: Option<&TeacherLogits>,
) -> (Weights, Vec<f32>, Vec<f64>) {
    let network = network(8, 0.2);
    let mut model = Model::new(&network, &initial_weights(&network, 3), backend).unwrap();
    let mut losses = Vec::new();
    let mut samples = bars(100, 1);
    if answers.is_some() {
        samples.labels.iter_mut().step_by(3).for_each(|label| *label = UNLABELLED);
    }
    train(&mut model, TrainingJob::new(&samples, &normalisation(), answers, recipe), &mut |now, _| {
        losses.push(now.loss);
        ControlFlow::Continue(())
    })
    .unwrap();
    batch_norm::reestimate(&mut model, &bars(100, 1), &normalisation(), 100, 3).unwrap();
    let logits = Classify::logits(&model, &bars(300, 2), &normalisation()).unwrap();
    (model.weights().unwrap(), logits, losses)
}

fn assert_alike(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-2f32, |largest, value| largest.max(value.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() < 2e-3 * scale, "{what}: {got} {expected}");
    }
}

#[test]
#[ignore = "needs a GPU, real or emulated"]
fn a_gpu_trains_as_the_cpu_does() {
    let (teacher, _) = trained(3, None, &Recipe { length: Length::Steps(10), ..recipe() });
    let augmentation = recipe().augmentation;
    let answers =
        TeacherLogits::compute(&teacher, &bars(100, 1), &normalisation(), augmentation, 2, 5).unwrap();
    let methods = [
        Method::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-2 },
        Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 },
        Method::Adam { weight_decay: 1e-2 },
        Method::AdamW { weight_decay: 1e-1 },
    ];
    for (index, method) in methods.into_iter().enumerate() {
        let answers = (index % 2 == 0).then_some(&answers);
        // A last batch that is smaller than the others; few steps, since roundings grow.
        let recipe = Recipe {
            length: Length::Epochs(2),
            batch: 48,
            label_smoothing: 0.1,
            lambda: 0.5,
            learning_rate: if matches!(method, Method::Sgd { .. }) { 0.02 } else { 1e-3 },
            method,
            ..recipe()
        };
        let (weights, logits, losses) = course(ChannelsLast, &recipe, answers);
        let (gpu_weights, gpu_logits, gpu_losses) = course(cuda(), &recipe, answers);
        assert!(!losses.is_empty() && losses.len() == gpu_losses.len(), "{losses:?} {gpu_losses:?}");
        for (cpu, gpu) in losses.iter().zip(&gpu_losses) {
            assert!((cpu - gpu).abs() < 1e-3 * cpu.max(1.0), "{method:?}: {losses:?} {gpu_losses:?}");
        }
        assert!(weights.iter().map(|it| it.0).eq(gpu_weights.iter().map(|it| it.0)));
        for ((name, cpu), (_, gpu)) in weights.iter().zip(gpu_weights.iter()) {
            assert_eq!(cpu.dims, gpu.dims, "{name}");
            // A bias before a batch norm has no slope, and an optimiser that divides by it amplifies rounding: the bias moves,
            // and with it the running mean, which takes it off again.
            let free = matches!(name.rsplit('.').next(), Some("bias" | "running_mean"));
            if !free || matches!(method, Method::Sgd { .. }) {
                assert_alike(&format!("{method:?} {name}"), &gpu.values, &cpu.values);
            }
        }
        assert_alike(&format!("{method:?} logits"), &gpu_logits, &logits);
    }
}

#[test]
#[ignore = "needs a GPU, real or emulated"]
fn a_gpu_gives_the_same_bits_again_also_to_models_trained_at_once() {
    let recipe = Recipe { length: Length::Steps(4), ..recipe() };
    let run = |seed: u64| course(cuda(), &Recipe { seed, ..recipe.clone() }, None).0;
    let alone: Vec<Weights> = (0..3).map(run).collect();
    let at_once: Vec<Weights> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..3).map(|seed| scope.spawn(move || run(seed))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(alone == at_once);
    assert!(alone[0] != alone[1], "the seed does nothing");
}

#[test]
#[ignore = "needs a GPU, real or emulated"]
fn a_gpu_goes_on_from_the_state_of_an_interrupted_training() {
    let momentum = Method::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-2 };
    for method in [momentum, Method::AdamW { weight_decay: 1e-1 }] {
        let [whole, resumed] = whole_and_resumed(&cuda(), method, 3);
        assert!(whole == resumed, "{method:?}");
    }
}

#[test]
#[ignore = "needs a GPU, real or emulated"]
fn a_gpus_zoo_networks_give_the_logits_of_the_reference_forward_pass() {
    for architecture in [Architecture::Vgg11, Architecture::Resnet10] {
        zoo_network_matches(architecture, cuda());
    }
}

#[test]
#[ignore = "needs a GPU, real or emulated"]
fn a_gpu_refuses_what_does_not_fit() {
    let backend = cuda();
    let samples = bars(4, 1);
    let normalisation = normalisation();
    let source = backend.source(source(&samples, &normalisation).unwrap()).unwrap();
    let error = backend.batch(&source, &[Pick::of(4, View::PLAIN)]).unwrap_err();
    assert!(error.to_string().starts_with("image index: expected below 4, got 4"), "{error}");
    let x = backend.tensor(vec![0.0; 12], &[1, 2, 2, 3]).unwrap();
    let y = backend.tensor(vec![0.0; 12], &[1, 2, 3, 2]).unwrap();
    let error = backend.add(&x, &y, None).unwrap_err();
    assert!(error.to_string().starts_with("add: expected [1, 2, 2, 3], got [1, 2, 3, 2]"), "{error}");
    let weight = backend.tensor(vec![0.0; 8 * 9 * 2], &[8, 3, 3, 2]).unwrap();
    let conv =
        Conv { in_channels: 3, out_channels: 8, kernel: 3, stride: 1, padding: 0, groups: 1, bias: false };
    let error = backend.convolution(&x, &weight, None, &conv, None).unwrap_err();
    assert!(
        error.to_string().starts_with("convolution weight: expected [8, 3, 3, 3], got [8, 3, 3, 2]"),
        "{error}"
    );
    assert!(backend.tensor(Vec::new(), &[0]).is_err());
}

#[test]
#[ignore = "needs a GPU, real or emulated"]
fn a_gpu_whose_memory_is_full_says_so_and_works_on() {
    let backend = cuda();
    // More at once than the emulated GPU has, so that no other test meets a full one.
    let values = 160 << 20;
    let mut held = Vec::new();
    let error = loop {
        match backend.tensor(vec![1.0; values], &[values]) {
            Ok(tensor) => held.push(tensor),
            Err(error) => break TrainingError::from(error),
        }
    };
    assert!(error.is_out_of_gpu_memory(), "{error}");
    drop(held);
    assert!(backend.tensor(vec![1.0; 100], &[100]).is_ok());
    let other = backend.tensor(Vec::new(), &[0]).err().map(TrainingError::from).unwrap();
    assert!(!other.is_out_of_gpu_memory(), "{other}");
}
