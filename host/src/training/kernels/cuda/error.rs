//! What keeps a GPU from being used, in words that say what to do about it.

use cudarc::driver::result;

/// How a lack of GPU memory is told from other errors once it has gone through candle, which keeps texts only. It is a text
/// of ours, never a driver's.
pub const MEMORY_IS_FULL: &str = "the GPU's memory is full";

/// What kept a GPU from being opened.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// A library that the dynamic linker does not find.
    #[error("{library} is not found: {mend}")]
    Library {
        /// Its name.
        library: &'static str,
        /// Where it comes from.
        mend: &'static str,
    },
    /// The driver has no such GPU.
    #[error("the driver knows {known} GPUs")]
    Index {
        /// How many there are.
        known: i32,
    },
    /// The GPU has no memory left.
    #[error("{what}: {MEMORY_IS_FULL} (a smaller batch needs less)")]
    Memory {
        /// While doing what.
        what: &'static str,
    },
    /// What the driver said.
    #[error("{what}: {cause}")]
    Driver {
        /// While doing what.
        what: &'static str,
        /// Its words.
        cause: String,
    },
}

/// What a driver said while doing something.
pub(super) fn driver(what: &'static str) -> impl Fn(result::DriverError) -> GpuError {
    move |error| {
        if error.0 == cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return GpuError::Memory { what };
        }
        let text =
            error.error_string().map_or_else(|_| format!("{error:?}"), |text| text.to_string_lossy().into());
        GpuError::Driver { what, cause: text }
    }
}
