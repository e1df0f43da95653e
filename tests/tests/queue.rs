//! The line before a board: who is in it, that a ship is never starved in it, and that uploads take their turn.

use n2n::board::{Client, Endpoint, LocalProgram};
use n2n_protocol::{Activity, MeasurePlan};
use n2n_tests::candidate::{model, plan};
use n2n_tests::{World, small, wait_for};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// For a step of these, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(2);

/// An agent that listens, and how to reach it.
struct Served {
    agent: n2n_tests::Running,
    endpoint: Endpoint,
}

fn serve(world: &World) -> Served {
    let made = world.run(AGENT, &["key", "--key-file", "agent.key"], DEADLINE).unwrap();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let words = ["serve", "--listen", "127.0.0.1:0", "--key-file", "agent.key", "--data", "agent"];
    let agent = world.start(AGENT, &words).unwrap();
    let line = agent.next_line(DEADLINE).unwrap();
    let address = line.strip_prefix("listening ").unwrap();
    let add = ["board", "add", "pi", &format!("tcp://{address}"), "--key-file", "agent.key"];
    let added = world.run(N2N, &add, DEADLINE).unwrap();
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let (host, port) = address.rsplit_once(':').unwrap();
    let key = std::fs::read_to_string(world.path().join("agent.key")).unwrap();
    let endpoint = Endpoint::Tcp {
        host: host.to_owned(),
        port: port.parse().unwrap(),
        key: key.trim().parse().unwrap(),
    };
    Served { agent, endpoint }
}

/// Some hundred milliseconds of measuring, so that there is always somebody in the line.
fn busy(model: n2n_protocol::Digest) -> MeasurePlan {
    MeasurePlan { samples_per_process: 300, ..plan(model) }
}

#[test]
fn a_ship_is_not_starved_by_back_to_back_measurements_nor_they_by_it() {
    let world = small::world(N2N);
    let Served { mut agent, endpoint } = serve(&world);
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
    let measuring = std::thread::spawn(move || {
        let mut client = Client::connect(&endpoint).unwrap();
        let digest = client.put(&model(), &mut |_, _| {}).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            client.measure(&busy(digest), &mut |_| {}).unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let measured = || rounds.load(Ordering::Relaxed);
    wait_for("a measurement", DEADLINE, || (measured() > 0).then_some(())).unwrap();
    for ship in 0..6 {
        let before = measured();
        let finished = world.run(N2N, &["ship", "teacher.onnx", "--board", "pi"], DEADLINE).unwrap();
        assert_eq!(finished.code, Some(0), "ship {ship}: {}", finished.stderr);
        wait_for("a measurement after it", DEADLINE, || (measured() > before).then_some(())).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    measuring.join().unwrap();
    let status = world.run(N2N, &["status", "--board", "pi", "--json"], DEADLINE).unwrap().json().unwrap();
    assert!(status["trial"].is_null() && !status["active"].is_null(), "{status}");
    agent.kill().unwrap();
}

fn local(data: &Path) -> Endpoint {
    Endpoint::Local(LocalProgram { program: AGENT.into(), prefix: vec![], data: data.to_owned() })
}

#[test]
fn the_line_is_seen_by_all_and_an_upload_takes_its_turn_in_it() {
    let world = World::new().unwrap();
    let Served { mut agent, endpoint } = serve(&world);
    let mut first = Client::connect(&endpoint).unwrap();
    let digest = first.put(&model(), &mut |_, _| {}).unwrap();
    let flag = first.cancel_flag();
    let measuring = std::thread::spawn(move || {
        let endless =
            MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 20_000, ..plan(digest) };
        first.measure(&endless, &mut |_| {})
    });
    let mut third = Client::connect(&endpoint).unwrap();
    let mut line = |verbs: &[&str]| {
        wait_for(&format!("{verbs:?} in the line"), DEADLINE, || {
            let queue = third.status().unwrap().queue;
            (queue.iter().map(|turn| turn.verb.as_str()).eq(verbs.iter().copied())).then_some(queue)
        })
        .unwrap()
    };
    line(&["measure"]);
    let mut second = Client::connect(&endpoint).unwrap();
    let uploading = std::thread::spawn(move || {
        let blob = vec![7; 3 * n2n_protocol::limits::CHUNK_BYTES];
        second.put(&blob, &mut |_, _| {})
    });
    let queue = line(&["measure", "put"]);
    assert!(queue.iter().all(|turn| turn.client.contains(&std::process::id().to_string())), "{queue:?}");
    flag.store(true, Ordering::Relaxed);
    assert!(measuring.join().unwrap().is_err(), "it was cancelled");
    assert!(uploading.join().unwrap().is_ok(), "it waited, and was not refused");
    line(&[]);
    agent.kill().unwrap();
}

#[test]
fn a_client_that_is_lost_while_it_waits_leaves_the_line() {
    let data = tempfile::tempdir().unwrap();
    // Two agents of one folder: the second one's line waits for the first one's.
    let mut first = Client::connect(&local(data.path())).unwrap();
    let mut second = Client::connect(&local(data.path())).unwrap();
    let digest = first.put(&model(), &mut |_, _| {}).unwrap();
    second.put(&model(), &mut |_, _| {}).unwrap();
    let flag = first.cancel_flag();
    let (says, begun) = std::sync::mpsc::channel();
    let measuring = std::thread::spawn(move || {
        let endless =
            MeasurePlan { min_processes: 8, max_processes: 8, samples_per_process: 20_000, ..plan(digest) };
        let ended = first.measure(&endless, &mut |_| {
            // Heard once; later nobody listens.
            let _ = says.send(());
        });
        (ended.is_err(), first)
    });
    begun.recv_timeout(DEADLINE).expect("the first one has the board");
    let cancel = second.cancel_flag();
    let given_up = second.measure(&plan(digest), &mut |now| {
        if matches!(now.activity, Activity::Waiting { .. }) {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    assert!(given_up.is_err(), "it was cancelled while it waited");
    flag.store(true, Ordering::Relaxed);
    let (cancelled, mut first) = measuring.join().unwrap();
    assert!(cancelled);
    first.cancel_flag().store(false, Ordering::Relaxed);
    // Had the one that gave up kept the place of the next agent, this would wait for ever.
    assert!(first.measure(&plan(digest), &mut |_| {}).is_ok());
    assert!(first.status().unwrap().queue.is_empty());
}
