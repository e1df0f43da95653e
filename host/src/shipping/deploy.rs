//! The steps of shipping, in order, and the way back: put, stage, activate, check, confirm; or roll back.
//!
//! The board verifies signature, class, digest, golden answer and latency before it activates. The host then asks the
//! student in the active slot, the very file that the user's program opens: what runs is confirmed only by an answer that
//! was seen, and rolled back on anything else. A student that is active already is not shipped again; one that another
//! host left on trial is checked and confirmed.

use std::time::{Duration, Instant};

use n2n_protocol::{
    Digest, Execution, Golden, InferPlan, MeasurePlan, Measurement, Model, Place, Shipment as Request,
    SlotStatus, Status, generator,
};

use super::{BundleError, Facts, SigningKey, bundle};
use crate::board::{BoardError, Client};
use crate::units;

/// Fresh processes of the health check: more than one, so that a lucky or an unlucky one is seen.
const CHECK_PROCESSES: u16 = 3;
/// Timed inferences of each; the board has judged the latency with more before it activated.
const CHECK_SAMPLES: u32 = 20;
/// Wished half-width of the check's median, millionths; the processes above end it before.
const CHECK_HALF_WIDTH_PPM: u32 = 50_000;
/// Whole check, milliseconds: a student that needs longer for 60 inferences is none for a board.
const CHECK_BUDGET_MS: u32 = 60_000;
/// One inference of the check, milliseconds.
const CHECK_INFERENCE_MS: u32 = 10_000;
/// Memory of the check's workers, bytes: as much as the board has and its agent can spare, which the agent knows.
const CHECK_MEMORY_BYTES: u64 = u64::MAX;
/// For another agent on the board's machine to give the slots free: one that a finished command started needs seconds.
const OWNED_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const OWNED_LOOK: Duration = Duration::from_secs(1);

/// What to ship.
#[derive(Clone, Debug)]
pub struct Shipment<'a> {
    /// The model file, with its weights.
    pub onnx: &'a [u8],
    /// Values of one input: channels x height x width.
    pub input_len: usize,
    /// What travels beside it. An empty engine or target is the board's own.
    pub facts: Facts,
    /// Take it although it was made for another class of board, or is older than one that was there.
    pub force: bool,
}

/// Where shipping is, for progress.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The file is on its way.
    Putting {
        /// Bytes on the board.
        done: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// The board verifies it in its idle slot.
    Staging,
    /// The board switches.
    Activating,
    /// The active student is asked and timed.
    Checking,
    /// The trial ends.
    Confirming,
    /// It is not healthy.
    RollingBack {
        /// Why.
        reason: String,
    },
}

/// A student that runs on the board.
#[derive(Clone, Debug, PartialEq)]
pub struct Shipped {
    /// The slots now.
    pub status: SlotStatus,
    /// What the check of the active slot saw; `None` when the student was active and confirmed already, so that nothing
    /// changed.
    pub check: Option<Check>,
}

/// What the check of the active slot saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Largest difference of its answer, relative as in [`Golden::tolerance`].
    pub golden_difference: f32,
    /// A few processes, no interval.
    pub measurement: Measurement,
}

/// A student that does not run on the board.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// It cannot be bundled.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Another agent on the board's machine has the slots and does not give them free.
    #[error("not shipped: another agent{} owns the slots of board {board}", .owner.map_or_else(String::new, |id| format!(" (process {id})")))]
    Owned {
        /// As the user wrote it.
        board: String,
        /// Process id of that agent.
        owner: Option<u32>,
    },
    /// The board did not take it; what was active before still is.
    #[error("not shipped: {0}")]
    NotActivated(#[source] BoardError),
    /// It was active, was not healthy, and the board went back.
    #[error("rolled back: {reason}")]
    RolledBack {
        /// What was wrong with it.
        reason: String,
        /// The slots now.
        status: Box<SlotStatus>,
    },
    /// It is active on trial, and the board did not answer to the call to go back.
    #[error("on trial and not confirmed: {reason}; going back failed too: {source}")]
    OnTrial {
        /// What was wrong with it.
        reason: String,
        /// Why the board did not go back.
        source: BoardError,
    },
}

impl ShipError {
    /// The next step, for the line after the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bundle(_) => None,
            Self::Owned { .. } => {
                Some("let the other n2n or n2n-agent on that machine end, then run `n2n ship` again")
            }
            Self::NotActivated(error) => error.hint(),
            Self::RolledBack { .. } => {
                Some("`n2n status` shows what runs; `n2n measure` shows how it behaves")
            }
            Self::OnTrial { .. } => Some(
                "the board goes back by itself when the trial's time is over; `n2n status` shows it once it answers",
            ),
        }
    }
}

/// Ships a student: on return it is active and confirmed, or the error says what runs instead.
///
/// # Errors
/// See [`ShipError`]; only `OnTrial` leaves a student active that was not found healthy.
pub fn ship(
    client: &mut Client,
    shipment: &Shipment<'_>,
    key: &SigningKey,
    observer: &mut dyn FnMut(Step),
) -> Result<Shipped, ShipError> {
    let facts = settled(client, &shipment.facts);
    let manifest = bundle(shipment.onnx, facts, key)?;
    let (model, execution) = (manifest.artifact.model, manifest.artifact.execution.clone());
    let request = Request { bundle: manifest, force: shipment.force };
    // Nothing is switched yet: a link that was lost, perhaps long ago while the student was trained, is found again.
    reconnected(client).map_err(ShipError::NotActivated)?;
    owned(client)?;
    let staged = stage(client, shipment.onnx, &request, observer).map_err(ShipError::NotActivated)?;
    let trial = match under_way(&staged, model.digest) {
        UnderWay::Settled => return Ok(Shipped { status: staged, check: None }),
        UnderWay::Staged(id) => {
            observer(Step::Activating);
            match client.activate(id) {
                Ok(_) => Ok(id),
                // A lost answer leaves open whether the board switched.
                Err(error @ BoardError::Unavailable { .. }) => Err((id, error.to_string())),
                Err(error) => return Err(ShipError::NotActivated(error)),
            }
        }
        UnderWay::OnTrial(id) => Ok(id),
        UnderWay::Lost => {
            let reason = "the board says nothing of the student that was staged".to_owned();
            return Err(ShipError::NotActivated(BoardError::Failed(reason)));
        }
    };
    // From here on every failure takes the way back.
    let confirmed = trial.and_then(|id| {
        observer(Step::Checking);
        let check = check(client, model, &execution, shipment).map_err(|reason| (id, reason))?;
        observer(Step::Confirming);
        let status = confirm(client, id).map_err(|error| (id, error.to_string()))?;
        Ok(Shipped { status, check: Some(check) })
    });
    confirmed.map_err(|(id, reason)| go_back(client, id, reason, observer))
}

/// The facts of a shipment, with the board's own engine and class where it leaves them open.
fn settled(client: &Client, facts: &Facts) -> Facts {
    let board = &client.welcome().board;
    let mut facts = facts.clone();
    if facts.execution.engine.is_empty() {
        facts.execution.engine = board.engines.first().map_or_else(String::new, |engine| engine.name.clone());
    }
    if facts.target.is_empty() {
        facts.target.clone_from(&board.class);
    }
    facts
}

/// Waits until the agent owns the slots. One that found another at its start is a guest for its whole life, so a local
/// agent is started anew for each look.
fn owned(client: &mut Client) -> Result<(), ShipError> {
    let deadline = Instant::now() + OWNED_PATIENCE;
    loop {
        let Status { slots, owner, .. } = client.status().map_err(ShipError::NotActivated)?;
        if slots.is_some() {
            return Ok(());
        }
        if Instant::now() >= deadline || !client.is_local() {
            return Err(ShipError::Owned { board: client.board().to_owned(), owner });
        }
        std::thread::sleep(OWNED_LOOK);
        client.reconnect().map_err(ShipError::NotActivated)?;
    }
}

/// Puts the file and has it staged. A lost link is found again, once; so is a blob that the board turned out not to have.
fn stage(
    client: &mut Client,
    onnx: &[u8],
    request: &Request,
    observer: &mut dyn FnMut(Step),
) -> Result<SlotStatus, BoardError> {
    let mut put = |client: &mut Client| {
        let mut missing = false;
        client.put(onnx, &mut |done, bytes| {
            missing |= done < bytes;
            observer(Step::Putting { done, bytes });
        })?;
        observer(Step::Staging);
        Ok::<bool, BoardError>(missing)
    };
    match put(client).and_then(|_| client.stage(request)) {
        Err(BoardError::Unavailable { .. }) => {
            client.reconnect()?;
            put(client)?;
            client.stage(request)
        }
        // A blob that was damaged on the board is gone by now.
        Err(error @ BoardError::Refused { .. }) => {
            if put(client)? {
                client.stage(request)
            } else {
                Err(error)
            }
        }
        answered => answered,
    }
}

/// How far a student is.
enum UnderWay {
    /// Active and confirmed.
    Settled,
    /// Active, and its host is gone; the trial's id.
    OnTrial(u64),
    /// Verified, not active; its id.
    Staged(u64),
    /// Nowhere.
    Lost,
}

fn under_way(status: &SlotStatus, model: Digest) -> UnderWay {
    match (&status.active, &status.staged, &status.trial) {
        (_, Some(staged), _) if staged.model == model => UnderWay::Staged(staged.id),
        (Some(active), _, None) if active.model == model => UnderWay::Settled,
        (Some(active), _, Some(trial)) if active.model == model => UnderWay::OnTrial(trial.id),
        _ => UnderWay::Lost,
    }
}

/// Asks the student in the active slot, and times it as it was searched.
fn check(
    client: &mut Client,
    model: Model,
    execution: &Execution,
    shipment: &Shipment<'_>,
) -> Result<Check, String> {
    let golden: &Golden = &shipment.facts.golden;
    let element = model.input.element;
    let input = generator::input_as(golden.input_seed, shipment.input_len, element)
        .ok_or_else(|| format!("inputs of {element:?} cannot be generated"))?;
    let plan = InferPlan {
        model,
        place: Place::ActiveSlot,
        execution: execution.clone(),
        max_memory_bytes: CHECK_MEMORY_BYTES,
        inputs: Vec::new(),
    };
    let logits = client.infer(&plan, &[input]).map_err(|error| error.to_string())?;
    let answer = logits.first().map_or(&[][..], Vec::as_slice);
    let golden_difference = golden.check(answer).map_err(|error| format!("its answer is wrong: {error}"))?;
    let plan = MeasurePlan {
        model,
        place: Place::ActiveSlot,
        execution: execution.clone(),
        min_processes: CHECK_PROCESSES,
        max_processes: CHECK_PROCESSES,
        samples_per_process: CHECK_SAMPLES,
        half_width_ppm: CHECK_HALF_WIDTH_PPM,
        time_budget_ms: CHECK_BUDGET_MS,
        max_load_ms: CHECK_BUDGET_MS,
        max_inference_ms: CHECK_INFERENCE_MS,
        max_memory_bytes: CHECK_MEMORY_BYTES,
        golden: Some(golden.clone()),
        resident_memory: false,
    };
    let measurement = client.measure(&plan, &mut |_| {}).map_err(|error| error.to_string())?;
    let median_ns = measurement.latency.median_ns;
    match shipment.facts.latency_limit_ns {
        Some(limit_ns) if median_ns > limit_ns => Err(format!(
            "it is too slow: expected a median of at most {}, got {}",
            units::latency(limit_ns),
            units::latency(median_ns)
        )),
        _ => Ok(Check { golden_difference, measurement }),
    }
}

/// Ends the trial. When the answer is lost, asks whether it was heard: a confirmed student must not be called rolled back.
fn confirm(client: &mut Client, id: u64) -> Result<SlotStatus, BoardError> {
    match client.confirm(id) {
        Err(BoardError::Unavailable { .. }) => {}
        answered => return answered,
    }
    client.reconnect()?;
    let status = slots(client)?;
    match &status.active {
        Some(active) if active.id == id && status.trial.is_none() => Ok(status),
        _ => client.confirm(id),
    }
}

/// Rolls back, after finding the board again if the link is lost; and says what became of it.
fn go_back(client: &mut Client, id: u64, reason: String, observer: &mut dyn FnMut(Step)) -> ShipError {
    observer(Step::RollingBack { reason: reason.clone() });
    let outcome = reconnected(client).and_then(|()| slots(client)).and_then(|status| {
        // The agent may have gone back already, or may never have switched: then another roll-back would undo a good student.
        let ours = status.trial.is_some_and(|trial| trial.id == id);
        if ours { client.rollback(Some(id)) } else { Ok(status) }
    });
    match outcome {
        Ok(status) => ShipError::RolledBack { reason, status: Box::new(status) },
        Err(source) => ShipError::OnTrial { reason, source },
    }
}

fn slots(client: &mut Client) -> Result<SlotStatus, BoardError> {
    let status = client.status()?;
    let missing = || BoardError::Failed("the board says nothing of its slots".into());
    status.slots.ok_or_else(missing)
}

fn reconnected(client: &mut Client) -> Result<(), BoardError> {
    if client.is_connected() { Ok(()) } else { client.reconnect() }
}

#[cfg(test)]
mod tests;
