//! What the agent and its worker process say to each other over the worker's pipes.
//!
//! Private to one build of one program: both ends are the same executable, so there is no version. A frame is a
//! little-endian u32 length and that many bytes of postcard. The worker gets one [`Job`] and answers with [`Event`]s,
//! of which [`Event::Done`] is the last.

use crate::engine::{Installed, Library, OnnxRuntime};
use n2n_protocol::{Bytes, Execution, Golden, Model, Unknown, limits};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read};
use std::path::PathBuf;

/// Longest job, bytes: the inputs of the largest request, and what stands around them.
pub(crate) const JOB_BYTES: usize = limits::REQUEST_BYTES + (256 << 10);

/// Longest event, bytes: a row of logits, or all samples of one process. It bounds what a worker whose engine was taken
/// over by a hostile model can make the agent hold.
pub(crate) const EVENT_BYTES: usize = 256 << 10;

const _: () = assert!(4 * limits::LOGITS + 64 < EVENT_BYTES, "a row of logits must fit into an event");
const _: () = assert!(
    10 * limits::SAMPLES_PER_PROCESS + 10 * limits::CORES + limits::TEXT_BYTES < EVENT_BYTES,
    "the samples of a process must fit into an event"
);

/// What a worker is started for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Open a library of the board, and say which engine it is.
    Open(Library),
    /// Load an engine and no model; answer with the resident memory.
    Baseline(Installed),
    /// Let the engine optimise a model.
    Prepare(ModelFile),
    /// Time a model.
    Measure(MeasureJob),
    /// Run inputs through a model.
    Infer(InferJob),
}

/// A file, how it is run, and what it may take for that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelFile {
    pub(crate) path: PathBuf,
    pub(crate) model: Model,
    pub(crate) engine: Installed,
    pub(crate) execution: Execution,
    pub(crate) bounds: WorkerBounds,
}

/// Bounds that a worker sets itself at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkerBounds {
    /// Cores to run on; empty for any.
    pub(crate) cores: Vec<u16>,
    /// Memory that it may take beyond what it holds at its start, bytes.
    pub(crate) memory_bytes: u64,
}

/// One process of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MeasureJob {
    pub(crate) file: ModelFile,
    /// Timed samples wished for.
    pub(crate) samples: u32,
    /// As the first process chose it; `None` to choose.
    pub(crate) inferences_per_sample: Option<u32>,
    /// Time that this process should take, from the worker's start, ms. It takes longer for one sample after a warm-up,
    /// and for running half as long as it loaded.
    pub(crate) aim_ms: u32,
    /// When nothing new is begun any more, from the worker's start, ms; then the newest inference is the one sample if
    /// there is no other.
    pub(crate) end_ms: u32,
    pub(crate) max_inference_ms: u32,
    pub(crate) golden: Option<Golden>,
}

/// A run for the answers alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InferJob {
    pub(crate) file: ModelFile,
    pub(crate) inputs: Vec<InferInput>,
}

/// One input of an [`InferJob`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum InferInput {
    /// As given, in the model's element type.
    Bytes(Bytes<{ limits::INPUT_BYTES }>),
    /// Generated from a seed at the model's own input length.
    Seed(u64),
}

/// A sign of life, a part of the answer, or the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The model is ready to run.
    Loaded,
    /// An early inference ended; it took so long, ns.
    Inferred { ns: u64 },
    /// Logits of the next input.
    Answer(Vec<f32>),
    /// Warm-up is over, samples are being taken.
    Sampling,
    /// An allocation of so many bytes was refused. What follows may be the worker's sudden end.
    Refused { bytes: u64 },
    /// Nothing follows.
    Done(Outcome),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Measured(ProcessRun),
    /// All answers were sent before.
    Inferred,
    /// Whether there was nothing to prepare.
    Prepared {
        cached: bool,
    },
    /// The engine that a library is.
    Opened(OnnxRuntime),
    /// VmHWM with the engine and no model, bytes.
    Baseline {
        peak_rss: Option<u64>,
    },
    OutOfMemory,
    TooSlow,
    Unknown(Unknown),
    Refused(String),
    Failed(String),
}

/// What one process of a measurement saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessRun {
    pub(crate) samples_ns: Vec<u64>,
    pub(crate) inferences_per_sample: u32,
    pub(crate) warmup: u32,
    /// From the start of the process to a model that is ready to run, ms.
    pub(crate) load_ms: u32,
    /// Whether there are fewer samples than wished for.
    pub(crate) cut_short: bool,
    pub(crate) peak_heap: Option<u64>,
    pub(crate) steady_heap: Option<u64>,
    pub(crate) peak_rss: Option<u64>,
    pub(crate) golden_difference: Option<f32>,
    pub(crate) file_bytes: u64,
    /// Frequencies of its cores right before and right after the samples, kHz; empty where unknown.
    pub(crate) frequencies_khz: Vec<u32>,
}

/// The bytes of a frame.
pub(crate) fn frame<T: Serialize>(value: &T, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LEN_BYTES];
    bytes = postcard::to_extend(value, bytes).map_err(invalid)?;
    let len = bytes.len() - LEN_BYTES;
    check_len(len, most)?;
    bytes[..LEN_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(bytes)
}

/// The frame of a short event in a buffer of the caller's: without an allocation. `None` if it does not fit.
pub(crate) fn frame_in<'a>(event: &Event, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let (head, body) = buffer.split_at_mut_checked(LEN_BYTES)?;
    let len = postcard::to_slice(event, body).ok()?.len();
    head.copy_from_slice(&(len as u32).to_le_bytes());
    buffer.get(..LEN_BYTES + len)
}

/// Receive one value of at most so many bytes.
pub(crate) fn read<T: DeserializeOwned>(from: &mut dyn Read, most: usize) -> io::Result<T> {
    let mut len = [0; LEN_BYTES];
    from.read_exact(&mut len)?;
    let mut body = Vec::new();
    let len = checked_len(len, most)?;
    // `take` grows the buffer with what really comes, so that a mad length alone allocates nothing.
    if from.take(len as u64).read_to_end(&mut body)? != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&body)
}

/// A length that may be believed.
pub(crate) fn checked_len(len: [u8; LEN_BYTES], most: usize) -> io::Result<usize> {
    let len = u32::from_le_bytes(len) as usize;
    check_len(len, most).map(|()| len)
}

fn check_len(len: usize, most: usize) -> io::Result<()> {
    if len > most {
        return Err(invalid(format!("a frame of {len} bytes is over the limit of {most}")));
    }
    Ok(())
}

/// The value in a frame's body.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    postcard::from_bytes(body).map_err(invalid)
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Bytes of a frame's length.
const LEN_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Tract;
    use n2n_protocol::Digest;

    #[test]
    fn frames_come_back_and_broken_ones_do_not() {
        let file = ModelFile {
            path: "/m.onnx".into(),
            model: Model::onnx(Digest([1; 32])),
            engine: Installed::Tract(Tract),
            execution: Execution { engine: "tract".into(), threads: 1, batch: 1, pace_us: 0 },
            bounds: WorkerBounds { cores: vec![3], memory_bytes: 7 },
        };
        let inputs = vec![InferInput::Bytes(vec![1, 2].into()), InferInput::Seed(9)];
        let job = Job::Infer(InferJob { file, inputs });
        let bytes = frame(&job, JOB_BYTES).unwrap();
        assert_eq!(read::<Job>(&mut bytes.as_slice(), JOB_BYTES).unwrap(), job);
        for cut in 0..bytes.len() {
            assert!(read::<Job>(&mut &bytes[..cut], JOB_BYTES).is_err(), "cut at {cut}");
        }
        assert!(read::<Job>(&mut bytes.as_slice(), 8).is_err());
        let mad = u32::MAX.to_le_bytes();
        let error = read::<Job>(&mut mad.as_slice(), JOB_BYTES).unwrap_err();
        assert!(error.to_string().contains("over the limit"), "{error}");
        let flood = Event::Answer(vec![0.0; EVENT_BYTES]);
        assert!(frame(&flood, EVENT_BYTES).unwrap_err().to_string().contains("over the limit"));
    }

    #[test]
    fn a_refusal_needs_no_allocation_to_be_told() {
        let event = Event::Refused { bytes: u64::MAX };
        let mut buffer = [0; 32];
        assert_eq!(frame_in(&event, &mut buffer).unwrap(), frame(&event, EVENT_BYTES).unwrap());
        assert_eq!(frame_in(&event, &mut [0; 8]), None);
        assert_eq!(frame_in(&event, &mut [0; 2]), None);
    }
}
