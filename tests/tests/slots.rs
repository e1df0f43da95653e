//! A board's students through everything that can happen to them, with the real programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use n2n::shipping::{self, Facts, Shipment, SigningKey};
use n2n_protocol::{Digest, Golden, Model, generator};
use n2n_tests::board::{Board, killing_program};
use n2n_tests::{World, candidate, snapshot, wait_for};
use serde_json::Value;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// For whatever is to happen, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(1);

fn name(status: &Value, slot: &str) -> Option<String> {
    status[slot]["name"].as_str().map(str::to_owned)
}

#[track_caller]
fn shipped(board: &Board<'_>, line: &str) -> String {
    let finished = board.host(line).unwrap();
    assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    finished.stdout
}

/// What `n2n status` shows now, as it was read and accepted; numbers are this moment's.
fn hold_status(board: &Board<'_>, name: &str) {
    let told = snapshot::times_masked(&shipped(board, "status"));
    snapshot::text("status", name, "n2n status --board pi", &snapshot::numbers_masked(&told));
}

/// The status after something, waited for.
fn until(board: &Board<'_>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, DEADLINE, || board.status().ok().filter(&wanted)).unwrap()
}

#[test]
fn a_full_disk_stops_neither_roll_back_nor_start_nor_status_and_uploads_leave_room() {
    let world = World::new().unwrap();
    let told = killing_program(&world).unwrap();
    // Twice the reserve: uploads have half of it.
    let mut board = Board::on_disk(&world, N2N, AGENT, 17, &told).unwrap();
    let one = board.student("one", 1).unwrap();
    let two = board.student("two", 2).unwrap();
    board.student("three", 3).unwrap();
    shipped(&board, "ship one.onnx");
    shipped(&board, "ship two.onnx");

    // More than there is beside the reserve: refused before a byte is written, and nothing stays.
    let mut client = board.client().unwrap();
    let free = client.status().unwrap().disk.free_bytes;
    let refused = client.put(&vec![7; 10 << 20], &mut |_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("no room") && refused.contains("stay free"), "{refused}");
    assert!(client.status().unwrap().disk.free_bytes >= free);
    drop(client);

    // On trial when the disk is full and the agent dies.
    board.ship_with_a_host_that_dies("three.onnx").unwrap();
    assert_eq!(name(&board.status().unwrap(), "active").as_deref(), Some("doomed"));
    board.fill().unwrap();
    board.restart().unwrap();
    let status = until(&board, "the end of the trial", |status| status["trial"].is_null());
    assert_eq!(name(&status, "active").as_deref(), Some("two"), "{status}");
    assert_eq!((board.opened(), &status["disk"]["free_bytes"]), (Some(two), &0.into()), "{status}");
    hold_status(&board, "full-disk");
    // What was confirmed before stays reachable too.
    shipped(&board, "rollback");
    assert_eq!(board.opened(), Some(one));
    board.restart().unwrap();
    assert_eq!(name(&board.status().unwrap(), "active").as_deref(), Some("one"));
    let refused = board.host("ship two.onnx").unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("no room"), "{}", refused.stderr);

    // With room again everything is as before.
    fs::remove_file(board.data().join("filling")).unwrap();
    shipped(&board, "ship two.onnx");
    assert_eq!(board.opened(), Some(two));
}

#[test]
fn a_folder_that_cannot_be_written_leaves_a_board_that_measures_and_tells() {
    let world = World::new().unwrap();
    let mut board = Board::on_disk(&world, N2N, AGENT, 17, "").unwrap();
    let one = board.student("one", 1).unwrap();
    shipped(&board, "ship one.onnx");
    board.kill().unwrap();
    board.remount("ro").unwrap();
    board.start().unwrap();
    let status = board.status().unwrap();
    assert_eq!((name(&status, "active").as_deref(), board.opened()), (Some("one"), Some(one)), "{status}");
    assert!(status["active"]["verified_at_unix_s"].is_number(), "{status}");
    shipped(&board, "measure one.onnx --time 5s --precision 50");
    let refused = board.host("ship one.onnx").unwrap();
    assert_eq!(refused.code, Some(0), "it is active already: {}", refused.stderr);
    board.student("two", 2).unwrap();
    let refused = board.host("ship two.onnx").unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("Read-only"), "{}", refused.stderr);
}

#[test]
fn two_hosts_that_die_after_activation_cost_nothing_and_a_deadline_ends_what_they_left() {
    let world = World::new().unwrap();
    let configuration = format!("trial = \"8s\"\n{}", killing_program(&world).unwrap());
    let board = Board::new(&world, N2N, AGENT, &configuration).unwrap();
    let [_, one, ..] = [0, 1, 2, 3].map(|seed| board.student(&format!("s{seed}"), seed).unwrap());
    shipped(&board, "ship s0.onnx");
    shipped(&board, "ship s1.onnx");
    board.ship_with_a_host_that_dies("s2.onnx").unwrap();
    board.ship_with_a_host_that_dies("s3.onnx").unwrap();
    let status = board.status().unwrap();
    let way_back = &status["way_back"]["model_sha256"];
    assert_eq!(
        (way_back, &status["trial"]["id"]),
        (&one.to_string().into(), &status["active"]["id"]),
        "{status}"
    );
    assert!(status["trial"]["seconds_left"].as_u64().unwrap() <= 8, "{status}");
    hold_status(&board, "two-killed-shipments");
    let status = until(&board, "the deadline", |status| status["trial"].is_null());
    assert_eq!((board.opened(), name(&status, "active").as_deref()), (Some(one), Some("s1")), "{status}");
    let notice = status["notices"][0]["text"].as_str().unwrap();
    assert_eq!(notice, "nobody confirmed student `doomed` within 8 s: back to `s1`");
    let heard = fs::read_to_string(world.path().join("heard")).unwrap();
    assert!(heard.ends_with("activated doomed\nactivated doomed\nrolled_back s1\n"), "{heard}");
    // The one before gave its slot to the second of the two.
    let further = board.host("rollback").unwrap();
    assert_eq!(further.code, Some(1));
    assert!(further.stderr.contains("no confirmed student"), "{}", further.stderr);
}

#[test]
fn the_same_student_twice_changes_nothing_and_says_so() {
    let world = World::new().unwrap();
    let told = killing_program(&world).unwrap();
    let board = Board::new(&world, N2N, AGENT, &told).unwrap();
    let one = board.student("one", 1).unwrap();
    board.student("two", 2).unwrap();
    shipped(&board, "ship one.onnx");
    shipped(&board, "ship two.onnx");
    let said = shipped(&board, "ship two.onnx");
    assert!(said.contains("two is already active on pi; nothing changed"), "{said}");
    let status = board.status().unwrap();
    assert_eq!(status["way_back"]["model_sha256"], one.to_string(), "{status}");
    hold_status(&board, "the-same-student-twice");
    // Left on trial by a host that died, it is taken over by the next.
    board.student("three", 3).unwrap();
    board.ship_with_a_host_that_dies("three.onnx").unwrap();
    let said = shipped(&board, "ship three.onnx");
    assert!(said.contains("latency in the slot"), "{said}");
    let status = board.status().unwrap();
    assert_eq!((&status["trial"], name(&status, "active").as_deref()), (&Value::Null, Some("doomed")));
}

#[test]
fn what_is_asked_after_activation_is_the_file_that_applications_open() {
    let world = World::new().unwrap();
    // The user's program spoils the file in the slot; the blob in the store stays as it is.
    let text = "#!/bin/sh\n[ \"$N2N_NAME\" != spoilt ] || [ $N2N_EVENT != activated ] || \
                dd if=/dev/zero of=\"$N2N_MODEL\" bs=1 seek=3000 count=4000 conv=notrunc 2>/dev/null\n";
    let program = world.write("spoil", text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let configuration = format!("on_switch = \"{}\"\n", program.display());
    let board = Board::new(&world, N2N, AGENT, &configuration).unwrap();
    let one = board.student("one", 1).unwrap();
    board.student("two", 2).unwrap();
    shipped(&board, "ship one.onnx");
    let spoilt = board.host("ship two.onnx --name spoilt").unwrap();
    assert_eq!(spoilt.code, Some(1), "{}", spoilt.stderr);
    assert!(spoilt.stderr.contains("rolled back"), "{}", spoilt.stderr);
    assert_eq!(board.opened(), Some(one));
}

#[test]
fn a_damaged_student_gives_way_and_the_status_says_so() {
    let world = World::new().unwrap();
    let mut board = Board::new(&world, N2N, AGENT, "").unwrap();
    let one = board.student("one", 1).unwrap();
    board.student("two", 2).unwrap();
    shipped(&board, "ship one.onnx");
    shipped(&board, "ship two.onnx");
    board.kill().unwrap();
    let path = board.data().join("slots/active/model.onnx");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    board.start().unwrap();
    assert_eq!(board.opened_when_settled().unwrap(), Some(one));
    let told = board.host("status").unwrap().stdout;
    let notice = told.lines().find(|line| line.contains("is damaged (digest ")).unwrap_or_default();
    assert!(notice.contains("student `two` in slot-b") && notice.ends_with("back to `one`"), "{told}");
    assert!(told.lines().any(|line| line.contains("way back") && line.contains('-')), "{told}");
}

#[test]
fn a_damaged_way_back_or_state_costs_nothing_but_itself_and_the_status_says_so() {
    let world = World::new().unwrap();
    let mut board = Board::new(&world, N2N, AGENT, "").unwrap();
    let [_, two] = [1, 2].map(|seed| board.student(&format!("s{seed}"), seed).unwrap());
    shipped(&board, "ship s1.onnx");
    shipped(&board, "ship s2.onnx");
    board.kill().unwrap();
    let path = board.data().join("slots/slot-a/model.onnx");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    board.start().unwrap();
    until(&board, "the look at the way back", |status| {
        status["notices"].as_array().is_some_and(|notices| !notices.is_empty())
    });
    assert_eq!(board.opened(), Some(two));
    hold_status(&board, "damaged-previous");
    let refused = board.host("rollback").unwrap();
    assert_eq!((refused.code, board.opened()), (Some(1), Some(two)), "{}", refused.stderr);

    board.kill().unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for copy in ["state-0.toml", "state-1.toml"] {
        fs::write(board.data().join("slots").join(copy), "checksum = \"torn").unwrap();
    }
    board.start().unwrap();
    assert_eq!(board.opened_when_settled().unwrap(), Some(two));
    hold_status(&board, "damaged-state");
}

#[test]
fn a_student_for_another_class_of_board_is_shipped_only_by_force() {
    let world = World::new().unwrap();
    let board = Board::new(&world, N2N, AGENT, "class = \"cabinet-3\"\n").unwrap();
    board.student("one", 1).unwrap();
    shipped(&board, "ship one.onnx");
    let status = board.status().unwrap();
    assert_eq!(status["active"]["target"], "cabinet-3", "made for the board it went to");
    let number = status["active"]["number"].as_u64().unwrap();
    let kept = fs::read_to_string(world.path().join("home/bundle.number")).unwrap();
    assert_eq!(kept.trim().parse(), Ok(number));
    // Made for another board, or by a user whose clock is slow and whose memory is lost.
    let onnx = candidate::student(2);
    let input = generator::input(3, candidate::PIXELS);
    let facts = |target: &str, number| Facts {
        name: "two".into(),
        input: Model::onnx(Digest([0; 32])).input,
        execution: candidate::execution(),
        classes: vec![],
        target: target.into(),
        number,
        golden: Golden { input_seed: 3, logits: candidate::logits_of(2, &input), tolerance: 1e-3 },
        latency_limit_ns: None,
    };
    let key = SigningKey::load_or_create(&world.path().join("home/signing.key")).unwrap();
    let mut client = board.client().unwrap();
    let mut ship = |facts, force| {
        let shipment = Shipment { onnx: &onnx, input_len: candidate::PIXELS, facts, force };
        shipping::ship(&mut client, &shipment, &key, &mut |_| {})
    };
    let other = ship(facts("cabinet-4", number + 1), false).unwrap_err().to_string();
    for part in ["`cabinet-4`", "`cabinet-3`", "--force"] {
        assert!(other.contains(part), "{part} in {other}");
    }
    let older = ship(facts("", number - 1), false).unwrap_err().to_string();
    assert!(older.contains(&format!("seen {number}")) && older.contains("--force"), "{older}");
    assert!(ship(facts("cabinet-4", 1), true).unwrap().check.is_some());
}

#[test]
fn a_mistake_in_the_boards_own_configuration_is_named() {
    let world = World::new().unwrap();
    world.write("data/agent.toml", "trail = \"5min\"\n").unwrap();
    let made = world.run(AGENT, &["key", "--data", "data"], DEADLINE).unwrap();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let ended = world.run(AGENT, &["serve", "--listen", "127.0.0.1:0", "--data", "data"], DEADLINE).unwrap();
    assert_eq!(ended.code, Some(1));
    for part in ["data/agent.toml", "line 1", "`trail`", "`trial`"] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
}
