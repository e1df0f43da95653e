//! Which device trains: asked for by name, probed, with the CPU as the fallback of `auto` alone.

use std::fmt;
use std::str::FromStr;

use super::kernels::{Gpu, GpuError, Precision, memory};
use crate::exit::{Code, Diagnostic};

/// The next step where a GPU cannot be used; the same for every verb.
const NO_GPU: &str = "--device cpu trains without; `n2n doctor` and host/cuda/README.md say what a GPU needs";

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if this machine has one, in f32; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of that index; an error if it is not there.
    Cuda(usize, Precision),
}

/// Where models are trained. Clones mean the same device.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda(Gpu),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("CPU"),
            Self::Cuda(gpu) => f.write_str(gpu.name()),
        }
    }
}

/// Why no device was opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Text that names no device.
    #[error("device `{0}`: expected auto, cpu, cuda:N or cuda:N:tf32")]
    Unknown(String),
    /// Driver, library or GPU missing.
    #[error("device cuda:{index}: {cause}")]
    Unavailable {
        /// The GPU asked for.
        index: usize,
        /// What is missing.
        cause: GpuError,
    },
}

impl Diagnostic for DeviceError {
    fn exit_code(&self) -> Code {
        match self {
            Self::Unknown(_) => Code::Usage,
            Self::Unavailable { .. } => Code::Failed,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => None,
            Self::Unavailable { .. } => Some(NO_GPU.to_owned()),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0, Precision::F32)),
            _ => {}
        }
        let rest = text.strip_prefix("cuda:").ok_or_else(unknown)?;
        let (index, precision) = match rest.strip_suffix(":tf32") {
            Some(index) => (index, Precision::Tf32),
            None => (rest, Precision::F32),
        };
        Ok(Self::Cuda(index.parse().map_err(|_| unknown())?, precision))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index, Precision::F32) => write!(f, "cuda:{index}"),
            Self::Cuda(index, Precision::Tf32) => write!(f, "cuda:{index}:tf32"),
        }
    }
}

/// Opens the device. From then on this process keeps the memory that it frees.
///
/// # Errors
/// A GPU asked for by name that cannot be used.
pub fn open(choice: DeviceChoice) -> Result<Device, DeviceError> {
    memory::keep();
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Gpu::open(0, Precision::F32).map_or_else(
            |error| {
                tracing::debug!("training on the CPU: {error}");
                Device::Cpu
            },
            Device::Cuda,
        )),
        DeviceChoice::Cuda(index, precision) => Gpu::open(index, precision)
            .map(Device::Cuda)
            .map_err(|cause| DeviceError::Unavailable { index, cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for text in ["auto", "cpu", "cuda:3", "cuda:0:tf32"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:-1", "cuda:0:f64", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn auto_always_opens_something_and_a_gpu_that_is_not_there_is_an_error() {
        assert!(open(DeviceChoice::Auto).is_ok());
        let error = open(DeviceChoice::Cuda(99, Precision::F32)).unwrap_err();
        assert!(error.to_string().starts_with("device cuda:99: "), "{error}");
    }
}
