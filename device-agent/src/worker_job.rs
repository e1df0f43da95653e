//! What the agent and its worker process say to each other over the worker's pipes.
//!
//! Private to one build of one program: both ends are the same executable, so there is no version. A frame is a
//! little-endian u32 length and that many bytes of postcard. The worker gets one [`Job`] and answers with [`Event`]s,
//! of which [`Event::Done`] is the last.

use n2n_protocol::Golden;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Longest frame: inputs and samples of the largest plans stay well below, and a mad length is not believed.
pub(crate) const MAX_FRAME_BYTES: u32 = 256 << 20;

/// What a worker is started for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Load the engine and no model; answer with the resident memory.
    Baseline,
    /// Time a model.
    Measure(MeasureJob),
    /// Run inputs through a model.
    Infer(InferJob),
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
    pub(crate) model: PathBuf,
    pub(crate) bounds: WorkerBounds,
    pub(crate) threads: u16,
    /// Timed samples wished for.
    pub(crate) samples: u32,
    /// As the first process chose it; `None` to choose.
    pub(crate) inferences_per_sample: Option<u32>,
    /// Time for all of it from the worker's start, ms; when it ends, there are fewer samples.
    pub(crate) budget_ms: u32,
    pub(crate) max_inference_ms: u32,
    pub(crate) golden: Option<Golden>,
}

/// A run for the answers alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InferJob {
    pub(crate) model: PathBuf,
    pub(crate) bounds: WorkerBounds,
    pub(crate) inputs: Vec<InferInput>,
}

/// One input of an [`InferJob`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum InferInput {
    /// As given.
    Values(Vec<f32>),
    /// Generated from a seed at the model's own input length.
    Seed(u64),
}

/// A sign of life, or the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The model is ready to run.
    Loaded,
    /// An early inference ended; it took so long, ns.
    Inferred { ns: u64 },
    /// Warm-up is over, samples are being taken.
    Sampling,
    /// Nothing follows.
    Done(Outcome),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Measured(ProcessRun),
    Inferred(Vec<Vec<f32>>),
    /// VmHWM with the engine and no model, bytes.
    Baseline {
        peak_rss: Option<u64>,
    },
    OutOfMemory,
    TooSlow,
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
pub(crate) fn frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(value).map_err(invalid)?;
    let len = u32::try_from(body.len()).ok().filter(|len| *len <= MAX_FRAME_BYTES).ok_or_else(|| {
        invalid(format!("a frame of {} bytes is over the limit of {MAX_FRAME_BYTES}", body.len()))
    })?;
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend(body);
    Ok(bytes)
}

/// Send one value.
pub(crate) fn write<T: Serialize>(to: &mut dyn Write, value: &T) -> io::Result<()> {
    to.write_all(&frame(value)?)?;
    to.flush()
}

/// Receive one value.
pub(crate) fn read<T: DeserializeOwned>(from: &mut dyn Read) -> io::Result<T> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let mut body = Vec::new();
    let len = checked_len(len)?;
    // `take` grows the buffer with what really comes, so that a mad length alone allocates nothing.
    if from.take(u64::from(len)).read_to_end(&mut body)? as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    decode(&body)
}

/// A length that may be believed.
pub(crate) fn checked_len(len: [u8; 4]) -> io::Result<u32> {
    let len = u32::from_le_bytes(len);
    if len > MAX_FRAME_BYTES {
        return Err(invalid(format!("a frame of {len} bytes is over the limit of {MAX_FRAME_BYTES}")));
    }
    Ok(len)
}

/// The value in a frame's body.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    postcard::from_bytes(body).map_err(invalid)
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_broken_ones_do_not() {
        let job = Job::Infer(InferJob {
            model: "/m.onnx".into(),
            bounds: WorkerBounds { cores: vec![3], memory_bytes: 7 },
            inputs: vec![InferInput::Values(vec![1.5]), InferInput::Seed(9)],
        });
        let bytes = frame(&job).unwrap();
        assert_eq!(read::<Job>(&mut bytes.as_slice()).unwrap(), job);
        for cut in 0..bytes.len() {
            assert!(read::<Job>(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mad = u32::MAX.to_le_bytes();
        assert!(read::<Job>(&mut mad.as_slice()).unwrap_err().to_string().contains("over the limit"));
    }
}
