//! The agent as a process: how it gets its key, says where it listens, and ends.

use n2n_protocol::channel::{HANDSHAKE_FRAME_BYTES, Initiator};
use n2n_protocol::key::Key;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
