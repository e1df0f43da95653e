//! Which device trains: asked for by name, probed, with the CPU as the fallback of `auto` alone.
//!
//! candle's `cuda_if_available` asks the build, not the machine: a CUDA build without a GPU would fail where the CPU
//! serves. So the probe is our own: open it, and see.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if this build and this machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of that index; an error if it is not there.
    Cuda(usize),
}

/// Why no device was opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Text that names no device.
    #[error("device `{0}`: expected auto, cpu or cuda:N")]
    Unknown(String),
    /// Built without the feature.
    #[error("device cuda:{0}: this build has no CUDA support (build with --features cuda)")]
    NotBuilt(usize),
    /// Driver, library or GPU missing.
    #[error("device cuda:{index}: {cause}")]
    Unavailable {
        /// The GPU asked for.
        index: usize,
        /// The driver's words.
        cause: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Opens the device.
///
/// # Errors
/// A GPU asked for by name that cannot be used.
pub fn open(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(cuda(0).unwrap_or(Device::Cpu)),
        DeviceChoice::Cuda(index) => cuda(index),
    }
}

fn cuda(index: usize) -> Result<Device, DeviceError> {
    if !candle_core::utils::cuda_is_available() {
        return Err(DeviceError::NotBuilt(index));
    }
    // A missing driver library makes the binding panic instead of giving an error.
    match std::panic::catch_unwind(|| Device::new_cuda(index)) {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(DeviceError::Unavailable { index, cause: error.to_string() }),
        Err(_) => {
            Err(DeviceError::Unavailable { index, cause: "the NVIDIA driver could not be loaded".into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for text in ["auto", "cpu", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:-1", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_always_opens_something() {
        assert!(open(DeviceChoice::Auto).is_ok());
        if !candle_core::utils::cuda_is_available() {
            assert!(matches!(open(DeviceChoice::Cuda(0)), Err(DeviceError::NotBuilt(0))));
        }
    }
}
