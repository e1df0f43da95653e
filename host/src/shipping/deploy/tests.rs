//! Shipping against a peer that speaks the real protocol over a real socket and fails where it is told to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use n2n_protocol::handshake::{FRAME_BYTES, Prologue, Responder, challenge};
use n2n_protocol::key::Key;
use n2n_protocol::{
    Answer, Board, Call, Conditions, Digest, Disk, EngineId, Failure, Latency, Memory, Reply,
    Request as Asked, SCHEMA_HASH, SlotContent, Status, Trial, VERSION, Welcome, codec, limits,
};

use super::*;
use crate::board::{Endpoint, Patience};

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    RefusesToStage,
    LostTheBlob,
    OwnedByAnother,
    LosesLinkAtStage,
    FailsToActivate,
    WrongAnswer,
    Slow,
    LosesLinkAtActivate,
    LosesLinkInCheck,
    LosesLinkAfterConfirming,
    DiesInCheck,
}

struct FakeAgent {
    key: Key,
    fault: Fault,
    stored: u64,
    status: SlotStatus,
    calls: Vec<&'static str>,
}

const LIMIT_NS: u64 = 1_000_000;
const MODEL: &[u8] = b"a model";

fn golden_sample() -> Golden {
    Golden { input_seed: 3, logits: vec![1.0, -2.0], tolerance: 1e-3 }
}

fn slot(name: &str, model: Digest) -> SlotContent {
    SlotContent {
        id: u64::from(model.0[0]),
        name: name.into(),
        model,
        bytes: 1,
        number: 1,
        target: String::new(),
        engine: String::new(),
        threads: 1,
        staged_at: 0,
        verified_at: 0,
    }
}

impl FakeAgent {
    /// The answer; `None` closes the link.
    fn answer(&mut self, call: Call) -> Option<Result<Answer, Failure>> {
        let fault = std::mem::replace(&mut self.fault, Fault::None);
        let mut unused = |name| {
            self.calls.push(name);
            self.fault = fault;
        };
        Some(Ok(match call {
            Call::Hello(_) => {
                unused("hello");
                Answer::Hello(welcome())
            }
            Call::PutQuery { .. } => {
                unused("put");
                Answer::Stored { bytes: self.stored }
            }
            Call::PutChunk { offset, data, .. } => {
                unused("chunk");
                self.stored = offset + data.len() as u64;
                Answer::Stored { bytes: self.stored }
            }
            Call::Stage(_) if fault == Fault::RefusesToStage => {
                return Some(Err(Failure::Refused("no".into())));
            }
            Call::Stage(_) if fault == Fault::LosesLinkAtStage => return None,
            Call::Stage(_) if fault == Fault::LostTheBlob => {
                self.stored = 0;
                return Some(Err(Failure::Refused(
                    "the blob was damaged and is removed: put it again".into(),
                )));
            }
            Call::Stage(Request { bundle, .. }) => {
                unused("stage");
                assert_eq!((bundle.artifact.target.as_str(), bundle.artifact.number), ("fake", 7));
                assert_eq!(bundle.artifact.execution.engine, "fake", "the board's own");
                let active = self.status.active.as_ref().map(|slot| slot.model);
                if active == Some(bundle.artifact.model.digest) {
                    return Some(Ok(Answer::Slots(self.status.clone())));
                }
                self.status.staged = Some(slot(&bundle.name, bundle.artifact.model.digest));
                Answer::Slots(self.status.clone())
            }
            Call::Activate { .. } if fault == Fault::FailsToActivate => {
                return Some(Err(Failure::Failed("sick".into())));
            }
            Call::Activate { .. } => {
                unused("activate");
                self.status.way_back = self.status.active.take();
                self.status.active = self.status.staged.take();
                let id = self.status.active.as_ref().map_or(0, |slot| slot.id);
                self.status.trial = Some(Trial { id, seconds_left: 60 });
                if fault == Fault::LosesLinkAtActivate {
                    self.fault = Fault::None;
                    return None;
                }
                Answer::Slots(self.status.clone())
            }
            Call::Infer(_) if fault == Fault::LosesLinkInCheck => return None,
            Call::Infer(_) if fault == Fault::DiesInCheck => {
                self.fault = fault;
                return None;
            }
            Call::Infer(_) if fault == Fault::WrongAnswer => Answer::Inferred(vec![vec![1.0, 2.0]]),
            Call::Infer(plan) => {
                unused("infer");
                let bytes: Vec<u8> =
                    generator::input(3, 4).iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(plan.inputs, [bytes.into()]);
                assert_eq!(
                    (plan.place, plan.execution.threads),
                    (Place::ActiveSlot, 2),
                    "what runs is asked"
                );
                Answer::Inferred(vec![golden_sample().logits])
            }
            Call::Measure(plan) => {
                unused("measure");
                assert_eq!(
                    (plan.place, plan.execution.threads),
                    (Place::ActiveSlot, 2),
                    "what runs is timed"
                );
                let median_ns = if fault == Fault::Slow { LIMIT_NS * 2 } else { LIMIT_NS };
                Answer::Measured(measurement(&plan, median_ns))
            }
            Call::Confirm { .. } => {
                unused("confirm");
                self.status.trial = None;
                if fault == Fault::LosesLinkAfterConfirming {
                    self.fault = Fault::None;
                    return None;
                }
                Answer::Slots(self.status.clone())
            }
            Call::Rollback { .. } => {
                unused("rollback");
                self.status.active = self.status.way_back.take();
                self.status.trial = None;
                Answer::Slots(self.status.clone())
            }
            Call::Status => {
                unused("status");
                Answer::Status(Status {
                    slots: (fault != Fault::OwnedByAnother).then(|| self.status.clone()),
                    owner: Some(4711),
                    queue: vec![],
                    disk: Disk::default(),
                    strangers: 0,
                    uptime_s: 0,
                })
            }
            other => panic!("unexpected call {other:?}"),
        }))
    }

    fn serve(agent: &Mutex<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        let (mut opening, mut frame) = ([0; FRAME_BYTES], [0; FRAME_BYTES]);
        stream.read_exact(&mut opening)?;
        let challenge = challenge().unwrap();
        stream.write_all(&challenge)?;
        stream.read_exact(&mut frame)?;
        let key = agent.lock().unwrap().key.clone();
        let prologue = Prologue::new(&opening, &challenge).unwrap();
        let (_, responder) = Responder::verify([&key], &prologue, &frame).unwrap();
        let (mut channel, answer) = responder.answer(limits::REQUEST_BYTES).unwrap();
        stream.write_all(&answer)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            while let Some(message) = channel.pop().unwrap() {
                let request: Asked = codec::decode(&message, limits::REQUEST_BYTES).unwrap();
                let Some(outcome) = agent.lock().unwrap().answer(request.call) else { return Ok(()) };
                let reply = Reply { request_id: request.request_id, outcome };
                let mut sealed = Vec::new();
                channel.seal(&codec::encode(&reply, limits::REPLY_BYTES).unwrap(), &mut sealed).unwrap();
                stream.write_all(&sealed)?;
            }
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => channel.push(&buffer[..read]),
            }
        }
    }
}

fn board() -> Board {
    Board {
        name: "fake".into(),
        model: "fake".into(),
        class: "fake".into(),
        architecture: "none".into(),
        system: "none".into(),
        cores: 1,
        memory_bytes: 1,
        fingerprint: Digest([1; 32]),
        engines: vec![EngineId { name: "fake".into(), version: "0".into() }],
        conditions: Conditions::default(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: VERSION,
        schema: SCHEMA_HASH,
        agent: "0".into(),
        max_blob_bytes: 1 << 20,
        board: board(),
    }
}

fn measurement(plan: &MeasurePlan, median_ns: u64) -> Measurement {
    Measurement {
        model: plan.model.digest,
        engine: EngineId { name: "fake".into(), version: "0".into() },
        threads: plan.execution.threads,
        batch: 1,
        pace_us: 0,
        affinity: vec![],
        board: Digest([1; 32]),
        agent: "0".into(),
        samples_ns: vec![vec![median_ns]],
        inferences_per_sample: 1,
        warmup: vec![1],
        load_ms: vec![1],
        latency: Latency { median_ns, interval: None, min_ns: median_ns, p90_ns: median_ns, p99_ns: None },
        memory: Memory::default(),
        golden_difference: Some(0.0),
        before: Conditions::default(),
        after: Conditions::default(),
        voided: 0,
        budget_ended: false,
    }
}

/// Ships to a board whose active student is `old`; gives the outcome, the slots and the verbs the agent answered.
fn shipped(fault: Fault) -> (Result<Shipped, ShipError>, SlotStatus, Vec<&'static str>) {
    shipped_to(SlotStatus { active: Some(slot("old", Digest([7; 32]))), ..SlotStatus::default() }, fault)
}

/// The same to a board in any state.
fn shipped_to(
    status: SlotStatus,
    fault: Fault,
) -> (Result<Shipped, ShipError>, SlotStatus, Vec<&'static str>) {
    let key: Key = "ab".repeat(32).parse().unwrap();
    let agent = FakeAgent { key: key.clone(), fault, stored: 0, status, calls: vec![] };
    let agent = Arc::new(Mutex::new(agent));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Arc::clone(&agent);
    // Ends with the test process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = FakeAgent::serve(&served, stream);
            if served.lock().unwrap().fault == Fault::DiesInCheck {
                return;
            }
        }
    });
    let patience =
        Patience { reconnect_tries: 2, reconnect_pause: Duration::from_millis(10), ..Patience::default() };
    let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port, key };
    let mut client = Client::connect_with(&endpoint, patience).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let signer = SigningKey::load_or_create(&folder.path().join("key")).unwrap();
    let facts = Facts {
        input: Model::onnx(Digest([0; 32])).input,
        name: "new".into(),
        execution: Execution { engine: String::new(), threads: 2, batch: 1, pace_us: 0 },
        classes: vec![],
        target: String::new(),
        number: 7,
        golden: golden_sample(),
        latency_limit_ns: Some(LIMIT_NS),
    };
    let shipment = Shipment { onnx: MODEL, input_len: 4, facts, force: false };
    let outcome = ship(&mut client, &shipment, &signer, &mut |_| {});
    let agent = agent.lock().unwrap();
    (outcome, agent.status.clone(), agent.calls.clone())
}

fn active(status: &SlotStatus) -> (&str, bool) {
    (status.active.as_ref().map_or("nothing", |slot| &slot.name), status.trial.is_some())
}

#[test]
fn a_healthy_student_is_confirmed() {
    let (outcome, status, calls) = shipped(Fault::None);
    let shipped = outcome.unwrap();
    let check = shipped.check.unwrap();
    assert_eq!((check.golden_difference, check.measurement.latency.median_ns), (0.0, LIMIT_NS));
    assert_eq!(shipped.status, status);
    assert_eq!(active(&status), ("new", false));
    let whole = ["hello", "status", "put", "chunk", "stage", "activate", "infer", "measure", "confirm"];
    assert_eq!(calls, whole);
}

#[test]
fn a_student_that_is_active_already_changes_nothing() {
    let active = SlotStatus { active: Some(slot("new", Digest::of(MODEL))), ..SlotStatus::default() };
    let (outcome, status, calls) = shipped_to(active.clone(), Fault::None);
    assert_eq!(outcome.unwrap(), Shipped { status: active.clone(), check: None });
    assert_eq!((status, calls), (active, vec!["hello", "status", "put", "chunk", "stage"]));
}

#[test]
fn a_student_whose_host_died_on_trial_is_checked_and_confirmed_by_the_next() {
    let slot = slot("new", Digest::of(MODEL));
    let trial = Some(Trial { id: slot.id, seconds_left: 60 });
    let on_trial = SlotStatus { active: Some(slot), trial, ..SlotStatus::default() };
    let (outcome, status, calls) = shipped_to(on_trial.clone(), Fault::None);
    assert!(outcome.unwrap().check.is_some());
    assert_eq!(active(&status), ("new", false));
    assert_eq!(calls[4..], ["stage", "infer", "measure", "confirm"]);
    // An unhealthy one is not kept for that.
    let (outcome, status, _) = shipped_to(on_trial, Fault::Slow);
    assert!(matches!(outcome, Err(ShipError::RolledBack { .. })));
    assert_eq!(active(&status), ("nothing", false));
}

#[test]
fn a_blob_that_was_damaged_on_the_board_is_put_again() {
    let (outcome, status, calls) = shipped(Fault::LostTheBlob);
    assert_eq!(outcome.unwrap().status, status);
    assert_eq!(active(&status), ("new", false));
    assert_eq!(calls[..7], ["hello", "status", "put", "chunk", "put", "chunk", "stage"]);
}

#[test]
fn slots_that_another_agent_owns_are_named_with_their_owner() {
    let (outcome, _, calls) = shipped(Fault::OwnedByAnother);
    let error = outcome.unwrap_err();
    assert!(error.to_string().contains("process 4711") && error.hint().is_some(), "{error}");
    assert_eq!(calls, ["hello", "status"]);
}

#[test]
fn a_link_that_is_lost_before_the_switch_is_found_again() {
    let (outcome, status, calls) = shipped(Fault::LosesLinkAtStage);
    assert_eq!(outcome.unwrap().status, status);
    assert_eq!(active(&status), ("new", false));
    let before_switch = ["hello", "status", "put", "chunk", "hello", "put", "stage", "activate"];
    assert_eq!(calls[..before_switch.len()], before_switch);
}

#[test]
fn what_the_board_does_not_take_changes_nothing() {
    for (fault, reason) in [(Fault::RefusesToStage, "refused: no"), (Fault::FailsToActivate, "sick")] {
        let (outcome, status, calls) = shipped(fault);
        let error = outcome.unwrap_err();
        assert!(matches!(error, ShipError::NotActivated(_)) && error.to_string().contains(reason), "{error}");
        assert_eq!(active(&status), ("old", false));
        assert!(!calls.contains(&"rollback"));
    }
}

#[test]
fn an_unhealthy_student_is_rolled_back() {
    let cases = [
        (Fault::WrongAnswer, "its answer is wrong"),
        (Fault::Slow, "too slow: expected a median of at most 1.00 ms, got 2.00 ms"),
        (Fault::LosesLinkInCheck, "unavailable"),
        (Fault::LosesLinkAtActivate, "unavailable"),
    ];
    for (fault, reason) in cases {
        let (outcome, status, _) = shipped(fault);
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, ShipError::RolledBack { .. }) && error.to_string().contains(reason),
            "{error}"
        );
        assert_eq!(active(&status), ("old", false), "{fault:?}");
    }
}

#[test]
fn a_lost_answer_to_confirm_does_not_undo_a_good_student() {
    let (outcome, status, calls) = shipped(Fault::LosesLinkAfterConfirming);
    assert_eq!(outcome.unwrap().status, status);
    assert_eq!(active(&status), ("new", false));
    assert!(!calls.contains(&"rollback"));
}

#[test]
fn a_board_that_is_gone_leaves_the_student_on_trial_and_says_so() {
    let (outcome, status, _) = shipped(Fault::DiesInCheck);
    let error = outcome.unwrap_err();
    assert!(matches!(error, ShipError::OnTrial { .. }), "{error}");
    assert!(error.hint().unwrap().contains("goes back by itself"));
    assert_eq!(active(&status), ("new", true));
}
