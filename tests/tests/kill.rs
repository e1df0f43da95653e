//! Killed in mid-search: agent, host, and both again. Runs the real programs, as a user would go on with them.
//!
//! What matters most (ARCHITECTURE.md#what-always-holds): a fault of the world is never scored as if it were a student's.

use std::collections::BTreeSet;
use std::time::Duration;

use n2n_tests::{Finished, Process, Running, World, signal, wait_for};
use serde_json::Value;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");

/// For a whole run of these small ones, or a step of it, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);
/// For whatever is to be gone at once; an agent gives its work 2 s to end.
const SOON: Duration = Duration::from_secs(20);

const STOPPED: i32 = 1;
const BOARD_UNAVAILABLE: i32 = 4;

/// The simple students, which come first, and as many proposals again; a memory that all keep, so that the board is asked.
const COMPRESS: &str = "compress --teacher teacher.onnx --data fashion-mnist:images --limit params=0.9x \
                        --limit model_memory=9x --budget 20candidates --finalists 1 --final-epochs 1 --out run --json";
const RESUME: &str = "compress --resume --out run --json";

/// A user with a small teacher and a few images.
fn world() -> World {
    n2n_tests::small::world(N2N)
}

fn start(world: &World, line: &str) -> Running {
    world.start(N2N, &line.split_whitespace().collect::<Vec<_>>()).unwrap()
}

fn done(world: &World, line: &str) -> Finished {
    let finished = start(world, line).finish(DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{line}\n{}", finished.stderr);
    finished
}

/// The journal's whole lines.
fn journal(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.path().join("run/trials.jsonl")).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

fn records(world: &World, kind: &str) -> Vec<Value> {
    let all = journal(world).into_iter().map(|line| serde_json::from_str(&line).unwrap());
    all.filter(|record: &Value| record["kind"] == kind).collect()
}

/// Waits until the run has scored candidates for that purpose; it still has work to do then.
fn in_the_middle_of(world: &World, run: &mut Running, purpose: &str) {
    wait_for("candidates in the journal", DEADLINE, || {
        assert!(run.is_running().unwrap(), "the run ended too early");
        records(world, "trial").iter().any(|trial| trial["purpose"] == purpose).then_some(())
    })
    .unwrap();
}

fn agents(world: &World) -> Vec<Process> {
    let mut processes = world.processes().unwrap();
    processes.retain(|process| process.command.contains(" serve "));
    processes
}

/// Waits until nothing that this world started is alive.
fn nothing_is_left(world: &World) {
    let left =
        wait_for("the end of all processes", SOON, || world.processes().unwrap().is_empty().then_some(()));
    assert!(left.is_ok(), "{left:?}: {:?}", world.processes());
}

/// The command in a message that says how to go on.
fn advice(finished: &Finished) -> String {
    let hint = finished.line("hint: ").unwrap_or_else(|| panic!("no hint:\n{}", finished.stderr));
    let (_, command) = hint.split_once("n2n ").unwrap_or_else(|| panic!("no command: {hint}"));
    assert_eq!(command, "compress --resume --out run", "{hint}");
    format!("{command} --json")
}

/// The run has a student, and every candidate was scored once, for what it is.
fn is_complete(world: &World, finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let result = finished.json().unwrap();
    assert!(result["student"]["test_accuracy"].as_f64().unwrap() > 0.3, "{result}");
    for file in ["student.onnx", "summary.json"] {
        assert!(world.path().join("run").join(file).is_file(), "{file}");
    }
    let trials = records(world, "trial");
    let count = |name: &str| result["counts"][name].as_u64().unwrap() as usize;
    assert_eq!(count("proposed") + count("promoted"), trials.len(), "{result}");
    let (mut places, mut proposals) = (BTreeSet::new(), 0);
    for (index, trial) in trials.iter().enumerate() {
        assert_eq!(trial["index"], index, "{trial}");
        match trial["outcome"].as_str().unwrap() {
            "trained" => {
                let accuracy = trial["accuracy"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&accuracy), "{trial}");
                assert!(trial["resources"]["measured"]["latency_ns"].as_u64().unwrap() > 0, "{trial}");
            }
            "skipped" => {}
            "infeasible" => {
                let reason = trial["reason"].as_str().unwrap();
                for fault in ["unavailable", "link", "agent", "connection", "cancel", "silent", "killed"] {
                    assert!(!reason.contains(fault), "a fault was scored: {trial}");
                }
            }
            other => panic!("{other}: {trial}"),
        }
        let place = ["batch", "rollout"].map(|key| trial[key].to_string());
        assert!(places.insert(place), "scored twice: {trial}");
        let is_proposal = ["simple", "explore"].iter().any(|purpose| trial["purpose"] == *purpose);
        proposals += usize::from(is_proposal && trial["rung"] == "inherited");
    }
    assert_eq!(proposals, 20, "the budget");
    is_done_once(world);
    assert_eq!(
        milestones(world, "measured").len(),
        0,
        "no limit asks for a careful measurement of a finalist"
    );
    nothing_is_left(world);
}

/// How far the job has come, by kind.
fn milestones(world: &World, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(world.path().join("run/journey.jsonl")).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let mut all: Vec<Value> = whole.map(|line| serde_json::from_str(line).unwrap()).collect();
    all.retain(|line| line["milestone"]["kind"] == kind);
    all
}

/// No part of the finale was done twice.
fn is_done_once(world: &World) {
    for (kind, name) in [("measured", "network"), ("trained", "training"), ("checked", "weights")] {
        let all = milestones(world, kind);
        let names: BTreeSet<String> =
            all.iter().map(|line| line["milestone"][name].as_str().unwrap().to_owned()).collect();
        assert_eq!(names.len(), all.len(), "{kind} twice: {all:?}");
    }
    for kind in ["searched", "chosen", "verified", "shipped"] {
        assert_eq!(milestones(world, kind).len(), 1, "{kind}");
    }
}

#[test]
fn a_killed_host_leaves_nothing_behind_and_its_run_goes_on_after_its_last_whole_line() {
    let world = world();
    let mut host = start(&world, COMPRESS);
    in_the_middle_of(&world, &mut host, "simple");
    assert!(!agents(&world).is_empty(), "a local board is a process of its own");
    host.kill().unwrap();
    let killed = host.finish(SOON).unwrap();
    assert_eq!(killed.code, None, "{}", killed.stderr);
    nothing_is_left(&world);

    let before = journal(&world);
    // A kill in the middle of a write leaves half a line.
    let path = world.path().join("run/trials.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(br#"{"kind":"trial","index":"#);
    std::fs::write(&path, bytes).unwrap();

    let resumed = done(&world, RESUME);
    is_complete(&world, &resumed);
    let after = journal(&world);
    assert_eq!(after[..before.len()], before, "earlier lines are never touched");
    assert_eq!(records(&world, "resumed").len(), 1);
}

#[test]
fn a_killed_worker_or_local_agent_is_started_again_and_the_search_goes_on() {
    let world = world();
    let mut host = start(&world, COMPRESS);
    in_the_middle_of(&world, &mut host, "simple");
    let first = agents(&world);
    assert_eq!(first.len(), 1, "{first:?}");
    // Its worker first: one that is measuring right now, and does not live long.
    wait_for("a worker to kill", DEADLINE, || {
        let mut workers = world.processes().unwrap().into_iter().filter(|it| it.command.contains(" worker"));
        workers.any(|worker| signal(worker.id, "KILL").is_ok()).then_some(())
    })
    .unwrap();
    in_the_middle_of(&world, &mut host, "explore");
    assert_eq!(agents(&world), first, "an agent outlives its worker");
    signal(first[0].id, "KILL").unwrap();
    wait_for("another agent", DEADLINE, || {
        assert!(host.is_running().unwrap(), "the run ended");
        agents(&world).into_iter().find(|agent| agent.id != first[0].id)
    })
    .unwrap();
    let finished = host.finish(DEADLINE).unwrap();
    is_complete(&world, &finished);
    assert!(records(&world, "fault").is_empty(), "no pause was needed");
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_does() {
    let world = world();
    let mut host = start(&world, COMPRESS);
    in_the_middle_of(&world, &mut host, "simple");
    signal(host.id(), "INT").unwrap();
    let stopped = host.finish(SOON).unwrap();
    assert_eq!(stopped.code, Some(STOPPED), "{}", stopped.stderr);
    assert_eq!(stopped.stdout, "", "there is no result yet");
    nothing_is_left(&world);
    let before = journal(&world);

    // Other images, and flags that would make it another run.
    let images = world.path().join("images/train-images-idx3-ubyte");
    let mut bytes = std::fs::read(&images).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&images, &bytes).unwrap();
    let refused = start(&world, RESUME).finish(DEADLINE).unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("cannot resume: `digests.data` differs"), "{}", refused.stderr);
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&images, &bytes).unwrap();
    for line in ["--seed 0", "--budget 19candidates", "--budget 5min"] {
        let refused = start(&world, &format!("{RESUME} {line}")).finish(DEADLINE).unwrap();
        assert_eq!(refused.code, Some(2), "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains(&line[..6]), "{line}: {}", refused.stderr);
    }

    let finished = done(&world, &advice(&stopped));
    is_complete(&world, &finished);
    let after = journal(&world);
    assert_eq!(after[..before.len()], before);

    // With more to spend it searches on, from any folder; nothing of before is done again.
    let out = world.path().join("run").display().to_string();
    let words = ["compress", "--resume", "--out", &out, "--budget", "30candidates", "--json"];
    let output = world.command(N2N, &words).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let extended: Value = serde_json::from_slice(&output.stdout).unwrap();
    let more =
        extended["candidates"].as_u64().unwrap() - finished.json().unwrap()["candidates"].as_u64().unwrap();
    assert!(more >= 10, "{extended}");
    assert_eq!(journal(&world)[..after.len()], after);
    let event = &milestones(&world, "extended")[0]["milestone"];
    assert_eq!((&event["from"]["candidates"], &event["to"]["candidates"]), (&20.into(), &30.into()));
    assert_eq!(milestones(&world, "verified").len(), 2, "the finale is done for what was found since");
}

/// Trains for some seconds, keeping its state after each step.
const TRAIN: &str = "teacher train --arch vgg11 --width 0.1 --data fashion-mnist:images --epochs 6 --out t.onnx \
                     --checkpoint-interval 0s --json";

#[test]
fn a_teachers_training_goes_on_inside_after_a_kill_and_after_ctrl_c() {
    let (whole, world) = (world(), world());
    let without_time = |finished: &Finished| {
        let mut result = finished.json().unwrap();
        result.as_object_mut().unwrap().remove("seconds");
        result
    };
    let expected = without_time(&done(&whole, TRAIN));
    let checkpoint = world.path().join("t.onnx.checkpoint");
    for kill in ["KILL", "INT"] {
        let before = std::fs::read(&checkpoint).ok();
        let mut training = start(&world, TRAIN);
        wait_for("a later state", DEADLINE, || {
            assert!(training.is_running().unwrap(), "the training ended too early");
            std::fs::read(&checkpoint).ok().filter(|now| Some(now) != before.as_ref())
        })
        .unwrap();
        signal(training.id(), kill).unwrap();
        let killed = training.finish(SOON).unwrap();
        assert_eq!(killed.code, if kill == "INT" { Some(STOPPED) } else { None }, "{}", killed.stderr);
        assert_eq!(killed.stderr.contains("going on after step"), kill == "INT", "{}", killed.stderr);
        assert!(!world.path().join("t.onnx").exists());
    }
    let resumed = without_time(&done(&world, TRAIN));
    assert_eq!(resumed, expected, "every epoch is in the result, also those before the kill");
    let bytes = |world: &World| std::fs::read(world.path().join("t.onnx")).unwrap();
    assert!(bytes(&world) == bytes(&whole), "the same teacher, bit for bit");
    assert!(!checkpoint.exists(), "nothing is left behind");
}

#[test]
fn a_search_outlives_its_remote_agent_or_pauses_until_it_is_back() {
    let world = world();
    let made = world.run(AGENT, &["key", "--key-file", "agent.key"], SOON).unwrap();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let serve = |address: &str| {
        let words = ["serve", "--listen", address, "--key-file", "agent.key", "--data", "agent"];
        let agent = world.start(AGENT, &words).unwrap();
        let line = agent.next_line(SOON).unwrap();
        (agent, line.strip_prefix("listening ").unwrap().to_owned())
    };
    let (mut agent, address) = serve("127.0.0.1:0");
    done(&world, &format!("board add pi tcp://{address} --key-file agent.key"));

    // Back at once: the host finds it again.
    let mut host = start(&world, &format!("{COMPRESS} --board pi --wait-board 15s"));
    in_the_middle_of(&world, &mut host, "simple");
    agent.kill().unwrap();
    agent.finish(SOON).unwrap();
    let (mut agent, _) = serve(&address);
    in_the_middle_of(&world, &mut host, "explore");
    assert!(records(&world, "fault").is_empty(), "no pause was needed");

    // Gone for good: the host pauses.
    agent.kill().unwrap();
    agent.finish(SOON).unwrap();
    let paused = host.finish(DEADLINE).unwrap();
    assert_eq!(paused.code, Some(BOARD_UNAVAILABLE), "{}", paused.stderr);
    assert_eq!(paused.stdout, "", "there is no result yet");
    let error = paused.line("error: ").unwrap();
    assert!(error.contains(&format!("pi (tcp://{address})")) && error.contains("unavailable"), "{error}");
    let calm = paused.stderr.lines().filter(|line| line.contains("is lost: waiting up to 15s")).count();
    assert!((1..=2).contains(&calm), "one line an outage:\n{}", paused.stderr);
    assert!(!paused.stderr.contains("not yet"), "{}", paused.stderr);
    let fault = records(&world, "fault").pop().expect("the journal says why it stopped");
    assert!(fault["reason"].as_str().unwrap().contains("unavailable"), "{fault}");
    let before = journal(&world);

    // Back after a while: the run goes on as the message says.
    let (mut agent, _) = serve(&address);
    let finished = start(&world, &advice(&paused)).finish(DEADLINE).unwrap();
    agent.kill().unwrap();
    agent.finish(SOON).unwrap();
    is_complete(&world, &finished);
    assert_eq!(journal(&world)[..before.len()], before);
}

/// With a limit that makes latency count, and that every student keeps whatever the noise: two finalists are measured,
/// each is retrained from two seeds, the better one is distilled.
const FINALE: &str = "compress --teacher teacher.onnx --data fashion-mnist:images --limit params=0.9x \
                      --limit latency=9x --budget 10candidates --finalists 2 --final-epochs 10 --out run --json \
                      --checkpoint-interval 0s";
const RESUME_FINALE: &str = "compress --resume --out run --json --checkpoint-interval 0s";

/// Starts, waits until there is something to see, and kills.
fn kill_when(world: &World, line: &str, what: &str, seen: impl Fn() -> bool) {
    assert!(!seen(), "{what}: too late");
    let mut host = start(world, line);
    wait_for(what, DEADLINE, || {
        assert!(host.is_running().unwrap(), "{what}: the run ended too early");
        seen().then_some(())
    })
    .unwrap();
    host.kill().unwrap();
    let killed = host.finish(SOON).unwrap();
    assert_eq!(killed.code, None, "{what}: {}", killed.stderr);
}

/// A world whose run was killed three times in its search, and once more as soon as the search was over.
fn searched() -> World {
    let world = world();
    kill_when(&world, FINALE, "a teacher on the board", || !milestones(&world, "prepared").is_empty());
    let trials = |count: usize| records(&world, "trial").len() >= count;
    kill_when(&world, RESUME_FINALE, "some candidates", || trials(3));
    kill_when(&world, RESUME_FINALE, "more candidates", || trials(13));
    kill_when(&world, RESUME_FINALE, "the end of the search", || !milestones(&world, "searched").is_empty());
    world
}

/// Another user with a copy of that run.
fn copy_of(world: &World) -> World {
    let copy = n2n_tests::small::world(N2N);
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args([world.path().join("run"), copy.path().join("run")])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    copy
}

fn student(world: &World) -> Vec<u8> {
    std::fs::read(world.path().join("run/student.onnx")).unwrap()
}

/// Names of the states that unfinished trainings have kept.
fn states(world: &World) -> Vec<std::ffi::OsString> {
    let folder = std::fs::read_dir(world.path().join("run/trainings")).into_iter().flatten().flatten();
    folder.map(|entry| entry.file_name()).filter(|name| !name.to_string_lossy().starts_with('.')).collect()
}

#[test]
fn a_run_that_is_killed_ten_times_gives_the_student_of_one_that_is_not_and_ships_it_once() {
    let world = searched();
    let calm = copy_of(&world);
    done(&calm, RESUME_FINALE);
    is_done_once(&calm);

    let reached = |kind: &str, count: usize| milestones(&world, kind).len() >= count;
    kill_when(&world, RESUME_FINALE, "a finalist measured", || reached("measured", 1));
    kill_when(&world, RESUME_FINALE, "the state of a retraining", || !states(&world).is_empty());
    kill_when(&world, RESUME_FINALE, "a finalist retrained", || reached("trained", 1));
    // The same training has the same name in both runs.
    let distillation = milestones(&calm, "trained").pop().unwrap()["milestone"]["training"].clone();
    let state = world.path().join(format!("run/trainings/{}.safetensors", distillation.as_str().unwrap()));
    let now = || std::fs::read(&state).ok();
    kill_when(&world, RESUME_FINALE, "the state of the long distillation", || state.exists());
    let before = now();
    kill_when(&world, RESUME_FINALE, "a later state of it", || {
        now().is_some_and(|now| before.as_ref() != Some(&now))
    });
    kill_when(&world, RESUME_FINALE, "the student's file measured", || reached("checked", 1));
    let resumed = done(&world, RESUME_FINALE);
    is_done_once(&world);
    assert!(student(&world) == student(&calm), "the same student, bit for bit");
    assert!(states(&world).is_empty(), "no state is left");

    let lines = |world: &World| std::fs::read(world.path().join("run/journey.jsonl")).unwrap();
    let slots = || done(&world, "status --board local --json").json().unwrap();
    let (journey, active) = (lines(&world), slots());
    let again = done(&world, RESUME_FINALE);
    assert!(again.stderr.contains("this run is finished; student run/student.onnx"), "{}", again.stderr);
    assert_eq!(again.json().unwrap(), resumed.json().unwrap());
    assert!(lines(&world) == journey, "nothing was done");
    for fact in ["id", "number", "model_sha256", "staged_at_unix_s"] {
        assert_eq!(slots()["active"][fact], active["active"][fact], "{fact}");
    }
}

/// The long form, by hand: `cargo test --release --workspace --test kill -- --ignored --nocapture random_moments`.
#[test]
#[ignore = "needs minutes: run by hand"]
#[expect(clippy::print_stdout, reason = "run by hand, for its figures")]
fn finales_that_are_killed_at_random_moments_give_one_student() {
    let world = searched();
    let calm = copy_of(&world);
    let began = std::time::Instant::now();
    done(&calm, RESUME_FINALE);
    let whole = began.elapsed();
    let mut dice = 20_261_127_u64;
    for round in 0..5 {
        let world = copy_of(&world);
        let mut kills = 0;
        while kills < 10 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut host = start(&world, RESUME_FINALE);
            std::thread::sleep(whole.mul_f64(0.15 + 0.25 * (dice >> 33) as f64 / f64::from(u32::MAX >> 1)));
            if !host.is_running().unwrap() {
                break;
            }
            host.kill().unwrap();
            host.finish(SOON).unwrap();
            kills += 1;
            let (trained, states) = (milestones(&world, "trained").len(), states(&world).len());
            println!("round {round}, kill {kills}: {trained} trainings are over, {states} go on inside");
        }
        done(&world, RESUME_FINALE);
        is_done_once(&world);
        assert!(student(&world) == student(&calm), "round {round}: another student");
        println!("round {round}: {kills} kills, the same student");
    }
}
