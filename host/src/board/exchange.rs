//! One request on the wire until its answer has come: deadlines, signs of life, the wait for the board's turn, a cancel.
//!
//! Time that a request spends in the board's line is not its own: its deadline counts from the turn. It must not repeat a
//! request.

use super::error::BoardError;
use super::link::Link;
use super::patience::Patience;
use n2n_protocol::{Activity, Answer, Call, Failure, Progress, Reply, Request, codec, limits};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the cancel flag: quick for a person.
pub(super) const CANCEL_LOOK: Duration = Duration::from_millis(50);
/// A wait for the board's turn that is shorter is not worth a line.
const UNREMARKABLE: Duration = Duration::from_secs(2);
/// Between two lines about waiting: a search beside another one waits before each measurement.
const REMARK_PAUSE: Duration = Duration::from_mins(1);

/// How long a call may take.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    /// From the moment that it has the board, or from the beginning if it needs none.
    pub(super) whole: Duration,
    /// Whether the client's cancel flag ends it.
    pub(super) interruptible: bool,
}

/// When a person was last told that the board is not free.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remarks(Option<Instant>);

impl Remarks {
    /// Tell that this request has waited for so long, if that is news.
    fn waiting(&mut self, waited: Duration, ahead: u16, client: &str, since_s: u32) {
        let told_lately = self.0.is_some_and(|told| told.elapsed() < REMARK_PAUSE);
        if waited >= UNREMARKABLE && !told_lately {
            self.0 = Some(Instant::now());
            tracing::info!("waiting for the board: {ahead} ahead ({client}, {since_s} s)");
        }
    }
}

/// One request on the wire, until its answer has come.
pub(super) struct Exchange<'a> {
    pub(super) board: &'a str,
    pub(super) request_id: u32,
    pub(super) wait: Wait,
    pub(super) patience: &'a Patience,
    pub(super) cancel: Option<&'a AtomicBool>,
    pub(super) progress: &'a mut dyn FnMut(Progress),
    pub(super) remarks: &'a mut Remarks,
}

/// Why a request is being cancelled, and until when the agent may take for that.
struct Ending {
    by: Instant,
    /// What the caller hears.
    instead: Failure,
}

impl Exchange<'_> {
    /// The agent's outcome; the error is a fault of the link.
    pub(super) fn run(
        &mut self,
        link: &mut Link,
        message: &[u8],
    ) -> Result<Result<Answer, Failure>, BoardError> {
        let lost = |error| BoardError::of_link(self.board, &error);
        let late = |reason: &str| BoardError::Unavailable {
            board: self.board.to_owned(),
            reason: reason.to_owned(),
        };
        link.send(message).map_err(lost)?;
        let sent = Instant::now();
        let mut end = sent + self.wait.whole;
        let mut ending: Option<Ending> = None;
        loop {
            let now = Instant::now();
            // A long answer over a slow line is a sign of life as well, long before it is whole.
            let silence_ends = sent.max(link.heard()) + self.patience.silence;
            if ending.as_ref().is_some_and(|ending| now >= ending.by) {
                return Err(late("the agent does not end a cancelled request"));
            }
            if now >= silence_ends {
                return Err(late("the agent is silent"));
            }
            if now >= end && ending.is_none() {
                return Err(late("the request took longer than its time budget allows"));
            }
            if ending.is_none() && self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                ending = Some(self.give_up(link, Failure::Cancelled)?);
            }
            let until = if self.cancel.is_some() { now + CANCEL_LOOK } else { silence_ends.min(end) };
            let Some(message) = link.receive(until).map_err(lost)? else { continue };
            let reply: Reply =
                codec::decode(&message, limits::REPLY_BYTES).map_err(|error| late(&error.to_string()))?;
            match reply {
                // The late answer of an earlier request, or the one to our cancel.
                Reply { request_id, .. } if request_id != self.request_id => {}
                Reply { outcome: Ok(Answer::Progress(progress)), .. } => {
                    if let Activity::Waiting { ahead, client, since_s } = &progress.activity {
                        end = Instant::now() + self.wait.whole;
                        self.remarks.waiting(sent.elapsed(), *ahead, client, *since_s);
                        if sent.elapsed() >= self.patience.turn && ending.is_none() {
                            let busy = Failure::Busy { client: client.clone(), since_s: *since_s };
                            ending = Some(self.give_up(link, busy)?);
                        }
                    }
                    (self.progress)(progress);
                }
                // Cancelled in the very moment it ended: whoever cancelled does not want it any more.
                Reply { outcome, .. } => {
                    return Ok(ending.map_or(outcome, |ending| Err(ending.instead)));
                }
            }
        }
    }

    /// Ask the agent to end the request.
    fn give_up(&self, link: &mut Link, instead: Failure) -> Result<Ending, BoardError> {
        let call = Call::Cancel { request_id: self.request_id };
        // Never equal to a request's own: those count up from one and would take ages to come round.
        let request = Request { request_id: !self.request_id, call };
        let message = codec::encode(&request, limits::REQUEST_BYTES)
            .map_err(|error| BoardError::Failed(error.to_string()))?;
        link.send(&message).map_err(|error| BoardError::of_link(self.board, &error))?;
        Ok(Ending { by: Instant::now() + self.patience.cancel, instead })
    }
}
