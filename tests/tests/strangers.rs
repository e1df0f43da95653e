//! Attackers without a key against the real agent, and a host that has one: every call of the host is served, from the
//! attackers' own address and from another, near and far.
//!
//! The long run prints the table of `docs/strangers.md`: see there.

use n2n::board::{Client, Endpoint, Key};
use n2n_protocol::Log;
use n2n_protocol::handshake::opening;
use n2n_tests::candidate::{model, plan};
use n2n_tests::strangers::{Crowd, Manner, usage};
use n2n_tests::{Running, World, by_hand, relay};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");

/// Far beyond what anything here takes: reached only by a failing test.
const FOR_EVER: Duration = Duration::from_mins(1);

/// One way between the far host and its board.
const FAR: Duration = Duration::from_millis(200);

/// The host's own address, and another one.
const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2))];

/// An agent, and all that a host needs to speak to it.
struct Scene {
    world: World,
    agent: Running,
    address: SocketAddr,
    far: SocketAddr,
    key: Key,
}

impl Scene {
    fn new(agent: &str) -> Self {
        let world = World::new().unwrap();
        let key = Key::generate().unwrap();
        world.write_secret("key", key.reveal()).unwrap();
        let (agent, address) = serve(&world, agent);
        let far = relay::start(address, FAR).unwrap();
        Self { world, agent, address, far, key }
    }

    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        Endpoint::Tcp { host: address.ip().to_string(), port: address.port(), key: self.key.clone() }
    }

    fn crowd(&self, manner: &Manner, from: IpAddr, connections: usize, rate: u32) -> Crowd {
        Crowd::attack(self.address, from, manner.clone(), connections, rate)
    }
}

fn serve(world: &World, agent: &str) -> (Running, SocketAddr) {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--key-file", "key", "--data", "agent"];
    let agent = world.start(agent, &serve).unwrap();
    let line = agent.next_line(FOR_EVER).unwrap();
    let address = line.strip_prefix("listening ").unwrap().parse().unwrap();
    (agent, address)
}

/// New connections, a call each; the errors of those that were not served.
fn refused(endpoint: &Endpoint, calls: usize) -> Vec<String> {
    let call = |_| Client::connect(endpoint).and_then(|mut client| client.status()).err();
    (0..calls).filter_map(call).map(|error| error.to_string()).collect()
}

/// Nobody was refused.
const NONE: [String; 0] = [];

/// Waits until a crowd has taken every place that it wants: until as many connections were made.
fn settle(crowd: &Crowd, connections: u64) {
    n2n_tests::wait_for("a crowd", FOR_EVER, || (crowd.made() >= connections).then_some(())).unwrap();
}

fn all_calls_are_served_beside(manner: impl Fn(&Key) -> Manner, connections: usize) {
    let scene = Scene::new(AGENT);
    for from in ADDRESSES {
        let crowd = scene.crowd(&manner(&scene.key), from, connections, 300);
        settle(&crowd, connections as u64);
        let (near, far) = (scene.endpoint(scene.address), scene.endpoint(scene.far));
        let distant = std::thread::spawn(move || refused(&far, 1));
        assert_eq!(refused(&near, 8), NONE, "near, attackers at {from}");
        assert_eq!(distant.join().unwrap(), NONE, "far, attackers at {from}");
        assert!(crowd.made() >= connections as u64);
    }
    let used = usage(scene.agent.id()).unwrap();
    assert!(used.resident_bytes < 200 << 20 && used.descriptors < 700, "{used:?}");
}

#[test]
fn idle_connections_shut_nobody_out() {
    all_calls_are_served_beside(|_| Manner::Idle, 600);
}

#[test]
fn dripping_connections_shut_nobody_out() {
    all_calls_are_served_beside(|key| Manner::Drip(Manner::forged_opening(key).unwrap()), 600);
}

#[test]
fn connections_that_open_and_wait_shut_nobody_out() {
    all_calls_are_served_beside(|key| Manner::Opening(Manner::forged_opening(key).unwrap()), 600);
    // One that was recorded proves nothing a second time.
    all_calls_are_served_beside(|key| Manner::Opening(opening(key).unwrap().to_vec()), 600);
}

#[test]
fn replayed_first_messages_shut_nobody_out() {
    all_calls_are_served_beside(|key| Manner::replay(key).unwrap(), 64);
    all_calls_are_served_beside(|key| Manner::old_replay(key).unwrap(), 64);
}

#[test]
fn junk_shuts_nobody_out_and_fills_no_log() {
    all_calls_are_served_beside(|_| Manner::Junk, 50);
    let scene = Scene::new(AGENT);
    let crowd = scene.crowd(&Manner::Junk, ADDRESSES[0], 50, 1000);
    settle(&crowd, 500);
    let mut client = Client::connect(&scene.endpoint(scene.address)).unwrap();
    let about_strangers = client.log_tail(1000, Log::Agent).unwrap();
    let lines = about_strangers.iter().filter(|line| line.contains("strangers")).count();
    assert!((1..=2).contains(&lines), "{about_strangers:?}");
    let counted = || (client.status().unwrap().strangers >= 500).then_some(());
    n2n_tests::wait_for("their number in the status", FOR_EVER, counted).unwrap();
}

#[test]
fn a_key_holder_that_never_greets_takes_no_session() {
    let scene = Scene::new(AGENT);
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(scene.address).unwrap();
            by_hand::initiate(&mut stream, &scene.key).unwrap();
            stream
        })
        .collect();
    assert_eq!(refused(&scene.endpoint(scene.address), 4), NONE);
    drop(silent);
}

#[test]
fn what_a_host_did_outlives_strangers_and_a_killed_agent() {
    let mut scene = Scene::new(AGENT);
    let mut client = Client::connect(&scene.endpoint(scene.address)).unwrap();
    let digest = client.put(&model(), &mut |_, _| {}).unwrap();
    client.measure(&plan(digest), &mut |_| {}).unwrap();
    let crowd = scene.crowd(&Manner::Junk, ADDRESSES[0], 50, 1000);
    settle(&crowd, 1500);
    drop(crowd);
    let told = client.log_tail(1000, Log::Audit).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    for (line, verb) in told.iter().zip(["put", "measure"]) {
        let [who, what] = [" key=default peer=127.0.0.1:", &format!("\" {verb} model={digest} ")];
        assert!(line.contains(who) && line.contains(what) && line.contains("client=\"n2n of "), "{line}");
    }
    let file = scene.world.path().join("agent/audit.log");
    let written = || std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 2).then_some(());
    n2n_tests::wait_for("the audit log", FOR_EVER, written).unwrap();
    scene.agent.kill().unwrap();
    let (agent, address) = serve(&scene.world, AGENT);
    let mut client = Client::connect(&scene.endpoint(address)).unwrap();
    assert_eq!(client.log_tail(1000, Log::Audit).unwrap(), told);
    drop(agent);
}

/// One line of the table in `docs/strangers.md`.
fn row(scene: &Scene, host: &str, what: &str, from: IpAddr, crowd: impl FnOnce() -> Crowd) {
    const CALLS: usize = 15;
    let status = |board: &str| {
        let call = scene.world.run(host, &["status", "--board", board], FOR_EVER).unwrap();
        (call.code == Some(0)).then_some(()).ok_or(call.stderr)
    };
    let before = usage(scene.agent.id()).unwrap();
    let began = Instant::now();
    let crowd = crowd();
    std::thread::sleep(Duration::from_secs(3));
    let near = (0..CALLS).filter(|_| status("near").is_ok()).count();
    let far = (0..CALLS / 3).filter(|_| status("far").is_ok()).count();
    let last = status("near").err().unwrap_or_default();
    let used = usage(scene.agent.id()).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let rate = crowd.made() as f64 / seconds;
    drop(crowd);
    let processor = used.processor.saturating_sub(before.processor).as_secs_f64() / seconds * 100.0;
    say(&format!(
        "| {what} | {from} | {rate:.0} | {near} of {CALLS} | {far} of {} | {:.0} MiB | {} | {processor:.0} % | {}",
        CALLS / 3,
        used.resident_bytes as f64 / f64::from(1 << 20),
        used.descriptors,
        last.lines().next().unwrap_or("served"),
    ));
}

/// A line on standard output, past the test's own keeping of it.
fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Prints the table. Other programs than those under test come from the environment, so that the same attacks meet an
/// older agent with its own host.
#[test]
#[ignore = "minutes; run by hand for docs/strangers.md"]
fn the_table_of_attacks() {
    let program = |variable, built: &str| std::env::var(variable).unwrap_or_else(|_| built.to_owned());
    let (agent, host) = (program("N2N_ATTACKED_AGENT", AGENT), program("N2N_ATTACKED_HOST", N2N));
    let scene = Scene::new(&agent);
    for (name, address) in [("near", scene.address), ("far", scene.far)] {
        let address = format!("tcp://{address}");
        let words = ["board", "add", name, &address, "--key-file", "key", "--unchecked"];
        assert_eq!(scene.world.run(&host, &words, FOR_EVER).unwrap().code, Some(0));
    }
    say(
        "| attack | from | connects a second | near host | far host | agent | descriptors | processor | last answer |",
    );
    let nobody = || scene.crowd(&Manner::Idle, ADDRESSES[0], 0, 0);
    row(&scene, &host, "none", ADDRESSES[0], nobody);
    let forged = Manner::forged_opening(&scene.key).unwrap();
    let recorded = opening(&scene.key).unwrap().to_vec();
    let attacks = [
        ("32 idle", Manner::Idle, 32, 300),
        ("200 idle", Manner::Idle, 200, 300),
        ("600 idle", Manner::Idle, 600, 300),
        ("32 drip a byte each 0.5 s", Manner::Drip(forged.clone()), 32, 300),
        ("600 drip a byte each 0.5 s", Manner::Drip(forged.clone()), 600, 300),
        ("600 open and wait", Manner::Opening(forged.clone()), 600, 300),
        ("8 repeat a first message of protocol 1", Manner::old_replay(&scene.key).unwrap(), 8, 300),
        ("64 repeat a first message of protocol 2", Manner::replay(&scene.key).unwrap(), 64, 300),
        ("junk, unbounded", Manner::Junk, 100, u32::MAX),
        ("600 idle, unbounded", Manner::Idle, 600, u32::MAX),
        ("600 open and wait, unbounded", Manner::Opening(forged), 600, u32::MAX),
        ("600 repeat a recorded opening, unbounded", Manner::Opening(recorded), 600, u32::MAX),
    ];
    for (what, manner, connections, rate) in attacks {
        for from in ADDRESSES {
            row(&scene, &host, what, from, || scene.crowd(&manner, from, connections, rate));
        }
    }
    row(&scene, &host, "none, afterwards", ADDRESSES[0], nobody);
}
