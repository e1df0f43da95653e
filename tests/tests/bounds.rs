//! What a hostile or an impossible model may cost: an agent its memory, a search its candidate, and no more.

#[path = "../../device-agent/src/test_models.rs"]
mod test_models;

use n2n::board::{BoardError, Client, Endpoint, LocalProgram};
use n2n_protocol::{
    Answer, Call, Conditions, Digest, EngineId, Failure, Interval, Latency, MeasurePlan, Measurement, Memory,
    Unknown,
};
use n2n_tests::candidate::{answers, model, plan};
use n2n_tests::scripted::{KEY, agent, greeting, say};
use n2n_tests::{Finished, World, small};
use prost::Message as _;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// For a whole run of these small ones, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);

/// Resident memory of a process, bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

#[test]
fn a_model_with_an_endless_answer_costs_the_agent_nothing() {
    let data = tempfile::tempdir().unwrap();
    let program = LocalProgram { program: AGENT.into(), prefix: vec![], data: data.path().to_owned() };
    let mut client = Client::connect(&Endpoint::Local(program)).unwrap();
    let flood = test_models::flood(62_000_000).encode_to_vec();
    assert!(flood.len() < 300, "{} bytes", flood.len());
    let digest = client.put(&flood, &mut |_, _| {}).unwrap();
    let asked = client.infer(&answers(digest), &[vec![1.0]]).unwrap_err();
    assert!(
        matches!(&asked, BoardError::Unknown(Unknown::Unsupported(why)) if why.contains("62000000")),
        "{asked}"
    );
    let measured = client.measure(&plan(digest), &mut |_| {}).unwrap_err();
    assert!(matches!(measured, BoardError::Unknown(_)), "{measured}");
    let bytes = resident(client.process_id().unwrap());
    assert!(bytes < 60 << 20, "the agent takes {} MiB", bytes >> 20);
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    assert!(client.measure(&plan(digest), &mut |_| {}).is_ok());
}

/// What a board says of a model; `number` is the how many-th that it saw.
fn measurement(plan: &MeasurePlan, number: usize) -> Measurement {
    let median_ns = 1_000_000 - 1_000 * number as u64;
    let interval = Interval {
        low_ns: median_ns - 1_000,
        high_ns: median_ns + 1_000,
        low_rank: 1,
        high_rank: 8,
        coverage_ppm: 992_187,
    };
    Measurement {
        model: plan.model.digest,
        engine: EngineId { name: "tract".into(), version: "0".into() },
        threads: 1,
        batch: 1,
        pace_us: 0,
        affinity: vec![],
        board: Digest([1; 32]),
        agent: "0".into(),
        samples_ns: vec![vec![median_ns; 3]; plan.min_processes.into()],
        inferences_per_sample: 1,
        warmup: vec![10; plan.min_processes.into()],
        load_ms: vec![1; plan.min_processes.into()],
        latency: Latency {
            median_ns,
            interval: Some(interval),
            min_ns: median_ns,
            p90_ns: median_ns,
            p99_ns: None,
        },
        memory: Memory { peak_heap: Some(1 << 20), ..Memory::default() },
        golden_difference: Some(0.0),
        before: Conditions::default(),
        after: Conditions::default(),
        voided: 0,
        budget_ended: false,
    }
}

/// A board by hand whose engine cannot run the models of which `refuses` is true by their number, in the order in which
/// it first sees them: the teacher, the smallest student, the candidates.
fn board(refuses: impl Fn(usize) -> bool + Send + 'static) -> Endpoint {
    let seen: Mutex<Vec<Digest>> = Mutex::default();
    agent(greeting(move |stream, channel, request| {
        let outcome = match request.call {
            Call::PutQuery { bytes, .. } => Ok(Answer::Stored { bytes }),
            Call::Measure(plan) => {
                let mut seen = seen.lock().unwrap();
                let digest = plan.model.digest;
                let number = seen.iter().position(|it| *it == digest).unwrap_or(seen.len());
                if number == seen.len() {
                    seen.push(digest);
                }
                if refuses(number) {
                    Err(Failure::Unknown(Unknown::Unsupported("no operator Sorcery".into())))
                } else {
                    Ok(Answer::Measured(measurement(&plan, number)))
                }
            }
            _ => Err(Failure::Refused("not scripted".into())),
        };
        say(stream, channel, request.request_id, outcome);
        true
    }))
}

/// A user with a small job, who knows that board as `pi`.
fn world(board: &Endpoint) -> World {
    let world = small::world(N2N);
    world.write_secret("board.key", KEY).unwrap();
    let line = format!("board add pi {board} --key-file board.key --unchecked");
    assert_eq!(run(&world, &line).code, Some(0));
    world
}

fn run(world: &World, line: &str) -> Finished {
    world.run(N2N, &line.split_whitespace().collect::<Vec<_>>(), DEADLINE).unwrap()
}

fn records(world: &World, kind: &str) -> Vec<Value> {
    let journal = std::fs::read_to_string(world.path().join("run/trials.jsonl")).unwrap();
    let lines = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

fn unknown(world: &World) -> Vec<Value> {
    records(world, "trial").into_iter().filter(|trial| trial["outcome"] == "unknown").collect()
}

const COMPRESS: &str = "compress --teacher teacher.onnx --data fashion-mnist:images --board pi --limit params=0.9x --limit latency=99x \
                        --finalists 1 --final-epochs 1 --no-ship --out run";

#[test]
fn a_candidate_that_the_engine_cannot_run_is_left_out_and_the_search_goes_on() {
    let world = world(&board(|number| number == 2));
    let finished = run(&world, &format!("{COMPRESS} --budget 10candidates"));
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let unknown = unknown(&world);
    assert!(!unknown.is_empty());
    for trial in &unknown {
        assert!(trial["reward"].is_null() && trial["feasible"] == false, "{trial}");
        assert!(trial["reason"].as_str().unwrap().contains("Sorcery"), "{trial}");
    }
    assert!(records(&world, "fault").is_empty());
    let reported = run(&world, "report run");
    assert_eq!(reported.code, Some(0), "{}", reported.stderr);
    let page = std::fs::read_to_string(world.path().join("run/report.html")).unwrap();
    assert!(page.contains("could not be judged"), "the report counts them");
}

#[test]
fn a_search_whose_board_can_judge_nothing_ends_with_the_reason_and_goes_on_once_that_is_mended() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    let world = world(&board(move |number| number > 1 && state.load(Ordering::Relaxed)));
    let ended = run(&world, &format!("{COMPRESS} --budget 60candidates"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let error = ended.line("error: ").unwrap();
    assert!(error.contains("candidates is unknown") && error.contains("Sorcery"), "{error}");
    assert!(ended.line("hint: ").unwrap().contains("n2n compress --resume --out run"), "{}", ended.stderr);
    let before = unknown(&world).len();
    assert!(before > 10);

    broken.store(false, Ordering::Relaxed);
    let finished = run(&world, "compress --resume --out run");
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(records(&world, "trial").iter().any(|trial| trial["outcome"] == "trained"));
}

#[test]
fn a_profile_of_another_kind_of_board_is_refused_unless_the_user_insists() {
    let world = small::world(N2N);
    let line =
        "compress --teacher teacher.onnx --data fashion-mnist:images --profile raspberry-pi-4b --dry-run";
    let architecture = std::env::consts::ARCH;
    if architecture == "aarch64" {
        // The profile fits as far as can be told.
        return;
    }
    let refused = run(&world, line);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let error = refused.line("error: ").unwrap();
    assert!(error.contains("raspberry-pi-4b") && error.contains(architecture), "{error}");
    assert!(refused.line("hint: ").unwrap().contains("--any-board"), "{}", refused.stderr);
    let taken = run(&world, &format!("{line} --any-board"));
    assert_eq!(taken.code, Some(0), "{}", taken.stderr);
}
