//! The steps of shipping, in order, and the way back: put, stage, activate, check, confirm; or roll back.
//!
//! The board verifies signature, digest, golden answer and latency before it activates. The host then asks the active
//! student itself: what runs is confirmed only by an answer that was seen, and rolled back on anything else.

use n2n_protocol::{
    Execution, Golden, InferPlan, MeasurePlan, Measurement, Model, Place, Shipment as Request, SlotStatus,
    generator,
};

use super::{BundleError, SigningKey, bundle};
use crate::board::{BoardError, Client};

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
/// Memory of the check's workers, bytes.
const CHECK_MEMORY_BYTES: u64 = 1 << 30;

/// What to ship.
#[derive(Clone, Debug)]
pub struct Shipment<'a> {
    /// The name users gave it.
    pub name: &'a str,
    /// The model file, with its weights.
    pub onnx: &'a [u8],
    /// An input by seed and the host's answer to it.
    pub golden: Golden,
    /// Values of one input: channels x height x width.
    pub input_len: usize,
    /// Upper bound of its median latency, ns.
    pub latency_limit_ns: Option<u64>,
    /// Threads of the check.
    pub threads: u16,
}

/// Where shipping is, for progress.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The slots after confirmation.
    pub status: SlotStatus,
    /// Largest difference of its answer, relative as in [`Golden::tolerance`].
    pub golden_difference: f32,
    /// Of the check: a few processes, no interval.
    pub measurement: Measurement,
}

/// A student that does not run on the board.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// It cannot be bundled.
    #[error(transparent)]
    Bundle(#[from] BundleError),
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
            Self::NotActivated(error) => error.hint(),
            Self::RolledBack { .. } => {
                Some("`n2n status` shows what runs; `n2n measure` shows how it behaves")
            }
            Self::OnTrial { .. } => Some(
                "an agent that restarts goes back by itself; `n2n status` and `n2n rollback` once it answers",
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
    let Shipment { name, onnx, golden, latency_limit_ns, .. } = shipment;
    let execution = execution(client, shipment);
    let manifest = bundle(name, onnx, execution.clone(), golden.clone(), *latency_limit_ns, key)?;
    let model = manifest.artifact.model;
    let request = Request { bundle: manifest, force: false };
    let mut stage = |client: &mut Client| {
        client.put(onnx, &mut |done, bytes| observer(Step::Putting { done, bytes }))?;
        observer(Step::Staging);
        client.stage(&request)
    };
    let staged = match stage(client) {
        // Nothing was switched yet: a link that was lost, perhaps long ago while the student was trained, is found again.
        Err(BoardError::Unavailable { .. }) => client.reconnect().and_then(|()| stage(client)),
        answered => answered,
    };
    let staged = staged.map_err(ShipError::NotActivated)?;
    let id = staged.staged.map_or(0, |staged| staged.id);
    observer(Step::Activating);
    // A lost answer leaves open whether the board switched, so from here on every failure takes the way back.
    let checked = match client.activate(id) {
        Ok(_) => {
            observer(Step::Checking);
            check(client, model, &execution, shipment)
        }
        Err(error @ BoardError::Unavailable { .. }) => Err(error.to_string()),
        Err(error) => return Err(ShipError::NotActivated(error)),
    };
    let confirmed = checked.and_then(|(golden_difference, measurement)| {
        observer(Step::Confirming);
        let status = confirm(client, id).map_err(|error| error.to_string())?;
        Ok(Shipped { status, golden_difference, measurement })
    });
    confirmed.map_err(|reason| go_back(client, id, reason, observer))
}

/// How the student runs: by the board's default engine.
fn execution(client: &Client, shipment: &Shipment<'_>) -> Execution {
    let engine =
        client.welcome().board.engines.first().map_or_else(String::new, |engine| engine.name.clone());
    Execution { engine, threads: shipment.threads, batch: 1, pace_us: 0 }
}

/// Asks the active student, and times it.
fn check(
    client: &mut Client,
    model: Model,
    execution: &Execution,
    shipment: &Shipment<'_>,
) -> Result<(f32, Measurement), String> {
    let Shipment { golden, .. } = shipment;
    let input = generator::input(golden.input_seed, shipment.input_len);
    let plan = InferPlan {
        model,
        place: Place::Store,
        execution: execution.clone(),
        max_memory_bytes: CHECK_MEMORY_BYTES,
        inputs: Vec::new(),
    };
    let logits = client.infer(&plan, &[input]).map_err(|error| error.to_string())?;
    let answer = logits.first().map_or(&[][..], Vec::as_slice);
    let difference = golden.check(answer).map_err(|error| format!("its answer is wrong: {error}"))?;
    let plan = MeasurePlan {
        model,
        place: Place::Store,
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
    match shipment.latency_limit_ns {
        Some(limit_ns) if median_ns > limit_ns => {
            Err(format!("it is too slow: expected a median of at most {limit_ns} ns, got {median_ns} ns"))
        }
        _ => Ok((difference, measurement)),
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
