//! Bytes that change behind the agent's back, files that go missing, folders that cannot be written.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// One way to damage a slot; how the status then calls it.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 3] = [
    ("digest", |slot| {
        let path = slot.join("model.onnx");
        let mut bytes = fs::read(&path).unwrap();
        bytes[3] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    ("4 bytes, not 12", |slot| fs::write(slot.join("model.onnx"), "mode").unwrap()),
    ("is missing", |slot| fs::remove_file(slot.join("model.onnx")).unwrap()),
];

impl Bench {
    /// The folder of a student, found by its bytes.
    fn slot_of(&self, name: &str) -> PathBuf {
        let slots = ["slot-a", "slot-b", "slot-c"].map(|slot| self.path().join(slot));
        slots
            .into_iter()
            .find(|slot| fs::read(slot.join("model.onnx")).is_ok_and(|it| it == model_of(name)))
            .unwrap()
    }
}

#[tokio::test]
async fn a_roll_back_to_a_damaged_student_is_refused_and_the_good_one_stays() {
    for (how, damage) in DAMAGES {
        let bench = Bench::new();
        let slots = bench.slots().await;
        bench.ship(&slots, "one").await;
        bench.ship(&slots, "two").await;
        damage(&bench.slot_of("one"));
        let why = refused(slots.rollback(None).await);
        assert!(why.contains("`one` in slot-") && why.contains(how) && why.contains("`two` stays"), "{why}");
        bench.runs(&slots, "two");
        assert_eq!(names(&slots.status()), [Some("two"), None, None], "the status promises no way back");
        drop(slots);
        bench.runs(&bench.slots().await, "two");
    }
}

#[tokio::test]
async fn a_damaged_active_student_gives_way_to_a_whole_one_at_the_start() {
    for (how, damage) in DAMAGES {
        let bench = Bench::new();
        let slots = bench.slots().await;
        bench.ship(&slots, "one").await;
        bench.ship(&slots, "two").await;
        drop(slots);
        damage(&bench.slot_of("two"));
        let slots = bench.slots().await;
        bench.runs(&slots, "one");
        let notices = notices(&slots);
        assert!(notices[0].contains("`two`") && notices[0].contains(how), "{notices:?}");
        assert!(notices[0].ends_with("back to `one`"), "{notices:?}");
        // The board is as usable as ever, with the very student that was damaged.
        bench.ship(&slots, "two").await;
        bench.runs(&slots, "two");
    }
}

#[tokio::test]
async fn a_student_that_is_damaged_while_it_runs_is_found_within_a_day() {
    let bench = Bench::new();
    let slots = bench.opened();
    let busy = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (keeper, quiet) = (slots.clone(), Arc::clone(&busy));
    let keeper = tokio::spawn(async move {
        keeper.keep(|| !quiet.load(std::sync::atomic::Ordering::Relaxed)).await;
    });
    bench.ship(&slots, "one").await;
    bench.ship(&slots, "two").await;
    DAMAGES[0].1(&bench.slot_of("two"));
    tokio::time::pause();
    tokio::time::sleep(Duration::from_hours(25)).await;
    assert_eq!(names(&slots.status())[0], Some("two"), "nobody is disturbed who measures");
    busy.store(false, std::sync::atomic::Ordering::Relaxed);
    let mut looks = 0;
    while names(&slots.status())[0] != Some("one") {
        looks += 1;
        assert!(looks < 1000, "{:?}", slots.status());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bench.runs(&slots, "one");
    keeper.abort();
}

#[tokio::test]
async fn a_damaged_student_without_another_stays_and_is_told_of() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    drop(slots);
    DAMAGES[0].1(&bench.slot_of("one"));
    for _ in 0..2 {
        let slots = bench.slots().await;
        assert_eq!(names(&slots.status()), [Some("one"), None, None]);
        assert_eq!(slots.status().active.unwrap().verified_at, 0);
        let notices = notices(&slots);
        assert!(notices.len() == 1 && notices[0].contains("is damaged"), "said once: {notices:?}");
    }
    // Shipping it again mends it.
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.runs(&slots, "one");
}

#[tokio::test]
async fn a_trial_whose_way_back_is_damaged_stays_when_it_ends() {
    for (how, damage) in DAMAGES {
        let bench = Bench::new();
        let slots = bench.slots().await;
        bench.ship(&slots, "one").await;
        bench.try_out(&slots, "two").await;
        damage(&bench.slot_of("one"));
        let why = refused(slots.rollback(None).await);
        assert!(why.contains(how), "{why}");
        drop(slots);
        let slots = bench.slots().await;
        bench.runs(&slots, "two");
        assert_eq!(slots.status().trial, None, "it is the board's student now");
        assert!(notices(&slots).iter().any(|it| it.ends_with("`two` stays")), "{:?}", notices(&slots));
    }
}

#[tokio::test]
async fn a_damaged_trial_is_not_confirmed() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.try_out(&slots, "two").await;
    DAMAGES[0].1(&bench.slot_of("two"));
    assert!(failed(bench.confirm(&slots).await).contains("not confirmed"));
    bench.runs(&slots, "one");
}

#[tokio::test]
async fn bytes_that_change_between_staging_and_activation_are_noticed() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.stage(&slots, "two").await.unwrap();
    DAMAGES[0].1(&bench.slot_of("two"));
    assert!(failed(bench.activate(&slots).await).contains("is damaged"));
    bench.runs(&slots, "one");
    assert_eq!(names(&slots.status()), [Some("one"), None, None]);
}

/// Flipped, torn, emptied, deleted: one copy, the other, both, and what older agents read.
#[tokio::test]
async fn no_damage_to_the_state_costs_a_student_or_stops_the_agent() {
    let spoils: [fn(&Path); 4] = [
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    let files = ["state-0.toml", "state-1.toml", "state.toml"];
    for which in 1..8 {
        for spoil in spoils {
            let bench = Bench::new();
            let slots = bench.slots().await;
            bench.ship(&slots, "one").await;
            bench.ship(&slots, "two").await;
            drop(slots);
            for (index, file) in files.iter().enumerate() {
                if which & (1 << index) != 0 {
                    spoil(&bench.path().join(file));
                }
            }
            let slots = bench.slots().await;
            bench.runs(&slots, "two");
            assert_eq!(names(&slots.status()), [Some("two"), None, Some("one")], "files {which:03b}");
            slots.rollback(None).await.unwrap();
            bench.runs(&slots, "one");
            bench.ship(&slots, "three").await;
            drop(slots);
            bench.runs(&bench.slots().await, "three");
        }
    }
}

#[tokio::test]
async fn a_student_whose_facts_are_lost_or_not_understood_is_kept_by_its_digest() {
    let spoils: [fn(&Path); 3] = [
        |slot| {
            let text = fs::read_to_string(slot.join("student.toml")).unwrap();
            let newer = text.replace("version = 2", "version = 9").replace("form = 2", "form = 7");
            fs::write(slot.join("student.toml"), newer).unwrap();
        },
        |slot| fs::write(slot.join("student.toml"), "torn").unwrap(),
        |slot| {
            fs::remove_file(slot.join("student.toml")).unwrap();
            fs::remove_file(slot.join("manifest.bin")).unwrap();
        },
    ];
    for spoil in spoils {
        let bench = Bench::new();
        let slots = bench.slots().await;
        bench.ship(&slots, "one").await;
        bench.ship(&slots, "two").await;
        drop(slots);
        spoil(&bench.slot_of("two"));
        spoil(&bench.slot_of("one"));
        let slots = bench.slots().await;
        let status = slots.status();
        assert_eq!(bench.running().map(String::into_bytes), Some(model_of("two")), "{status:?}");
        assert!(status.active.unwrap().verified_at > 0, "its bytes are right");
        slots.rollback(None).await.unwrap();
        assert_eq!(bench.running().map(String::into_bytes), Some(model_of("one")));
    }
}

#[tokio::test]
async fn a_changed_fact_is_damage_though_the_bytes_are_right() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.ship(&slots, "two").await;
    drop(slots);
    let path = bench.slot_of("two").join("student.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("threads = 1", "threads = 2")).unwrap();
    let slots = bench.slots().await;
    bench.runs(&slots, "one");
    assert!(notices(&slots)[0].contains("signature"), "{:?}", notices(&slots));
}

#[tokio::test]
async fn applications_and_status_agree_when_the_link_cannot_follow() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.stage(&slots, "two").await.unwrap();
    // Nothing can be renamed onto a folder.
    let link = bench.path().join("active");
    let aside = bench.path().join("aside");
    fs::rename(&link, &aside).unwrap();
    fs::create_dir_all(link.join("in the way")).unwrap();
    assert!(failed(bench.activate(&slots).await).contains("the board's disk"));
    assert_eq!((names(&slots.status())[0], slots.status().trial), (Some("one"), None));
    fs::remove_dir_all(&link).unwrap();
    fs::rename(&aside, &link).unwrap();
    drop(slots);
    bench.runs(&bench.slots().await, "one");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_or_is_a_file_leaves_an_agent_that_says_so() {
    let bench = Bench::new();
    fs::write(bench.path(), "a file").unwrap();
    let slots = bench.slots().await;
    assert_eq!(slots.status().active, None);
    assert!(notices(&slots)[0].contains("cannot be written"), "{:?}", notices(&slots));
    assert!(failed(bench.stage(&slots, "one").await).contains("the board's disk"));
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refused(slots.rollback(None).await).contains("no confirmed student"));
}
