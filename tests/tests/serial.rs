//! Host and agent over a serial line: a real agent process, a real client, and a cable of pseudo-terminals between them.

use n2n::board::{BoardError, Client, Endpoint, Key, Patience, SerialSettings};
use n2n_protocol::{Golden, MeasurePlan, generator};
use n2n_tests::cable::Cable;
use n2n_tests::candidate::{PIXELS, answers, close, logits, model, plan};
use n2n_tests::{Running, World, wait_for};
use std::path::Path;
use std::time::{Duration, Instant};

const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");

/// Far beyond what anything here takes: reached only by a failing test.
const DEADLINE: Duration = Duration::from_mins(1);

const BAUD: u32 = 921_600;

/// A world with a key, a cable, and an agent at its end.
struct Bench {
    cable: Cable,
    agent: Option<Running>,
    key: Key,
    // Last: the folder goes when nobody uses it any more.
    world: World,
}

impl Bench {
    fn new() -> Self {
        let world = World::new().unwrap();
        let made = world.run(AGENT, &["key", "--key-file", "agent.key"], DEADLINE).unwrap();
        let key = made.stdout.parse().unwrap();
        let cable = Cable::new(world.path()).unwrap();
        let mut bench = Self { cable, agent: None, key, world };
        bench.start_agent(&[]);
        bench
    }

    fn start_agent(&mut self, more: &[&str]) -> String {
        let mut words = vec!["serve", "--serial", "ttyAGENT", "--key-file", "agent.key", "--data", "agent"];
        words.extend(more);
        let agent = self.world.start(AGENT, &words).unwrap();
        let said = agent.next_line(DEADLINE).unwrap();
        self.agent = Some(agent);
        said
    }

    fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.finish(DEADLINE).unwrap();
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(self.cable.host(), BAUD, &self.key)
    }

    fn connect(&self) -> Client {
        Client::connect(&self.endpoint()).unwrap()
    }
}

fn endpoint(device: &Path, baud: u32, key: &Key) -> Endpoint {
    Endpoint::Serial { settings: SerialSettings { device: device.to_owned(), baud }, key: key.clone() }
}

/// Everything a search asks of a board, and whether the answers are right.
fn use_board(client: &mut Client) {
    let fingerprint = client.welcome().board.fingerprint;
    assert_eq!(client.probe().unwrap().fingerprint, fingerprint);
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    let input = generator::input(3, PIXELS);
    let expected = logits(&input);
    let golden = Golden { input_seed: 3, logits: expected.clone(), tolerance: 1e-3 };
    let measured =
        client.measure(&MeasurePlan { golden: Some(golden), ..plan(digest) }, &mut |_| {}).unwrap();
    assert_eq!((measured.model, measured.board), (digest, fingerprint));
    assert!(measured.golden_difference.is_some_and(|difference| difference < 1e-3));
    let inferred = client.infer(&answers(digest), &[input]).unwrap();
    assert!(inferred.len() == 1 && close(&inferred[0], &expected), "{inferred:?} {expected:?}");
}

#[test]
fn a_board_at_a_serial_line_does_all_that_a_search_asks_for() {
    let bench = Bench::new();
    let mut client = bench.connect();
    use_board(&mut client);

    // Many frames and several chunks, in both directions of the acknowledgements.
    let blob: Vec<u8> =
        (0..1_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (before, began) = (bench.cable.carried(), Instant::now());
    client.put(&blob, &mut |_, _| {}).unwrap();
    let overhead = (bench.cable.carried() - before) as f64 / blob.len() as f64 - 1.0;
    assert!(overhead < 0.15, "{overhead} after {:?}", began.elapsed());
}

#[test]
fn one_wrong_byte_in_a_hundred_makes_it_slow_and_nothing_else() {
    let bench = Bench::new();
    bench.cable.damage(10_000);
    // A handshake of five seconds is for lines that work.
    let patience = Patience { connect: DEADLINE, ..Patience::default() };
    let mut client = Client::connect_with(&bench.endpoint(), patience).unwrap();
    use_board(&mut client);
    assert!(client.is_connected());
}

#[test]
fn a_wrong_key_is_named_and_the_right_one_is_served_afterwards() {
    let bench = Bench::new();
    let wrong = endpoint(bench.cable.host(), BAUD, &Key::generate().unwrap());
    let error = Client::connect(&wrong).err().unwrap();
    assert!(matches!(error, BoardError::WrongKey { .. }), "{error}");
    assert!(bench.connect().probe().is_ok());
}

#[test]
fn an_agent_that_is_killed_is_a_fault_and_found_again() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    bench.kill_agent();
    bench.start_agent(&[]);
    let began = Instant::now();
    let fault = client.measure(&plan(digest), &mut |_| {}).unwrap_err();
    assert!(matches!(fault, BoardError::Unavailable { .. }), "{fault}");
    assert!(began.elapsed() < Duration::from_secs(5), "the new agent says that it knows no connection");
    client.reconnect().unwrap();
    assert_eq!(client.put(&model(), &mut |done, whole| assert_eq!(done, whole)).unwrap(), digest);
    assert!(client.measure(&plan(digest), &mut |_| {}).is_ok());
}

#[test]
fn a_cable_that_is_pulled_out_and_plugged_in_again_is_found_by_both_ends() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    bench.cable.pull_out();
    assert!(matches!(client.probe(), Err(BoardError::Unavailable { .. })));
    let gone = Client::connect(&bench.endpoint()).err().unwrap();
    assert!(gone.to_string().contains("ttyHOST"), "{gone}");
    assert!(gone.hint().unwrap().contains("plugged in"));
    bench.cable.plug_in().unwrap();
    client.reconnect().unwrap();
    use_board(&mut client);
}

#[test]
fn one_program_has_a_device_and_the_second_is_told_so() {
    let bench = Bench::new();
    let mut client = bench.connect();
    let second = Client::connect(&bench.endpoint()).err().unwrap();
    assert!(second.to_string().contains("ttyHOST"), "{second}");
    assert!(client.probe().is_ok(), "the first is not disturbed");
    drop(client);
    assert!(bench.connect().probe().is_ok(), "the device is free when a client is gone");
}

#[test]
fn a_host_that_is_killed_while_it_measures_leaves_the_board_to_the_next_one() {
    let bench = Bench::new();
    let address = format!("serial://{}", bench.cable.host().display());
    let words = ["board", "add", "line", &address, "--key-file", "agent.key", "--unchecked"];
    assert_eq!(bench.world.run(N2N, &words, DEADLINE).unwrap().code, Some(0));
    let mut host = bench.world.start(N2N, &["measure", "zoo:vgg11@0.05", "--board", "line"]).unwrap();
    let worker = || bench.world.processes().unwrap().into_iter().find(|it| it.command.contains(" worker"));
    wait_for("a worker", DEADLINE, worker).unwrap();
    host.kill().unwrap();
    host.finish(DEADLINE).unwrap();
    let mut client = bench.connect();
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    assert!(client.measure(&plan(digest), &mut |_| {}).is_ok());
}

#[test]
fn nobody_at_the_other_end_is_an_unavailable_board_within_the_deadline() {
    let mut bench = Bench::new();
    bench.kill_agent();
    let patience = Patience { connect: Duration::from_millis(700), ..Patience::default() };
    let began = Instant::now();
    let error = Client::connect_with(&bench.endpoint(), patience).err().unwrap();
    assert!(error.to_string().contains("nobody answers"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_command_line_knows_serial_boards_and_an_agent_serves_both_doors() {
    let mut bench = Bench::new();
    bench.kill_agent();
    let said = bench.start_agent(&["--listen", "127.0.0.1:0", "--baud", "115200"]);
    let tcp = format!("tcp://{}", said.strip_prefix("listening ").unwrap());
    let line = format!("serial://{}?baud=115200", bench.cable.host().display());
    for (name, address) in [("net", tcp), ("line", line)] {
        let added =
            bench.world.run(N2N, &["board", "add", name, &address, "--key-file", "agent.key"], DEADLINE);
        let added = added.unwrap();
        assert_eq!(added.code, Some(0), "{}", added.stderr);
        let probed = bench.world.run(N2N, &["board", "probe", name, "--json"], DEADLINE).unwrap();
        assert_eq!(probed.code, Some(0), "{}", probed.stderr);
        assert!(probed.json().unwrap()["fingerprint"].is_string(), "{}", probed.stdout);
    }
}
