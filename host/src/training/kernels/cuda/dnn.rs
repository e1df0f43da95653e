//! Convolutions of one group by cuDNN, forward and both gradients, on channels-last maps.
//!
//! The fastest algorithm by cuDNN's own ranking that always gives the same bits and asks for little memory; chosen once
//! a shape. Must not know about candle.
#![allow(unsafe_code)] // cuDNN is a C interface: descriptors are made, used and destroyed here, and nowhere else.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cudnn::{CudnnError, result, sys};
use cudarc::driver::{CudaSlice, CudaStream};

use super::error::GpuError;
use super::precision::Precision;

/// Most memory that an algorithm may use beside its operands.
const WORKSPACE: usize = 512 << 20;
/// Algorithms that cuDNN is asked to rank; it knows fewer.
const RANKED: usize = 10;

/// Shape of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) images: i32,
    /// Channels, height, width.
    pub(super) input: [i32; 3],
    /// Channels, height, width.
    pub(super) output: [i32; 3],
    pub(super) kernel: i32,
    pub(super) stride: i32,
    pub(super) padding: i32,
}

/// Which of the three passes, with the addresses of its operands and its result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pass {
    /// y from x and weight.
    Forward { x: u64, weight: u64, y: u64 },
    /// x's gradient from weight and y's gradient.
    Input { weight: u64, gradient: u64, x: u64 },
    /// The weight's gradient from x and y's gradient.
    Weight { x: u64, gradient: u64, weight: u64 },
}

/// What cuDNN answered once it was asked: an algorithm and the bytes it works in, or that it has none.
type Choice<A> = Option<Option<(A, usize)>>;

/// Descriptors of one shape, and what was chosen for it.
struct Plan {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    weight: sys::cudnnFilterDescriptor_t,
    convolution: sys::cudnnConvolutionDescriptor_t,
    forward: Choice<sys::cudnnConvolutionFwdAlgo_t>,
    input: Choice<sys::cudnnConvolutionBwdDataAlgo_t>,
    filter: Choice<sys::cudnnConvolutionBwdFilterAlgo_t>,
}

/// A handle in a stream, with the plans made so far.
pub(super) struct Dnn {
    handle: sys::cudnnHandle_t,
    stream: Arc<CudaStream>,
    precision: Precision,
    plans: HashMap<Shape, Plan>,
}

// SAFETY: a handle may be used by any thread, by one at a time: the lane has it behind a mutex.
unsafe impl Send for Dnn {}

fn said(what: &'static str) -> impl Fn(CudnnError) -> GpuError {
    move |error| GpuError::Driver { what, cause: format!("{error:?}") }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by `Plan::new`, destroyed once. There is nobody to tell if that fails.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.weight);
            let _ = result::destroy_convolution_descriptor(self.convolution);
        }
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made by `Dnn::new`, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Plan {
    fn new(shape: Shape, precision: Precision) -> Result<Self, CudnnError> {
        let (format, kind) =
            (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC, sys::cudnnDataType_t::CUDNN_DATA_FLOAT);
        // All four first: dropping the plan destroys them whatever fails after.
        let plan = Self {
            x: result::create_tensor_descriptor()?,
            y: result::create_tensor_descriptor()?,
            weight: result::create_filter_descriptor()?,
            convolution: result::create_convolution_descriptor()?,
            forward: None,
            input: None,
            filter: None,
        };
        let ([ins, height, width], [outs, rows, columns]) = (shape.input, shape.output);
        let Shape { images, kernel, stride, padding, .. } = shape;
        let math = match precision {
            Precision::F32 => sys::cudnnMathType_t::CUDNN_FMA_MATH,
            Precision::Tf32 => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
        };
        // SAFETY: the descriptors were just made and are alive.
        unsafe {
            result::set_tensor4d_descriptor(plan.x, format, kind, [images, ins, height, width])?;
            result::set_tensor4d_descriptor(plan.y, format, kind, [images, outs, rows, columns])?;
            result::set_filter4d_descriptor(plan.weight, kind, format, [outs, ins, kernel, kernel])?;
            result::set_convolution2d_descriptor(
                plan.convolution,
                padding,
                padding,
                stride,
                stride,
                1,
                1,
                sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
                kind,
            )?;
            result::set_convolution_math_type(plan.convolution, math)?;
        }
        Ok(plan)
    }
}

/// Asks cuDNN to rank algorithms by `$ask(count, &mut returned, results)` and takes the first that will do; returns false if
/// there is none. For use in an `unsafe` block: results are a C structure of numbers, for which all zeroes is a value.
macro_rules! choose {
    ($place:expr, $what:literal, $shape:expr, $performance:ty, $ask:expr) => {{
        if $place.is_none() {
            let mut returned = 0;
            let mut ranked: [$performance; RANKED] = [std::mem::zeroed(); RANKED];
            let ask: &dyn Fn(i32, *mut i32, *mut $performance) -> Result<(), CudnnError> = &$ask;
            match ask(RANKED as i32, &raw mut returned, ranked.as_mut_ptr()) {
                Err(CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED)) => returned = 0,
                answer => answer?,
            }
            let usable = ranked.iter().take(usize::try_from(returned).unwrap_or(0)).find(|algorithm| {
                algorithm.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS
                    && algorithm.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                    && algorithm.memory <= WORKSPACE
            });
            if usable.is_none() {
                tracing::warn!("cuDNN has no algorithm for {} of {:?}: slower kernels do it", $what, $shape);
            }
            *$place = Some(usable.map(|algorithm| (algorithm.algo, algorithm.memory)));
        }
        match (*$place).flatten() {
            Some(choice) => choice,
            None => return Ok(false),
        }
    }};
}

impl Dnn {
    pub(super) fn new(stream: &Arc<CudaStream>, precision: Precision) -> Result<Self, GpuError> {
        let handle = result::create_handle().map_err(said("opening cuDNN"))?;
        // From here on dropping it destroys the handle.
        let dnn = Self { handle, stream: Arc::clone(stream), precision, plans: HashMap::new() };
        // SAFETY: handle and stream are alive, and the stream stays so as long as `dnn`.
        unsafe { result::set_stream(handle, stream.cu_stream().cast()) }
            .map_err(said("giving cuDNN its stream"))?;
        Ok(dnn)
    }

    /// Runs one pass; false, with nothing done, if cuDNN has no algorithm for it.
    ///
    /// # Safety
    /// The addresses are those of arrays of this lane, contiguous f32, of the sizes that the shape gives.
    pub(super) unsafe fn run(&mut self, shape: Shape, pass: Pass) -> Result<bool, GpuError> {
        // SAFETY: as the caller has promised.
        unsafe { self.attempt(shape, pass) }.map_err(|error| GpuError::Driver {
            what: match pass {
                Pass::Forward { .. } => "convolution by cuDNN",
                Pass::Input { .. } => "a convolution's input gradient by cuDNN",
                Pass::Weight { .. } => "a convolution's weight gradient by cuDNN",
            },
            cause: format!("{error:?} for {shape:?}"),
        })
    }

    unsafe fn attempt(&mut self, shape: Shape, pass: Pass) -> Result<bool, CudnnError> {
        let handle = self.handle;
        if !self.plans.contains_key(&shape) {
            self.plans.insert(shape, Plan::new(shape, self.precision)?);
        }
        let Some(plan) = self.plans.get_mut(&shape) else { return Ok(false) };
        let (x, y, weight, convolution) = (plan.x, plan.y, plan.weight, plan.convolution);
        let (one, zero) = (1.0f32, 0.0f32);
        let (one, zero) = ((&raw const one).cast::<c_void>(), (&raw const zero).cast::<c_void>());
        let at = |address: u64| address as *mut c_void;
        // SAFETY: descriptors and handle are alive; operands as the caller has promised; the workspace is of the size
        // that the algorithm asked for and is freed in the order of the stream.
        unsafe {
            match pass {
                Pass::Forward { x: from, weight: filter, y: to } => {
                    let (algorithm, bytes) = choose!(
                        &mut plan.forward,
                        "the forward pass",
                        shape,
                        sys::cudnnConvolutionFwdAlgoPerf_t,
                        |count, returned, ranked| {
                            result::get_convolution_forward_algorithm(
                                handle,
                                x,
                                weight,
                                convolution,
                                y,
                                count,
                                returned,
                                ranked,
                            )
                        }
                    );
                    let space = workspace(&self.stream, bytes)?;
                    result::convolution_forward(
                        handle,
                        one,
                        x,
                        at(from),
                        weight,
                        at(filter),
                        convolution,
                        algorithm,
                        at(space.1),
                        bytes,
                        zero,
                        y,
                        at(to),
                    )?;
                }
                Pass::Input { weight: filter, gradient, x: to } => {
                    let (algorithm, bytes) = choose!(
                        &mut plan.input,
                        "the input gradient",
                        shape,
                        sys::cudnnConvolutionBwdDataAlgoPerf_t,
                        |count, returned, ranked| {
                            result::get_convolution_backward_data_algorithm(
                                handle,
                                weight,
                                y,
                                convolution,
                                x,
                                count,
                                returned,
                                ranked,
                            )
                        }
                    );
                    let space = workspace(&self.stream, bytes)?;
                    result::convolution_backward_data(
                        handle,
                        one,
                        weight,
                        at(filter),
                        y,
                        at(gradient),
                        convolution,
                        algorithm,
                        at(space.1),
                        bytes,
                        zero,
                        x,
                        at(to),
                    )?;
                }
                Pass::Weight { x: from, gradient, weight: to } => {
                    let (algorithm, bytes) = choose!(
                        &mut plan.filter,
                        "the weight gradient",
                        shape,
                        sys::cudnnConvolutionBwdFilterAlgoPerf_t,
                        |count, returned, ranked| {
                            result::get_convolution_backward_filter_algorithm(
                                handle,
                                x,
                                y,
                                convolution,
                                weight,
                                count,
                                returned,
                                ranked,
                            )
                        }
                    );
                    let space = workspace(&self.stream, bytes)?;
                    result::convolution_backward_filter(
                        handle,
                        one,
                        x,
                        at(from),
                        y,
                        at(gradient),
                        convolution,
                        algorithm,
                        at(space.1),
                        bytes,
                        zero,
                        weight,
                        at(to),
                    )?;
                }
            }
        }
        Ok(true)
    }
}

/// Memory for one call, and its address.
fn workspace(stream: &Arc<CudaStream>, bytes: usize) -> Result<(Option<CudaSlice<u8>>, u64), CudnnError> {
    use cudarc::driver::DevicePtr as _;
    if bytes == 0 {
        return Ok((None, 0));
    }
    // SAFETY: cuDNN writes before it reads.
    let slice = unsafe { stream.alloc::<u8>(bytes) }
        .map_err(|_| CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_ALLOC_FAILED))?;
    let address = slice.device_ptr(stream).0;
    Ok((Some(slice), address))
}
