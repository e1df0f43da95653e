//! Real measurements of small models in real worker processes.

#[path = "../src/test_models.rs"]
mod test_models;

use n2n_agent::infer::infer;
use n2n_agent::measure::measure;
use n2n_agent::prepare::prepare;
use n2n_agent::{Cancel, WorkerCommand};
use n2n_protocol::{
    Digest, Execution, Failure, Golden, Infeasible, InferPlan, MeasurePlan, Measurement, Model, Place,
    PreparePlan, Prepared, Progress, Unknown, generator,
};
use prost::Message;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use test_models::{Weights, by_hand, by_hand_logits, conv_net, conv_net_at};
use tract_onnx::pb::ModelProto;

const MIB: u64 = 1 << 20;

fn worker() -> WorkerCommand {
    WorkerCommand { program: env!("CARGO_BIN_EXE_n2n-agent").into(), prefix: vec!["worker".into()] }
}

fn file(model: &ModelProto) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&model.encode_to_vec()).unwrap();
    file
}

fn execution() -> Execution {
    Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 }
}

fn plan() -> MeasurePlan {
    MeasurePlan {
        model: Model::onnx(Digest([7; 32])),
        place: Place::Store,
        execution: execution(),
        min_processes: 2,
        max_processes: 2,
        samples_per_process: 30,
        half_width_ppm: 20_000,
        time_budget_ms: 30_000,
        max_load_ms: 60_000,
        max_inference_ms: 10_000,
        max_memory_bytes: 256 * MIB,
        golden: None,
        resident_memory: false,
    }
}

async fn measured(plan: &MeasurePlan, model: &Path) -> Result<Measurement, Failure> {
    measure(plan, model, &worker(), &|_| {}, &Cancel::never()).await
}

async fn inferred(model: &Path, inputs: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, Failure> {
    let bytes =
        |input: Vec<f32>| input.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
    let plan = InferPlan {
        model: Model::onnx(Digest([7; 32])),
        place: Place::Store,
        execution: execution(),
        max_memory_bytes: 256 * MIB,
        inputs: inputs.into_iter().map(bytes).collect(),
    };
    infer(&plan, model, &worker(), &Cancel::never()).await
}

#[tokio::test]
async fn a_small_model_is_measured_whole() {
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { resident_memory: true, ..plan() };
    let found = measured(&plan, model.path()).await.unwrap();

    assert_eq!(found.engine.name, "tract");
    assert_eq!(found.samples_ns.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30]);
    assert!(found.warmup.iter().all(|&inferences| inferences >= 10), "{:?}", found.warmup);
    assert_eq!(found.load_ms.len(), 2);
    assert!(found.load_ms.iter().all(|&ms| (1..30_000).contains(&ms)), "{:?}", found.load_ms);
    assert!(!found.budget_ended && found.latency.interval.is_none() && found.latency.p99_ns.is_none());
    // 28 M multiply-adds: no core does that in 100 us, and none takes a second.
    let median_ns = found.latency.median_ns;
    assert!((1_000..1_000_000_000).contains(&median_ns), "{median_ns} ns");
    assert!(found.latency.min_ns <= median_ns);

    let memory = found.memory;
    let (peak, steady) = (memory.peak_heap.unwrap(), memory.steady_heap.unwrap());
    assert!(steady <= peak && (2 * 16 * 32 * 32..64 * MIB).contains(&peak), "{steady} of {peak}");
    let (rss, engine) = (memory.peak_rss.unwrap(), memory.engine_baseline.unwrap());
    assert!(rss > engine && engine > MIB);
    assert_eq!(memory.model_memory, Some(rss - engine));
    assert_eq!(memory.file_bytes, model.as_file().metadata().unwrap().len());
}

#[tokio::test]
async fn logits_are_those_by_hand_and_a_file_without_weights_answers_like_the_filled_one() {
    let model = file(&by_hand());
    let inputs = [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]];
    let rows = inferred(model.path(), inputs.map(Vec::from).to_vec()).await.unwrap();
    assert_eq!(rows, inputs.map(by_hand_logits));

    let input = vec![generator::input(3, 3 * 8 * 8)];
    let empty = inferred(file(&conv_net(3, 8, 4, &Weights::Seed(9))).path(), input.clone()).await.unwrap();
    let filled =
        inferred(file(&conv_net(3, 8, 4, &Weights::GeneratedFrom(9))).path(), input.clone()).await.unwrap();
    assert_eq!(empty, filled);
    let other = inferred(file(&conv_net(3, 8, 4, &Weights::Seed(10))).path(), input).await.unwrap();
    assert_ne!(empty, other);
}

#[tokio::test]
async fn eight_processes_give_an_interval_and_five_hundred_samples_a_p99() {
    let model = file(&by_hand());
    let plan = MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 70, ..plan() };
    let found = measured(&plan, model.path()).await.unwrap();
    let interval = found.latency.interval.unwrap();
    assert_eq!((interval.low_rank, interval.high_rank, interval.coverage_ppm), (1, 8, 992_187));
    assert!(interval.low_ns <= found.latency.median_ns && found.latency.median_ns <= interval.high_ns);
    assert!(found.latency.p99_ns.unwrap() >= found.latency.p90_ns);
    // A 2x2 image through one kernel: a microsecond or so, too short for a single reading of the clock.
    assert!(found.inferences_per_sample >= 1);
}

#[tokio::test]
async fn the_answer_is_checked_before_the_time_counts() {
    let model = file(&conv_net(3, 8, 4, &Weights::Seed(9)));
    let logits = inferred(model.path(), vec![generator::input(5, 3 * 8 * 8)]).await.unwrap().remove(0);
    let golden = Golden { input_seed: 5, logits, tolerance: 1e-6 };
    let right = MeasurePlan { golden: Some(golden.clone()), ..plan() };
    assert_eq!(measured(&right, model.path()).await.unwrap().golden_difference, Some(0.0));

    let wrong = MeasurePlan { golden: Some(Golden { input_seed: 6, ..golden }), ..plan() };
    let unknown = measured(&wrong, model.path()).await;
    assert!(
        matches!(&unknown, Err(Failure::Unknown(Unknown::WrongAnswer(why))) if why.contains("differs")),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn what_does_not_fit_in_memory_is_infeasible() {
    let limit = 24 * MIB;
    let out_of_memory = Err(Failure::Infeasible(Infeasible::OutOfMemory { limit_bytes: limit }));
    let plan = MeasurePlan { max_memory_bytes: limit, ..plan() };
    // Weights alone above the limit: known before anything is allocated.
    let huge = file(&conv_net(1024, 4096, 10, &Weights::Seed(1)));
    assert_eq!(measured(&plan, huge.path()).await, out_of_memory);
    // Weights fit (9 MiB), but not the engine's copies of them.
    let copies = file(&conv_net(512, 512, 10, &Weights::GeneratedFrom(1)));
    assert_eq!(measured(&plan, copies.path()).await, out_of_memory);
    // Not even its bytes can be read.
    let tight = MeasurePlan { max_memory_bytes: 10 * MIB, ..plan.clone() };
    let result = measured(&tight, copies.path()).await;
    assert!(matches!(result, Err(Failure::Infeasible(Infeasible::OutOfMemory { .. }))), "{result:?}");
    // Weights are nothing, but activations are 64 MiB.
    let activations = file(&conv_net_at(512, 3, 64, 10, &Weights::Seed(1)));
    assert_eq!(measured(&plan, activations.path()).await, out_of_memory);
    let roomy = MeasurePlan { max_memory_bytes: 512 * MIB, samples_per_process: 2, ..plan.clone() };
    let found = measured(&roomy, activations.path()).await.unwrap();
    assert!(found.memory.peak_heap.unwrap() > 64 * MIB);
}

#[tokio::test]
async fn what_is_too_slow_is_infeasible_and_found_out_soon() {
    // 604 M multiply-adds: tens of milliseconds.
    let model = file(&conv_net_at(64, 128, 128, 10, &Weights::Seed(1)));
    let begun = Instant::now();
    let result = measured(&MeasurePlan { max_inference_ms: 1, ..plan() }, model.path()).await;
    assert_eq!(result, Err(Failure::Infeasible(Infeasible::TooSlow { limit_ms: 1 })));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn what_the_engine_cannot_do_is_unknown_and_a_damaged_file_a_failure() {
    let mut nonsense = conv_net(3, 8, 4, &Weights::Seed(1));
    nonsense.graph.as_mut().unwrap().node[0].op_type = "Sorcery".into();
    let result = measured(&plan(), file(&nonsense).path()).await;
    assert!(
        matches!(&result, Err(Failure::Unknown(Unknown::Unsupported(why))) if why.contains("Sorcery")),
        "{result:?}"
    );
    // tract panics on it.
    let mut dangling = conv_net(3, 8, 4, &Weights::Seed(1));
    dangling.graph.as_mut().unwrap().output[0].name = "nowhere".into();
    let result = measured(&plan(), file(&dangling).path()).await;
    assert!(matches!(result, Err(Failure::Unknown(Unknown::Crashed(_)))), "{result:?}");

    let elsewhere = Execution { engine: "sorcery".into(), ..execution() };
    let result = measured(&MeasurePlan { execution: elsewhere, ..plan() }, file(&by_hand()).path()).await;
    assert_eq!(result, Err(Failure::Unknown(Unknown::EngineMissing("sorcery".into()))));

    let mut garbage = tempfile::NamedTempFile::new().unwrap();
    garbage.write_all(&[0xA5; 1000]).unwrap();
    let result = measured(&plan(), garbage.path()).await;
    assert!(
        matches!(&result, Err(Failure::Failed(why)) if why.contains("not a usable ONNX file")),
        "{result:?}"
    );
}

#[tokio::test]
async fn inputs_of_another_size_are_refused_with_both_sizes() {
    let model = file(&by_hand());
    let result = inferred(model.path(), vec![vec![1.0; 3]]).await;
    assert!(
        matches!(&result, Err(Failure::Refused(why)) if why.contains("16 bytes") && why.contains("got 12")),
        "{result:?}"
    );
}

#[tokio::test]
async fn an_engine_that_prepares_nothing_says_so_of_a_model_that_can_be_read() {
    let plan = PreparePlan {
        model: Model::onnx(Digest([7; 32])),
        execution: execution(),
        time_budget_ms: 30_000,
        max_memory_bytes: 256 * MIB,
    };
    let prepared = async |path: &Path| prepare(&plan, path, &worker(), &Cancel::never()).await;
    let answer = prepared(file(&by_hand()).path()).await;
    assert!(matches!(answer, Ok(Prepared { cached: true, .. })), "{answer:?}");
    let mut garbage = tempfile::NamedTempFile::new().unwrap();
    garbage.write_all(&[0xA5; 1000]).unwrap();
    assert!(matches!(prepared(garbage.path()).await, Err(Failure::Failed(_))));
}

#[tokio::test]
async fn a_pace_is_kept_and_the_pauses_are_in_no_sample() {
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let execution = Execution { pace_us: 40_000, ..execution() };
    let plan =
        MeasurePlan { execution, min_processes: 1, max_processes: 1, samples_per_process: 5, ..plan() };
    let begun = Instant::now();
    let found = measured(&plan, model.path()).await.unwrap();
    assert_eq!((found.pace_us, found.batch, found.inferences_per_sample), (40_000, 1, 1));
    assert_eq!(found.samples_ns[0].len(), 5);
    // Ten to warm up and five samples, with a pause before each.
    assert!(begun.elapsed() > 14 * Duration::from_millis(40), "{:?}", begun.elapsed());
    assert!(found.latency.min_ns < 40_000_000, "{:?}", found.samples_ns);
}

#[tokio::test]
async fn a_short_budget_gives_fewer_samples_and_says_so() {
    let model = file(&conv_net_at(64, 32, 32, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { samples_per_process: 20_000, time_budget_ms: 1_000, ..plan() };
    let begun = Instant::now();
    let seen = Mutex::new(Vec::new());
    let note = |progress: Progress| seen.lock().unwrap().push(progress);
    let found = measure(&plan, model.path(), &worker(), &note, &Cancel::never()).await.unwrap();
    assert!(found.budget_ended);
    assert!(found.samples_ns.iter().all(|samples| !samples.is_empty() && samples.len() < 20_000));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let seen = seen.into_inner().unwrap();
    let longest = seen.windows(2).map(|pair| pair[1].elapsed_ms - pair[0].elapsed_ms).max().unwrap();
    assert!(longest <= 1000, "{seen:?}");
}

#[tokio::test]
async fn cancelling_ends_a_measurement_at_once() {
    let model = file(&conv_net_at(64, 32, 32, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { samples_per_process: 20_000, ..plan() };
    let (canceller, cancel) = Cancel::pair();
    let command = worker();
    let task = tokio::spawn(async move { measure(&plan, model.path(), &command, &|_| {}, &cancel).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    canceller.cancel();
    assert_eq!(task.await.unwrap(), Err(Failure::Cancelled));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

/// What the agent would tell a worker: taken from a worker that only writes its job down.
async fn job(plan: &MeasurePlan, model: &Path) -> Vec<u8> {
    let written = tempfile::NamedTempFile::new().unwrap();
    let note = format!("cat > {}", written.path().display());
    let scribe = WorkerCommand { program: "/bin/sh".into(), prefix: vec!["-c".into(), note.into()] };
    let (canceller, cancel) = Cancel::pair();
    let stop_when_written = async {
        let whole = |bytes: &[u8]| {
            let len = bytes.first_chunk().map(|len| u32::from_le_bytes(*len) as usize);
            len.is_some_and(|len| bytes.len() == 4 + len)
        };
        while !whole(&std::fs::read(written.path()).unwrap()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        canceller.cancel();
    };
    let (result, ()) = tokio::join!(measure(plan, model, &scribe, &|_| {}, &cancel), stop_when_written);
    assert_eq!(result, Err(Failure::Cancelled));
    std::fs::read(written.path()).unwrap()
}

#[tokio::test]
async fn a_busy_worker_whose_agent_is_gone_dies() {
    let model = file(&conv_net_at(64, 32, 32, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { samples_per_process: 20_000, time_budget_ms: 120_000, ..plan() };
    let job = job(&plan, model.path()).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_n2n-agent"))
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&job).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it should still be measuring");
    // As the kernel does for an agent that was killed.
    drop(stdin);
    let deadline = Instant::now() + Duration::from_secs(2);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the worker lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
