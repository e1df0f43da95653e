//! A small candidate as it travels, and what has to come back.

use n2n::model_io::onnx::{Filling, ModelInfo, write};
use n2n::model_io::{filled, reference};
use n2n::network::layer::Input;
use n2n::network::{Architecture, Network, fold, zoo};
use n2n_protocol::{Digest, Execution, InferPlan, MeasurePlan, Model, Place};

/// Values of one input.
pub const PIXELS: usize = 28 * 28;

const SEED: u64 = 7;

fn network() -> Network {
    let input = Input { channels: 1, height: 28, width: 28 };
    fold::folded(&zoo::build(Architecture::Vgg11, input, 10, 0.05).expect("a network of the zoo"))
}

/// The file, without weights.
pub fn model() -> Vec<u8> {
    let network = network();
    write(&network, Filling::Seed(SEED), &ModelInfo::untrained(&network)).expect("a model file")
}

/// A file with weights, as a student that ships: another one for each seed.
pub fn student(seed: u64) -> Vec<u8> {
    let network = network();
    let weights = filled(&network, seed);
    write(&network, Filling::Weights(&weights), &ModelInfo::untrained(&network)).expect("a model file")
}

/// What the reference forward pass makes of an input.
pub fn logits(input: &[f32]) -> Vec<f32> {
    logits_of(SEED, input)
}

/// The same with the weights of another seed.
pub fn logits_of(seed: u64, input: &[f32]) -> Vec<f32> {
    let network = network();
    reference::forward(&network, &filled(&network, seed), input).expect("logits")
}

/// How it runs.
pub fn execution() -> Execution {
    Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 }
}

/// A run for the answers, its inputs still to come.
pub fn answers(model: Digest) -> InferPlan {
    InferPlan {
        model: Model::onnx(model),
        place: Place::Store,
        execution: execution(),
        max_memory_bytes: 1 << 30,
        inputs: vec![],
    }
}

/// A short measurement.
pub fn plan(model: Digest) -> MeasurePlan {
    MeasurePlan {
        model: Model::onnx(model),
        place: Place::Store,
        execution: execution(),
        min_processes: 2,
        max_processes: 2,
        samples_per_process: 20,
        half_width_ppm: 20_000,
        time_budget_ms: 30_000,
        max_load_ms: 60_000,
        max_inference_ms: 5_000,
        max_memory_bytes: 1 << 30,
        golden: None,
        resident_memory: false,
    }
}

/// Whether two rows of logits are the same but for the order of their sums.
pub fn close(left: &[f32], right: &[f32]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(l, r)| (l - r).abs() <= 1e-4 * (1.0 + r.abs()))
}
