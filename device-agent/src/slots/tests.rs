//! The slots with a worker that gives prepared answers: every way in and back, with what can go wrong on the way.

mod crashes;
mod damage;
mod upgrade;

use super::*;
use crate::engine::Engines;
use crate::worker_job::{self, Event, Outcome};
use ed25519_dalek::{Signer, SigningKey};
use n2n_protocol::{Artifact, Execution, Golden, Model};

const GOOD: &[f32] = &[1.0, 2.0];
const CLASS: &str = "test-board";

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    key: SigningKey,
    number: std::cell::Cell<u64>,
    on_switch: Option<PathBuf>,
}

impl Bench {
    fn new() -> Self {
        // In memory where there is such a place: nothing here depends on a disk, and there are many boards.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let store = Store::open(&folder.path().join("blobs")).unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        Self { folder, store, key, number: 0.into(), on_switch: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("slots")
    }

    /// An agent that has not looked at anything yet.
    fn opened(&self) -> Slots {
        let settings = Settings {
            trial: Duration::from_mins(15),
            class: CLASS.into(),
            on_switch: self.on_switch.clone(),
        };
        Slots::open(&self.path(), settings)
    }

    /// A started agent.
    async fn slots(&self) -> Slots {
        let slots = self.opened();
        slots.settle().await;
        slots
    }

    /// A signed bundle of a blob that is in the store.
    fn bundle(&self, name: &str) -> BundleManifest {
        let blob = model_of(name);
        let digest = Digest::of(&blob);
        self.store.query(&digest, blob.len() as u64).unwrap();
        self.store.put_chunk(&digest, 0, &blob).unwrap();
        self.number.set(self.number.get() + 1);
        let execution = Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 };
        self.signed(BundleManifest {
            name: name.into(),
            artifact: Artifact {
                model: Model::onnx(digest),
                execution,
                classes: vec![],
                target: CLASS.into(),
                number: self.number.get(),
            },
            golden: Golden { input_seed: 1, logits: GOOD.to_vec(), tolerance: 1e-6 },
            latency_limit_ns: None,
            signer: [0; 32],
            signature: vec![],
        })
    }

    fn signed(&self, mut bundle: BundleManifest) -> BundleManifest {
        bundle.signer = self.key.verifying_key().to_bytes();
        bundle.signature = self.key.sign(&bundle.signed_bytes()).to_bytes().to_vec();
        bundle
    }

    /// A worker that answers with these logits, whatever it is asked.
    fn worker(&self, logits: &[f32]) -> WorkerCommand {
        let events = [Event::Loaded, Event::Answer(logits.to_vec()), Event::Done(Outcome::Inferred)];
        let frame = |event: &Event| worker_job::frame(event, worker_job::EVENT_BYTES).unwrap();
        let bytes: Vec<u8> = events.iter().flat_map(frame).collect();
        let answer = self.folder.path().join(Digest::of(&bytes).to_string());
        std::fs::write(&answer, bytes).unwrap();
        WorkerCommand { program: "/bin/cat".into(), prefix: vec![answer.into()], engines: Engines::default() }
    }

    async fn stage_bundle(&self, slots: &Slots, bundle: BundleManifest) -> Result<SlotStatus, Failure> {
        let shipment = Shipment { bundle, force: false };
        slots.stage(&shipment, &self.store, &self.worker(GOOD), &Cancel::never()).await
    }

    async fn stage(&self, slots: &Slots, name: &str) -> Result<SlotStatus, Failure> {
        self.stage_bundle(slots, self.bundle(name)).await
    }

    async fn activate(&self, slots: &Slots) -> Result<SlotStatus, Failure> {
        let id = slots.status().staged.map_or(0, |staged| staged.id);
        slots.activate(id, &self.worker(GOOD), &Cancel::never()).await
    }

    async fn confirm(&self, slots: &Slots) -> Result<SlotStatus, Failure> {
        let id = slots.status().active.map_or(0, |active| active.id);
        slots.confirm(id).await
    }

    /// Staged and on trial.
    async fn try_out(&self, slots: &Slots, name: &str) {
        self.stage(slots, name).await.unwrap();
        self.activate(slots).await.unwrap();
    }

    async fn ship(&self, slots: &Slots, name: &str) {
        self.try_out(slots, name).await;
        self.confirm(slots).await.unwrap();
    }

    /// Students that are on their way into a slot.
    fn incoming(&self) -> usize {
        let names = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("incoming-")).count()
    }

    /// What an application on the board would open.
    fn running(&self) -> Option<String> {
        std::fs::read_to_string(self.path().join("active/model.onnx")).ok()
    }

    /// Applications and status agree on this student, and its bytes are right.
    #[track_caller]
    fn runs(&self, slots: &Slots, name: &str) {
        let status = slots.status();
        let active = status.active.as_ref().map(|active| active.name.as_str());
        assert_eq!(active, Some(name), "{status:?}");
        assert_eq!(self.running().map(String::into_bytes), Some(model_of(name)), "{status:?}");
    }
}

fn model_of(name: &str) -> Vec<u8> {
    format!("model of {name}").into_bytes()
}

/// Active, staged, way back.
fn names(status: &SlotStatus) -> [Option<&str>; 3] {
    [&status.active, &status.staged, &status.way_back]
        .map(|slot| slot.as_ref().map(|slot| slot.name.as_str()))
}

fn notices(slots: &Slots) -> Vec<String> {
    slots.status().notices.into_iter().map(|notice| notice.text).collect()
}

#[track_caller]
fn refused(result: Result<SlotStatus, Failure>) -> String {
    match result {
        Err(Failure::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(result: Result<SlotStatus, Failure>) -> String {
    match result {
        Err(Failure::Failed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_whole_way_in_and_back() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    assert_eq!(slots.status(), SlotStatus::default());

    let staged = bench.stage(&slots, "one").await.unwrap();
    assert_eq!(names(&staged), [None, Some("one"), None]);
    assert_eq!(bench.running(), None);
    let active = bench.activate(&slots).await.unwrap();
    let trial = active.trial.unwrap();
    assert_eq!(trial.id, staged.staged.unwrap().id);
    assert!((890..=900).contains(&trial.seconds_left), "{trial:?}");
    bench.runs(&slots, "one");
    assert_eq!(bench.confirm(&slots).await.unwrap().trial, None);

    bench.ship(&slots, "two").await;
    bench.stage(&slots, "three").await.unwrap();
    let status = slots.status();
    assert_eq!(names(&status), [Some("two"), Some("three"), Some("one")], "staging keeps the way back");
    assert!(status.active.unwrap().verified_at > 0);
    assert_eq!(names(&slots.rollback(None).await.unwrap()), [Some("one"), Some("three"), None]);
    bench.runs(&slots, "one");

    drop(slots);
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [Some("one"), Some("three"), None]);
    bench.activate(&slots).await.unwrap();
    assert_eq!(names(&slots.status()), [Some("three"), None, Some("one")]);
}

#[tokio::test]
async fn verbs_out_of_order_are_refused() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    assert_eq!(refused(bench.activate(&slots).await), "nothing is staged");
    assert_eq!(refused(bench.confirm(&slots).await), "nothing is on trial");
    assert!(refused(slots.rollback(None).await).contains("no confirmed student"));
    let mut absent = bench.bundle("one");
    absent.artifact.model.digest = Digest([9; 32]);
    let absent = bench.signed(absent);
    assert!(refused(bench.stage_bundle(&slots, absent).await).contains("put it first"));
}

#[tokio::test]
async fn a_wrong_answer_is_never_staged() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    let shipment = Shipment { bundle: bench.bundle("two"), force: false };
    let worker = bench.worker(&[1.0, 3.0]);
    let result = slots.stage(&shipment, &bench.store, &worker, &Cancel::never()).await;
    assert!(failed(result).contains("golden answer"));
    assert_eq!(names(&slots.status()), [Some("one"), None, None]);
}

#[tokio::test]
async fn an_unhealthy_student_never_becomes_active() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.ship(&slots, "two").await;
    let id = bench.stage(&slots, "bad").await.unwrap().staged.unwrap().id;
    let result = slots.activate(id, &bench.worker(&[f32::NAN, 2.0]), &Cancel::never()).await;
    assert!(failed(result).contains("golden answer"));
    assert_eq!(names(&slots.status()), [Some("two"), None, Some("one")]);
    assert_eq!(slots.status().trial, None);
    bench.runs(&slots, "two");
}

#[tokio::test]
async fn only_the_first_signer_is_trusted_and_signatures_cover_everything() {
    let mut bench = Bench::new();
    let slots = bench.slots().await;
    let forged = BundleManifest { latency_limit_ns: Some(1), ..bench.bundle("one") };
    assert!(refused(bench.stage_bundle(&slots, forged).await).contains("does not fit the bundle"));
    let unsigned = BundleManifest { signature: vec![], ..bench.bundle("one") };
    assert!(refused(bench.stage_bundle(&slots, unsigned).await).contains("64 bytes"));

    bench.ship(&slots, "one").await;
    drop(slots);
    let slots = bench.slots().await;
    bench.key = SigningKey::from_bytes(&[8; 32]);
    let why = refused(bench.stage(&slots, "two").await);
    assert!(why.contains("is signed by") && why.contains("this board trusts"), "{why}");
    std::fs::write(bench.path().join("signer"), "no key").unwrap();
    let why = failed(bench.stage(&slots, "two").await);
    assert!(why.contains("signer") && why.contains("remove it"), "{why}");
}

#[tokio::test]
async fn a_student_of_another_class_or_a_lower_number_is_refused_in_words() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    let mut other = bench.bundle("two");
    other.artifact.target = "jetson".into();
    let other = bench.signed(other);
    let why = refused(bench.stage_bundle(&slots, other.clone()).await);
    assert!(why.contains("`jetson`") && why.contains(CLASS), "{why}");
    let shipment = Shipment { bundle: other, force: true };
    slots.stage(&shipment, &bench.store, &bench.worker(GOOD), &Cancel::never()).await.unwrap();
    let mut older = bench.bundle("three");
    older.artifact.number = 1;
    let why = refused(bench.stage_bundle(&slots, bench.signed(older)).await);
    assert!(why.contains("number 1") && why.contains("seen 2"), "{why}");
}

#[tokio::test]
async fn a_trial_that_nobody_confirmed_ends_with_its_agent() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.try_out(&slots, "two").await;
    drop(slots);
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [Some("one"), None, None]);
    bench.runs(&slots, "one");
    assert_eq!(notices(&slots), ["student `two` was on trial when the agent stopped: back to `one`"]);
}

#[tokio::test]
async fn a_trial_that_nobody_confirmed_ends_at_its_deadline() {
    let bench = Bench::new();
    let slots = bench.opened();
    let keeper = slots.clone();
    let keeper = tokio::spawn(async move { keeper.keep(|| true).await });
    bench.ship(&slots, "one").await;
    bench.try_out(&slots, "two").await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_mins(14)).await;
    let left = slots.status().trial.unwrap().seconds_left;
    assert!((1..=60).contains(&left), "{left}");
    bench.runs(&slots, "two");
    tokio::time::sleep(Duration::from_mins(2)).await;
    let mut looks = 0;
    while slots.status().trial.is_some() {
        looks += 1;
        assert!(looks < 1000, "the trial does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bench.runs(&slots, "one");
    assert_eq!(notices(&slots), ["nobody confirmed student `two` within 15 min: back to `one`"]);
    keeper.abort();
}

#[tokio::test]
async fn two_shipments_whose_hosts_died_do_not_cost_the_confirmed_student() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "zero").await;
    bench.ship(&slots, "one").await;
    bench.try_out(&slots, "two").await;
    bench.try_out(&slots, "three").await;
    let status = slots.status();
    assert_eq!(names(&status), [Some("three"), None, Some("one")]);
    slots.rollback(None).await.unwrap();
    bench.runs(&slots, "one");
    assert_eq!(slots.status().trial, None, "what was confirmed stays so");
    // And with a restart between the two.
    bench.try_out(&slots, "four").await;
    drop(slots);
    let slots = bench.slots().await;
    bench.try_out(&slots, "five").await;
    drop(slots);
    bench.runs(&bench.slots().await, "one");
}

#[tokio::test]
async fn shipping_the_active_student_again_changes_nothing() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.ship(&slots, "two").await;
    let before = slots.status();
    let again = bench.stage(&slots, "two").await.unwrap();
    assert_eq!(names(&again), [Some("two"), None, Some("one")]);
    assert_eq!(again.active.unwrap().id, before.active.unwrap().id);
    slots.rollback(None).await.unwrap();
    bench.runs(&slots, "one");

    // One whose host died on trial is taken over by the next.
    bench.try_out(&slots, "three").await;
    let status = bench.stage(&slots, "three").await.unwrap();
    let trial = status.trial.unwrap();
    assert_eq!(trial.id, status.active.unwrap().id);
    slots.confirm(trial.id).await.unwrap();
    assert_eq!(names(&slots.status()), [Some("three"), None, Some("one")]);
}

#[tokio::test]
async fn a_late_host_ends_nobody_elses_trial() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.try_out(&slots, "two").await;
    let two = slots.status().trial.unwrap().id;
    bench.stage(&slots, "three").await.unwrap();
    let three = slots.status().staged.unwrap().id;
    let wrong = slots.activate(two, &bench.worker(GOOD), &Cancel::never()).await;
    assert!(refused(wrong).contains("is not staged any more"));
    bench.activate(&slots).await.unwrap();
    assert!(refused(slots.confirm(two).await).contains("has ended already"));
    assert!(refused(slots.rollback(Some(two)).await).contains("has ended already"));
    assert_eq!(slots.status().trial.unwrap().id, three);
    slots.confirm(three).await.unwrap();
    slots.confirm(three).await.expect("a lost answer is asked for again");
    assert!(refused(slots.rollback(Some(three)).await).contains("has ended already"));
    bench.runs(&slots, "three");
}

#[tokio::test]
async fn the_users_program_is_told_and_its_failure_rolls_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bench = Bench::new();
    let program = bench.folder.path().join("told");
    let heard = bench.folder.path().join("heard");
    // It does not take to `bad`.
    let text = format!(
        "#!/bin/sh\necho \"$N2N_EVENT $N2N_NAME $(cat $N2N_MODEL)\" >> {}\n[ \"$N2N_NAME\" != bad ] || {{ echo no such operator; exit 1; }}\n",
        heard.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    bench.on_switch = Some(program);
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.stage(&slots, "bad").await.unwrap();
    let why = failed(bench.activate(&slots).await);
    assert!(why.contains("no such operator") && why.ends_with("; rolled back"), "{why}");
    bench.runs(&slots, "one");
    assert_eq!(slots.status().trial, None);
    let heard = std::fs::read_to_string(heard).unwrap();
    assert_eq!(
        heard,
        "activated one model of one\nactivated bad model of bad\nrolled_back one model of one\n"
    );
    assert!(notices(&slots)[0].ends_with("back to `one`"), "{:?}", notices(&slots));
}

#[tokio::test]
async fn status_and_rollback_answer_while_a_student_is_verified_and_the_rollback_wins() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    bench.ship(&slots, "two").await;
    // A worker that takes its time: it says that it is loading, and then waits for us.
    let gate = bench.folder.path().join("gate");
    let slow = WorkerCommand {
        program: "/bin/sh".into(),
        prefix: vec![
            "-c".into(),
            format!(
                "while [ ! -e {} ]; do sleep 0.01; done; exec /bin/cat {}",
                gate.display(),
                bench.worker(GOOD).prefix[0].to_string_lossy()
            )
            .into(),
        ],
        engines: Engines::default(),
    };
    let shipment = Shipment { bundle: bench.bundle("three"), force: false };
    let never = Cancel::never();
    let staging = slots.stage(&shipment, &bench.store, &slow, &never);
    tokio::pin!(staging);
    let begun = async {
        while bench.incoming() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        early = &mut staging => panic!("{early:?}"),
        () = begun => {}
    }
    assert_eq!(names(&slots.status())[0], Some("two"));
    tokio::select! {
        early = &mut staging => panic!("{early:?}"),
        back = slots.rollback(None) => {
            assert_eq!(names(&back.unwrap()), [Some("one"), None, None]);
        }
    }
    std::fs::write(gate, "").unwrap();
    let why = refused(staging.await);
    assert!(why.contains("went back to an earlier student"), "{why}");
    assert_eq!(names(&slots.status()), [Some("one"), None, None]);
}

#[tokio::test]
async fn a_stage_that_was_abandoned_never_touches_a_slot_again() {
    let bench = Bench::new();
    let slots = bench.slots().await;
    bench.ship(&slots, "one").await;
    // The disk stalls in the middle of the copy: the blob is a pipe that nobody fills yet.
    let bundle = bench.bundle("big");
    let blob = bench.folder.path().join("blobs").join(bundle.artifact.model.digest.to_string());
    std::fs::remove_file(&blob).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&blob).status().unwrap();
    assert!(made.success());
    let (canceller, cancel) = Cancel::pair();
    let (stalled, store) = (slots.clone(), bench.store.clone());
    let worker = bench.worker(GOOD);
    let abandoned = tokio::spawn(async move {
        let shipment = Shipment { bundle, force: false };
        stalled.stage(&shipment, &store, &worker, &cancel).await
    });
    while bench.incoming() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Its host goes, as a session does it: asked to stop, then dropped.
    canceller.cancel();
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    bench.try_out(&slots, "two").await;
    bench.stage(&slots, "three").await.unwrap();
    // The disk wakes up, and the old copy ends.
    // It may be closed before all of it is read: nobody wants it any more.
    let _ = std::fs::write(&blob, model_of("big"));
    while bench.incoming() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(names(&slots.status()), [Some("two"), Some("three"), Some("one")]);
    bench.runs(&slots, "two");
    drop(slots);
    let slots = bench.slots().await;
    assert_eq!(names(&slots.status()), [Some("one"), Some("three"), None]);
}
