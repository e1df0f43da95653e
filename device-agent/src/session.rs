//! One session: welcome, then requests one at a time, while it keeps listening for a cancel or the peer's disappearance.
//!
//! Everything a peer can make it wait for has a deadline, and everything a peer can make it hold has a limit. It must not
//! know what the requests mean: that is the handler's business.

use crate::Cancel;
use crate::cancel::Canceller;
use crate::deadlines::Deadlines;
use crate::handler::{Handler, Job, Origin, Reported};
use crate::key::NamedKey;
use crate::key::watch::Keys;
use crate::link::{Link, LinkError};
use crate::reception::Greeted;
use crate::room::HostPlace;
use n2n_protocol::{Answer, Call, Failure, Request, SCHEMA_HASH, VERSION, Welcome, codec, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

/// Why a session ended, when it was not by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host left.
    Left,
    /// The agent stops.
    Stopped,
    /// It was silent, and another host waited for its place.
    PlaceLost,
    /// Its key is not in force any more.
    KeyRemoved,
}

/// A host that has greeted, being served.
pub(crate) struct Session<'a, S> {
    link: Link<S>,
    hello: u32,
    client: String,
    origin: Origin,
    key: NamedKey,
    place: HostPlace,
    keys: Keys,
    handler: &'a Handler,
    deadlines: &'a Deadlines,
    running: Option<Running>,
    /// Its end is this session's end.
    presence: Canceller,
    gone: Cancel,
}

/// The request that is being worked on.
struct Running {
    request_id: u32,
    task: JoinHandle<Result<Answer, Failure>>,
    canceller: Canceller,
    progress: Reported,
    began: Instant,
    ticks: Interval,
    /// Set by a cancel: when to stop waiting for the task to end by itself.
    give_up: Option<Instant>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // A finished task does not mind; an unfinished one would otherwise go on without an owner.
        self.task.abort();
    }
}

enum Event {
    Bytes(bool),
    Late(&'static str),
    Done(Box<Result<Result<Answer, Failure>, JoinError>>),
    Tick,
    GiveUp,
    End(End),
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    /// A session of a host that has greeted.
    pub(crate) fn new(
        greeted: Greeted<S>,
        keys: Keys,
        handler: &'a Handler,
        deadlines: &'a Deadlines,
    ) -> Self {
        let Greeted { link, request_id: hello, client, origin, key, place } = greeted;
        let (presence, gone) = Cancel::pair();
        let running = None;
        Self { link, hello, client, origin, key, place, keys, handler, deadlines, running, presence, gone }
    }

    /// Welcome the host and serve until it leaves, loses its place or its key, or `stop` asks for the end. Whatever runs
    /// then is cancelled, and has ended when this returns.
    ///
    /// # Errors
    /// [`LinkError`] when the peer broke a rule or the link failed.
    pub(crate) async fn run(mut self, stop: &Cancel) -> Result<End, LinkError> {
        let outcome = match self.welcome().await {
            Ok(()) => self.serve(stop).await,
            Err(error) => Err(error),
        };
        self.presence.cancel();
        if let Some(mut running) = self.running.take() {
            running.canceller.cancel();
            // Only when it has ended is the board free again.
            if timeout(self.deadlines.cancel, &mut running.task).await.is_err() {
                tracing::warn!(client = %self.client, "a request did not end by itself and is dropped");
            }
        }
        outcome
    }

    async fn welcome(&mut self) -> Result<(), LinkError> {
        let outcome = self.handler.begin(self.job(Call::Probe, Cancel::never())).await;
        let outcome = outcome.and_then(|answer| match answer {
            Answer::Board(board) => Ok(Answer::Hello(Welcome {
                version: VERSION,
                schema: SCHEMA_HASH,
                agent: env!("CARGO_PKG_VERSION").to_owned(),
                max_blob_bytes: limits::BLOB_BYTES,
                board,
            })),
            _ => Err(Failure::Failed("the agent cannot describe its board".to_owned())),
        });
        self.link.reply(self.hello, outcome).await?;
        self.link.set_limit(limits::REQUEST_BYTES);
        Ok(())
    }

    async fn serve(&mut self, stop: &Cancel) -> Result<End, LinkError> {
        let mut quiet_since = Instant::now();
        let mut message_since = None;
        loop {
            // A peer may have sent its first request together with its greeting.
            while let Some(message) = self.link.pop()? {
                self.take(&message).await?;
                self.place.heard(self.running.is_some());
                quiet_since = Instant::now();
                message_since = None;
            }
            let (deadline, what) = if self.link.is_partial() {
                (Some(*message_since.get_or_insert_with(Instant::now) + self.deadlines.message), "a message")
            } else if self.running.is_some() {
                (None, "")
            } else {
                (Some(quiet_since + self.deadlines.idle), "the next request")
            };
            match self.next_event(deadline, what, stop).await? {
                Event::Bytes(false) => return Ok(End::Left),
                // A long message on a slow line is a sign of life before it is whole.
                Event::Bytes(true) => self.place.heard(self.running.is_some()),
                Event::End(end) => return Ok(end),
                Event::Late(what) => return Err(LinkError::Late(what)),
                Event::Tick => self.send_progress().await?,
                Event::Done(outcome) => {
                    let outcome = (*outcome).unwrap_or_else(|error| {
                        tracing::error!(%error, "a request ended in a panic");
                        Err(Failure::Failed("a fault inside the agent; its log says more".to_owned()))
                    });
                    self.finish(outcome).await?;
                    quiet_since = Instant::now();
                }
                Event::GiveUp => {
                    tracing::warn!(client = %self.client, "a cancelled request did not end by itself and is dropped");
                    self.finish(Err(Failure::Cancelled)).await?;
                    quiet_since = Instant::now();
                }
            }
        }
    }

    /// Wait for whatever comes first. Cancel-safe: bytes are read only by the branch that wins.
    async fn next_event(
        &mut self,
        deadline: Option<Instant>,
        what: &'static str,
        stop: &Cancel,
    ) -> Result<Event, LinkError> {
        let Self { link, running, place, keys, key, .. } = self;
        let running = async {
            let Some(running) = running else { return std::future::pending().await };
            tokio::select! {
                outcome = &mut running.task => Event::Done(Box::new(outcome)),
                _ = running.ticks.tick() => Event::Tick,
                () = sleep_until_some(running.give_up) => Event::GiveUp,
            }
        };
        let key_removed = async {
            // An error means that the keys will not change any more.
            if keys.wait_for(|ring| !ring.holds(&key.key)).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let place_lost = place.lost();
        Ok(tokio::select! {
            event = running => event,
            read = link.read() => Event::Bytes(read?),
            () = sleep_until_some(deadline) => Event::Late(what),
            () = stop.cancelled() => Event::End(End::Stopped),
            () = place_lost.cancelled() => Event::End(End::PlaceLost),
            () = key_removed => Event::End(End::KeyRemoved),
        })
    }

    /// One whole message from the peer.
    async fn take(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let Request { request_id, call } = match codec::decode(message, limits::REQUEST_BYTES) {
            Ok(request) => request,
            Err(error) => {
                let request_id = codec::request_id(message).unwrap_or(0);
                return self.link.reply(request_id, Err(Failure::Refused(error.to_string()))).await;
            }
        };
        match (call, &mut self.running) {
            (Call::Cancel { request_id: target }, running) => {
                // If it has just ended, its answer is on its way and there is nothing left to cancel.
                if let Some(running) = running.as_mut().filter(|running| running.request_id == target) {
                    running.canceller.cancel();
                    running.give_up.get_or_insert(Instant::now() + self.deadlines.cancel);
                }
                self.link.reply(request_id, Ok(Answer::Cancelled)).await
            }
            (Call::Hello(_), _) => {
                self.link.reply(request_id, Err(Failure::Refused("hello was said already".to_owned()))).await
            }
            (_, Some(running)) => {
                let refusal = format!("request {} is still running; one at a time", running.request_id);
                self.link.reply(request_id, Err(Failure::Refused(refusal))).await
            }
            (call, None) => {
                self.begin(request_id, call);
                Ok(())
            }
        }
    }

    fn begin(&mut self, request_id: u32, call: Call) {
        let (canceller, cancel) = Cancel::pair();
        let job = self.job(call, cancel);
        let progress = job.progress.clone();
        let began = Instant::now();
        let mut ticks = interval_at(began + self.deadlines.progress, self.deadlines.progress);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A task of its own: a panic in there must not take the session with it.
        let task = tokio::spawn(self.handler.begin(job));
        self.running = Some(Running { request_id, task, canceller, progress, began, ticks, give_up: None });
    }

    fn job(&self, call: Call, cancel: Cancel) -> Job {
        let (client, origin, gone) = (self.client.clone(), self.origin.clone(), self.gone.clone());
        Job { call, client, origin, cancel, gone, progress: Reported::default() }
    }

    async fn finish(&mut self, outcome: Result<Answer, Failure>) -> Result<(), LinkError> {
        self.place.heard(false);
        match self.running.take() {
            Some(running) => self.link.reply(running.request_id, outcome).await,
            None => Ok(()),
        }
    }

    async fn send_progress(&mut self) -> Result<(), LinkError> {
        let Some(running) = &self.running else { return Ok(()) };
        let mut progress = running.progress.last();
        progress.elapsed_ms = u32::try_from(running.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let request_id = running.request_id;
        self.link.reply(request_id, Ok(Answer::Progress(progress))).await
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
