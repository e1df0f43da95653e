//! What a training step needs besides the layers' operations: batches, the loss, the optimiser's step.

use candle_core::Result;

use super::Kernels;
use super::source::{Pick, Source};
use super::update::Rule;

/// A batch on the device.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    /// A map of normalised images.
    pub images: T,
    /// Class of each, `[N]`.
    pub labels: T,
    /// Teacher's logits about each, `[N, classes]`.
    pub answers: Option<T>,
}

/// What the loss is made of besides cross-entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// Share of the probability that is spread evenly over all classes, in `[0, 1)`.
    pub label_smoothing: f64,
    /// Weight of the squared error to the teacher's logits; only if the source has them.
    pub lambda: f64,
}

/// The loss of a batch. The numbers stay on the device until somebody asks: a GPU is not waited for before its backward
/// pass is under way.
#[derive(Clone, Debug)]
pub struct Loss<T> {
    /// Of the total by the logits, `[N, classes]`.
    pub gradient: T,
    /// `[2]`: cross-entropy, mean over images; squared difference to the teacher's logits, mean over images and
    /// classes, 0 without a teacher.
    pub parts: T,
}

/// A trained tensor with what the optimiser remembers of it.
#[derive(Debug)]
pub struct Moving<T, M> {
    /// Changed in place.
    pub variable: T,
    /// Whether weight decay applies.
    pub decays: bool,
    /// Momentum, or Adam's two moments.
    pub memory: M,
}

/// A device that trains.
pub trait Backend: Kernels + Clone + 'static {
    /// Images, labels and teacher's answers where batches are assembled.
    type Source<'a>;
    /// What an optimiser remembers of one variable.
    type Memory: Send + std::fmt::Debug;

    /// Makes a source ready for batches.
    fn source<'a>(&self, source: Source<'a>) -> Result<Self::Source<'a>>;
    /// Assembles the picked images.
    fn batch(&self, source: &Self::Source<'_>, picks: &[Pick]) -> Result<Batch<Self::Tensor>>;
    /// The loss of `logits`, `[N, classes]`.
    fn loss(
        &self,
        logits: &Self::Tensor,
        batch: &Batch<Self::Tensor>,
        terms: Terms,
    ) -> Result<Loss<Self::Tensor>>;

    /// Nothing seen yet.
    fn memory(&self, variable: &Self::Tensor) -> Result<Self::Memory>;
    /// What is remembered of `variable`, in its layout: momentum or first moment, and second moment.
    fn moments(&self, memory: &Self::Memory, variable: &Self::Tensor) -> Result<[Self::Tensor; 2]>;
    /// The way back; both tensors belong to the memory from now on.
    fn memory_of(&self, moments: [Self::Tensor; 2]) -> Result<Self::Memory>;
    /// Moves variables along their gradients; one without a gradient stays.
    fn update(
        &self,
        moving: &mut [Moving<Self::Tensor, Self::Memory>],
        gradients: &[Option<Self::Tensor>],
        rule: Rule,
    ) -> Result<()>;
}
