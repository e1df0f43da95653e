//! Every command that the README shows, in its order, in one world; what is not run is counted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use n2n_tests::photos::{self, Shape};
use n2n_tests::{World, wait_for};

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// For a block, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(4);
/// Blocks of commands that are not run, each with its reason beside `sh`.
const NOT_RUN: usize = 3;

/// What a README writes and a test has no time, network or terminal for.
const SUBSTITUTES: [(&str, &str); 7] = [
    // The shell becomes the agent, so that it ends with the test.
    ("n2n-agent serve", "exec n2n-agent serve"),
    ("--budget 2min --final-epochs 5", "--budget 6candidates --finalists 1 --final-epochs 1"),
    ("--budget 2h", "--budget 4candidates --finalists 1 --final-epochs 1"),
    ("--epochs 8", "--epochs 4"),
    ("--limit latency=0.5x", "--limit params=0.7x"),
    ("n2n board add", "n2n-agent key | n2n board add"),
    ("raspberrypi.local:7117", "127.0.0.1:PORT"),
];

/// Blocks of commands: what stands behind `sh`, and the lines.
fn blocks() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let block = |rest: &str| {
        let (how, rest) = rest.split_once('\n').unwrap();
        (how.trim().to_owned(), rest.split("```").next().unwrap().to_owned())
    };
    text.split("```sh").skip(1).map(block).collect()
}

/// A folder with both programs under the names that people type.
fn programs(world: &World) -> PathBuf {
    let folder = world.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    for (program, name) in [(N2N, "n2n"), (AGENT, "n2n-agent")] {
        std::os::unix::fs::symlink(program, folder.join(name)).unwrap();
    }
    folder
}

/// What can be held of commands that are not run: what they name is there, under that name.
fn names_what_is_there(lines: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let package = |path: &str| std::fs::read_to_string(root.join(path).join("Cargo.toml")).unwrap();
    for line in lines.lines() {
        let (command, comment) = line.split_once('#').unwrap_or((line, ""));
        match command.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["cargo", "install", "--path", path] => {
                let program = comment.trim().split(',').next().unwrap();
                assert!(package(path).contains(&format!("name = \"{program}\"")), "{line}");
            }
            ["cargo", "run", "--release", "--bin", program, "--", verb] | [program, verb] => {
                assert!(package("host").contains(&format!("name = \"{program}\"")), "{line}");
                let help = World::new().unwrap().run(N2N, &[verb, "--help"], DEADLINE).unwrap();
                assert_eq!(help.code, Some(0), "{line}");
            }
            // These very tests.
            ["cargo", "test", "--release", "--workspace"] => {}
            other => panic!("nobody runs or reads {other:?}"),
        }
    }
}

#[test]
fn every_block_of_commands_does_what_it_says() {
    let world = World::new().unwrap();
    photos::folder(&world.path().join("photos"), &[(Shape::Circle, 120), (Shape::Stripes, 120)]).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/onnx/depthwise.script.onnx");
    world.write("mobilenet.onnx", std::fs::read(model).unwrap()).unwrap();
    let path = format!("PATH={}:{}", programs(&world).display(), std::env::var("PATH").unwrap());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (mut boards, mut not_run) = (Vec::new(), 0);
    for (how, lines) in blocks() {
        if how.starts_with("not run: ") {
            not_run += 1;
            names_what_is_there(&lines);
            continue;
        }
        let mut script = lines.clone();
        for (shown, run) in SUBSTITUTES {
            script = script.replace(shown, run);
        }
        script = script.replace("0.0.0.0:7117", "127.0.0.1:PORT").replace("PORT", &port.to_string());
        let words = [path.as_str(), "sh", "-ec", &script];
        match how.as_str() {
            "board" => {
                boards.push(world.start("env", &words).unwrap());
                let address = ("127.0.0.1", port);
                wait_for("the agent", DEADLINE, || std::net::TcpStream::connect(address).ok()).unwrap();
            }
            "" => {
                let finished = world.run("env", &words, DEADLINE).unwrap();
                assert_eq!(finished.code, Some(0), "{lines}\n{}\n{}", finished.stdout, finished.stderr);
            }
            other => panic!("a block of a kind that nobody runs: {other}"),
        }
    }
    assert_eq!((boards.len(), not_run), (1, NOT_RUN));
    for file in
        ["photos.png", "teacher.onnx", "runs/photos/report.html", "runs/pi/student.onnx", "camera.onnx"]
    {
        assert!(world.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn the_configuration_that_is_shown_is_one() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let toml = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let world = World::new().unwrap();
    world.write("n2n.toml", toml).unwrap();
    let finished = world.run(N2N, &["profile", "list"], DEADLINE).unwrap();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}
