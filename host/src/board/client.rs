//! The calls, one method each. Blocking; every wait has a deadline, and silence is a fault of the link.
//!
//! After a fault the client has no link, and every call says so until [`Client::reconnect`] finds the board again. A client
//! never repeats a request by itself.

use super::endpoint::Endpoint;
use super::error::BoardError;
use super::exchange::{CANCEL_LOOK, Exchange, Remarks, Wait};
use super::link::{self, Link, Wire};
use super::local::LocalAgent;
use super::patience::Patience;
use n2n_protocol::{
    Answer, Board, Call, Digest, Element, FreeMemory, Hello, InferPlan, Log, MeasurePlan, Measurement,
    Progress, Request, SCHEMA_HASH, Shipment, SlotStatus, Status, VERSION, Welcome, codec, limits, version,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Minor version of the protocol by which an agent says how much memory a model may take.
const MEMORY_SINCE: u16 = 1;

/// Longest pause between two tries to find a lost board again: one that is back is noticed soon.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Room for what stands around the inputs of an infer request, bytes: ids, and a length in front of each.
const INFER_FRAME_BYTES: usize = 64 + 5 * limits::INPUTS;

/// A board, and the link to it.
pub struct Client {
    endpoint: Endpoint,
    board: String,
    connection: Option<Connection>,
    welcome: Welcome,
    last_request: u32,
    cancel: Arc<AtomicBool>,
    patience: Patience,
    remarks: Remarks,
}

/// The link closes before its agent is ended: a lost client is what makes an agent stop its worker.
struct Connection {
    link: Link,
    agent: Option<LocalAgent>,
}

impl Client {
    /// Connect and greet; one try.
    ///
    /// # Errors
    /// [`BoardError::Unavailable`], [`BoardError::WrongKey`], [`BoardError::Version`].
    pub fn connect(endpoint: &Endpoint) -> Result<Self, BoardError> {
        Self::connect_with(endpoint, Patience::default())
    }

    /// As [`Self::connect`]; errors call the board by the name that its user gave it.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_named(name: &str, endpoint: &Endpoint) -> Result<Self, BoardError> {
        let address = endpoint.to_string();
        let board = if name == address { address } else { format!("{name} ({address})") };
        Self::open(endpoint, board, Patience::default())
    }

    /// As [`Self::connect`], with other deadlines.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_with(endpoint: &Endpoint, patience: Patience) -> Result<Self, BoardError> {
        Self::open(endpoint, endpoint.to_string(), patience)
    }

    fn open(endpoint: &Endpoint, board: String, patience: Patience) -> Result<Self, BoardError> {
        let patience = match endpoint {
            Endpoint::Serial { settings, .. } => patience.on_line(settings.baud),
            Endpoint::Local(_) | Endpoint::Tcp { .. } => patience,
        };
        let (connection, welcome) = Connection::open(endpoint, &board, &patience)?;
        Ok(Self {
            endpoint: endpoint.clone(),
            board,
            connection: Some(connection),
            welcome,
            last_request: HELLO_REQUEST,
            cancel: Arc::default(),
            patience,
            remarks: Remarks::default(),
        })
    }

    /// Find the board again after a fault, with growing pauses between a bounded number of tries. A local agent is started
    /// anew.
    ///
    /// # Errors
    /// The last try's; errors that waiting cannot mend end it at once, as does [`Client::cancel_flag`].
    /// [`BoardError::Refused`] if another board answers at the address: its numbers must not mix with the first one's.
    pub fn reconnect(&mut self) -> Result<(), BoardError> {
        let tries = self.patience.reconnect_tries;
        self.reconnect_while(|tried| tried < tries)
    }

    /// [`Self::reconnect`], for as long as told: a board that boots, or a network that is away for minutes. Says once that
    /// it waits, and once that the board is back.
    ///
    /// # Errors
    /// As [`Self::reconnect`].
    pub fn reconnect_within(&mut self, longest: Duration) -> Result<(), BoardError> {
        let began = Instant::now();
        let mut told = false;
        let board = self.board.clone();
        self.reconnect_while(|_| {
            if !told {
                told = true;
                tracing::warn!("board {board} is lost: waiting up to {} for it", words(longest));
            }
            began.elapsed() < longest
        })?;
        if told {
            tracing::info!("board {} is back after {}", self.board, words(began.elapsed()));
        }
        Ok(())
    }

    /// Tries to connect; after a try that failed, `again` decides by the number of tries.
    fn reconnect_while(&mut self, mut again: impl FnMut(u32) -> bool) -> Result<(), BoardError> {
        self.connection = None;
        let mut pause = self.patience.reconnect_pause;
        for tried in 1.. {
            match Connection::open(&self.endpoint, &self.board, &self.patience) {
                Ok((_, welcome)) if welcome.board.fingerprint != self.welcome.board.fingerprint => {
                    let reason = format!(
                        "another board answers: {} ({}), {} ({}) expected",
                        welcome.board.name,
                        welcome.board.model,
                        self.welcome.board.name,
                        self.welcome.board.model
                    );
                    return Err(BoardError::Refused { board: self.board.clone(), reason });
                }
                Ok((connection, welcome)) => {
                    self.connection = Some(connection);
                    self.welcome = welcome;
                    self.last_request = HELLO_REQUEST;
                    break;
                }
                Err(error) if !error.is_passing() || !again(tried) => return Err(error),
                Err(error) => tracing::debug!(%error, tried, "not yet"),
            }
            self.pause(pause)?;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        Ok(())
    }

    /// What the agent said of itself and its board when the link was made.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Whether there is a link; false after a fault.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// The board's address, as its endpoint writes it.
    pub fn board(&self) -> &str {
        &self.board
    }

    /// Whether the agent is a child of ours.
    pub fn is_local(&self) -> bool {
        matches!(self.endpoint, Endpoint::Local(_))
    }

    /// Process id of a local agent.
    pub fn process_id(&self) -> Option<u32> {
        self.connection.as_ref()?.agent.as_ref().map(LocalAgent::process_id)
    }

    /// Set it from anywhere, and a running put, measure, infer, stage or reconnect ends soon with
    /// [`BoardError::Cancelled`]. It stays set.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Share a flag that exists already.
    pub fn set_cancel_flag(&mut self, flag: Arc<AtomicBool>) {
        self.cancel = flag;
    }

    /// The board's identity, and its condition now.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn probe(&mut self) -> Result<Board, BoardError> {
        match self.call(Call::Probe, self.short(), &mut |_| {})? {
            Answer::Board(board) => Ok(board),
            _ => Err(self.misplaced("probe")),
        }
    }

    /// Put a blob on the board, from where an earlier try left off; says bytes done and bytes in all.
    ///
    /// # Errors
    /// [`BoardError`]; [`BoardError::Refused`] for one that is too long.
    pub fn put(&mut self, blob: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Digest, BoardError> {
        let whole = blob.len() as u64;
        let limit = self.welcome.max_blob_bytes.min(limits::BLOB_BYTES);
        if whole > limit {
            let reason = format!("a model of {whole} bytes; it takes {limit}");
            return Err(BoardError::Refused { board: self.board.clone(), reason });
        }
        let digest = Digest::of(blob);
        let mut done = self.stored(Call::PutQuery { digest, bytes: whole }, self.short())?;
        progress(done, whole);
        while done < whole {
            let start = usize::try_from(done).unwrap_or(usize::MAX).min(blob.len());
            let end = (start + limits::CHUNK_BYTES).min(blob.len());
            let data = blob.get(start..end).unwrap_or_default().to_vec();
            let call = Call::PutChunk { digest, offset: done, data: data.into() };
            let wait = Wait { whole: self.patience.short, interruptible: true };
            let now = self.stored(call, wait)?;
            if now <= done {
                let reason = format!("the agent stays at {now} of {whole} bytes of {digest}");
                return Err(BoardError::Failed(reason));
            }
            done = now;
            progress(done, whole);
        }
        Ok(digest)
    }

    /// Measure a blob that was put.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn measure(
        &mut self,
        plan: &MeasurePlan,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Measurement, BoardError> {
        let whole = Duration::from_millis(u64::from(plan.time_budget_ms)) + self.patience.measure_margin;
        let wait = Wait { whole, interruptible: true };
        match self.call(Call::Measure(plan.clone()), wait, progress)? {
            Answer::Measured(measurement) => Ok(measurement),
            _ => Err(self.misplaced("measure")),
        }
    }

    /// Logits of a model, one row an input, in as many requests as the inputs need; the plan's own inputs do not count. Values
    /// are sent in the model's type.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn infer(&mut self, plan: &InferPlan, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, BoardError> {
        let mut logits = Vec::with_capacity(inputs.len());
        let mut rest = inputs;
        let wait = Wait { whole: self.patience.infer, interruptible: true };
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_of(rest));
            rest = later;
            let inputs = batch.iter().map(|input| encoded(input, plan.model.input.element).into()).collect();
            let call = Call::Infer(InferPlan { inputs, ..plan.clone() });
            match self.call(call, wait, &mut |_| {})? {
                Answer::Inferred(rows) if rows.len() == batch.len() => logits.extend(rows),
                _ => return Err(self.misplaced("infer")),
            }
        }
        Ok(logits)
    }

    /// Copy a bundle, its model put before, into the idle slot; it is verified there.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn stage(&mut self, shipment: &Shipment) -> Result<SlotStatus, BoardError> {
        let wait = Wait { whole: self.patience.stage, interruptible: true };
        self.slots(Call::Stage(shipment.clone()), wait)
    }

    /// Make the staged slot the active one, on trial.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn activate(&mut self, id: u64) -> Result<SlotStatus, BoardError> {
        let wait = Wait { whole: self.patience.activate, interruptible: true };
        self.slots(Call::Activate { id }, wait)
    }

    /// End the trial.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn confirm(&mut self, id: u64) -> Result<SlotStatus, BoardError> {
        self.slots(Call::Confirm { id }, self.verifying())
    }

    /// Go back to the student that was confirmed last: from the named trial, or from whatever is active.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn rollback(&mut self, id: Option<u64>) -> Result<SlotStatus, BoardError> {
        self.slots(Call::Rollback { id }, self.verifying())
    }

    /// What is in the slots, who waits, how much room is left.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn status(&mut self) -> Result<Status, BoardError> {
        match self.call(Call::Status, self.short(), &mut |_| {})? {
            Answer::Status(status) => Ok(status),
            _ => Err(self.misplaced("status")),
        }
    }

    /// What one model may take of the board's memory now; `None` from an agent that is too old to say.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn memory(&mut self) -> Result<Option<FreeMemory>, BoardError> {
        if self.welcome.version.minor < MEMORY_SINCE {
            return Ok(None);
        }
        match self.call(Call::Memory, self.short(), &mut |_| {})? {
            Answer::Memory(memory) => Ok(Some(memory)),
            _ => Err(self.misplaced("memory")),
        }
    }

    /// The newest lines of one of the agent's logs.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn log_tail(&mut self, lines: u16, log: Log) -> Result<Vec<String>, BoardError> {
        match self.call(Call::LogTail { lines, log }, self.short(), &mut |_| {})? {
            Answer::Log(lines) => Ok(lines),
            _ => Err(self.misplaced("log tail")),
        }
    }

    fn short(&self) -> Wait {
        Wait { whole: self.patience.short, interruptible: false }
    }

    /// For a board that looks at a student's bytes first, or has only just started and looks at all of them.
    fn verifying(&self) -> Wait {
        Wait { whole: self.patience.stage, interruptible: false }
    }

    fn slots(&mut self, call: Call, wait: Wait) -> Result<SlotStatus, BoardError> {
        match self.call(call, wait, &mut |_| {})? {
            Answer::Slots(status) => Ok(status),
            _ => Err(self.misplaced("slots")),
        }
    }

    fn stored(&mut self, call: Call, wait: Wait) -> Result<u64, BoardError> {
        match self.call(call, wait, &mut |_| {})? {
            Answer::Stored { bytes } => Ok(bytes),
            _ => Err(self.misplaced("put")),
        }
    }

    /// One request and its answer. Whatever goes wrong on the way ends the link.
    fn call(
        &mut self,
        call: Call,
        wait: Wait,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Answer, BoardError> {
        let Some(connection) = &mut self.connection else {
            let reason = "there is no link since the last fault".to_owned();
            return Err(BoardError::Unavailable { board: self.board.clone(), reason });
        };
        self.last_request = self.last_request.wrapping_add(1);
        let request = Request { request_id: self.last_request, call };
        let message = match codec::encode(&request, limits::REQUEST_BYTES) {
            Ok(message) => message,
            Err(error) => {
                return Err(BoardError::Refused { board: self.board.clone(), reason: error.to_string() });
            }
        };
        let cancel = wait.interruptible.then_some(self.cancel.as_ref());
        let mut exchange = Exchange {
            board: &self.board,
            request_id: request.request_id,
            wait,
            patience: &self.patience,
            cancel,
            progress,
            remarks: &mut self.remarks,
        };
        match exchange.run(&mut connection.link, &message) {
            Ok(outcome) => outcome.map_err(|failure| BoardError::of_failure(&self.board, failure)),
            Err(fault) => {
                self.connection = None;
                Err(fault)
            }
        }
    }

    /// An answer of the wrong kind: the agent cannot be trusted any more.
    fn misplaced(&mut self, verb: &str) -> BoardError {
        self.connection = None;
        let reason = format!("the agent's answer to {verb} is one to something else");
        BoardError::Unavailable { board: self.board.clone(), reason }
    }

    /// Sleep, unless and until we are cancelled.
    fn pause(&self, pause: Duration) -> Result<(), BoardError> {
        let end = Instant::now() + pause;
        while !self.cancel.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(CANCEL_LOOK));
        }
        Err(BoardError::Cancelled)
    }
}

/// Request id of the greeting.
const HELLO_REQUEST: u32 = 1;

impl Connection {
    fn open(endpoint: &Endpoint, board: &str, patience: &Patience) -> Result<(Self, Welcome), BoardError> {
        let lost = |error| BoardError::of_link(board, &error);
        let link = |host: &str, port, key| {
            link::open(|| Wire::connect(host, port, patience), key, patience).map_err(lost)
        };
        let mut connection = match endpoint {
            Endpoint::Tcp { host, port, key } => Self { link: link(host, *port, key)?, agent: None },
            Endpoint::Serial { settings, key } => {
                let link = link::open(|| Wire::dial(settings, patience), key, patience);
                Self { link: link.map_err(lost)?, agent: None }
            }
            Endpoint::Local(program) => {
                let agent = LocalAgent::start(program)?;
                let (host, port) = (agent.address.ip().to_string(), agent.address.port());
                Self { link: link(&host, port, &agent.key)?, agent: Some(agent) }
            }
        };
        let welcome = greet(&mut connection.link, board, patience)?;
        Ok((connection, welcome))
    }
}

fn greet(link: &mut Link, board: &str, patience: &Patience) -> Result<Welcome, BoardError> {
    let hello = Hello { version: VERSION, schema: SCHEMA_HASH, client: client_name() };
    let request = Request { request_id: HELLO_REQUEST, call: Call::Hello(hello) };
    let unavailable = |reason: String| BoardError::Unavailable { board: board.to_owned(), reason };
    let message =
        codec::encode(&request, limits::HELLO_BYTES).map_err(|error| unavailable(error.to_string()))?;
    let mut ignore = |_| {};
    let wait = Wait { whole: patience.short, interruptible: false };
    let mut exchange = Exchange {
        board,
        request_id: HELLO_REQUEST,
        wait,
        patience,
        cancel: None,
        progress: &mut ignore,
        remarks: &mut Remarks::default(),
    };
    let welcome = match exchange.run(link, &message)? {
        Ok(Answer::Hello(welcome)) => welcome,
        Ok(_) => return Err(unavailable("the agent does not greet back".to_owned())),
        // A hello in order is refused for one reason only.
        Err(n2n_protocol::Failure::Refused(reason)) => {
            return Err(BoardError::Version { board: board.to_owned(), reason });
        }
        Err(failure) => return Err(BoardError::of_failure(board, failure)),
    };
    version::check(welcome.version, welcome.schema)
        .map_err(|mismatch| BoardError::Version { board: board.to_owned(), reason: mismatch.to_string() })?;
    Ok(welcome)
}

/// Who we are, for others who find the board busy.
fn client_name() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "a host" } else { machine.trim() };
    let name = format!("n2n of {user} on {machine}, process {}", std::process::id());
    name.get(..name.floor_char_boundary(limits::NAME_BYTES)).unwrap_or_default().to_owned()
}

/// A duration in whole seconds, for people.
fn words(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

/// Values of an input in a model's type, little endian; bytes are rounded to.
fn encoded(input: &[f32], element: Element) -> Vec<u8> {
    match element {
        Element::U8 => input.iter().map(|value| value.round() as u8).collect(),
        Element::F32 | Element::F16 | Element::I8 => {
            input.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
    }
}

/// How many of these inputs fit into one request; at least one, which the encoder then refuses if it is too long.
fn batch_of(inputs: &[Vec<f32>]) -> usize {
    let mut bytes = INFER_FRAME_BYTES;
    let fits = |input: &&Vec<f32>| {
        bytes += input.len() * size_of::<f32>();
        bytes <= limits::REQUEST_BYTES
    };
    inputs.iter().take(limits::INPUTS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use n2n_protocol::{Execution, Model, Place};

    #[test]
    fn inputs_are_cut_into_requests_that_fit() {
        let small = vec![vec![0.0; 10]; limits::INPUTS + 5];
        assert_eq!(batch_of(&small), limits::INPUTS);
        let images = vec![vec![0.0; 3 * 224 * 224]; 20];
        let batch = batch_of(&images);
        let plan = InferPlan {
            model: Model::onnx(Digest([0; 32])),
            place: Place::Store,
            execution: Execution { engine: String::new(), threads: 1, batch: 1, pace_us: 0 },
            max_memory_bytes: 1,
            inputs: vec![vec![0; 4 * 3 * 224 * 224].into(); batch],
        };
        let call = Call::Infer(plan);
        let request = Request { request_id: u32::MAX, call };
        assert!((10..20).contains(&batch), "{batch}");
        assert!(codec::encode(&request, limits::REQUEST_BYTES).is_ok());
        assert_eq!(batch_of(&[vec![0.0; limits::REQUEST_BYTES]]), 1);
    }

    #[test]
    fn a_client_names_itself_within_the_limit() {
        assert!(client_name().contains(&std::process::id().to_string()));
        assert!(client_name().len() <= limits::NAME_BYTES);
    }
}
