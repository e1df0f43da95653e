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
            Call::Stage(Request { bundle, .. }) => {
                unused("stage");
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
                Answer::Inferred(vec![golden_sample().logits])
            }
            Call::Measure(plan) => {
                unused("measure");
                let median_ns = if fault == Fault::Slow { LIMIT_NS + 1 } else { LIMIT_NS };
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
                    slots: Some(self.status.clone()),
                    owner: None,
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
        engines: vec![],
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
    let key: Key = "ab".repeat(32).parse().unwrap();
    let status = SlotStatus { active: Some(slot("old", Digest([7; 32]))), ..SlotStatus::default() };
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
    let shipment = Shipment {
        name: "new",
        onnx: b"a model",
        golden: golden_sample(),
        input_len: 4,
        latency_limit_ns: Some(LIMIT_NS),
        threads: 1,
    };
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
    assert_eq!((shipped.golden_difference, shipped.measurement.latency.median_ns), (0.0, LIMIT_NS));
    assert_eq!(shipped.status, status);
    assert_eq!(active(&status), ("new", false));
    assert_eq!(calls, ["hello", "put", "chunk", "stage", "activate", "infer", "measure", "confirm"]);
}

#[test]
fn a_link_that_is_lost_before_the_switch_is_found_again() {
    let (outcome, status, calls) = shipped(Fault::LosesLinkAtStage);
    assert_eq!(outcome.unwrap().status, status);
    assert_eq!(active(&status), ("new", false));
    let before_switch = ["hello", "put", "chunk", "hello", "put", "stage", "activate"];
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
        (Fault::Slow, "too slow: expected a median of at most 1000000 ns, got 1000001 ns"),
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
