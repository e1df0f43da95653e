//! Shipping killed at injected points: agent, host, or both, at one of the system calls by which they change a disk or
//! speak to each other. Whatever happened, the board has one whole student that was confirmed, and serves.
//!
//! `strace` injects the kills: deterministic points, without a line of test code in the programs. The long form is run by
//! hand: `cargo test --release -p n2n-tests --test kill_ship -- --ignored --nocapture`; docs/slots-proof.md has its result.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use n2n_protocol::Digest;
use n2n_tests::board::Board;
use n2n_tests::{World, wait_for};

const N2N: &str = env!("CARGO_BIN_EXE_n2n-under-test");
const AGENT: &str = env!("CARGO_BIN_EXE_n2n-agent-under-test");
/// For one shipment, whatever happens to it; a host gives up a lost board after some seconds.
const DEADLINE: Duration = Duration::from_mins(2);
/// Students that are shipped in turn.
const STUDENTS: u64 = 5;

/// System calls by which the agent changes its disk, and how often one thread of it makes each in a shipment, about.
const AGENT_CALLS: [(&str, u64); 9] = [
    ("fsync", 12),
    ("fdatasync", 8),
    ("pwrite64", 8),
    ("write", 40),
    ("rename,renameat,renameat2", 6),
    ("symlink,symlinkat", 1),
    ("unlink,unlinkat", 8),
    ("mkdir,mkdirat", 2),
    ("ftruncate", 1),
];
/// System calls by which the host speaks and listens.
const HOST_CALLS: [(&str, u64); 2] = [("sendto", 14), ("recvfrom", 30)];

/// Small and good enough: the points are the same on each machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// The words that kill what follows them at one of these calls.
    fn killer(&mut self, calls: &[(&str, u64)]) -> Vec<String> {
        let (call, often) = calls[self.below(calls.len() as u64) as usize];
        let inject = format!("inject={call}:signal=SIGKILL:when={}", 1 + self.below(often));
        // The tracer stands aside, so that the program itself is our child. Workers are left alone: they are programs of
        // their own.
        let words = ["strace", "-D", "-f", "-b", "execve", "-qq", "-o", "/dev/null", "-e"];
        let trace = format!("trace={call}");
        words.into_iter().chain([trace.as_str(), "-e", inject.as_str()]).map(str::to_owned).collect()
    }
}

/// What became of the rounds.
#[derive(Debug, Default)]
struct Tally(BTreeMap<String, u32>);

impl Tally {
    fn count(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }
}

fn rounds(count: u32) -> Tally {
    assert!(Command::new("strace").arg("-V").output().is_ok(), "no strace: apt-get install strace");
    let world = World::new().unwrap();
    let mut board = Board::new(&world, N2N, AGENT, "").unwrap();
    let students: Vec<Digest> =
        (0..STUDENTS).map(|seed| board.student(&format!("s{seed}"), seed).unwrap()).collect();
    let first = board.host("ship s0.onnx").unwrap();
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let mut confirmed = students[0];
    let (mut dice, mut tally) = (Dice(20_261_127), Tally::default());
    for round in 0..count {
        let victim = ["agent", "host", "both"][dice.below(3) as usize];
        if victim != "host" {
            board.kill().unwrap();
            let killer = dice.killer(&AGENT_CALLS);
            let words: Vec<&str> = killer.iter().map(String::as_str).collect();
            // It may be killed before it listens: that is a point like any other.
            if board.start_under(&words).is_err() {
                tally.count("killed while it started".into());
            }
        }
        let seed = dice.below(STUDENTS);
        let ship = format!("ship s{seed}.onnx");
        let killer = if victim == "agent" { Vec::new() } else { dice.killer(&HOST_CALLS) };
        let words: Vec<&str> = killer.iter().map(String::as_str).collect();
        let mut host = board.start_host_under(&words, &ship).unwrap();
        // A dead agent is started again, as a service is, while its host still tries.
        wait_for("the end of the host", DEADLINE, || {
            if !board.is_running().unwrap() {
                board.restart().unwrap();
            }
            (!host.is_running().unwrap()).then_some(())
        })
        .unwrap();
        let finished = host.finish(DEADLINE).unwrap();
        let end = finished.code.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}"));
        tally.count(format!("{victim}: host {end}"));

        // One time in three the next host finds what this one left; else the agent starts anew.
        if victim != "host" || dice.below(3) > 0 {
            board.restart().unwrap();
        }
        let status =
            board.status().unwrap_or_else(|error| panic!("round {round}: the board is silent: {error}"));
        let context = format!("round {round}, {victim}, s{seed}, {end}: {status}");
        let opened = board.opened().unwrap_or_else(|| panic!("nothing is active: {context}"));
        assert!(students.contains(&opened), "no whole student: {context}");
        assert_eq!(status["active"]["model_sha256"], opened.to_string(), "{context}");
        let verified = status["active"]["verified_at_unix_s"].as_u64();
        assert!(verified.is_some_and(|at| at > 0), "{context}");
        let tried = students[seed as usize];
        if status["trial"].is_null() {
            assert!(opened == confirmed || opened == tried, "neither the old nor the new: {context}");
            confirmed = opened;
        } else {
            assert_eq!((victim, opened), ("host", tried), "{context}");
            assert_eq!(status["way_back"]["model_sha256"], confirmed.to_string(), "{context}");
        }
        if finished.code == Some(0) {
            assert_eq!(
                (opened, status["trial"].is_null()),
                (tried, true),
                "it was said to be shipped: {context}"
            );
        }
        let half_done = std::fs::read_dir(board.data().join("slots")).unwrap().flatten().filter(|entry| {
            let name = entry.file_name();
            ["incoming-", "outgoing-"].iter().any(|start| name.to_string_lossy().starts_with(start))
        });
        if victim != "host" {
            assert_eq!(half_done.count(), 0, "left behind: {context}");
        }
    }
    let last = board.host("ship s1.onnx").unwrap();
    assert_eq!(last.code, Some(0), "{}", last.stderr);
    assert_eq!(board.opened(), Some(students[1]), "as usable as ever");
    tally
}

#[test]
fn a_shipment_killed_at_any_point_leaves_one_whole_confirmed_student() {
    let tally = rounds(40);
    let killed: u32 =
        tally.0.iter().filter(|(end, _)| !end.ends_with("exit 0")).map(|(_, count)| count).sum();
    assert!(killed >= 12, "the kills do not happen: {tally:?}");
}

#[test]
#[ignore = "some 8 minutes: the proof, run once"]
#[expect(clippy::print_stdout, reason = "its result goes into docs/slots-proof.md")]
fn a_thousand_rounds() {
    println!("{:#?}", rounds(1000));
}
