//! Students on their way into a board's slots, and what is in the slots.

use crate::bounded::{bytes, list, text, write_bytes};
use crate::golden::Golden;
use crate::model::Artifact;
use crate::{Digest, limits};
use alloc::string::String;
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// A request to stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Shipment {
    /// The signed bundle.
    pub bundle: BundleManifest,
    /// Take it although it was made for another class of board, or its number is lower than one that was seen.
    pub force: bool,
}

/// A student on its way into a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct BundleManifest {
    /// The name users gave it.
    #[serde(deserialize_with = "text::<{ limits::NAME_BYTES }, _>")]
    pub name: String,
    /// The model, put before, how it runs, and whom it is for.
    pub artifact: Artifact,
    /// Answer it must give.
    pub golden: Golden,
    /// Upper bound of its median latency, ns; `None` for no check.
    pub latency_limit_ns: Option<u64>,
    /// ed25519 public key of the signer.
    pub signer: [u8; 32],
    /// ed25519 signature (64 bytes) over [`BundleManifest::signed_bytes`].
    #[serde(serialize_with = "write_bytes", deserialize_with = "bytes::<{ limits::SIGNATURE_BYTES }, _>")]
    pub signature: Vec<u8>,
}

/// The slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Schema)]
pub struct SlotStatus {
    /// What runs.
    pub active: Option<SlotContent>,
    /// What a roll-back would return to.
    pub way_back: Option<SlotContent>,
    /// Verified, not active yet.
    pub staged: Option<SlotContent>,
    /// The trial of the active student; `None` when it is confirmed.
    pub trial: Option<Trial>,
    /// What the board changed or found by itself, newest last.
    #[serde(deserialize_with = "list::<{ limits::NOTICES }, _, _>")]
    pub notices: Vec<Notice>,
}

/// A student that is active and not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Trial {
    /// Names the trial: the active student's [`SlotContent::id`].
    pub id: u64,
    /// When nobody has confirmed it by then, the board goes back, seconds.
    pub seconds_left: u32,
}

/// Something that a board did or found by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Notice {
    /// When, seconds since 1970 by the board's clock.
    pub at: u64,
    /// What, in words.
    pub text: String,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct SlotContent {
    /// Given by the board when it was staged; never given twice.
    pub id: u64,
    /// The name users gave it.
    pub name: String,
    /// Its model file.
    pub model: Digest,
    /// Bytes of the model file.
    pub bytes: u64,
    /// [`Artifact::number`] of its bundle.
    pub number: u64,
    /// Class of board it was made for; empty for any.
    pub target: String,
    /// Engine it was measured with; empty where unknown.
    pub engine: String,
    /// Threads it was measured with.
    pub threads: u16,
    /// When it was staged, seconds since 1970.
    pub staged_at: u64,
    /// When its bytes and signature were last found right, seconds since 1970; 0 for not since the agent started.
    pub verified_at: u64,
}
