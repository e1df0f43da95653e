//! A stream of work on a GPU, and the arrays that live in it.
//!
//! One lane a model: kernels of one lane run in the order in which they were launched, those of several lanes at once.
//! The only place that launches a kernel of ours.
#![allow(unsafe_code)] // A launch cannot be checked by the compiler: see `launch`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Error, Result, bail};
use cudarc::driver::{CudaSlice, DevicePtr as _, DeviceRepr, LaunchConfig, PushKernelArg as _};

use super::dnn::Dnn;
use super::error::{GpuError, driver};
use super::gpu::Gpu;
use super::queue::Queue;

/// Values in a GPU's memory. Clones share them.
#[derive(Clone, Debug)]
pub struct Array {
    pub(super) slice: Arc<CudaSlice<f32>>,
    pub(super) dims: Vec<usize>,
}

impl Array {
    pub(super) fn len(&self) -> usize {
        self.slice.len()
    }

    /// The same values under other dimensions of the same product.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Result<Self> {
        if dims.iter().product::<usize>() != self.len() {
            bail!("reshape: expected {} values, got dimensions {dims:?}", self.len());
        }
        Ok(Self { slice: Arc::clone(&self.slice), dims: dims.to_vec() })
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Array(&'a Array),
    Bytes(&'a CudaSlice<u8>),
    Picks(&'a CudaSlice<DevicePick>),
    Doubles(&'a CudaSlice<f64>),
    /// No array where one may be left out.
    Null,
    Int(i32),
    Float(f32),
    Window(Window),
    Table(&'a Table),
}

/// `struct Pick` of `kernels.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct DevicePick {
    pub(super) image: i32,
    pub(super) down: i32,
    pub(super) right: i32,
    pub(super) mirrored: i32,
    pub(super) answer: i32,
    pub(super) label: i32,
}

/// `struct Window` of `kernels.cu`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Window {
    pub(super) kernel: i32,
    pub(super) stride: i32,
    pub(super) padding: i32,
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) rows: i32,
    pub(super) columns: i32,
    pub(super) channels: i32,
}

/// Tensors that one launch takes: its arguments must stay below 4 KiB.
pub(super) const TABLE: usize = 48;

/// `struct Table` of `kernels.cu`: addresses of many small tensors.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Table {
    pub(super) arrays: [[u64; TABLE]; 4],
    pub(super) factors: [[f32; TABLE]; 2],
    pub(super) lengths: [i32; TABLE],
}

// SAFETY: plain numbers, laid out as their namesakes in `kernels.cu`.
unsafe impl DeviceRepr for DevicePick {}
// SAFETY: as above.
unsafe impl DeviceRepr for Window {}
// SAFETY: as above.
unsafe impl DeviceRepr for Table {}

/// The address of nothing.
const NULL: u64 = 0;

/// Threads of a block where nothing else decides.
pub(super) const BLOCK: u32 = 256;
/// Blocks of a walk: enough to fill any GPU, each thread then takes several values.
const BLOCKS: u32 = 2048;

/// Blocks and threads for a walk over so many values.
pub(super) fn walk(count: usize) -> LaunchConfig {
    let blocks = (count as u64).div_ceil(u64::from(BLOCK)).clamp(1, u64::from(BLOCKS)) as u32;
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

/// A queue of a GPU, in use.
pub(super) struct Lane {
    gpu: Gpu,
    queue: Queue,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.gpu.give_back(self.queue.clone());
    }
}

/// An error of the driver in the words of the caller.
pub(super) fn failed(what: &'static str) -> impl Fn(cudarc::driver::DriverError) -> Error {
    move |error| Error::msg(driver(what)(error))
}

impl Lane {
    pub(super) fn new(gpu: &Gpu) -> std::result::Result<Self, GpuError> {
        if let Some(queue) = gpu.take() {
            return Ok(Self { gpu: gpu.clone(), queue });
        }
        let stream = gpu.context().new_stream().map_err(driver("opening a stream"))?;
        let dnn = Arc::new(Mutex::new(Dnn::new(&stream, gpu.precision())?));
        Ok(Self { gpu: gpu.clone(), queue: Queue { stream, dnn } })
    }

    /// cuDNN, for one caller at a time.
    pub(super) fn dnn(&self) -> MutexGuard<'_, Dnn> {
        self.queue.dnn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unwritten memory.
    pub(super) fn buffer<T: DeviceRepr>(&self, length: usize) -> Result<CudaSlice<T>> {
        // SAFETY: every kernel writes the whole of its output before anything reads it; the gradient tests compare
        // each output whole.
        unsafe { self.queue.stream.alloc(length.max(1)) }.map_err(failed("allocating GPU memory"))
    }

    /// An array that a kernel will write.
    pub(super) fn array(&self, dims: &[usize]) -> Result<Array> {
        let length = dims.iter().product::<usize>();
        if length == 0 || i32::try_from(length).is_err() {
            bail!("GPU array: expected 1 to {} values, got dimensions {dims:?}", i32::MAX);
        }
        Ok(Array { slice: Arc::new(self.buffer(length)?), dims: dims.to_vec() })
    }

    /// Values from the host.
    pub(super) fn upload<T: DeviceRepr>(&self, values: &[T]) -> Result<CudaSlice<T>> {
        self.queue.stream.clone_htod(values).map_err(failed("copying to the GPU"))
    }

    /// Waits for what the lane has to do, then reads.
    pub(super) fn download(&self, array: &Array) -> Result<Vec<f32>> {
        let values = self.queue.stream.clone_dtoh(&*array.slice).map_err(failed("copying from the GPU"))?;
        self.queue.stream.synchronize().map_err(failed("waiting for the GPU"))?;
        Ok(values)
    }

    /// Where an array lies.
    pub(super) fn address(&self, array: &Array) -> u64 {
        array.slice.device_ptr(&self.queue.stream).0
    }

    /// Launches the kernel of that name.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        grid: LaunchConfig,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        let Some(function) = self.gpu.function(kernel) else { bail!("{kernel}: no such kernel") };
        let mut builder = self.queue.stream.launch_builder(function);
        for argument in arguments {
            match argument {
                Argument::Array(array) => builder.arg(&*array.slice),
                Argument::Bytes(bytes) => builder.arg(*bytes),
                Argument::Picks(picks) => builder.arg(*picks),
                Argument::Doubles(doubles) => builder.arg(*doubles),
                Argument::Null => builder.arg(&NULL),
                Argument::Int(number) => builder.arg(number),
                Argument::Float(number) => builder.arg(number),
                Argument::Window(window) => builder.arg(window),
                Argument::Table(table) => builder.arg(*table),
            };
        }
        // SAFETY: callers in this folder give what the kernel's declaration asks for, in its order, and counts that
        // belong to the arrays; the tests run every kernel. The arrays are this lane's, so they outlive the launch:
        // their memory is freed in the order of the stream.
        unsafe { builder.launch(grid) }.map_err(failed(kernel))?;
        Ok(())
    }
}
