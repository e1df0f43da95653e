//! A student's way onto the board with real workers: upload, checks, switch.

#[path = "../src/test_models.rs"]
mod test_models;

use ed25519_dalek::{Signer, SigningKey};
use n2n_agent::engine::Engines;
use n2n_agent::slots::{Settings, Slots};
use n2n_agent::store::Store;
use n2n_agent::{Cancel, WorkerCommand, infer};
use n2n_protocol::{
    Artifact, BundleManifest, Digest, Execution, Failure, Golden, InferPlan, Model, Place, Shipment,
    generator,
};
use prost::Message;
use std::time::Duration;
use test_models::{Weights, conv_net};

fn worker() -> WorkerCommand {
    let program = env!("CARGO_BIN_EXE_n2n-agent").into();
    WorkerCommand { program, prefix: vec!["worker".into()], engines: Engines::default() }
}

fn signed(mut manifest: BundleManifest) -> Shipment {
    let key = SigningKey::from_bytes(&[1; 32]);
    manifest.signer = key.verifying_key().to_bytes();
    manifest.signature = key.sign(&manifest.signed_bytes()).to_bytes().to_vec();
    Shipment { bundle: manifest, force: false }
}

#[tokio::test]
async fn a_student_is_verified_by_its_answer_and_its_latency_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("blobs")).unwrap();
    let settings = Settings { trial: Duration::from_mins(15), class: "any".into(), on_switch: None };
    let slots = Slots::open(&folder.path().join("slots"), settings);
    slots.settle().await;
    let bytes = conv_net(3, 8, 4, &Weights::GeneratedFrom(1)).encode_to_vec();
    let model = Digest::of(&bytes);
    store.query(&model, bytes.len() as u64).unwrap();
    store.put_chunk(&model, 0, &bytes).unwrap();
    let execution = Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 };
    let input: Vec<u8> =
        generator::input(5, 3 * 8 * 8).iter().flat_map(|value| value.to_le_bytes()).collect();
    let plan = InferPlan {
        model: Model::onnx(model),
        place: Place::Store,
        execution: execution.clone(),
        max_memory_bytes: 1 << 30,
        inputs: vec![input.into()],
    };
    let cancel = Cancel::never();
    let blob = store.pin(&model).unwrap().unwrap();
    let logits = infer::infer(&plan, blob.path(), &worker(), &cancel).await.unwrap().remove(0);

    let fast = BundleManifest {
        name: "student".into(),
        artifact: Artifact {
            model: Model::onnx(model),
            execution,
            classes: vec![],
            target: String::new(),
            number: 1,
        },
        golden: Golden { input_seed: 5, logits, tolerance: 1e-6 },
        latency_limit_ns: Some(1_000_000_000),
        signer: [0; 32],
        signature: vec![],
    };
    let slow = signed(BundleManifest { latency_limit_ns: Some(1), ..fast.clone() });
    let result = slots.stage(&slow, &store, &worker(), &cancel).await;
    assert!(
        matches!(&result, Err(Failure::Failed(why)) if why.contains("the limit is 1.00ns")),
        "{result:?}"
    );
    let wrong =
        signed(BundleManifest { golden: Golden { input_seed: 6, ..fast.golden.clone() }, ..fast.clone() });
    let result = slots.stage(&wrong, &store, &worker(), &cancel).await;
    assert!(matches!(&result, Err(Failure::Failed(why)) if why.contains("golden")), "{result:?}");

    let staged = slots.stage(&signed(fast), &store, &worker(), &cancel).await.unwrap();
    let id = staged.staged.unwrap().id;
    slots.activate(id, &worker(), &cancel).await.unwrap();
    let status = slots.confirm(id).await.unwrap();
    assert_eq!(status.active.unwrap().model, model);
    assert_eq!(std::fs::read(folder.path().join("slots/active/model.onnx")).unwrap(), bytes);
}
