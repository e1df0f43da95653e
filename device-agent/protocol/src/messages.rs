//! THE table: everything host and agent can say. Verbs are fixed; models are data; no path and no command crosses.
//!
//! postcard encodes by position: new variants go at the end of an enum (minor version); any other change is a major one.
//! [`Hello`], [`Request`]'s and [`Reply`]'s heads and [`Failure::Refused`] keep their encoding in all versions, so that two
//! peers of different majors can tell each other so in words.

use crate::blob::Bytes;
use crate::board::{Board, FreeMemory, Status};
use crate::bounded::{list, lists, text};
use crate::deployment::{Shipment, SlotStatus};
use crate::digest::Digest;
use crate::failure::Failure;
use crate::limits;
use crate::measurement::Measurement;
use crate::plan::{InferPlan, MeasurePlan, PreparePlan, Prepared};
use alloc::string::String;
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// What the host asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Request {
    /// Chosen by the host, repeated in every reply to it.
    pub request_id: u32,
    /// The verb.
    pub call: Call,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Reply {
    /// The request this belongs to.
    pub request_id: u32,
    /// The answer, or why there is none.
    pub outcome: Result<Answer, Failure>,
}

/// Verbs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub enum Call {
    /// First message of every session.
    Hello(Hello),
    /// Ask for the board's identity and present condition.
    Probe,
    /// How many bytes of this blob are already there (content-addressed, resumable).
    PutQuery {
        /// SHA-256 of the whole blob.
        digest: Digest,
        /// Length of the whole blob, bytes.
        bytes: u64,
    },
    /// One piece; answered with the new length. The last piece is accepted only if the digest holds.
    PutChunk {
        /// The blob it belongs to.
        digest: Digest,
        /// Position of `data` in the blob, bytes.
        offset: u64,
        /// The piece, at most [`limits::CHUNK_BYTES`].
        data: Bytes<{ limits::CHUNK_BYTES }>,
    },
    /// Let the engine optimise a blob that was put, before it is measured. Never part of a latency.
    Prepare(PreparePlan),
    /// Measure a model.
    Measure(MeasurePlan),
    /// Run inputs through a model.
    Infer(InferPlan),
    /// Copy a bundle into a free slot, verifying signature, digest, golden output and latency.
    Stage(Shipment),
    /// Make a staged student the active one, atomically; on trial until confirmed.
    Activate {
        /// [`crate::SlotContent::id`] of the staged student: what another host staged meanwhile is not activated.
        id: u64,
    },
    /// End a trial: the active student is healthy.
    Confirm {
        /// [`crate::Trial::id`] of the trial: a late host ends nobody else's.
        id: u64,
    },
    /// Go back to the student that was confirmed last.
    Rollback {
        /// The trial to end; `None` for whatever is active, as a person asks.
        id: Option<u64>,
    },
    /// What is in the slots, who waits, how much room is left.
    Status,
    /// Abandon the running request of this session.
    Cancel {
        /// The request to abandon.
        request_id: u32,
    },
    /// The newest lines of a log.
    LogTail {
        /// At most this many.
        lines: u16,
        /// Of which log.
        log: Log,
    },
    /// How much memory a model may take now. Since 2.1.
    Memory,
}

/// The logs that an agent keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum Log {
    /// The agent's own messages since it started.
    Agent,
    /// What holders of a key did on this board, across restarts.
    Audit,
}

/// Greeting of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Hello {
    /// Protocol version of the host.
    pub version: Version,
    /// [`crate::SCHEMA_HASH`] of the host.
    pub schema: [u8; 8],
    /// Who asks, for `busy` messages: program, user, host name.
    #[serde(deserialize_with = "text::<{ limits::NAME_BYTES }, _>")]
    pub client: String,
}

/// Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Version {
    /// Changes when old peers can no longer be understood.
    pub major: u16,
    /// Changes when variants are appended.
    pub minor: u16,
}

/// Answers, one per verb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub enum Answer {
    /// To hello.
    Hello(Welcome),
    /// To probe.
    Board(Board),
    /// To put query and put chunk: bytes present.
    Stored {
        /// Bytes of the blob that the agent holds.
        bytes: u64,
    },
    /// Sent at intervals while a long request waits or runs, so that silence means trouble.
    Progress(Progress),
    /// To prepare.
    Prepared(Prepared),
    /// To measure.
    Measured(Measurement),
    /// To infer: logits, one row per input.
    Inferred(
        #[serde(deserialize_with = "lists::<{ limits::INPUTS }, { limits::LOGITS }, _, _>")] Vec<Vec<f32>>,
    ),
    /// To stage, activate, confirm and roll back.
    Slots(SlotStatus),
    /// To status.
    Status(Status),
    /// To cancel.
    Cancelled,
    /// To log tail.
    Log(#[serde(deserialize_with = "list::<{ limits::LOG_LINES }, _, _>")] Vec<String>),
    /// To memory.
    Memory(FreeMemory),
}

/// Greeting of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Welcome {
    /// Protocol version of the agent.
    pub version: Version,
    /// Schema hash of the agent.
    pub schema: [u8; 8],
    /// Version of the agent program.
    pub agent: String,
    /// Largest blob it takes, bytes.
    pub max_blob_bytes: u64,
    /// Identity of the board.
    pub board: Board,
}

/// A sign of life from a long request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Progress {
    /// Milliseconds since the request began.
    pub elapsed_ms: u32,
    /// What it is doing.
    pub activity: Activity,
}

/// What a long request is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum Activity {
    /// It waits for its turn at the board.
    Waiting {
        /// Requests in front of it, the one that runs included.
        ahead: u16,
        /// Who has the board now.
        client: String,
        /// For how long, seconds.
        since_s: u32,
    },
    /// It runs.
    Running {
        /// Worker processes finished.
        processes: u16,
    },
}

impl Default for Activity {
    fn default() -> Self {
        Self::Running { processes: 0 }
    }
}
