//! What scripts rely on: results alone on standard output, documented JSON, exit code 0. Runs the real program.

use std::time::Duration;

use n2n_tests::{World, snapshot};
use serde_json::Value;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
/// Long for any of these, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(2);

fn json(world: &World, line: &str) -> Value {
    let words: Vec<&str> = line.split_whitespace().collect();
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    let value = finished.json().unwrap_or_else(|error| panic!("{line}: {error}\n{}", finished.stdout));
    assert_eq!(value["schema"], 2, "{line}");
    value
}

fn text(world: &World, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let finished = world.run(N2N, &words, DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    finished.stdout
}

#[test]
fn inspect_counts_what_the_paper_counts() {
    let world = World::new().unwrap();
    let inspected = json(&world, "teacher inspect zoo:resnet18/3x32x32/100 --json");
    snapshot::json("teacher-inspect", &inspected);
    assert_eq!(inspected["params"], 11_220_132);
    assert!(inspected["macs"].as_u64().unwrap() > 500_000_000);
    assert_eq!(inspected["units"].as_array().unwrap().len(), 9);
    let tied = |group: &Value| group["shrinkable"] == true && group["layers"].as_array().unwrap().len() > 1;
    assert!(inspected["groups"].as_array().unwrap().iter().any(tied));
    let text = text(&world, "teacher inspect zoo:resnet18/3x32x32/100");
    assert!(text.contains("11220132 (11.2 M)") && text.contains("conv 3x3 /2"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour codes where nobody sees colours");
}

#[test]
fn measuring_on_this_machine_gives_a_real_number_and_says_where() {
    let world = World::new().unwrap();
    let mut measured = json(&world, "measure zoo:vgg11@0.05 --board local --time 20s --precision 20 --json");
    // A quiet machine has none; the shape is of one that has.
    measured["disturbances"].as_array_mut().unwrap().push("a busy machine".into());
    snapshot::json("measure", &measured);
    let latency = &measured["latency_ns"];
    let number = |key: &str| latency[key].as_u64().unwrap_or_else(|| panic!("{key}: {latency}"));
    assert!(0 < number("min") && number("min") <= number("low"), "{latency}");
    assert!(number("low") <= number("median") && number("median") <= number("high"), "{latency}");
    assert!(measured["samples_ns"].as_array().unwrap().len() >= 8);
    assert!(measured["memory_bytes"]["peak_heap"].as_u64().unwrap() > 0);
    assert_eq!(measured["board"]["this_machine"], true);
    assert!(measured["golden_difference"].as_f64().unwrap() < 1e-3);

    let shown = text(&world, "measure zoo:vgg11@0.05 --time 20s --precision 20");
    let said = |name: &str| {
        let line = shown.lines().find(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("{name} is missing:\n{shown}")).contains("this machine")
    };
    for name in ["latency, median", "latency, p90", "model memory", "peak heap", "peak resident", "file"] {
        assert!(said(name), "{name} does not say where it was measured:\n{shown}");
    }
}

#[test]
fn boards_and_profiles_are_listed() {
    let world = World::new().unwrap();
    world.write_secret("pi.key", "cd".repeat(32)).unwrap();
    let added = json(&world, "board add pi-lab tcp://192.0.2.7:7117 --key-file pi.key --unchecked --json");
    snapshot::json("board-add", &added);
    let listed = json(&world, "board list --json");
    snapshot::json("board-list", &listed);
    let names: Vec<&str> =
        listed["boards"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["local", "pi-lab"]);
    let key = "cd".repeat(32);
    assert!(!text(&world, "board list").contains(&key), "keys are not shown");
    text(&world, "board remove pi-lab");
    assert_eq!(json(&world, "board list --json")["boards"].as_array().unwrap().len(), 1);

    let profiles = json(&world, "profile list --json");
    snapshot::json("profile-list", &profiles);
    let profiles = profiles["profiles"].as_array().unwrap();
    for wanted in ["raspberry-pi-zero-2w", "raspberry-pi-4b", "jetson-nano", "generic-linux", "this-machine"]
    {
        assert!(profiles.iter().any(|it| it["name"] == wanted), "{wanted}");
    }
    let shown = json(&world, "profile show raspberry-pi-5 --json");
    snapshot::json("profile-show", &shown);
    assert_eq!(shown["name"], "raspberry-pi-5");
    // What `show` prints is a profile file: it can be changed and used under its path.
    let toml = text(&world, "profile show raspberry-pi-4b");
    world.write("my-pi.toml", toml).unwrap();
    assert_eq!(json(&world, "profile show ./my-pi.toml --json")["name"], "my-pi");
}

#[test]
fn a_fresh_local_board_has_empty_slots() {
    let world = World::new().unwrap();
    let slots = json(&world, "status --json");
    snapshot::json("status-of-empty-slots", &slots);
    assert_eq!((&slots["active"], &slots["trial"]), (&Value::Null, &Value::Null));
    let board = json(&world, "board probe --json");
    snapshot::json("board-probe", &board);
    assert_eq!(board["this_machine"], true);
    assert!(board["cores"].as_u64().unwrap() > 0 && board["memory_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn the_doctor_names_what_mends_a_missing_data_set() {
    let world = World::new().unwrap();
    let finished =
        world.run(N2N, &["doctor", "--data", "cifar10:/no/such/folder", "--json"], DEADLINE).unwrap();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let checks = finished.json().unwrap()["checks"].clone();
    let images = checks.as_array().unwrap().iter().find(|it| it["what"] == "images").unwrap();
    snapshot::json("doctor-missing", images);
    assert_eq!(images["state"], "missing");
    assert!(images["mend"].as_str().unwrap().contains("cifar-10-binary.tar.gz"));
    let board = checks.as_array().unwrap().iter().find(|it| it["what"] == "board").unwrap();
    assert_eq!(board["state"], "fine", "{board}");
}

#[test]
fn the_configuration_file_is_used_and_flags_win() {
    let world = World::new().unwrap();
    world.write("n2n.toml", "board = 'no-such-board'\n").unwrap();
    let failed = world.run(N2N, &["status"], DEADLINE).unwrap();
    assert_eq!(failed.code, Some(2), "{}", failed.stderr);
    assert!(failed.line("error: ").unwrap().contains("no-such-board"));
    json(&world, "status --board local --json");
}

/// Tables that are the same on every machine.
#[test]
fn tables_are_those_that_were_read() {
    let world = World::new().unwrap();
    world.write_secret("pi.key", "cd".repeat(32)).unwrap();
    let hold =
        |name: &str, line: &str| snapshot::text("tables", name, &format!("n2n {line}"), &text(&world, line));
    hold("teacher-inspect", "teacher inspect zoo:resnet18@0.25/3x32x32/100");
    hold("board-add", "board add pi-lab tcp://192.0.2.7:7117 --key-file pi.key --unchecked");
    hold("board-list", "board list");
    hold("board-remove", "board remove pi-lab");
    hold("profile-list", "profile list");
    hold("profile-show", "profile show raspberry-pi-4b");
    // How much room there is, and for how long the agent has run, is this machine's.
    let line = "status --board local";
    let status = text(&world, line);
    let (slots, facts) = status.split_once("\n\n").unwrap();
    let status = format!("{slots}\n\n{}", snapshot::numbers_masked(facts));
    snapshot::text("tables", "status-of-empty-slots", &format!("n2n {line}"), &status);
}
