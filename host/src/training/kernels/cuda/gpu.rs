//! One GPU of this machine: its libraries found, its context opened, the kernels compiled for it.
//!
//! Everything is loaded at run time, so one executable serves machines with and without a GPU, and what is missing is
//! named. Must not know what the kernels compute.
#![allow(unsafe_code)] // Whether a library is there, and one setting of the memory pool, have no safe binding.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute};
use cudarc::driver::{CudaContext, CudaFunction, result};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};

use super::error::{GpuError, driver};
use super::precision::Precision;
use super::queue::Queue;

/// The source of all kernels.
pub(super) const SOURCE: &str = include_str!("kernels.cu");

/// A GPU, ready to train on. Clones share it.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    context: Arc<CudaContext>,
    functions: HashMap<&'static str, CudaFunction>,
    precision: Precision,
    name: String,
    index: usize,
    /// Queues that nobody uses: making one takes some milliseconds, training a small student not much more.
    idle: Mutex<Vec<Queue>>,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda:{} ({}, {:?})", self.0.index, self.0.name, self.0.precision)
    }
}

/// Names of all kernels in [`SOURCE`].
pub(super) fn kernel_names() -> impl Iterator<Item = &'static str> {
    SOURCE.split("__global__ void ").skip(1).filter_map(|rest| rest.split('(').next())
}

fn libraries() -> Result<(), GpuError> {
    // SAFETY: loading NVIDIA's libraries runs their initialisers, which is what is asked for.
    let (driver, compiler, dnn) = unsafe {
        (
            cudarc::driver::sys::is_culib_present(),
            cudarc::nvrtc::sys::is_culib_present(),
            cudarc::cudnn::sys::is_culib_present(),
        )
    };
    let all = [
        (driver, "libcuda.so.1", "it comes with NVIDIA's driver"),
        (
            compiler,
            "libnvrtc.so",
            "it comes with the CUDA toolkit, or run host/cuda/libraries and do what it prints",
        ),
        (dnn, "libcudnn.so.9", "it comes with cuDNN 9, or run host/cuda/libraries and do what it prints"),
    ];
    match all.into_iter().find(|(present, ..)| !present) {
        Some((_, library, mend)) => Err(GpuError::Library { library, mend }),
        None => Ok(()),
    }
}

impl Gpu {
    /// Opens the GPU of that index.
    ///
    /// # Errors
    /// A library or the GPU is not there; the driver or the compiler refuses.
    pub fn open(index: usize, precision: Precision) -> Result<Self, GpuError> {
        libraries()?;
        let known = CudaContext::device_count().map_err(driver("asking for GPUs"))?;
        if usize::try_from(known).map_or(true, |known| index >= known) {
            return Err(GpuError::Index { known });
        }
        let context = CudaContext::new(index).map_err(driver("opening the GPU"))?;
        // SAFETY: every array lives and dies in the stream of its lane, so no event has to order streams.
        unsafe { context.disable_event_tracking() };
        keep_memory(&context).map_err(driver("setting up the memory pool"))?;
        let functions = compile(&context)?;
        let name = context.name().map_err(driver("asking for the GPU's name"))?;
        Ok(Self(Arc::new(Inner { context, functions, precision, name, index, idle: Mutex::default() })))
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How convolutions round.
    pub fn precision(&self) -> Precision {
        self.0.precision
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.0.context
    }

    pub(super) fn function(&self, name: &str) -> Option<&CudaFunction> {
        self.0.functions.get(name)
    }

    /// A queue that was given back, if there is one.
    pub(super) fn take(&self) -> Option<Queue> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps a queue for the next one who asks.
    pub(super) fn give_back(&self, queue: Queue) {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(queue);
    }
}

/// Freed memory stays with the process: by default the pool returns it to the driver at every synchronisation, which
/// is once a training step.
fn keep_memory(context: &CudaContext) -> Result<(), result::DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut all = u64::MAX;
    // SAFETY: the device is the open context's; the attribute is a u64, which the call only reads.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut all).cast())
    }
}

fn compile(context: &Arc<CudaContext>) -> Result<HashMap<&'static str, CudaFunction>, GpuError> {
    let asking = driver("asking for the GPU's generation");
    let major = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    let minor = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    let architecture = format!("{}{}", major.map_err(&asking)?, minor.map_err(&asking)?);
    let ptx = compile_ptx_with_opts(SOURCE, options(&architecture)).map_err(|error| GpuError::Driver {
        what: "compiling the kernels",
        cause: match error {
            CompileError::CompileError { log, .. } => log.to_string_lossy().trim().to_owned(),
            other @ (CompileError::CreationError(_)
            | CompileError::GetLogError(_)
            | CompileError::GetPtxError(_)
            | CompileError::DestroyError(_)) => format!("{other:?}"),
        },
    })?;
    let module = context.load_module(ptx).map_err(driver("loading the kernels"))?;
    kernel_names()
        .map(|name| Ok((name, module.load_function(name).map_err(driver("finding a kernel"))?)))
        .collect()
}

/// For PTX of a compute capability, as `75`.
pub(super) fn options(architecture: &str) -> CompileOptions {
    CompileOptions {
        options: vec![format!("--gpu-architecture=compute_{architecture}")],
        name: Some("kernels.cu".into()),
        ..CompileOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compute capabilities that the compiler knows, as 75.
    fn generations() -> Vec<i32> {
        let mut count = 0;
        // SAFETY: the first call says how many numbers the second one writes.
        let known = unsafe {
            cudarc::nvrtc::sys::nvrtcGetNumSupportedArchs(&raw mut count).result().unwrap();
            let mut known = vec![0; usize::try_from(count).unwrap()];
            cudarc::nvrtc::sys::nvrtcGetSupportedArchs(known.as_mut_ptr()).result().unwrap();
            known
        };
        assert!(known.contains(&75) && known.contains(&90), "{known:?}");
        known
    }

    /// By the real compiler, for every generation that it knows: the emulated GPU's is a C++ compiler, which bears more.
    #[test]
    #[ignore = "needs NVIDIA's compiler: eval \"$(host/cuda/libraries compiler)\" brings it"]
    fn nvidias_compiler_takes_the_kernels() {
        for architecture in generations() {
            let ptx = compile_ptx_with_opts(SOURCE, options(&architecture.to_string()));
            let ptx = ptx.unwrap_or_else(|error| panic!("compute_{architecture}: {error:?}")).to_src();
            for name in kernel_names() {
                assert!(ptx.contains(&format!(".entry {name}(")), "compute_{architecture}: {name}");
            }
        }
    }
}
