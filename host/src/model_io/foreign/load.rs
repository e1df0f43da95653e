//! From a file, and those that its weights lie in, to one file that an engine can load.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use n2n_protocol::Element;
use prost::Message as _;
use tract_onnx::pb::ModelProto;

use super::error::ForeignError;
use super::external;
use super::recognise::recognise;
use super::sizes::{self, Given};
use crate::memory::free_memory;

/// Share of the free memory that a model may take on the host: it is held as it was, decoded and written again.
const MEMORY_SHARE: u64 = 4;
/// Largest file, bytes: what a board takes.
const MAX_BYTES: u64 = n2n_protocol::limits::BLOB_BYTES;
/// Where the producer's name stands, bytes.
const START_BYTES: u64 = 64;

/// A model of another program, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// ONNX with all its weights, its sizes fixed.
    pub bytes: Vec<u8>,
    /// Sizes of one input, in the file's order, without the batch.
    pub input: Vec<usize>,
    /// Type of its values.
    pub element: Element,
    /// Program that wrote it.
    pub producer: String,
}

/// Whether a file says that n2n wrote it: the producer's name stands at the very beginning.
pub fn is_ours(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start));
    // Field 2 of the file, a text of three letters.
    read.is_ok() && start.windows(5).any(|it| it == b"\x12\x03n2n")
}

/// Reads a model file as it is; `wish` are the sizes of one input where the file leaves them open.
///
/// # Errors
/// What the file is instead, or what it lacks, with what mends it.
pub fn load(path: &Path, wish: Option<&[usize]>) -> Result<Whole, ForeignError> {
    let io = |source| ForeignError::Io { path: path.into(), source };
    let memory = free_memory() / MEMORY_SHARE;
    let (limit, why) = if memory < MAX_BYTES {
        (memory, format!("a {MEMORY_SHARE}th of this machine's free memory"))
    } else {
        (MAX_BYTES, "the most that a board takes".to_owned())
    };
    let too_large = |got| ForeignError::TooLarge { path: path.into(), got, limit, why: why.clone() };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > limit {
        return Err(too_large(length));
    }
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if let Some((what, hint)) = recognise(&bytes) {
        return Err(ForeignError::Other { path: path.into(), what, hint: hint.into() });
    }
    let damaged = |what| ForeignError::Other {
        path: path.into(),
        what,
        hint: "the file is cut off or damaged: download it or export it again".into(),
    };
    let mut model = ModelProto::decode(bytes.as_slice()).map_err(|_| damaged("a cut-off or damaged one"))?;
    let producer = model.producer_name.clone();
    let graph = model.graph.as_mut().ok_or_else(|| damaged("one without a graph"))?;
    if graph.node.is_empty() {
        return Err(damaged("one without a node"));
    }
    let put = external::put_in(graph, path, limit - bytes.len() as u64).map_err(|error| {
        // Of the whole, not of what was left.
        if let ForeignError::TooLarge { got, .. } = error { too_large(length + got) } else { error }
    })?;
    let (Given { shape, element }, changed) = sizes::fix(graph, path, wish)?;
    if put > 0 || changed {
        bytes = model.encode_to_vec();
    }
    Ok(Whole { bytes, input: shape, element, producer })
}
