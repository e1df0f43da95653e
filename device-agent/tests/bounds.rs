//! What bounds a measurement: its time budget, and the memory of the board. With real worker processes.

#[path = "../src/test_models.rs"]
mod test_models;

use n2n_agent::engine::Engines;
use n2n_agent::measure::measure;
use n2n_agent::{Cancel, WorkerCommand};
use n2n_protocol::{Digest, Execution, Failure, MeasurePlan, Measurement, Model, Place, Unknown};
use prost::Message;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use test_models::{Weights, by_hand, conv_net_at};
use tract_onnx::pb::ModelProto;

const MIB: u64 = 1 << 20;
/// For starting and ending processes on a machine that is busy with other tests.
const GRACE: Duration = Duration::from_secs(4);

fn worker() -> WorkerCommand {
    let program = env!("CARGO_BIN_EXE_n2n-agent").into();
    WorkerCommand { program, prefix: vec!["worker".into()], engines: Engines::default() }
}

/// The real worker behind a line of shell, which says `exec "$0" worker` when it is time.
fn worker_after(line: &str) -> WorkerCommand {
    let program = "/bin/sh".into();
    let prefix = vec!["-c".into(), line.into(), env!("CARGO_BIN_EXE_n2n-agent").into()];
    WorkerCommand { program, prefix, engines: Engines::default() }
}

fn file(model: &ModelProto) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&model.encode_to_vec()).unwrap();
    file
}

fn plan() -> MeasurePlan {
    MeasurePlan {
        model: Model::onnx(Digest([7; 32])),
        place: Place::Store,
        execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
        min_processes: 8,
        max_processes: 16,
        samples_per_process: 50,
        half_width_ppm: 20_000,
        time_budget_ms: 30_000,
        max_load_ms: 60_000,
        max_inference_ms: 60_000,
        max_memory_bytes: 1024 * MIB,
        golden: None,
        resident_memory: false,
    }
}

async fn measured(plan: &MeasurePlan, model: &Path) -> Result<Measurement, Failure> {
    measure(plan, model, &worker(), &|_| {}, &Cancel::never()).await
}

/// A model that takes seconds, and how long one inference of it takes here and now.
async fn slow_model() -> (tempfile::NamedTempFile, Duration) {
    // 19 G multiply-adds.
    let model = file(&conv_net_at(256, 128, 256, 10, &Weights::Seed(1)));
    let once = MeasurePlan {
        min_processes: 1,
        max_processes: 1,
        samples_per_process: 1,
        time_budget_ms: 2_000,
        ..plan()
    };
    let found = measured(&once, model.path()).await.unwrap();
    (model, Duration::from_nanos(found.latency.median_ns))
}

#[tokio::test]
async fn a_slow_but_allowed_model_gives_a_number_within_its_budget() {
    let (model, inference) = slow_model().await;
    let most = |inferences: u32| inferences * inference;
    // Eight processes would need 24 inferences; there is time for one or two.
    for budget in [Duration::from_millis(100), inference / 2, most(1), most(2)] {
        let plan = MeasurePlan {
            time_budget_ms: budget.as_millis() as u32,
            max_inference_ms: most(2).as_millis() as u32,
            ..plan()
        };
        let begun = Instant::now();
        let found = measured(&plan, model.path()).await.unwrap_or_else(|why| panic!("{budget:?}: {why}"));
        let took = begun.elapsed();
        assert!(found.budget_ended, "{budget:?}: {:?}", found.samples_ns);
        assert!(found.samples_ns.len() < 8 && !found.samples_ns[0].is_empty(), "{:?}", found.samples_ns);
        // One inference beyond the budget, which may take twice as long while other tests run.
        assert!(took <= budget + most(2) + GRACE, "{took:?} for a budget of {budget:?}, {inference:?} each");
    }
}

#[tokio::test]
async fn a_process_that_would_not_fit_any_more_is_not_begun() {
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let begun = Instant::now();
    let plan = MeasurePlan { time_budget_ms: 3_000, ..plan() };
    let slow_to_load = worker_after("sleep 0.7; exec \"$0\" worker");
    let found = measure(&plan, model.path(), &slow_to_load, &|_| {}, &Cancel::never()).await.unwrap();
    let took = begun.elapsed();
    assert!(found.budget_ended && (1..=4).contains(&found.samples_ns.len()), "{}", found.samples_ns.len());
    assert!(found.samples_ns.iter().all(|samples| samples.len() > 1), "what was loaded is used");
    assert!(took < Duration::from_secs(3) + GRACE, "{took:?}");
}

#[tokio::test]
async fn a_load_that_never_ends_costs_none_of_the_runs_in_hand() {
    let model = file(&by_hand());
    let folder = tempfile::tempdir().unwrap();
    let once =
        format!("mkdir {}/one 2>/dev/null || exec sleep 60; exec \"$0\" worker", folder.path().display());
    let plan = MeasurePlan { max_load_ms: 1_000, ..plan() };
    let found = measure(&plan, model.path(), &worker_after(&once), &|_| {}, &Cancel::never()).await.unwrap();
    assert!(found.budget_ended && found.samples_ns.len() == 1, "{}", found.samples_ns.len());
    // Without a run in hand there is nothing to say.
    let none = measure(&plan, model.path(), &worker_after("exec sleep 60"), &|_| {}, &Cancel::never()).await;
    assert_eq!(none, Err(Failure::Unknown(Unknown::NotLoaded { limit_ms: 1_000 })));
}

#[tokio::test]
async fn no_worker_is_unlimited_whatever_the_plan_asks_for_and_each_goes_first() {
    let model = file(&conv_net_at(32, 3, 16, 10, &Weights::Seed(1)));
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("pid");
    let line = format!("echo $$ > {}; exec \"$0\" worker", note.display());
    let plan = MeasurePlan {
        max_memory_bytes: u64::MAX,
        min_processes: 1,
        max_processes: 1,
        samples_per_process: 20_000,
        ..plan()
    };
    let (canceller, cancel) = Cancel::pair();
    let command = worker_after(&line);
    let watch = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "the worker did not bound itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
            let Ok(pid) = std::fs::read_to_string(&note) else { continue };
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", pid.trim()));
            let (Ok(limits), Ok(score)) = (read("limits"), read("oom_score_adj")) else { continue };
            let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap().to_owned();
            if score.trim() == "1000" && !data.contains("unlimited") {
                canceller.cancel();
                return data;
            }
        }
    };
    let (result, data) = tokio::join!(measure(&plan, model.path(), &command, &|_| {}, &cancel), watch);
    assert!(matches!(result, Err(Failure::Cancelled) | Ok(_)), "{result:?}");
    let limit: u64 = data.split_whitespace().nth(3).unwrap().parse().unwrap();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    assert!(limit < total.unwrap().trim().parse::<u64>().unwrap() * 1024, "{data}");
}
