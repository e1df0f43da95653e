//! ONNX files of other programs: measured and shipped as they are, or refused by what they are.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use n2n::board::Endpoint;
use n2n_protocol::{Answer, Call, Failure, FreeMemory, Request};
use n2n_tests::{World, scripted};

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
/// For a step of these small jobs, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(2);

/// A file of `tests/fixtures/onnx`, written by PyTorch's exporters with random weights, in a world of its own.
fn world(files: &[&str]) -> World {
    let world = World::new().unwrap();
    for file in files {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/onnx").join(file);
        world.write(file, fs::read(path).unwrap()).unwrap();
    }
    world
}

#[test]
fn a_file_whose_weights_lie_beside_it_is_measured_and_says_who_checked_it() {
    let world = world(&["form_external.dynamo.onnx", "form_external.dynamo.onnx.data"]);
    let words = ["measure", "form_external.dynamo.onnx", "--time", "2s", "--json"];
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let measured = finished.json().unwrap();
    assert_eq!(measured["verified_by"], serde_json::Value::Null, "{measured}");
    assert!(measured["latency_ns"]["median"].as_u64().unwrap() > 0, "{measured}");
    let table = world.run(N2N, &words[..4], DEADLINE).unwrap();
    assert!(table.stdout.contains("unverified by a second engine"), "{}", table.stdout);
    fs::remove_file(world.path().join("form_external.dynamo.onnx.data")).unwrap();
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.line("error: ").unwrap().contains("not there"), "{}", finished.stderr);
}

#[test]
fn an_open_batch_is_one_and_open_sizes_are_asked_for() {
    let world = world(&["form_dynamic_batch.dynamo.onnx", "form_dynamic_hw.script.onnx"]);
    let measure = |more: &[&str]| {
        let words = [&["measure"], more, &["--time", "2s"]].concat();
        world.run(N2N, &words, DEADLINE).unwrap()
    };
    let batch = measure(&["form_dynamic_batch.dynamo.onnx"]);
    assert_eq!(batch.code, Some(0), "{}", batch.stderr);
    let open = measure(&["form_dynamic_hw.script.onnx"]);
    assert_eq!(open.code, Some(1), "{}", open.stderr);
    assert!(open.line("hint: ").unwrap().contains("--input 3x96x96"), "{}", open.stderr);
    let sized = measure(&["form_dynamic_hw.script.onnx", "--input", "3x32x32"]);
    assert_eq!(sized.code, Some(0), "{}", sized.stderr);
}

#[test]
fn a_file_of_another_program_is_shipped_and_its_slot_says_that_nobody_else_checked_it() {
    let world = world(&["depthwise.script.onnx"]);
    let shipped = world.run(N2N, &["ship", "depthwise.script.onnx", "--json"], DEADLINE).unwrap();
    assert_eq!(shipped.code, Some(0), "{}", shipped.stderr);
    let shipped = shipped.json().unwrap();
    assert_eq!(shipped["verified_by"], serde_json::Value::Null, "{shipped}");
    let status = world.run(N2N, &["status", "--json"], DEADLINE).unwrap().json().unwrap();
    for told in [&shipped["active"], &status["active"]] {
        assert_eq!(told["name"], "depthwise.script", "{told}");
        assert_eq!(told["verified_by_second_engine"], false, "{told}");
    }
    let table = world.run(N2N, &["status"], DEADLINE).unwrap().stdout;
    assert!(table.contains("confirmed, unverified by a second engine"), "{table}");
}

#[test]
fn a_file_that_the_boards_memory_cannot_hold_is_not_sent() {
    let world = world(&["depthwise.script.onnx"]);
    let calls = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&calls);
    let board = scripted::agent(scripted::greeting(move |stream, channel, request| {
        let Request { request_id, call } = request;
        let answer = match call {
            Call::Memory => Ok(Answer::Memory(FreeMemory { bytes: Some(1000), scarce: true })),
            _ => Err(Failure::Refused("nothing else is to be asked".into())),
        };
        asked.lock().unwrap().push(call);
        scripted::say(stream, channel, request_id, answer);
        true
    }));
    let Endpoint::Tcp { port, .. } = board else { panic!("{board:?}") };
    world.write_secret("a.key", scripted::KEY).unwrap();
    let address = format!("tcp://127.0.0.1:{port}");
    let add = ["board", "add", "small", &address, "--key-file", "a.key", "--unchecked"];
    assert_eq!(world.run(N2N, &add, DEADLINE).unwrap().code, Some(0));
    for verb in ["measure", "ship"] {
        let finished =
            world.run(N2N, &[verb, "depthwise.script.onnx", "--board", "small"], DEADLINE).unwrap();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let told = finished.line("error: ").unwrap();
        assert!(
            told.contains("KiB with its weights, and small gives a model at most 1000 B of memory now"),
            "{told}"
        );
    }
    assert_eq!(*calls.lock().unwrap(), [Call::Memory, Call::Memory], "nothing was sent");
}

#[test]
fn what_is_no_model_is_refused_by_what_it_is() {
    let world = world(&["state.pth", "bad_html.onnx", "bad_empty.onnx", "bad_truncated.onnx"]);
    for (file, what, mend) in [
        ("state.pth", "a PyTorch file", "torch.onnx.export"),
        ("bad_html.onnx", "an HTML page", "download it again"),
        ("bad_empty.onnx", "an empty file", "again"),
        ("bad_truncated.onnx", "cut-off", "download it or export it again"),
    ] {
        let finished = world.run(N2N, &["measure", file], DEADLINE).unwrap();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let told = [finished.line("error: ").unwrap(), finished.line("hint: ").unwrap()].join("\n");
        assert!(told.contains(what) && told.contains(mend), "{file}: {told}");
    }
}
