//! The seam between the wire and the agent's inside: a session hands a job over and waits for its outcome.
//!
//! Sessions know nothing of stores, workers or slots; `services` knows nothing of sockets.

use crate::Cancel;
use n2n_protocol::{Activity, Answer, Call, Failure, Progress};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

/// One request on its way through the agent.
pub struct Job {
    /// The verb; never a hello or a cancel, which a session answers itself.
    pub call: Call,
    /// Who asks, for `busy` messages: what the host calls itself, without orders to a terminal.
    pub client: String,
    /// By what the agent knows the host.
    pub origin: Origin,
    /// Ends when the client cancels or is lost, or the agent stops.
    pub cancel: Cancel,
    /// Ends when the client's session has ended.
    pub gone: Cancel,
    /// Where to say how far the work has come.
    pub progress: Reported,
}

#[cfg(test)]
impl Job {
    /// Of nobody in particular, never cancelled.
    pub(crate) fn of(call: Call, client: &str, peer: &str) -> Self {
        Self {
            call,
            client: client.to_owned(),
            origin: Origin { key: "desk".to_owned(), peer: peer.to_owned() },
            cancel: Cancel::never(),
            gone: Cancel::never(),
            progress: Reported::default(),
        }
    }
}

/// What the agent itself knows of a host, whatever the host calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of the key it holds.
    pub key: String,
    /// Its address and port, or `serial`.
    pub peer: String,
}

/// How far a job has come: its worker writes, its session reads.
#[derive(Clone, Debug)]
pub struct Reported(Arc<Mutex<Progress>>);

impl Default for Reported {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Progress { elapsed_ms: 0, activity: Activity::default() })))
    }
}

impl Reported {
    /// Say how far the work has come.
    pub fn report(&self, progress: Progress) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// What was said last.
    pub fn last(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The outcome of a job, sometime.
pub type Outcome = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// The agent's inside, as a session sees it.
pub struct Handler(Box<dyn Fn(Job) -> Outcome + Send + Sync>);

impl Handler {
    /// A handler that does every job by `work`.
    pub fn new<W, F>(work: W) -> Self
    where
        W: Fn(Job) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Answer, Failure>> + Send + 'static,
    {
        Self(Box::new(move |job| Box::pin(work(job))))
    }

    /// Begin a job.
    pub fn begin(&self, job: Job) -> Outcome {
        (self.0)(job)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("Handler")
    }
}
