//! One connection: handshake, greeting, then requests one at a time, while it keeps listening for a cancel or the peer's
//! disappearance.
//!
//! Everything a peer can make it wait for has a deadline, and everything a peer can make it hold has a limit. It must not
//! know what the requests mean: that is the handler's business.

use crate::Cancel;
use crate::cancel::Canceller;
use crate::handler::{Handler, Job, Reported};
use crate::log_tail::clip;
use n2n_protocol::channel::{Channel, ChannelError, HANDSHAKE_FRAME_BYTES, REJECTION, respond};
use n2n_protocol::codec::{self, CodecError};
use n2n_protocol::key::Key;
use n2n_protocol::line::transfer;
use n2n_protocol::{
    Answer, Call, Failure, Hello, Reply, Request, SCHEMA_HASH, Unknown, VERSION, Welcome, limits, version,
};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

/// Bytes read from the stream at once.
const READ_BYTES: usize = 16 << 10;

/// How long a session waits for what.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// From the connection to the end of the handshake: a stranger's whole time.
    pub handshake: Duration,
    /// From the handshake to the end of the greeting.
    pub greeting: Duration,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Between two messages, when nothing runs.
    pub idle: Duration,
    /// For the peer to take an answer.
    pub write: Duration,
    /// Between two signs of life of a running request.
    pub progress: Duration,
    /// For a cancelled request to end by itself.
    pub cancel: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            // A Raspberry Pi Zero needs some 10 ms for its part; the rest is for bad radio links.
            handshake: Duration::from_secs(5),
            greeting: Duration::from_secs(5),
            // 8 MiB in two minutes is 70 kB/s.
            message: Duration::from_mins(2),
            // A search may train for hours between two measurements; a dead peer is noticed by keep-alive long before.
            idle: Duration::from_hours(6),
            write: Duration::from_secs(30),
            progress: Duration::from_secs(1),
            // Killing a worker and reaping it is a matter of milliseconds.
            cancel: Duration::from_secs(5),
        }
    }
}

impl Deadlines {
    /// As these, and as much longer as a serial line needs for the longest messages, twice over for what it repeats.
    #[must_use]
    pub fn on_line(&self, baud: u32) -> Self {
        let slow = |bytes: usize| 2 * transfer(bytes as u64, baud);
        Self {
            message: self.message + slow(limits::REQUEST_BYTES),
            write: self.write + slow(limits::REPLY_BYTES),
            ..self.clone()
        }
    }
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A deadline passed.
    #[error("{0} took too long")]
    Late(&'static str),
    /// The stream failed, or ended in the middle of something.
    #[error("link: {0}")]
    Link(#[from] io::Error),
    /// The peer is a stranger or broke the channel's rules.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// An answer could not be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The greeting failed; the peer was told.
    #[error("greeting: {0}")]
    Greeting(String),
}

/// Do the agent's part of the handshake.
///
/// # Errors
/// [`SessionError`]; a wrong key is told to the peer.
pub async fn shake_hands<S>(stream: &mut S, key: &Key, deadlines: &Deadlines) -> Result<Channel, SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shake = async {
        let mut frame = [0; HANDSHAKE_FRAME_BYTES];
        stream.read_exact(&mut frame).await?;
        match respond(key, &frame, limits::HELLO_BYTES) {
            Ok((channel, answer)) => {
                stream.write_all(&answer).await?;
                Ok(channel)
            }
            Err(error) => {
                if error == ChannelError::WrongKey {
                    stream.write_all(&REJECTION).await?;
                    stream.shutdown().await?;
                }
                Err(error.into())
            }
        }
    };
    timeout(deadlines.handshake, shake).await.unwrap_or(Err(SessionError::Late("the handshake")))
}

/// A connection whose peer has the key.
pub struct Session<'a, S> {
    stream: S,
    channel: Channel,
    handler: &'a Handler,
    deadlines: &'a Deadlines,
    agent: &'a str,
    client: String,
    running: Option<Running>,
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
    Bytes(usize),
    Late(&'static str),
    Done(Box<Result<Result<Answer, Failure>, JoinError>>),
    Tick,
    GiveUp,
    Stop,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    /// A session over a stream after its handshake; `agent` is the version of this program.
    pub fn new(
        stream: S,
        channel: Channel,
        handler: &'a Handler,
        deadlines: &'a Deadlines,
        agent: &'a str,
    ) -> Self {
        Self { stream, channel, handler, deadlines, agent, client: String::new(), running: None }
    }

    /// Greet and serve until the peer leaves or `stop` asks for the end. Whatever runs then is cancelled, and has ended
    /// when this returns.
    ///
    /// # Errors
    /// [`SessionError`] when the peer broke a rule or the link failed.
    pub async fn run(mut self, stop: &Cancel) -> Result<(), SessionError> {
        let outcome = match timeout(self.deadlines.greeting, self.greet()).await {
            Ok(Ok(())) => self.serve(stop).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SessionError::Late("the greeting")),
        };
        if let Some(mut running) = self.running.take() {
            running.canceller.cancel();
            // Only when it has ended is the board free again.
            if timeout(self.deadlines.cancel, &mut running.task).await.is_err() {
                tracing::warn!(client = %self.client, "a request did not end by itself and is dropped");
            }
        }
        outcome
    }

    async fn greet(&mut self) -> Result<(), SessionError> {
        let mut buffer = vec![0; READ_BYTES];
        let bytes = loop {
            if let Some(message) = self.channel.pop()? {
                break message;
            }
            let read = self.read(&mut buffer).await?;
            self.channel.push(buffer.get(..read).unwrap_or_default());
        };
        // Another version's hello may be longer, or end with fields of its own; its number is readable all the same.
        let request_id = codec::request_id(&bytes).unwrap_or(0);
        let refusal = match codec::decode(&bytes, limits::HELLO_BYTES) {
            Ok(Request { call: Call::Hello(Hello { version, schema, client }), .. }) => {
                match version::check(version, schema) {
                    Ok(()) => {
                        self.client = client;
                        return self.welcome(request_id).await;
                    }
                    Err(mismatch) => mismatch.to_string(),
                }
            }
            Ok(_) => "hello must come first".to_owned(),
            Err(error) => error.to_string(),
        };
        self.reply(request_id, Err(Failure::Refused(refusal.clone()))).await?;
        self.stream.shutdown().await?;
        Err(SessionError::Greeting(refusal))
    }

    async fn welcome(&mut self, request_id: u32) -> Result<(), SessionError> {
        let job = Job {
            call: Call::Probe,
            client: self.client.clone(),
            cancel: Cancel::never(),
            progress: Reported::default(),
        };
        let outcome = self.handler.begin(job).await.and_then(|answer| match answer {
            Answer::Board(board) => Ok(Answer::Hello(Welcome {
                version: VERSION,
                schema: SCHEMA_HASH,
                agent: self.agent.to_owned(),
                max_blob_bytes: limits::BLOB_BYTES,
                board,
            })),
            _ => Err(Failure::Failed("the agent cannot describe its board".to_owned())),
        });
        self.reply(request_id, outcome).await?;
        self.channel.set_limit(limits::REQUEST_BYTES);
        Ok(())
    }

    async fn serve(&mut self, stop: &Cancel) -> Result<(), SessionError> {
        let mut buffer = vec![0; READ_BYTES];
        let mut quiet_since = Instant::now();
        let mut message_since = None;
        loop {
            // A peer may have sent its first request together with its greeting.
            while let Some(message) = self.channel.pop()? {
                self.take(&message).await?;
                quiet_since = Instant::now();
                message_since = None;
            }
            let (deadline, what) = if self.channel.is_partial() {
                (Some(*message_since.get_or_insert_with(Instant::now) + self.deadlines.message), "a message")
            } else if self.running.is_some() {
                (None, "")
            } else {
                (Some(quiet_since + self.deadlines.idle), "the next request")
            };
            match self.next_event(&mut buffer, deadline, what, stop).await? {
                Event::Bytes(0) | Event::Stop => return Ok(()),
                Event::Bytes(read) => self.channel.push(buffer.get(..read).unwrap_or_default()),
                Event::Late(what) => return Err(SessionError::Late(what)),
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
        buffer: &mut [u8],
        deadline: Option<Instant>,
        what: &'static str,
        stop: &Cancel,
    ) -> Result<Event, SessionError> {
        let Self { stream, running, .. } = self;
        let running = async {
            let Some(running) = running else { return std::future::pending().await };
            tokio::select! {
                outcome = &mut running.task => Event::Done(Box::new(outcome)),
                _ = running.ticks.tick() => Event::Tick,
                () = sleep_until_some(running.give_up) => Event::GiveUp,
            }
        };
        Ok(tokio::select! {
            event = running => event,
            read = stream.read(buffer) => Event::Bytes(read?),
            () = sleep_until_some(deadline) => Event::Late(what),
            () = stop.cancelled() => Event::Stop,
        })
    }

    /// One whole message from the peer.
    async fn take(&mut self, message: &[u8]) -> Result<(), SessionError> {
        let Request { request_id, call } = match codec::decode(message, limits::REQUEST_BYTES) {
            Ok(request) => request,
            Err(error) => {
                let request_id = codec::request_id(message).unwrap_or(0);
                return self.reply(request_id, Err(Failure::Refused(error.to_string()))).await;
            }
        };
        match (call, &mut self.running) {
            (Call::Cancel { request_id: target }, running) => {
                // If it has just ended, its answer is on its way and there is nothing left to cancel.
                if let Some(running) = running.as_mut().filter(|running| running.request_id == target) {
                    running.canceller.cancel();
                    running.give_up.get_or_insert(Instant::now() + self.deadlines.cancel);
                }
                self.reply(request_id, Ok(Answer::Cancelled)).await
            }
            (Call::Hello(_), _) => {
                self.reply(request_id, Err(Failure::Refused("hello was said already".to_owned()))).await
            }
            (_, Some(running)) => {
                let refusal = format!("request {} is still running; one at a time", running.request_id);
                self.reply(request_id, Err(Failure::Refused(refusal))).await
            }
            (call, None) => {
                self.begin(request_id, call);
                Ok(())
            }
        }
    }

    fn begin(&mut self, request_id: u32, call: Call) {
        let (canceller, cancel) = Cancel::pair();
        let progress = Reported::default();
        let job = Job { call, client: self.client.clone(), cancel, progress: progress.clone() };
        let began = Instant::now();
        let mut ticks = interval_at(began + self.deadlines.progress, self.deadlines.progress);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A task of its own: a panic in there must not take the session with it.
        let task = tokio::spawn(self.handler.begin(job));
        self.running = Some(Running { request_id, task, canceller, progress, began, ticks, give_up: None });
    }

    async fn finish(&mut self, outcome: Result<Answer, Failure>) -> Result<(), SessionError> {
        match self.running.take() {
            Some(running) => self.reply(running.request_id, outcome).await,
            None => Ok(()),
        }
    }

    async fn send_progress(&mut self) -> Result<(), SessionError> {
        let Some(running) = &self.running else { return Ok(()) };
        let mut progress = running.progress.last();
        progress.elapsed_ms = u32::try_from(running.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        let request_id = running.request_id;
        self.reply(request_id, Ok(Answer::Progress(progress))).await
    }

    async fn reply(&mut self, request_id: u32, outcome: Result<Answer, Failure>) -> Result<(), SessionError> {
        let reply = Reply { request_id, outcome: outcome.map_err(clipped) };
        let message = match codec::encode(&reply, limits::REPLY_BYTES) {
            Err(error @ CodecError::TooLong { .. }) => {
                let failure = Failure::Failed(format!("the answer does not fit: {error}"));
                codec::encode(&Reply { request_id, outcome: Err(failure) }, limits::REPLY_BYTES)?
            }
            message => message?,
        };
        let mut stream = Vec::new();
        self.channel.seal(&message, &mut stream)?;
        let write = async {
            self.stream.write_all(&stream).await?;
            self.stream.flush().await
        };
        Ok(timeout(self.deadlines.write, write)
            .await
            .map_err(|_| SessionError::Late("taking an answer"))??)
    }

    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SessionError> {
        match self.stream.read(buffer).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => Ok(read),
        }
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A failure whose text the peer will take.
fn clipped(failure: Failure) -> Failure {
    let clip = |text: String| clip(&text, limits::TEXT_BYTES).to_owned();
    match failure {
        Failure::Failed(text) => Failure::Failed(clip(text)),
        Failure::Disturbed(text) => Failure::Disturbed(clip(text)),
        Failure::Refused(text) => Failure::Refused(clip(text)),
        Failure::Unknown(Unknown::Unsupported(text)) => Failure::Unknown(Unknown::Unsupported(clip(text))),
        Failure::Unknown(Unknown::EngineMissing(text)) => {
            Failure::Unknown(Unknown::EngineMissing(clip(text)))
        }
        Failure::Unknown(Unknown::Crashed(text)) => Failure::Unknown(Unknown::Crashed(clip(text))),
        Failure::Unknown(Unknown::WrongAnswer(text)) => Failure::Unknown(Unknown::WrongAnswer(clip(text))),
        other => other,
    }
}
