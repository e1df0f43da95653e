//! The table of bad input: one clear line, a hint, the right exit code. Runs the real program.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use n2n_protocol::{
    Answer, Board, Conditions, Digest, Reply, Request, SCHEMA_HASH, Version, Welcome, codec, limits,
};
use n2n_tests::{Finished, World, by_hand, snapshot};

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// Long for any of these, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(1);

const USAGE: i32 = 2;
const FAILED: i32 = 1;
const NO_STUDENT: i32 = 3;
const BOARD_UNAVAILABLE: i32 = 4;

/// What is typed, and what must come of it.
#[derive(Clone, Copy)]
struct Case<'a> {
    name: &'static str,
    line: &'a str,
    code: i32,
    /// Parts of the one line that starts with `error: `.
    error: &'static [&'static str],
    /// Part of the line that starts with `hint: `.
    hint: &'static str,
}

impl Case<'_> {
    /// The whole message as it was read and accepted. Numbers are masked: ports, and what a training came to.
    fn hold(&self, world: &World, finished: &Finished) {
        let said = finished
            .stderr
            .lines()
            .filter(|line| ["error: ", "hint: ", "  tip: "].iter().any(|start| line.starts_with(start)));
        let text = said.collect::<Vec<_>>().join("\n");
        let text = snapshot::numbers_masked(&text.replace(&world.path().display().to_string(), "WORLD"));
        snapshot::text("errors", &self.name.replace(' ', "-"), &format!("n2n {}", self.line), &text);
    }

    fn check(&self, world: &World) {
        let words: Vec<&str> = self.line.split_whitespace().collect();
        let finished = world.run(N2N, &words, DEADLINE).unwrap();
        let told = format!("{}: `n2n {}`\n{}", self.name, self.line, finished.stderr);
        assert_eq!(finished.code, Some(self.code), "{told}");
        assert_eq!(finished.stdout, "", "{told}\nnothing but results belongs on standard output");
        let errors = finished.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{told}");
        let error = finished.line("error: ").unwrap();
        for part in self.error {
            assert!(error.contains(part), "{told}\nmissing: {part}");
        }
        if !self.hint.is_empty() {
            let hint = finished.line("hint: ").unwrap_or_else(|| panic!("no hint; {told}"));
            assert!(hint.contains(self.hint), "{told}\nmissing in the hint: {}", self.hint);
        }
        assert!(!finished.stderr.contains("panicked"), "{told}");
        // What a GPU lacks is another thing on another machine.
        if self.name != "no such GPU" {
            self.hold(world, &finished);
        }
    }
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    let world = World::new().unwrap();
    world.write("t.onnx", b"").unwrap();
    world.write("wrong.toml", "[compress]\nbugdet = '30min'\n").unwrap();
    let cases = [
        Case { name: "unknown verb", line: "compres", code: USAGE, error: &["compres"], hint: "" },
        Case {
            name: "unknown data set",
            line: "teacher train --arch vgg11 --data imagenet:/x --out o.onnx",
            code: USAGE,
            error: &["data `imagenet:/x`", "expected"],
            hint: "fashion-mnist",
        },
        Case {
            name: "unknown architecture",
            line: "teacher train --arch vgg12 --data bundled --out o.onnx",
            code: USAGE,
            error: &["vgg12", "resnet18"],
            hint: "",
        },
        Case {
            name: "unknown profile",
            line: "compress --teacher t.onnx --data bundled --profile raspberry-pi-4",
            code: USAGE,
            error: &["profile `raspberry-pi-4`", "raspberry-pi-4b"],
            hint: "raspberry-pi-4b",
        },
        Case {
            name: "limit without a unit",
            line: "compress --teacher t.onnx --data bundled --limit latency=5",
            code: USAGE,
            error: &["latency=5", "ns, us, ms, s"],
            hint: "latency=5ms",
        },
        Case {
            name: "unknown metric",
            line: "compress --teacher t.onnx --data bundled --limit speed=5ms",
            code: USAGE,
            error: &["speed", "model_memory"],
            hint: "METRIC=BOUND",
        },
        Case {
            name: "limit given twice",
            line: "compress --teacher t.onnx --data bundled --limit params=1K --limit params=2K",
            code: USAGE,
            error: &["params", "twice"],
            hint: "",
        },
        Case {
            name: "budget of nothing",
            line: "compress --teacher t.onnx --data bundled --budget 0s",
            code: USAGE,
            error: &["budget `0s`"],
            hint: "30min",
        },
        Case {
            name: "no such GPU",
            line: "teacher train --arch vgg11 --width 0.1 --data bundled --device cuda:99 --out t.onnx",
            code: FAILED,
            error: &["device cuda:99: "],
            hint: "--device cpu",
        },
        Case {
            name: "no such device",
            line: "compress --teacher t.onnx --data bundled --device gpu",
            code: USAGE,
            error: &["device `gpu`", "cuda:N"],
            hint: "",
        },
        Case {
            name: "unknown key in the configuration file",
            line: "profile list --config wrong.toml",
            code: USAGE,
            error: &["wrong.toml", "line 2", "bugdet"],
            hint: "final_epochs",
        },
        Case {
            name: "missing configuration file",
            line: "profile list --config none.toml",
            code: USAGE,
            error: &["none.toml"],
            hint: "--config",
        },
        Case {
            name: "no such model",
            line: "measure none.onnx",
            code: USAGE,
            error: &["none.onnx", "no such file"],
            hint: "",
        },
        Case {
            name: "malformed board address",
            line: "status --board http://pi",
            code: USAGE,
            error: &["http://pi", "tcp://HOST:PORT"],
            hint: "",
        },
        Case {
            name: "an agent that has no key",
            line: "agent serve --data nobody",
            code: FAILED,
            error: &["no key in nobody/key"],
            hint: "`n2n-agent key` makes one",
        },
        Case {
            name: "unknown board",
            line: "status --board pi-lab",
            code: USAGE,
            error: &["no board is called `pi-lab`"],
            hint: "n2n board add",
        },
    ];
    for case in &cases {
        case.check(&world);
    }
}

#[test]
fn bad_files_are_named_with_what_was_expected() {
    let world = World::new().unwrap();
    let idx_header = [0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0, 0, 28];
    for part in ["train", "t10k"] {
        world.write(&format!("idx/{part}-images-idx3-ubyte"), idx_header).unwrap();
        world.write(&format!("idx/{part}-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 9, 1, 2]).unwrap();
    }
    for batch in 1..=5 {
        world.write(&format!("cifar/data_batch_{batch}.bin"), vec![1; 3073 * 2 + 7]).unwrap();
    }
    world.write("cifar/test_batch.bin", vec![1; 3073]).unwrap();
    std::fs::create_dir(world.path().join("empty")).unwrap();
    world.write("noise.onnx", [0xff; 200]).unwrap();
    world.write("nothing.onnx", b"").unwrap();
    let cases = [
        Case {
            name: "missing data set",
            line: "teacher train --arch vgg11 --data fashion-mnist:/no/such/folder --out o.onnx",
            code: FAILED,
            error: &["/no/such/folder", "not found"],
            hint: "dataset-fashion-mnist",
        },
        Case {
            name: "truncated IDX file",
            line: "teacher train --arch vgg11 --data mnist:idx --out o.onnx",
            code: FAILED,
            error: &["idx/train-images-idx3-ubyte", "expected", "got"],
            hint: "fetch it again",
        },
        Case {
            name: "truncated CIFAR file",
            line: "teacher train --arch vgg11 --data cifar10:cifar --out o.onnx",
            code: FAILED,
            error: &["cifar/data_batch_1.bin", "3073", "got 6153 bytes"],
            hint: "fetch it again",
        },
        Case {
            name: "corrupt ONNX file",
            line: "teacher inspect noise.onnx",
            code: FAILED,
            error: &["noise.onnx", "not a whole ONNX file"],
            hint: "damaged",
        },
        Case {
            name: "empty ONNX file",
            line: "compress --teacher nothing.onnx --data bundled",
            code: FAILED,
            error: &["nothing.onnx", "got an empty file"],
            hint: "again",
        },
        Case {
            name: "report of a folder that holds no run",
            line: "report empty",
            code: FAILED,
            error: &["empty", "trials.jsonl"],
            hint: "n2n compress",
        },
        Case {
            name: "student of a run that is not finished",
            line: "measure empty",
            code: FAILED,
            error: &["student.onnx"],
            hint: "--resume",
        },
        Case {
            name: "nothing to resume",
            line: "compress --resume --out empty",
            code: FAILED,
            error: &["empty", "no run to resume"],
            hint: "",
        },
        Case {
            name: "shipping a network that has no weights",
            line: "ship zoo:vgg11@0.05",
            code: USAGE,
            error: &["zoo:vgg11@0.05", "trained model"],
            hint: "run folder",
        },
    ];
    for case in &cases {
        case.check(&world);
    }
}

/// A network that was never trained, in a file: what `teacher train` would write before its first step.
fn untrained_teacher(world: &World) {
    use n2n::model_io::onnx::{Filling, ModelInfo, write};
    use n2n::network::layer::Input;
    use n2n::network::zoo::{Architecture, build};
    let input = Input { channels: 1, height: 28, width: 28 };
    let network = build(Architecture::Vgg11, input, 10, 0.05).unwrap();
    let weights = n2n::training::inheritance::initial_weights(&network, 1);
    let bytes = write(&network, Filling::Weights(&weights), &ModelInfo::untrained(&network)).unwrap();
    world.write("untrained.onnx", bytes).unwrap();
}

#[test]
fn a_teacher_that_guesses_is_refused_before_the_search() {
    let world = World::new().unwrap();
    untrained_teacher(&world);
    let case = Case {
        name: "weak teacher",
        line: "compress --teacher untrained.onnx --data bundled --out run",
        code: FAILED,
        error: &["] of the validation images", "guessing gives 10.0 %"],
        hint: "normalisation",
    };
    case.check(&world);
}

#[test]
fn a_limit_that_no_student_can_keep_has_its_own_exit_code() {
    let world = World::new().unwrap();
    let train = "teacher train --arch vgg11 --width 0.1 --data bundled --epochs 1 --out t.onnx --json";
    let words: Vec<&str> = train.split(' ').collect();
    let finished = world.run(N2N, &words, 4 * DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.json().unwrap()["validation_accuracy"].as_f64().unwrap() > 0.3, "{}", finished.stdout);
    let case = Case {
        name: "impossible limit",
        line: "compress --teacher t.onnx --data bundled --limit params=10 --out run",
        code: NO_STUDENT,
        error: &["params <= 10", "smallest one has"],
        hint: "raise the limit",
    };
    case.check(&world);
    // The hint can be followed: nothing was searched, so the folder is still free.
    Case {
        line: "compress --teacher t.onnx --data bundled --limit params=20 --out run",
        error: &["20"],
        ..case
    }
    .check(&world);
}

#[test]
fn a_board_with_another_key_or_none_at_all_is_unavailable() {
    let world = World::new().unwrap();
    let made = world.run(AGENT, &["key", "--key-file", "agent.key"], DEADLINE).unwrap();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--key-file", "agent.key", "--data", "agent"];
    let agent = world.start(AGENT, &serve).unwrap();
    let line = agent.next_line(DEADLINE).unwrap();
    let address = line.strip_prefix("listening ").unwrap();
    world.write_secret("other.key", "ab".repeat(32)).unwrap();
    world.write_secret("no.key", "[package]").unwrap();
    world.write("open.key", "ab".repeat(32)).unwrap();

    let add = |name: &str, address: &str, key: &str| {
        let address = format!("tcp://{address}");
        let words = ["board", "add", name, &address, "--key-file", key, "--unchecked"];
        let finished = world.run(N2N, &words, DEADLINE).unwrap();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    };
    add("mistaken", address, "other.key");
    add("right", address, "agent.key");
    // A port that was free a moment ago, and that nobody listens at.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    add("gone", &gone.to_string(), "agent.key");
    add("newer", &newer_agent().to_string(), "other.key");

    let right = world.run(N2N, &["status", "--board", "right"], DEADLINE).unwrap();
    assert_eq!(right.code, Some(0), "{}", right.stderr);
    let cases = [
        Case {
            name: "wrong key",
            line: "status --board mistaken",
            code: BOARD_UNAVAILABLE,
            error: &["tcp://127.0.0.1:", "key"],
            hint: "n2n-agent key",
        },
        Case {
            name: "nobody there",
            line: "measure zoo:vgg11@0.05 --board gone",
            code: BOARD_UNAVAILABLE,
            error: &["unavailable"],
            hint: "n2n-agent serve",
        },
        Case {
            name: "another protocol version",
            line: "status --board newer",
            code: BOARD_UNAVAILABLE,
            error: &["protocol 2.1", "9.0"],
            hint: "same version",
        },
        Case {
            name: "nothing to roll back to",
            line: "rollback --board right",
            code: FAILED,
            error: &["no confirmed student"],
            hint: "",
        },
        Case {
            name: "a name that is taken",
            line: "board add right tcp://10.0.0.1 --key-file other.key --unchecked",
            code: USAGE,
            error: &["right", "already"],
            hint: "n2n board remove",
        },
        Case {
            name: "a key that is none",
            line: "board add new tcp://10.0.0.1 --key-file no.key --unchecked",
            code: USAGE,
            error: &["no.key", "64 hexadecimal digits"],
            hint: "n2n-agent key",
        },
        Case {
            name: "a key file that is not there",
            line: "board add new tcp://10.0.0.1 --key-file none.key --unchecked",
            code: FAILED,
            error: &["none.key", "no such file"],
            hint: "n2n-agent key",
        },
        Case {
            name: "a key file that all can read",
            line: "board add new tcp://10.0.0.1 --key-file open.key --unchecked",
            code: FAILED,
            error: &["open.key", "others than its owner"],
            hint: "chmod 600 open.key",
        },
        Case {
            name: "no key on standard input",
            line: "board add new tcp://10.0.0.1 --unchecked",
            code: USAGE,
            error: &["no key came from standard input"],
            hint: "n2n-agent key",
        },
        Case {
            name: "a name with a blank in it, before anybody is asked for a key",
            line: "board add new/board tcp://10.0.0.1",
            code: USAGE,
            error: &["`new/board` cannot be a board's name"],
            hint: "",
        },
        Case {
            name: "an address without its form",
            line: "board add new 192.168.1.20",
            code: USAGE,
            error: &["`192.168.1.20` is no address"],
            hint: "did you mean tcp://192.168.1.20:7117?",
        },
        Case {
            name: "an address and a port without their form",
            line: "status --board 192.168.1.20:7117",
            code: USAGE,
            error: &["192.168.1.20:7117"],
            hint: "did you mean tcp://192.168.1.20:7117?",
        },
        Case {
            name: "a board that is added with another board's key",
            line: "board add wrong ADDRESS --key-file other.key",
            code: BOARD_UNAVAILABLE,
            error: &["key is wrong", "id 6e51eac3"],
            hint: "`n2n-agent key list` on the board",
        },
        Case {
            name: "a serial device that is not plugged in",
            line: "board add wrong serial:///dev/ttyUSB99 --key-file other.key",
            code: BOARD_UNAVAILABLE,
            error: &["/dev/ttyUSB99"],
            hint: "dialout",
        },
        Case {
            name: "a name that nobody knows",
            line: "board add wrong tcp://no-such-board.invalid --key-file other.key",
            code: BOARD_UNAVAILABLE,
            error: &["no-such-board.invalid"],
            hint: "IP address",
        },
    ];
    for case in &cases {
        Case { line: &case.line.replace("ADDRESS", &format!("tcp://{address}")), ..*case }.check(&world);
    }
    std::fs::set_permissions(world.path().join("home/boards.toml"), Permissions::from_mode(0o644)).unwrap();
    let exposed = Case {
        name: "a book of boards that all can read",
        line: "status --board right",
        code: FAILED,
        error: &["boards.toml", "others than its owner"],
        hint: "chmod 600 ",
    };
    exposed.check(&world);
}

/// An agent of a later major version that holds the key of `other.key`; answers one greeting.
fn newer_agent() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let key = "ab".repeat(32).parse().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut channel = by_hand::respond(&mut stream, &key).unwrap();
        let hello = by_hand::receive(&mut stream, &mut channel).unwrap().unwrap();
        let request: Request = codec::decode(&hello, limits::HELLO_BYTES).unwrap();
        let welcome = Welcome {
            version: Version { major: 9, minor: 0 },
            schema: SCHEMA_HASH,
            agent: "9.0.0".into(),
            max_blob_bytes: 1,
            board: Board {
                name: "newer".into(),
                model: "newer".into(),
                class: "none".into(),
                architecture: "aarch64".into(),
                system: "Linux".into(),
                cores: 4,
                memory_bytes: 1,
                fingerprint: Digest([1; 32]),
                engines: Vec::new(),
                conditions: Conditions::default(),
            },
        };
        let reply = Reply { request_id: request.request_id, outcome: Ok(Answer::Hello(welcome)) };
        by_hand::send(&mut stream, &mut channel, &codec::encode(&reply, limits::REPLY_BYTES).unwrap())
            .unwrap();
        // The stream stays open until the host has read.
        let _ = by_hand::receive(&mut stream, &mut channel);
    });
    address
}
