//! What a lane works with: a stream and cuDNN in it. A GPU keeps those that nobody uses.

use std::sync::{Arc, Mutex};

use cudarc::driver::CudaStream;

use super::dnn::Dnn;

/// A stream with cuDNN in it.
#[derive(Clone)]
pub(super) struct Queue {
    pub(super) stream: Arc<CudaStream>,
    pub(super) dnn: Arc<Mutex<Dnn>>,
}
