//! ONNX files of other programs: measured and shipped as they are, or refused by what they are.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use n2n_tests::World;

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
    let name = shipped.json().unwrap()["active"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name, "depthwise.script (unverified by a second engine)");
    let status = world.run(N2N, &["status"], DEADLINE).unwrap();
    assert!(status.stdout.contains("unverified by a second engine"), "{}", status.stdout);
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
