//! The agent as a process: how it gets its key, says where it listens, and ends.

use n2n_protocol::channel::{HANDSHAKE_FRAME_BYTES, Initiator};
use n2n_protocol::key::Key;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent");

/// Far beyond what anything here takes: reached only by a failing test.
const FOR_EVER: Duration = Duration::from_secs(20);

fn start(data: &std::path::Path, arguments: &[&str]) -> Child {
    Command::new(AGENT)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn address_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.strip_prefix("listening ").unwrap().trim().to_owned()
}

fn knows(address: &str, key: &Key) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(FOR_EVER)).unwrap();
    let (initiator, frame) = Initiator::begin(key).unwrap();
    stream.write_all(&frame).unwrap();
    let mut answer = Vec::new();
    let read = stream.take(HANDSHAKE_FRAME_BYTES as u64).read_to_end(&mut answer);
    read.is_ok() && initiator.finish(&answer, 0).is_ok()
}

fn ends(mut child: Child) -> Option<i32> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > FOR_EVER {
            child.kill().unwrap();
            panic!("the agent does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_agent_with_a_parent_takes_its_key_and_leaves_with_it() {
    let data = tempfile::tempdir().unwrap();
    let mut child = start(data.path(), &["--parent-pipe"]);
    let key = Key::generate().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    writeln!(pipe, "{}", key.reveal()).unwrap();
    let address = address_of(&mut child);
    assert!(knows(&address, &key));
    assert!(!knows(&address, &Key::generate().unwrap()));
    drop(pipe);
    assert_eq!(ends(child), Some(0));
}

#[test]
fn a_parent_without_a_key_gets_no_service() {
    let data = tempfile::tempdir().unwrap();
    let mut child = start(data.path(), &["--parent-pipe"]);
    child.stdin.take().unwrap().write_all(b"not a key\n").unwrap();
    assert_eq!(ends(child), Some(1));
}

#[test]
fn a_key_is_made_once_and_opens_the_service() {
    let data = tempfile::tempdir().unwrap();
    let serve = start(data.path(), &[]);
    assert_eq!(ends(serve), Some(1), "no key, no service");
    let make = || Command::new(AGENT).args(["key", "--data"]).arg(data.path()).output().unwrap();
    let made = make();
    assert!(made.status.success());
    let key: Key = String::from_utf8(made.stdout).unwrap().parse().unwrap();
    let again = make();
    assert!(!again.status.success() && again.stdout.is_empty());
    let mut child = start(data.path(), &[]);
    let address = address_of(&mut child);
    assert!(knows(&address, &key));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_service_manager_hears_that_the_agent_is_ready_that_it_lives_and_that_it_stops() {
    let data = tempfile::tempdir().unwrap();
    let made = Command::new(AGENT).args(["key", "--data"]).arg(data.path()).output().unwrap();
    assert!(made.status.success());
    let path = data.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(FOR_EVER)).unwrap();
    let hear = || {
        let mut message = [0; 256];
        let read = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..read]).trim().to_owned()
    };
    let mut child = Command::new(AGENT)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
    };
    // One that is stuck says nothing: that is what it would be started again for.
    signal("STOP");
    while wait_for_silence(&manager, Duration::from_millis(400)) {}
    signal("CONT");
    signal("TERM");
    while hear() != "STOPPING=1" {}
    assert!(child.wait().unwrap().success());
}

/// Whether something came within the time.
fn wait_for_silence(socket: &UnixDatagram, time: Duration) -> bool {
    socket.set_read_timeout(Some(time)).unwrap();
    let came = socket.recv(&mut [0; 256]).is_ok();
    socket.set_read_timeout(Some(FOR_EVER)).unwrap();
    came
}

#[test]
fn the_doctor_says_what_workers_may_take_and_whether_the_memory_cgroup_is_there() {
    let found = Command::new(AGENT).arg("doctor").output().unwrap();
    assert!(found.status.success());
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(text.contains("a worker may take") && text.contains("memory cgroup"), "{text}");
}
