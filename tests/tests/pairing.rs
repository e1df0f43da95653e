//! Pairing, as a person does it: over a pipe as often as wanted, and at a terminal, where the key is not seen.

use n2n_tests::{World, wait_for};
use serialport::TTYPort;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");

/// Far beyond what anything here takes: reached only by a failing test.
const FOR_EVER: Duration = Duration::from_mins(1);

#[test]
fn a_board_is_paired_over_a_pipe_as_often_as_wanted() {
    let world = World::new().unwrap();
    for (verb, board) in [
        ("", "first"),
        ("", "again"),
        ("show", "once-more"),
        ("add laptop", "own"),
        ("show laptop", "own-again"),
    ] {
        let pair =
            format!("{AGENT} key {verb} --data data | {N2N} board add {board} tcp://10.0.0.1 --unchecked");
        let done = world.run("sh", &["-c", &pair], FOR_EVER).unwrap();
        assert_eq!(done.code, Some(0), "{pair}: {}", done.stderr);
    }
    let book = std::fs::read_to_string(world.path().join("home/boards.toml")).unwrap();
    let mut keys: Vec<&str> = book.lines().filter(|line| line.starts_with("key")).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 2, "the default one, and the laptop's own");
}

/// A terminal as a person has it: with echo, line by line.
struct Terminal {
    person: TTYPort,
    device: String,
    _held: TTYPort,
}

impl Terminal {
    fn new() -> Self {
        let (person, held) = TTYPort::pair().unwrap();
        let device = serialport::SerialPort::name(&held).unwrap();
        let this = Self { person, device, _held: held };
        this.stty("sane");
        this
    }

    fn stty(&self, words: &str) -> String {
        let output =
            Command::new("stty").arg("-F").arg(&self.device).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn echoes(&self) -> bool {
        self.stty("-a").split_whitespace().any(|word| word == "echo")
    }

    /// `n2n board add` with this terminal as its standard input.
    fn add(&self, world: &World) -> Child {
        let words = ["board", "add", "pi", "tcp://10.0.0.1", "--unchecked"];
        let input = std::fs::File::open(&self.device).unwrap();
        let mut command = world.command(N2N, &words);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn wait_for_the_question(&self) {
        wait_for("the question", FOR_EVER, || (!self.echoes()).then_some(())).unwrap();
    }
}

#[test]
fn a_key_that_is_typed_is_asked_for_and_not_shown() {
    let world = World::new().unwrap();
    let mut terminal = Terminal::new();
    assert!(terminal.echoes(), "else this test could not fail");
    let child = terminal.add(&world);
    terminal.wait_for_the_question();
    let key = "5e".repeat(32);
    terminal.person.write_all(format!("{key}\n").as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && told.contains("key of pi (not shown): "), "{told}");
    assert!(std::fs::read_to_string(world.path().join("home/boards.toml")).unwrap().contains(&key));
    let mut seen = [0; 1024];
    let read = terminal.person.read(&mut seen).unwrap_or(0);
    assert!(!String::from_utf8_lossy(&seen[..read]).contains("5e5e"), "the terminal has shown the key");
    assert!(terminal.echoes(), "the shell gets its terminal back as it was");
}

#[test]
fn an_interrupt_at_the_question_gives_the_terminal_back() {
    let world = World::new().unwrap();
    let terminal = Terminal::new();
    let child = terminal.add(&world);
    terminal.wait_for_the_question();
    n2n_tests::signal(child.id(), "INT").unwrap();
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(terminal.echoes());
    assert!(!world.path().join("home/boards.toml").exists());
}
