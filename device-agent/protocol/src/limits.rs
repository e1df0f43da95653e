//! How large anything on the wire may be, each with its reason. Both sides obey the same numbers.
//!
//! A limit is checked where a length is *read*, before anything of that length is allocated.

/// A Noise record with its tag, bytes: what the Noise specification allows and a u16 can say.
pub const RECORD_BYTES: usize = 65_535;

/// Authentication tag of a record, bytes (Poly1305).
pub const TAG_BYTES: usize = 16;

/// Length in front of a record or a handshake frame, bytes.
pub const LENGTH_BYTES: usize = 2;

/// A handshake frame, both directions, bytes: its length, an ephemeral key, and the tag of an empty payload.
pub const HANDSHAKE_FRAME_BYTES: usize = LENGTH_BYTES + 32 + TAG_BYTES;

/// Plain bytes in one record.
pub const RECORD_PAYLOAD_BYTES: usize = RECORD_BYTES - TAG_BYTES;

/// A request before the greeting, bytes: a hello is under 200; whoever shares the key but nothing else gets no memory.
pub const HELLO_BYTES: usize = 1024;

/// A request, bytes. The largest one carries inference inputs: 8 MiB is one float image of 3 x 836 x 836, and boards
/// have 512 MiB of memory or less. Hosts send long lists of inputs in several requests.
pub const REQUEST_BYTES: usize = 8 << 20;

/// A reply, bytes. The largest one is a measurement with all of its samples: 64 processes x 20,000 samples x 5 bytes is
/// 6.1 MiB.
pub const REPLY_BYTES: usize = 16 << 20;

/// A piece of a blob, bytes: with its digest and offset it still fits into one record, and at 115,200 baud it takes
/// under 6 s, so that a lost link costs little.
pub const CHUNK_BYTES: usize = 64_512;

/// A blob, bytes: VGG-19 of the ImageNet form, the largest classifier that people measure, has 574 MiB. What a board can hold
/// of it is bounded by its memory and its store.
pub const BLOB_BYTES: u64 = 1 << 30;

/// Name of a client, a board, an engine or a bundle, bytes: they are printed in one line.
pub const NAME_BYTES: usize = 128;

/// Text of a system or an error, bytes: enough for an engine's chain of causes, too little to fill a disk with logs.
pub const TEXT_BYTES: usize = 4096;

/// Cores of a board: twice the largest server of today.
pub const CORES: usize = 1024;

/// Thermal zones of a board: a Jetson has 12, a server some dozens.
pub const THERMAL_ZONES: usize = 256;

/// Engines in one agent.
pub const ENGINES: usize = 16;

/// Worker processes of one measurement: the last fixed look is at 16; 64 leaves room for studies of noise.
pub const PROCESSES: usize = 64;

/// Timed samples of one process: p99 wants 500; 20,000 keep a measurement under [`REPLY_BYTES`].
pub const SAMPLES_PER_PROCESS: usize = 20_000;

/// Logits of one input: ImageNet-21k has 21,841 classes.
pub const LOGITS: usize = 32_768;

/// Inputs in one infer request: bounds what empty inputs could cost (24 bytes of memory for one on the wire).
pub const INPUTS: usize = 4096;

/// Bytes of one input: as many as [`REQUEST_BYTES`] can carry.
pub const INPUT_BYTES: usize = REQUEST_BYTES;

/// Largest tolerance of a golden answer: a quarter of the largest logit, far above what 8-bit integers cost and far below
/// what a wrong layer does.
pub const TOLERANCE: f32 = 0.25;

/// Requests that have the board or wait for it, as a status lists them: one for each session.
pub const QUEUE: usize = 32;

/// What a board found or changed by itself, as a status lists it: the newest.
pub const NOTICES: usize = 8;

/// Lines of a log in one reply; also what the agent keeps.
pub const LOG_LINES: usize = 1000;

/// A signature, bytes (ed25519).
pub const SIGNATURE_BYTES: usize = 64;

const _: () =
    assert!(CHUNK_BYTES + 64 < RECORD_PAYLOAD_BYTES, "a chunk with its header must fit into one record");
const _: () =
    assert!(PROCESSES * SAMPLES_PER_PROCESS * 5 < REPLY_BYTES, "a whole measurement must fit into a reply");
