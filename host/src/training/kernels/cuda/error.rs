//! What keeps a GPU from being used, in words that say what to do about it.

use cudarc::driver::result;

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
        let text =
            error.error_string().map_or_else(|_| format!("{error:?}"), |text| text.to_string_lossy().into());
        GpuError::Driver { what, cause: text }
    }
}
