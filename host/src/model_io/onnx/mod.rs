//! The model file: ONNX, opset 17, one image classifier with input `input` [N, C, H, W] and output `logits` [N, classes].
//!
//! Written so that any ONNX engine runs it, and read back exactly: structure, names, weights and what the model was trained on.
//! Reading other programs' ONNX is not here.
//!
//! How layers map to operators (`write` and `read` are the two halves of this table):
//!
//! | layer | operators |
//! |---|---|
//! | conv | Conv, with explicit pads |
//! | batch norm | BatchNormalization, alive: a student's is folded before it comes here |
//! | relu, relu6 | Relu; Clip with its two bounds as initialisers that are never emptied |
//! | max pool, average pool | MaxPool; AveragePool without the padding in its mean |
//! | global average pool | GlobalAveragePool, then Flatten (`NAME.flatten`) |
//! | flatten, linear, add, softmax | Flatten, Gemm (transB), Add, Softmax (axis 1) |
//! | dropout | nothing: it is the identity in a finished model |
//! | none: normalisation of plain pixels | Cast of bytes, Mul and Add by channel, before the first layer (`head`) |
//!
//! A candidate travels as the very same file with its initialisers' data emptied and a seed in the metadata.

mod file;
mod head;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

use n2n_protocol::generator::WEIGHTS_SEED_KEY;
use n2n_protocol::{Element, Layout};

use super::Weights;
use crate::data::Split;
use crate::network::Network;
use crate::normalisation::{InputForm, Normalisation};
use crate::scaling::Fit;

pub use file::{ModelFileError, load};
pub use read::{ReadError, read};
pub use write::{WriteError, write};

/// Largest model file, bytes: the protocol's limit for a blob.
pub const MAX_BYTES: u64 = n2n_protocol::limits::BLOB_BYTES;

/// Operator set: the newest that all engines of ours support (docs/engines.md#operator-set).
const OPSET: i64 = 17;
/// File format version that came with that operator set.
const IR_VERSION: i64 = 8;
const PRODUCER: &str = "n2n";
const INPUT: &str = "input";
const OUTPUT: &str = "logits";
/// Name of the batch dimension.
const BATCH: &str = "N";

/// Keys of `metadata_props`.
mod key {
    /// Version of this mapping.
    pub(super) const FORMAT: &str = "n2n.format";
    /// Name of the network's input node, which is no ONNX node.
    pub(super) const INPUT_NODE: &str = "n2n.input_node";
    pub(super) const DATASET: &str = "n2n.dataset";
    /// Class names, a JSON list.
    pub(super) const CLASSES: &str = "n2n.classes";
    /// Mean per channel, separated by spaces.
    pub(super) const MEAN: &str = "n2n.normalisation.mean";
    /// Deviation per channel, separated by spaces.
    pub(super) const DEVIATION: &str = "n2n.normalisation.deviation";
    /// What happened to pictures in other proportions; absent where they were as published.
    pub(super) const RESIZE: &str = "n2n.resize";
    /// Which pictures of a folder were kept together; absent for other data sets.
    pub(super) const SERIES: &str = "n2n.split.series";
    /// The salt that they were dealt by.
    pub(super) const SALT: &str = "n2n.split.salt";
    /// What the file takes; absent in files that normalise nothing.
    pub(super) const INPUT: &str = "n2n.input";
}

/// Version of this mapping; another one is refused by name.
const FORMAT: &str = "1";

/// What a model was trained on: all that a program needs to feed it a picture and name the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// Name of the data set; empty for none.
    pub dataset: String,
    /// Class names, in the order of the logits.
    pub classes: Vec<String>,
    /// How pixels (0-1) become inputs.
    pub normalisation: Normalisation,
    /// How pictures of any size become images of the network's; `None` where they were as published.
    pub fit: Option<Fit>,
    /// How a folder's pictures were dealt to training, validation and test.
    pub split: Option<Split>,
    /// What the file takes: whether it normalises itself.
    pub input: InputForm,
}

/// Where a model's numbers come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filling<W> {
    /// From the file.
    Weights(W),
    /// From the seed, by whoever loads it; see [`super::filled`].
    Seed(u64),
}

/// A model file's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The structure.
    pub network: Network,
    /// Its numbers.
    pub filling: Filling<Weights>,
    /// What it was trained on.
    pub info: ModelInfo,
}

impl ModelInfo {
    /// Of a network that was trained on nothing: numbered classes, pixels used as they are.
    pub fn untrained(network: &Network) -> Self {
        let channels = network.input_shape().channels();
        Self {
            dataset: String::new(),
            classes: (0..network.classes()).map(|class| class.to_string()).collect(),
            normalisation: Normalisation { mean: vec![0.0; channels], deviation: vec![1.0; channels] },
            fit: None,
            split: None,
            input: InputForm::Normalised,
        }
    }

    /// What a board is told of the file's input.
    pub fn wire_input(&self) -> n2n_protocol::Input {
        let range = |white| Some(n2n_protocol::Range { black: 0.0, white });
        let (element, range) = match self.input {
            InputForm::Plain => (Element::F32, range(1.0)),
            InputForm::Uint8 => (Element::U8, range(255.0)),
            InputForm::Normalised => (Element::F32, None),
        };
        n2n_protocol::Input { element, layout: Layout::Nchw, range }
    }

    /// What does not fit the network: (what, expected, got).
    fn misfit(&self, network: &Network) -> Option<(&'static str, String, String)> {
        let channels = network.input_shape().channels();
        let Normalisation { mean, deviation } = &self.normalisation;
        let got_channels = format!("{} means and {} deviations", mean.len(), deviation.len());
        if self.classes.len() != network.classes() {
            Some(("class names", network.classes().to_string(), self.classes.len().to_string()))
        } else if mean.len() != channels || deviation.len() != channels {
            Some(("normalisation", format!("{channels} channels"), got_channels))
        } else if !mean.iter().all(|mean| mean.is_finite())
            || !deviation.iter().all(|d| d.is_finite() && *d > 0.0)
        {
            Some((
                "normalisation",
                "finite means, deviations above 0".into(),
                format!("{mean:?}, {deviation:?}"),
            ))
        } else {
            None
        }
    }
}

impl Model {
    /// The weights: those of the file, or those that its seed stands for.
    pub fn weights(&self) -> std::borrow::Cow<'_, Weights> {
        match &self.filling {
            Filling::Weights(weights) => std::borrow::Cow::Borrowed(weights),
            Filling::Seed(seed) => std::borrow::Cow::Owned(super::filled(&self.network, *seed)),
        }
    }
}
