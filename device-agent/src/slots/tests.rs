//! The slots with a worker that gives prepared answers, and with the plug pulled at every step.

use super::*;
use crate::worker_job::{self, Event, Outcome};
use ed25519_dalek::{Signer, SigningKey};
use n2n_protocol::{Artifact, Digest, Execution, Golden, Model};
use std::sync::atomic::Ordering;

const GOOD: &[f32] = &[1.0, 2.0];

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    key: SigningKey,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("blobs")).unwrap();
        Self { folder, store, key: SigningKey::from_bytes(&[7; 32]) }
    }

    fn slots(&self) -> Slots {
        Slots::open(&self.folder.path().join("slots")).unwrap()
    }

    /// A signed bundle of a blob that is in the store.
    fn bundle(&self, name: &str) -> BundleManifest {
        let blob = format!("model of {name}").into_bytes();
        let model = Digest::of(&blob);
        self.store.query(&model, blob.len() as u64).unwrap();
        self.store.put_chunk(&model, 0, &blob).unwrap();
        let golden = Golden { input_seed: 1, logits: GOOD.to_vec(), tolerance: 1e-6 };
        let mut manifest = BundleManifest {
            name: name.into(),
            artifact: Artifact {
                model: Model::onnx(model),
                execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
                classes: vec![],
                target: String::new(),
                number: 1,
            },
            golden,
            latency_limit_ns: None,
            signer: self.key.verifying_key().to_bytes(),
            signature: vec![],
        };
        manifest.signature = self.key.sign(&manifest.signed_bytes()).to_bytes().to_vec();
        manifest
    }

    /// A worker that answers with these logits, whatever it is asked.
    fn worker(&self, logits: &[f32]) -> WorkerCommand {
        let events = [Event::Loaded, Event::Answer(logits.to_vec()), Event::Done(Outcome::Inferred)];
        let frame = |event: &Event| worker_job::frame(event, worker_job::EVENT_BYTES).unwrap();
        let bytes: Vec<u8> = events.iter().flat_map(frame).collect();
        let answer = self.folder.path().join(Digest::of(&bytes).to_string());
        std::fs::write(&answer, bytes).unwrap();
        WorkerCommand { program: "/bin/cat".into(), prefix: vec![answer.into()] }
    }

    async fn stage(&self, slots: &mut Slots, name: &str) -> Result<SlotStatus, Failure> {
        slots.stage(&self.bundle(name), &self.store, &self.worker(GOOD), &Cancel::never()).await
    }

    async fn activate(&self, slots: &mut Slots) -> Result<SlotStatus, Failure> {
        slots.activate(&self.worker(GOOD), &Cancel::never()).await
    }

    async fn ship(&self, slots: &mut Slots, name: &str) {
        self.stage(slots, name).await.unwrap();
        self.activate(slots).await.unwrap();
        slots.confirm().unwrap();
    }

    /// What an application on the board would open.
    fn running(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("slots/active/model.onnx")).ok()
    }
}

fn names(status: &SlotStatus) -> [Option<&str>; 3] {
    [&status.active, &status.staged, &status.way_back]
        .map(|slot| slot.as_ref().map(|slot| slot.name.as_str()))
}

fn refused(result: Result<SlotStatus, Failure>) -> String {
    match result {
        Err(Failure::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn failed(result: Result<SlotStatus, Failure>) -> String {
    match result {
        Err(Failure::Failed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_whole_way_in_and_back() {
    let bench = Bench::new();
    let mut slots = bench.slots();
    assert_eq!(slots.status(), SlotStatus::default());

    let staged = bench.stage(&mut slots, "one").await.unwrap();
    assert_eq!(names(&staged), [None, Some("one"), None]);
    assert_eq!(bench.running(), None);
    let active = bench.activate(&mut slots).await.unwrap();
    assert!(active.trial.is_some());
    assert_eq!(bench.running().as_deref(), Some("model of one"));
    assert!(slots.confirm().unwrap().trial.is_none());

    bench.ship(&mut slots, "two").await;
    bench.stage(&mut slots, "three").await.unwrap();
    assert_eq!(
        names(&slots.status()),
        [Some("two"), Some("three"), Some("one")],
        "staging keeps the way back"
    );
    assert_eq!(names(&slots.rollback().unwrap()), [Some("one"), Some("three"), None]);
    assert_eq!(bench.running().as_deref(), Some("model of one"));

    drop(slots);
    let mut slots = bench.slots();
    assert_eq!(names(&slots.status()), [Some("one"), Some("three"), None]);
    bench.activate(&mut slots).await.unwrap();
    assert_eq!(names(&slots.status()), [Some("three"), None, Some("one")]);
}

#[tokio::test]
async fn verbs_out_of_order_are_refused() {
    let bench = Bench::new();
    let mut slots = bench.slots();
    assert_eq!(refused(bench.activate(&mut slots).await), "nothing is staged");
    assert_eq!(refused(slots.confirm()), "nothing is on trial");
    assert!(refused(slots.rollback()).contains("no previous student"));
    let mut absent = bench.bundle("one");
    absent.artifact.model.digest = Digest([9; 32]);
    absent.signature = bench.key.sign(&absent.signed_bytes()).to_bytes().to_vec();
    let result = slots.stage(&absent, &bench.store, &bench.worker(GOOD), &Cancel::never()).await;
    assert!(refused(result).contains("put it first"));
}

#[tokio::test]
async fn a_wrong_answer_is_never_staged() {
    let bench = Bench::new();
    let mut slots = bench.slots();
    bench.ship(&mut slots, "one").await;
    let worker = bench.worker(&[1.0, 3.0]);
    let result = slots.stage(&bench.bundle("two"), &bench.store, &worker, &Cancel::never()).await;
    assert!(failed(result).contains("golden answer: it differs"));
    assert_eq!(names(&slots.status()), [Some("one"), None, None]);
}

#[tokio::test]
async fn an_unhealthy_student_is_rolled_back_at_activation() {
    let bench = Bench::new();
    let mut slots = bench.slots();
    bench.ship(&mut slots, "one").await;
    bench.ship(&mut slots, "two").await;
    bench.stage(&mut slots, "bad").await.unwrap();
    let result = slots.activate(&bench.worker(&[f32::NAN, 2.0]), &Cancel::never()).await;
    assert!(failed(result).ends_with("; rolled back"));
    assert_eq!(names(&slots.status()), [Some("two"), None, Some("one")]);
    assert!(slots.status().trial.is_none());
    assert_eq!(bench.running().as_deref(), Some("model of two"));
}

#[tokio::test]
async fn bytes_that_changed_on_the_medium_are_noticed() {
    let bench = Bench::new();
    let mut slots = bench.slots();
    bench.ship(&mut slots, "one").await;
    bench.stage(&mut slots, "two").await.unwrap();
    let staged = slots.disk.model(slots.state.staged.unwrap());
    std::fs::write(&staged, b"MODEL of two").unwrap();
    assert!(failed(bench.activate(&mut slots).await).contains("have digest"));
    assert_eq!(bench.running().as_deref(), Some("model of one"));
}

#[tokio::test]
async fn only_the_first_signer_is_trusted_and_signatures_cover_everything() {
    let mut bench = Bench::new();
    let mut slots = bench.slots();
    let mut forged = bench.bundle("one");
    forged.latency_limit_ns = Some(1);
    let result = slots.stage(&forged, &bench.store, &bench.worker(GOOD), &Cancel::never()).await;
    assert!(refused(result).contains("does not fit the bundle"));
    let unsigned = BundleManifest { signature: vec![], ..bench.bundle("one") };
    let result = slots.stage(&unsigned, &bench.store, &bench.worker(GOOD), &Cancel::never()).await;
    assert!(refused(result).contains("64 bytes"));

    bench.ship(&mut slots, "one").await;
    drop(slots);
    let mut slots = bench.slots();
    bench.key = SigningKey::from_bytes(&[8; 32]);
    let why = refused(bench.stage(&mut slots, "two").await);
    assert!(why.contains("is signed by") && why.contains("this board trusts"), "{why}");
}

#[tokio::test]
async fn a_trial_that_nobody_confirmed_ends_with_the_agent() {
    let bench = Bench::new();
    let mut slots = bench.slots();
    bench.ship(&mut slots, "one").await;
    bench.stage(&mut slots, "two").await.unwrap();
    bench.activate(&mut slots).await.unwrap();
    drop(slots);
    let slots = bench.slots();
    assert_eq!(names(&slots.status()), [Some("one"), None, None]);
    assert_eq!(bench.running().as_deref(), Some("model of one"));
}

/// Pulls the plug before the n-th change of the medium, for every n, during each verb.
#[tokio::test]
async fn a_crash_at_any_step_leaves_the_old_or_the_new_student() {
    let mut crashes = 0;
    for verb in ["stage", "activate", "confirm", "rollback"] {
        for steps in 0.. {
            let bench = Bench::new();
            let mut slots = bench.slots();
            bench.ship(&mut slots, "one").await;
            if verb != "stage" {
                bench.stage(&mut slots, "two").await.unwrap();
            }
            if verb == "confirm" || verb == "rollback" {
                bench.activate(&mut slots).await.unwrap();
            }
            slots.disk.steps_left.store(steps, Ordering::Relaxed);
            let result = match verb {
                "stage" => bench.stage(&mut slots, "two").await,
                "activate" => bench.activate(&mut slots).await,
                "confirm" => slots.confirm(),
                _ => slots.rollback(),
            };
            let done = result.is_ok();
            drop(slots);

            let slots = bench.slots();
            let status = slots.status();
            let active =
                status.active.clone().unwrap_or_else(|| panic!("nothing runs after {verb}, step {steps}"));
            assert_eq!(bench.running(), Some(format!("model of {}", active.name)), "{verb}, step {steps}");
            assert_eq!(Digest::of(bench.running().unwrap().as_bytes()), active.model);
            assert!(status.trial.is_none());
            if verb != "confirm" {
                assert_eq!(active.name, "one", "{verb}, step {steps}: unconfirmed");
            }
            if done {
                let expected = if verb == "confirm" { "two" } else { "one" };
                assert_eq!(active.name, expected);
                break;
            }
            crashes += 1;
            // And the board is as usable as ever.
            let mut slots = slots;
            bench.ship(&mut slots, "three").await;
            assert_eq!(bench.running().as_deref(), Some("model of three"));
        }
    }
    assert!(crashes > 20, "only {crashes} crashes were tried");
}
