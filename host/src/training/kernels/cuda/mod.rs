//! The GPU kernels: f32, channels last, cuDNN for convolutions and our own for the rest.
//!
//! | file | what |
//! |---|---|
//! | `gpu` | a GPU: libraries, context, kernels compiled for it |
//! | `precision`, `error` | how exactly it multiplies; what keeps it from being used |
//! | `queue`, `lane` | a stream with cuDNN in it; the same with its arrays, and how a kernel is launched |
//! | `dnn` | convolutions of one group by cuDNN |
//! | `kernels.cu` | everything else |
//! | `geometry`, `table` | shapes and grids; many small tensors in one launch |
//! | `operations` | the two as [`Kernels`] |
//! | `backend` | batches, loss and optimiser as [`Backend`] |
//!
//! Every model has a lane of its own, so students that are trained at once share the GPU. Results are the same bits for the
//! same seed: no kernel adds atomically, and cuDNN is held to its deterministic algorithms.
//!
//! [`Kernels`]: super::Kernels
//! [`Backend`]: super::Backend

mod backend;
mod dnn;
mod error;
mod geometry;
mod gpu;
mod lane;
mod operations;
mod precision;
mod queue;
mod table;

use std::sync::Arc;

pub use error::{GpuError, MEMORY_IS_FULL};
pub use gpu::Gpu;
pub use lane::Array;
use lane::Lane;
pub use precision::Precision;

/// Kernels in a lane of their own; clones share it.
#[derive(Clone)]
pub struct Cuda(Arc<Lane>);

impl Cuda {
    /// A lane on `gpu`: one that was used before, if there is one.
    ///
    /// # Errors
    /// The driver's, cuDNN's.
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        Ok(Self(Arc::new(Lane::new(gpu)?)))
    }
}
