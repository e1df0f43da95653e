//! The agent as a process: how it gets its key, says where it listens, and ends.

use n2n_protocol::handshake::{CHALLENGE_FRAME_BYTES, FRAME_BYTES, Initiator, Prologue, opening};
use n2n_protocol::key::Key;
use n2n_protocol::{Answer, Call, Hello, Reply, Request, SCHEMA_HASH, VERSION, codec, limits};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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

/// Open a connection and say the first message.
fn begin(address: &str, key: &Key) -> (TcpStream, Initiator) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(FOR_EVER)).unwrap();
    let (opening, mut challenge) = (opening(key).unwrap(), [0; CHALLENGE_FRAME_BYTES]);
    stream.write_all(&opening).unwrap();
    stream.read_exact(&mut challenge).unwrap();
    let prologue = Prologue::new(&opening, &challenge).unwrap();
    let (initiator, frame) = Initiator::begin(key, &prologue).unwrap();
    stream.write_all(&frame).unwrap();
    (stream, initiator)
}

fn knows(address: &str, key: &Key) -> bool {
    let (stream, initiator) = begin(address, key);
    let mut answer = Vec::new();
    let read = stream.take(FRAME_BYTES as u64).read_to_end(&mut answer);
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

/// One call of `n2n-agent key …` on a data folder.
fn key_verb(data: &Path, words: &[&str]) -> Output {
    Command::new(AGENT).arg("key").args(words).arg("--data").arg(data).output().unwrap()
}

/// The key that a call of `n2n-agent key …` showed.
fn shown(output: &Output) -> Key {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).parse().unwrap()
}

#[test]
fn a_key_is_made_once_shown_again_and_opens_the_service() {
    let data = tempfile::tempdir().unwrap();
    let none = Command::new(AGENT).args(["serve", "--data"]).arg(data.path()).output().unwrap();
    let told = String::from_utf8(none.stderr).unwrap();
    assert_eq!(none.status.code(), Some(1), "no key, no service");
    assert!(
        told.ends_with("/key\nhint: `n2n-agent key` makes one\n") && told.contains("error: no key in "),
        "{told}"
    );
    let key = shown(&key_verb(data.path(), &[]));
    assert_eq!(shown(&key_verb(data.path(), &[])), key, "pairing can be repeated");
    assert_eq!(shown(&key_verb(data.path(), &["show"])), key);
    let mut child = start(data.path(), &[]);
    let address = address_of(&mut child);
    assert!(knows(&address, &key));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(shown(&key_verb(data.path(), &["--replace"])), key);
}

#[test]
fn a_running_agent_follows_its_keys_and_keeps_away_from_exposed_ones() {
    let data = tempfile::tempdir().unwrap();
    let default = shown(&key_verb(data.path(), &[]));
    let exposed = shown(&key_verb(data.path(), &["add", "exposed"]));
    let file = data.path().join("keys/exposed");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut child = start(data.path(), &[]);
    let address = address_of(&mut child);
    assert!(knows(&address, &default) && !knows(&address, &exposed), "the others are served");
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < FOR_EVER, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let laptop = shown(&key_verb(data.path(), &["add", "laptop"]));
    until("a new key opens", &|| knows(&address, &laptop));
    let list = String::from_utf8(key_verb(data.path(), &["list"]).stdout).unwrap();
    assert!(list.contains(&format!("laptop   {}", laptop.id())) && list.contains("chmod 600"), "{list}");
    assert!(!list.contains(&laptop.reveal()[..8]), "{list}");
    let mut open = session(&address, &laptop);
    assert!(key_verb(data.path(), &["remove", "laptop"]).status.success());
    // Nothing was asked; the agent ends it by itself.
    let mut rest = Vec::new();
    let ended = open.read_to_end(&mut rest);
    assert!(ended.is_ok_and(|read| read == 0), "{rest:?}");
    until("a removed key is shut out", &|| !knows(&address, &laptop));
    assert!(knows(&address, &default));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_pipe_or_zeros_as_key_file_are_refused_and_nothing_waits() {
    let data = tempfile::tempdir().unwrap();
    let pipe = data.path().join("pipe");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
    let zeros = data.path().join("zeros");
    n2n_secrets::write(&zeros, &"00".repeat(32)).unwrap();
    for (file, words) in [(pipe, "regular file"), (zeros, "all zeros")] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--key-file"];
        let output =
            Command::new(AGENT).args(serve).arg(&file).arg("--data").arg(data.path()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && told.contains(words) && told.contains("hint: "), "{told}");
    }
}

#[test]
fn a_log_without_a_terminal_has_no_colour_codes() {
    let data = tempfile::tempdir().unwrap();
    key_verb(data.path(), &[]);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data"];
    let mut command = Command::new(AGENT);
    command.args(serve).arg(data.path()).env_remove("NO_COLOR").env_remove("RUST_LOG");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    address_of(&mut child);
    child.kill().unwrap();
    let told = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(told.contains("INFO") && !told.contains('\x1b'), "{told}");
}

/// A connection that has greeted; its key is in force.
fn session(address: &str, key: &Key) -> TcpStream {
    let (mut stream, initiator) = begin(address, key);
    let mut answer = [0; FRAME_BYTES];
    stream.read_exact(&mut answer).unwrap();
    let mut channel = initiator.finish(&answer, limits::REPLY_BYTES).unwrap();
    let hello = Hello { version: VERSION, schema: SCHEMA_HASH, client: "test".to_owned() };
    let request =
        codec::encode(&Request { request_id: 1, call: Call::Hello(hello) }, limits::HELLO_BYTES).unwrap();
    let mut sealed = Vec::new();
    channel.seal(&request, &mut sealed).unwrap();
    stream.write_all(&sealed).unwrap();
    let mut buffer = [0; 4096];
    loop {
        if let Some(welcome) = channel.pop().unwrap() {
            let reply: Reply = codec::decode(&welcome, limits::REPLY_BYTES).unwrap();
            assert!(matches!(reply.outcome, Ok(Answer::Hello(_))), "{reply:?}");
            return stream;
        }
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed before its welcome");
        channel.push(&buffer[..read]);
    }
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
