//! Between candle's tensors and plain slices: borrow a tensor's values, and make tensors of buffers written whole.
#![allow(unsafe_code)] // One `set_len` after a fill: zeroing first would cost a pass over memory per operation.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Device, Result, Shape, Storage, StorageRef, Tensor, bail};

/// A tensor's values, borrowed.
pub(super) struct Values<'a> {
    storage: StorageRef<'a>,
    range: (usize, usize),
    what: &'static str,
}

/// The values of a contiguous f32 tensor on the CPU.
pub(super) fn values<'a>(tensor: &'a Tensor, what: &'static str) -> Result<Values<'a>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some(range) = layout.contiguous_offsets() else { bail!("{what}: expected a contiguous tensor") };
    if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
        bail!("{what}: expected f32 on the CPU, got {:?} on {:?}", tensor.dtype(), tensor.device());
    }
    Ok(Values { storage, range, what })
}

impl std::ops::Deref for Values<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let Storage::Cpu(CpuStorage::F32(values)) = &*self.storage else {
            unreachable!("{}: checked when borrowed", self.what)
        };
        &values[self.range.0..self.range.1]
    }
}

/// A tensor on the CPU that takes over `values`.
pub(super) fn tensor<S: Into<Shape>>(values: Vec<f32>, shape: S) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// A buffer of `length` values, each of which `fill` writes.
pub(super) fn filled(length: usize, fill: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    fill(&mut values.spare_capacity_mut()[..length]);
    // SAFETY: the capacity is at least `length`, and `fill` wrote every value: each caller in this folder covers its
    // whole output, which the gradient tests check against references.
    unsafe { values.set_len(length) };
    values
}
