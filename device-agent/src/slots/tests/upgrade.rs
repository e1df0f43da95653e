//! Boards of protocol 1, recorded from its real agent, and agents of protocol 1 put back over our slots.

use super::super::format1::Former;
use super::*;
use std::fs;
use std::os::unix::fs::symlink;

/// A bench on a copy of a recorded board.
fn recorded(board: &str) -> Bench {
    let bench = Bench::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format1").join(board).join("slots");
    copy(&from, &bench.path());
    bench
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else if kind.is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_board_of_format_1_keeps_all_of_its_students() {
    let bench = recorded("settled");
    let slots = bench.slots().await;
    let status = slots.status();
    assert_eq!(names(&status), [Some("two"), Some("three"), Some("one")]);
    assert_eq!((status.notices.len(), status.trial), (0, None));
    let active = status.active.unwrap();
    assert!(active.verified_at > 0 && active.bytes == 2900 && active.threads == 1, "{active:?}");
    assert_eq!(active.staged_at, 1_795_802_478);
    let opened = fs::read(bench.path().join("active/model.onnx")).unwrap();
    assert_eq!(Digest::of(&opened), active.model);
    // The signer that the board trusted is still the only one.
    assert!(refused(bench.stage(&slots, "four").await).contains("this board trusts"));
    let first = status.way_back.unwrap();
    assert_eq!(slots.rollback(None).await.unwrap().active.unwrap().id, first.id);
    drop(slots);
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [Some("one"), Some("three"), None]);
    assert_eq!(slots.status().active.unwrap().id, first.id, "ids are given once");
}

#[tokio::test]
async fn a_trial_that_an_agent_of_format_1_began_ends_with_it() {
    let bench = recorded("on-trial");
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [Some("two"), None, None]);
    assert!(notices(&slots)[0].contains("`three` was on trial"), "{:?}", notices(&slots));
    let bench = recorded("first-trial");
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [None, None, None]);
    assert!(!bench.path().join("active").exists());
}

#[tokio::test]
async fn a_board_of_format_1_with_a_damaged_or_lost_state_keeps_its_student() {
    for damage in ["active = \"B", "", "nonsense = 1\n"] {
        let bench = recorded("settled");
        fs::write(bench.path().join("state.toml"), damage).unwrap();
        let slots = bench.slots().await;
        assert_eq!(names(&slots.status())[0], Some("two"), "{damage:?}");
    }
    let bench = recorded("settled");
    fs::remove_file(bench.path().join("state.toml")).unwrap();
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status())[0], Some("two"));
    for slot in ["slot-a", "slot-b", "slot-c"] {
        assert!(bench.path().join(slot).join("model.onnx").exists(), "{slot}");
    }
}

#[tokio::test]
async fn a_forged_student_of_format_1_is_damaged() {
    let bench = recorded("settled");
    let path = bench.path().join("slot-b/manifest.bin");
    let mut bytes = fs::read(&path).unwrap();
    // The first letter of its name, which its signature covers.
    assert_eq!(&bytes[1..4], b"two");
    bytes[1] = b'T';
    fs::write(path, bytes).unwrap();
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status())[0], Some("one"));
    assert!(notices(&slots)[0].contains("signature"), "{:?}", notices(&slots));
}

/// What the agent of protocol 1 does with a folder when it starts, by its own words in its own files.
fn agent_of_format_1_starts(bench: &Bench) {
    let path = bench.path().join("state.toml");
    let text = fs::read_to_string(&path).unwrap();
    let read = Former::read(&text).expect("it starts");
    let state: toml::Table = toml::from_str(&text).unwrap();
    let name = |key: &str| state.get(key).and_then(|it| it.as_str()).map(str::to_owned);
    let folder = |name: &str| bench.path().join(format!("slot-{}", name.to_lowercase()));
    let whole = |name: &String| {
        let manifest = fs::read(folder(name).join("manifest.bin")).unwrap_or_default();
        let student = super::super::format1::student(&manifest);
        let length = fs::metadata(folder(name).join("model.onnx")).map_or(0, |it| it.len());
        student.is_some_and(|student| student.bytes == length)
    };
    let (active, previous, staged) = (name("active"), name("previous"), name("staged"));
    let on_trial = state["on_trial"].as_bool().unwrap();
    let kept = if on_trial { [previous, None, staged] } else { [active, previous, staged] };
    let kept = kept.map(|name| name.filter(whole));
    for slot in ["A", "B", "C"] {
        if !kept.iter().flatten().any(|name| name == slot) {
            let _ = fs::remove_dir_all(folder(slot));
        }
    }
    if on_trial {
        let mut text = String::new();
        for (key, name) in ["active", "previous", "staged"].iter().zip(&kept) {
            if let Some(name) = name {
                text.extend([key, " = \"", name, "\"\n"]);
            }
        }
        fs::write(path, text + "on_trial = false\n").unwrap();
    }
    let link = bench.path().join("active");
    let _ = fs::remove_file(&link);
    if let Some(name) = &kept[0] {
        symlink(format!("slot-{}", name.to_lowercase()), link).unwrap();
    }
    assert!(read.write() == text);
}

#[tokio::test]
async fn an_agent_of_format_1_that_is_put_back_erases_no_whole_student() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.ship(&slots, "two").await;
    bench.stage(&slots, "three").await.unwrap();
    let before = slots.status();
    drop(slots);
    agent_of_format_1_starts(&bench);
    let slots = bench.slots().await;
    let again = slots.status();
    assert_eq!(names(&again), names(&before));
    assert_eq!(again.notices.len(), 0, "{again:?}");
    bench.runs(&slots, "two");
    // With a student on trial, whose trial the other agent ends as we would.
    bench.activate(&slots).await.unwrap();
    drop(slots);
    agent_of_format_1_starts(&bench);
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [Some("two"), None, Some("one")]);
    assert!(notices(&slots)[0].contains("another version"), "{:?}", notices(&slots));
    // The very first one.
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.try_out(&slots, "one").await;
    drop(slots);
    agent_of_format_1_starts(&bench);
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [None, Some("one"), None]);
}
