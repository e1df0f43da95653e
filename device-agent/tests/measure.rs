//! Real measurements of small models in real worker processes, the same for every engine.

#[path = "../src/test_models.rs"]
mod test_models;

use n2n_agent::configuration::OnnxRuntimeChoice;
use n2n_agent::engine::{Engines, Installed, Library};
use n2n_agent::find_engines::{self, Found};
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
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use test_models::{Weights, by_hand, by_hand_logits, conv_net, conv_net_at, endless, flood};
use tract_onnx::pb::ModelProto;

const MIB: u64 = 1 << 20;

/// An engine under test.
struct Bench {
    worker: WorkerCommand,
    engine: &'static str,
}

fn worker() -> WorkerCommand {
    let program = env!("CARGO_BIN_EXE_n2n-agent").into();
    WorkerCommand { program, prefix: vec!["worker".into()], engines: Engines::default() }
}

fn tract() -> Bench {
    Bench { worker: worker(), engine: "tract" }
}

/// The library that the environment names.
fn library() -> PathBuf {
    std::env::var_os("N2N_ONNXRUNTIME").expect("N2N_ONNXRUNTIME names a library").into()
}

async fn found(path: PathBuf) -> Found {
    let choice = OnnxRuntimeChoice::Named(Library { path, providers: vec![], cache: std::env::temp_dir() });
    find_engines::find(&choice, &std::env::temp_dir(), &worker()).await
}

async fn onnxruntime() -> Bench {
    let Found { engines, problem } = found(library()).await;
    assert_eq!(problem, None);
    Bench { worker: worker().with_engines(engines), engine: "onnxruntime" }
}

/// Every test of the list, for every engine.
macro_rules! for_every_engine {
    ($($test:ident),* $(,)?) => {
        mod with_tract {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::tract()).await;
            })*
        }
        mod with_onnxruntime {
            $(#[tokio::test]
            #[ignore = "needs ONNX Runtime's library in N2N_ONNXRUNTIME"]
            async fn $test() {
                super::$test(&super::onnxruntime().await).await;
            })*
        }
    };
}

for_every_engine! {
    a_small_model_is_measured_whole,
    logits_are_those_by_hand_and_a_file_without_weights_answers_like_the_filled_one,
    eight_processes_give_an_interval_and_five_hundred_samples_a_p99,
    the_answer_is_checked_before_the_time_counts,
    what_does_not_fit_in_memory_is_infeasible,
    what_is_too_slow_is_infeasible_and_found_out_soon,
    what_never_ends_is_ended,
    an_answer_as_large_as_all_memory_is_none,
    damaged_files_end_in_an_answer_or_a_failure,
    what_the_engine_cannot_do_is_unknown_and_a_damaged_file_a_failure,
    inputs_of_another_size_are_refused_with_both_sizes,
    an_engine_that_prepares_nothing_says_so_of_a_model_that_can_be_read,
    a_pace_is_kept_and_the_pauses_are_in_no_sample,
    a_short_budget_gives_fewer_samples_and_says_so,
    cancelling_ends_a_measurement_at_once,
}

fn file(model: &ModelProto) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&model.encode_to_vec()).unwrap();
    file
}

impl Bench {
    fn execution(&self) -> Execution {
        Execution { engine: self.engine.into(), threads: 1, batch: 1, pace_us: 0 }
    }

    fn plan(&self) -> MeasurePlan {
        MeasurePlan {
            model: Model::onnx(Digest([7; 32])),
            place: Place::Store,
            execution: self.execution(),
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

    async fn measured(&self, plan: &MeasurePlan, model: &Path) -> Result<Measurement, Failure> {
        measure(plan, model, &self.worker, &|_| {}, &Cancel::never()).await
    }

    async fn inferred(&self, model: &Path, inputs: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, Failure> {
        let bytes =
            |input: Vec<f32>| input.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
        let plan = InferPlan {
            model: Model::onnx(Digest([7; 32])),
            place: Place::Store,
            execution: self.execution(),
            max_memory_bytes: 256 * MIB,
            inputs: inputs.into_iter().map(bytes).collect(),
        };
        infer(&plan, model, &self.worker, &Cancel::never()).await
    }
}

async fn a_small_model_is_measured_whole(bench: &Bench) {
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { resident_memory: true, ..bench.plan() };
    let found = bench.measured(&plan, model.path()).await.unwrap();

    assert_eq!(found.engine.name, bench.engine);
    assert_eq!(found.engine, bench.worker.engines.find(bench.engine).unwrap().engine().id());
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
    // An engine that takes memory past the worker's allocator is in no count of it.
    assert_eq!(memory.peak_heap.is_some(), bench.engine == "tract");
    if let (Some(peak), Some(steady)) = (memory.peak_heap, memory.steady_heap) {
        assert!(steady <= peak && (2 * 16 * 32 * 32..64 * MIB).contains(&peak), "{steady} of {peak}");
    }
    let (rss, engine) = (memory.peak_rss.unwrap(), memory.engine_baseline.unwrap());
    assert!(rss > engine && engine > MIB);
    assert_eq!(memory.model_memory, Some(rss - engine));
    assert_eq!(memory.file_bytes, model.as_file().metadata().unwrap().len());
}

async fn logits_are_those_by_hand_and_a_file_without_weights_answers_like_the_filled_one(bench: &Bench) {
    let model = file(&by_hand());
    let inputs = [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 0.0, 2.0]];
    let rows = bench.inferred(model.path(), inputs.map(Vec::from).to_vec()).await.unwrap();
    assert_eq!(rows, inputs.map(by_hand_logits));

    let input = vec![generator::input(3, 3 * 8 * 8)];
    let empty =
        bench.inferred(file(&conv_net(3, 8, 4, &Weights::Seed(9))).path(), input.clone()).await.unwrap();
    let filled = bench
        .inferred(file(&conv_net(3, 8, 4, &Weights::GeneratedFrom(9))).path(), input.clone())
        .await
        .unwrap();
    assert_eq!(empty, filled);
    let other = bench.inferred(file(&conv_net(3, 8, 4, &Weights::Seed(10))).path(), input).await.unwrap();
    assert_ne!(empty, other);
}

async fn eight_processes_give_an_interval_and_five_hundred_samples_a_p99(bench: &Bench) {
    let model = file(&by_hand());
    let plan = MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 70, ..bench.plan() };
    let found = bench.measured(&plan, model.path()).await.unwrap();
    let interval = found.latency.interval.unwrap();
    assert_eq!((interval.low_rank, interval.high_rank, interval.coverage_ppm), (1, 8, 992_187));
    assert!(interval.low_ns <= found.latency.median_ns && found.latency.median_ns <= interval.high_ns);
    assert!(found.latency.p99_ns.unwrap() >= found.latency.p90_ns);
    // A 2x2 image through one kernel: a microsecond or so, too short for a single reading of the clock.
    assert!(found.inferences_per_sample >= 1);
}

async fn the_answer_is_checked_before_the_time_counts(bench: &Bench) {
    let model = file(&conv_net(3, 8, 4, &Weights::Seed(9)));
    let logits = bench.inferred(model.path(), vec![generator::input(5, 3 * 8 * 8)]).await.unwrap().remove(0);
    let golden = Golden { input_seed: 5, logits, tolerance: 1e-6 };
    let right = MeasurePlan { golden: Some(golden.clone()), ..bench.plan() };
    assert_eq!(bench.measured(&right, model.path()).await.unwrap().golden_difference, Some(0.0));

    let wrong = MeasurePlan { golden: Some(Golden { input_seed: 6, ..golden }), ..bench.plan() };
    let unknown = bench.measured(&wrong, model.path()).await;
    assert!(
        matches!(&unknown, Err(Failure::Unknown(Unknown::WrongAnswer(why))) if why.contains("differs")),
        "{unknown:?}"
    );
}

async fn what_does_not_fit_in_memory_is_infeasible(bench: &Bench) {
    let limit = 24 * MIB;
    let out_of_memory = Err(Failure::Infeasible(Infeasible::OutOfMemory { limit_bytes: limit }));
    let plan = MeasurePlan { max_memory_bytes: limit, ..bench.plan() };
    // Weights alone above the limit: known before anything is allocated.
    let huge = file(&conv_net(1024, 4096, 10, &Weights::Seed(1)));
    assert_eq!(bench.measured(&plan, huge.path()).await, out_of_memory);
    // Weights fit (9 MiB), but not the engine's copies of them.
    let copies = file(&conv_net(512, 512, 10, &Weights::GeneratedFrom(1)));
    assert_eq!(bench.measured(&plan, copies.path()).await, out_of_memory);
    // Not even its bytes can be read.
    let tight = MeasurePlan { max_memory_bytes: 10 * MIB, ..plan.clone() };
    let result = bench.measured(&tight, copies.path()).await;
    assert!(matches!(result, Err(Failure::Infeasible(Infeasible::OutOfMemory { .. }))), "{result:?}");
    // Weights are nothing, but activations are 64 MiB.
    let activations = file(&conv_net_at(512, 3, 64, 10, &Weights::Seed(1)));
    assert_eq!(bench.measured(&plan, activations.path()).await, out_of_memory);
    let roomy = MeasurePlan { max_memory_bytes: 512 * MIB, samples_per_process: 2, ..plan.clone() };
    let found = bench.measured(&roomy, activations.path()).await.unwrap();
    assert!(found.memory.model_memory.unwrap() > 64 * MIB, "{:?}", found.memory);
}

async fn what_is_too_slow_is_infeasible_and_found_out_soon(bench: &Bench) {
    // 604 M multiply-adds: tens of milliseconds.
    let model = file(&conv_net_at(64, 128, 128, 10, &Weights::Seed(1)));
    let begun = Instant::now();
    let result = bench.measured(&MeasurePlan { max_inference_ms: 1, ..bench.plan() }, model.path()).await;
    assert_eq!(result, Err(Failure::Infeasible(Infeasible::TooSlow { limit_ms: 1 })));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

async fn what_never_ends_is_ended(bench: &Bench) {
    let begun = Instant::now();
    let plan = MeasurePlan { max_inference_ms: 200, time_budget_ms: 3_000, ..bench.plan() };
    let result = bench.measured(&plan, file(&endless()).path()).await;
    match bench.engine {
        // It knows no such loop.
        "tract" => assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}"),
        _ => assert_eq!(result, Err(Failure::Infeasible(Infeasible::TooSlow { limit_ms: 200 }))),
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

async fn an_answer_as_large_as_all_memory_is_none(bench: &Bench) {
    for numbers in [62_000_000, 1 << 34, 1 << 62] {
        let result = bench.measured(&bench.plan(), file(&flood(numbers)).path()).await;
        let is_told =
            matches!(result, Err(Failure::Unknown(_) | Failure::Infeasible(Infeasible::OutOfMemory { .. })));
        assert!(is_told, "{numbers}: {result:?}");
    }
}

/// Bytes turned over and ends cut off: whatever an engine makes of it, its agent hears of it in time.
async fn damaged_files_end_in_an_answer_or_a_failure(bench: &Bench) {
    let whole = by_hand().encode_to_vec();
    let input = || vec![vec![0.5_f32; 4]];
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for round in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..=draw(3) {
            let place = draw(bytes.len());
            bytes[place] ^= 1 << draw(8);
        }
        if round % 4 == 0 {
            bytes.truncate(draw(whole.len()));
        }
        let mut damaged = tempfile::NamedTempFile::new().unwrap();
        damaged.write_all(&bytes).unwrap();
        let begun = Instant::now();
        let result = bench.inferred(damaged.path(), input()).await;
        assert!(!matches!(result, Err(Failure::Cancelled | Failure::Disturbed(_))), "{result:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "round {round}: {:?}", begun.elapsed());
    }
    assert!(bench.inferred(file(&by_hand()).path(), input()).await.is_ok());
}

async fn what_the_engine_cannot_do_is_unknown_and_a_damaged_file_a_failure(bench: &Bench) {
    let mut nonsense = conv_net(3, 8, 4, &Weights::Seed(1));
    nonsense.graph.as_mut().unwrap().node[0].op_type = "Sorcery".into();
    let result = bench.measured(&bench.plan(), file(&nonsense).path()).await;
    assert!(
        matches!(&result, Err(Failure::Unknown(Unknown::Unsupported(why))) if why.contains("Sorcery")),
        "{result:?}"
    );
    // tract panics on it, ONNX Runtime says so.
    let mut dangling = conv_net(3, 8, 4, &Weights::Seed(1));
    dangling.graph.as_mut().unwrap().output[0].name = "nowhere".into();
    let result = bench.measured(&bench.plan(), file(&dangling).path()).await;
    assert!(
        matches!(result, Err(Failure::Unknown(Unknown::Crashed(_) | Unknown::Unsupported(_)))),
        "{result:?}"
    );

    let elsewhere = Execution { engine: "sorcery".into(), ..bench.execution() };
    let result =
        bench.measured(&MeasurePlan { execution: elsewhere, ..bench.plan() }, file(&by_hand()).path()).await;
    assert_eq!(result, Err(Failure::Unknown(Unknown::EngineMissing("sorcery".into()))));

    let mut garbage = tempfile::NamedTempFile::new().unwrap();
    garbage.write_all(&[0xA5; 1000]).unwrap();
    let result = bench.measured(&bench.plan(), garbage.path()).await;
    assert!(
        matches!(&result, Err(Failure::Failed(why)) if why.contains("not a usable ONNX file")),
        "{result:?}"
    );
}

async fn inputs_of_another_size_are_refused_with_both_sizes(bench: &Bench) {
    let model = file(&by_hand());
    let result = bench.inferred(model.path(), vec![vec![1.0; 3]]).await;
    assert!(
        matches!(&result, Err(Failure::Refused(why)) if why.contains("16 bytes") && why.contains("got 12")),
        "{result:?}"
    );
}

async fn an_engine_that_prepares_nothing_says_so_of_a_model_that_can_be_read(bench: &Bench) {
    let plan = PreparePlan {
        model: Model::onnx(Digest([7; 32])),
        execution: bench.execution(),
        time_budget_ms: 30_000,
        max_memory_bytes: 256 * MIB,
    };
    let prepared = async |path: &Path| prepare(&plan, path, &bench.worker, &Cancel::never()).await;
    let answer = prepared(file(&by_hand()).path()).await;
    assert!(matches!(answer, Ok(Prepared { cached: true, .. })), "{answer:?}");
    let mut garbage = tempfile::NamedTempFile::new().unwrap();
    garbage.write_all(&[0xA5; 1000]).unwrap();
    assert!(matches!(prepared(garbage.path()).await, Err(Failure::Failed(_))));
}

async fn a_pace_is_kept_and_the_pauses_are_in_no_sample(bench: &Bench) {
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let execution = Execution { pace_us: 40_000, ..bench.execution() };
    let plan =
        MeasurePlan { execution, min_processes: 1, max_processes: 1, samples_per_process: 5, ..bench.plan() };
    let begun = Instant::now();
    let found = bench.measured(&plan, model.path()).await.unwrap();
    assert_eq!((found.pace_us, found.batch, found.inferences_per_sample), (40_000, 1, 1));
    assert_eq!(found.samples_ns[0].len(), 5);
    // Ten to warm up and five samples, with a pause before each.
    assert!(begun.elapsed() > 14 * Duration::from_millis(40), "{:?}", begun.elapsed());
    assert!(found.latency.min_ns < 40_000_000, "{:?}", found.samples_ns);
}

async fn a_short_budget_gives_fewer_samples_and_says_so(bench: &Bench) {
    let model = file(&conv_net_at(64, 32, 32, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { samples_per_process: 20_000, time_budget_ms: 1_000, ..bench.plan() };
    let begun = Instant::now();
    let seen = Mutex::new(Vec::new());
    let note = |progress: Progress| seen.lock().unwrap().push(progress);
    let found = measure(&plan, model.path(), &bench.worker, &note, &Cancel::never()).await.unwrap();
    assert!(found.budget_ended);
    assert!(found.samples_ns.iter().all(|samples| !samples.is_empty() && samples.len() < 20_000));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let seen = seen.into_inner().unwrap();
    let longest = seen.windows(2).map(|pair| pair[1].elapsed_ms - pair[0].elapsed_ms).max().unwrap();
    assert!(longest <= 1000, "{seen:?}");
}

async fn cancelling_ends_a_measurement_at_once(bench: &Bench) {
    let model = file(&conv_net_at(64, 32, 32, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { samples_per_process: 20_000, ..bench.plan() };
    let (canceller, cancel) = Cancel::pair();
    let command = bench.worker.clone();
    let task = tokio::spawn(async move { measure(&plan, model.path(), &command, &|_| {}, &cancel).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    canceller.cancel();
    assert_eq!(task.await.unwrap(), Err(Failure::Cancelled));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}

/// What the agent would tell a worker: taken from a worker that only writes its job down.
async fn job(bench: &Bench, plan: &MeasurePlan, model: &Path) -> Vec<u8> {
    let written = tempfile::NamedTempFile::new().unwrap();
    let note = format!("cat > {}", written.path().display());
    let scribe = WorkerCommand {
        program: "/bin/sh".into(),
        prefix: vec!["-c".into(), note.into()],
        ..bench.worker.clone()
    };
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
    let bench = &tract();
    let model = file(&conv_net_at(64, 32, 32, 10, &Weights::Seed(1)));
    let plan = MeasurePlan { samples_per_process: 20_000, time_budget_ms: 120_000, ..bench.plan() };
    let job = job(bench, &plan, model.path()).await;
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

#[tokio::test]
#[ignore = "needs ONNX Runtime's library in N2N_ONNXRUNTIME"]
async fn onnxruntime_runs_on_as_many_threads_as_it_is_told() {
    let bench = onnxruntime().await;
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let cores = std::thread::available_parallelism().unwrap().get() as u16;
    let with = |threads| {
        let execution = Execution { threads, ..bench.execution() };
        MeasurePlan { execution, ..bench.plan() }
    };
    let found = bench.measured(&with(cores), model.path()).await.unwrap();
    assert_eq!((found.threads, found.affinity.len()), (cores, usize::from(cores)));
    for wrong in [0, cores + 1] {
        let refused = bench.measured(&with(wrong), model.path()).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("runs on 1 to {cores} threads here")), "{refused}");
    }
}

#[tokio::test]
#[ignore = "needs ONNX Runtime's library in N2N_ONNXRUNTIME"]
async fn a_library_that_was_replaced_gives_no_number_under_the_old_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so");
    std::os::unix::fs::symlink(library(), &path).unwrap();
    let Found { engines, problem } = found(path).await;
    assert_eq!(problem, None);
    // As an upgrade would leave it: what the agent found says another version than the library.
    let runtime = engines.find("onnxruntime").unwrap();
    let stale = toml::to_string(runtime).unwrap();
    let version = runtime.engine().id().version;
    let stale: Installed = toml::from_str(&stale.replace(&version, "1.17.0")).unwrap();
    let Installed::OnnxRuntime(stale) = stale else { panic!("{stale:?}") };
    let bench = Bench { worker: worker().with_engines(Engines::with(stale)), engine: "onnxruntime" };
    let failure = bench.measured(&bench.plan(), file(&by_hand()).path()).await.unwrap_err();
    let why = failure.to_string();
    assert!(matches!(failure, Failure::Failed(_)) && why.contains("start the agent again"), "{why}");
}

#[tokio::test]
async fn a_library_that_is_none_is_told_and_left_out() {
    let mut text = tempfile::NamedTempFile::new().unwrap();
    text.write_all(b"no library").unwrap();
    // A library, of something else.
    let arch = std::env::consts::ARCH;
    let places = [format!("/lib/{arch}-linux-gnu"), "/lib64".into(), "/lib".into()];
    let other = places.iter().map(|place| Path::new(place).join("libm.so.6")).find(|path| path.exists());
    for path in [Some(text.path().to_path_buf()), Some("/no/such/libonnxruntime.so".into()), other]
        .into_iter()
        .flatten()
    {
        let Found { engines, problem } = found(path.clone()).await;
        assert_eq!(engines, Engines::default());
        let problem = problem.unwrap();
        assert!(
            problem.contains(&path.display().to_string()) && problem.contains("is not used"),
            "{problem}"
        );
    }
}
