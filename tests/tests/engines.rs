//! A board with two engines: which one runs, where that is said, and that a run keeps to the one it began with.

use std::time::Duration;

use n2n_tests::board::Board;
use n2n_tests::{Finished, World, small};
use serde_json::Value;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// For a whole job of this small kind, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);
/// A job that is over in seconds.
const COMPRESS: &str = "compress --teacher teacher.onnx --data fashion-mnist:images --limit latency=3x --limit params=0.8x \
                        --finalists 1 --final-epochs 1 --budget 6candidates --out run --json --board pi";

/// A board whose owner names the library in `N2N_ONNXRUNTIME`.
fn with_onnxruntime(world: &World) -> Board<'_> {
    let library = std::env::var("N2N_ONNXRUNTIME").expect("N2N_ONNXRUNTIME names a library");
    Board::new(world, N2N, AGENT, &format!("[onnxruntime]\nlibrary = \"{library}\"\n")).unwrap()
}

fn run(world: &World, line: &str) -> Finished {
    world.run(N2N, &line.split_whitespace().collect::<Vec<_>>(), DEADLINE).unwrap()
}

fn json(world: &World, line: &str) -> Value {
    let finished = run(world, line);
    assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    finished.json().unwrap()
}

fn names(engines: &Value) -> Vec<&str> {
    engines.as_array().unwrap().iter().map(|engine| engine["name"].as_str().unwrap()).collect()
}

#[test]
#[ignore = "needs ONNX Runtime's library in N2N_ONNXRUNTIME"]
fn a_board_offers_its_own_onnx_runtime_first_and_each_number_names_its_engine() {
    let world = small::world(N2N);
    let _board = with_onnxruntime(&world);
    let probed = json(&world, "board probe pi --json");
    assert_eq!(names(&probed["engines"]), ["onnxruntime", "tract"]);
    let listed = json(&world, "board list --ask --json");
    let pi = listed["boards"].as_array().unwrap().iter().find(|board| board["name"] == "pi").unwrap();
    assert_eq!(names(&pi["engines"]), ["onnxruntime", "tract"]);

    let measure = "measure zoo:vgg11@0.1 --board pi --json --time 10s";
    let by_default = json(&world, measure);
    assert_eq!(by_default["engine"]["name"], "onnxruntime");
    assert_eq!(by_default["engine"]["version"], probed["engines"][0]["version"]);
    assert!(by_default["memory_bytes"]["peak_heap"].is_null(), "{}", by_default["memory_bytes"]);
    assert!(by_default["memory_bytes"]["model_memory"].as_u64().unwrap() > 0);
    let two = json(&world, &format!("{measure} --threads 2"));
    assert_eq!(two["threads"], 2);
    let tract = json(&world, &format!("{measure} --engine tract"));
    assert_eq!(tract["engine"]["name"], "tract");
    // A file of another program is judged by the engine that does not run it.
    let strange = std::fs::read(world.path().join("teacher.onnx")).unwrap();
    world.write("strange.onnx", strange).unwrap();
    let foreign = json(&world, "measure strange.onnx --input 1x28x28 --board pi --json --time 10s");
    assert_eq!(
        (&foreign["engine"]["name"], &foreign["verified_by"]),
        (&"onnxruntime".into(), &"local agent".into())
    );

    let refused = run(&world, &format!("{measure} --engine abacus"));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.line("error: ").unwrap().contains("expected auto, tract or onnxruntime"),
        "{}",
        refused.stderr
    );
}

#[test]
#[ignore = "needs ONNX Runtime's library in N2N_ONNXRUNTIME"]
fn on_one_machine_the_second_engine_judges_a_file_of_another_program() {
    let world = small::world(N2N);
    let library = std::env::var("N2N_ONNXRUNTIME").expect("N2N_ONNXRUNTIME names a library");
    let measure = "measure teacher.onnx --input 1x28x28 --json --time 10s";
    let alone = json(&world, measure);
    assert_eq!((&alone["engine"]["name"], &alone["verified_by"]), (&"tract".into(), &Value::Null));
    let configuration = format!("[onnxruntime]\nlibrary = \"{library}\"\n");
    world.write("home/local-agent/agent.toml", configuration).unwrap();
    let judged = json(&world, measure);
    let expected = (&"onnxruntime".into(), &"another engine".into());
    assert_eq!((&judged["engine"]["name"], &judged["verified_by"]), expected);
    assert!(judged["golden_difference"].as_f64().unwrap() < 1e-3, "{}", judged["golden_difference"]);
}

#[test]
fn a_board_without_the_engine_says_what_it_has() {
    let world = small::world(N2N);
    let _board = Board::new(&world, N2N, AGENT, "[onnxruntime]\nenabled = false\n").unwrap();
    let refused = run(&world, "measure zoo:vgg11@0.1 --board pi --engine onnxruntime");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let error = refused.line("error: ").unwrap();
    assert!(error.contains("engine onnxruntime is not on board") && error.contains("tract"), "{error}");
    assert!(refused.line("hint: ").unwrap().contains("n2n-agent doctor"), "{}", refused.stderr);
}

#[test]
#[ignore = "needs ONNX Runtime's library in N2N_ONNXRUNTIME"]
fn a_job_is_measured_and_shipped_with_one_engine_and_goes_on_with_no_other() {
    let world = small::world(N2N);
    let mut board = with_onnxruntime(&world);
    let done = run(&world, COMPRESS);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("models run on onnxruntime"), "{}", done.stderr);
    let result = done.json().unwrap();
    for side in ["teacher", "student"] {
        assert_eq!(result[side]["engine"]["name"], "onnxruntime", "{result}");
        assert_eq!(result[side]["threads"], 1, "{result}");
    }
    assert_eq!(result["shipped"], true, "{result}");
    let status = board.status().unwrap();
    assert_eq!(status["active"]["engine"], "onnxruntime", "{status}");
    let reported = run(&world, "report run");
    assert_eq!(reported.code, Some(0), "{}", reported.stderr);
    let page = std::fs::read_to_string(world.path().join("run/report.html")).unwrap();
    assert!(page.contains("batch 1, onnxruntime"), "the chart names its engine");

    // Its engine decides what a run is.
    let refused = run(&world, "compress --resume --out run --engine tract --budget 12candidates");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    board.kill().unwrap();
    std::fs::write(board.data().join("agent.toml"), "[onnxruntime]\nenabled = false\n").unwrap();
    board.start().unwrap();
    let other = run(&world, "compress --resume --out run --budget 12candidates");
    assert_eq!(other.code, Some(1), "{}", other.stderr);
    let error = other.line("error: ").unwrap();
    assert!(error.contains("onnxruntime") && error.contains("tract"), "{error}");
}
