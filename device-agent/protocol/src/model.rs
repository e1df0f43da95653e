//! What a model file is, how it is run, and both together with what a user's program needs to know: an artifact.

use crate::bounded::{finite, list, text};
use crate::{Digest, limits};
use alloc::string::String;
use alloc::vec::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Format of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub enum Format {
    /// ONNX. Without weights if its metadata names a seed ([`crate::generator`]).
    Onnx,
}

/// Number format of a model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit integers.
    I8,
}

/// Number format of one value of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub enum Element {
    /// 32-bit float, little endian.
    F32,
    /// Unsigned byte, as cameras and picture files give.
    U8,
    /// Signed byte.
    I8,
    /// 16-bit float, little endian.
    F16,
}

impl Element {
    /// Bytes of one value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::U8 | Self::I8 => 1,
        }
    }
}

/// Order of an input's axes, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub enum Layout {
    /// Batch, channels, height, width.
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// What the values of an input mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Range {
    /// Value of a black pixel.
    #[serde(deserialize_with = "finite")]
    pub black: f32,
    /// Value of a white pixel.
    #[serde(deserialize_with = "finite")]
    pub white: f32,
}

/// What a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Input {
    /// Type of each value.
    pub element: Element,
    /// Order of the axes.
    pub layout: Layout,
    /// Meaning of the values; `None` when they have to be normalised by channel, as the file's metadata says.
    pub range: Option<Range>,
}

/// A model file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Model {
    /// SHA-256 of the file, a blob that was put before.
    pub digest: Digest,
    /// Its format.
    pub format: Format,
    /// Number format of its weights.
    pub precision: Precision,
    /// What it takes.
    pub input: Input,
}

impl Model {
    /// An ONNX file of 32-bit floats that takes normalised values, channels first.
    pub const fn onnx(digest: Digest) -> Self {
        let input = Input { element: Element::F32, layout: Layout::Nchw, range: None };
        Self { digest, format: Format::Onnx, precision: Precision::F32, input }
    }
}

/// How a model is run: part of the identity of every number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub struct Execution {
    /// Engine, by the name in [`crate::EngineId`].
    #[serde(deserialize_with = "text::<{ limits::NAME_BYTES }, _>")]
    pub engine: String,
    /// Threads of the engine; a number that it cannot honour is refused.
    pub threads: u16,
    /// Inputs of one inference.
    pub batch: u16,
    /// From the beginning of one inference to the next, microseconds, as a camera gives pictures; 0 for one after the other.
    pub pace_us: u32,
}

/// A model as a user's program runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Artifact {
    /// The file.
    pub model: Model,
    /// How it was searched, measured, and is checked.
    pub execution: Execution,
    /// Names of the classes, in the order of the logits; empty if unknown.
    #[serde(deserialize_with = "list::<{ limits::LOGITS }, _, _>")]
    pub classes: Vec<String>,
    /// Class of board it was measured on ([`crate::Board::class`]); empty for any.
    #[serde(deserialize_with = "text::<{ limits::NAME_BYTES }, _>")]
    pub target: String,
    /// Rises with each bundle that a signer makes; a board takes no lower one than it has seen.
    pub number: u64,
}
