//! Work on all cores, split in a way that does not depend on how many there are, so that the same
//! input gives the same result everywhere.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;

use super::FlexTensor;

/// Elements that one task handles: small enough to share out, large enough to pay for a task.
const TASK: usize = 1 << 14;

/// Elements of a task of whole rows of `width` elements.
pub fn task(width: usize) -> usize {
    let width = width.max(1);
    width * TASK.div_ceil(width)
}

/// The values of a contiguous tensor.
pub fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of 32-bit floats")
}

/// Whether nobody else holds the tensor's values, so that it may become another one; its storage
/// then holds them and nothing else.
pub fn is_unshared(tensor: &mut FlexTensor) -> bool {
    let elements = tensor.shape().num_elements();
    tensor.try_storage_mut::<f32>().is_some_and(|values| values.len() == elements)
}

/// A tensor of `shape` whose tasks of `task` elements are written by `write(first element, out)`.
///
/// # Safety
///
/// `write` must write all of `out`.
pub unsafe fn build(
    shape: Shape,
    task: usize,
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    let len = shape.num_elements();
    let mut out = Vec::with_capacity(len);
    out.spare_capacity_mut()[..len]
        .par_chunks_mut(task)
        .enumerate()
        .for_each(|(i, out)| write(i * task, out));
    // SAFETY: the tasks cover `0..len`, and `write` writes each of its elements.
    unsafe { out.set_len(len) };
    FlexTensor::from_data(TensorData::new(out, shape))
}

/// A tensor of one dimension.
pub fn vector(values: Vec<f32>) -> FlexTensor {
    let len = values.len();
    FlexTensor::from_data(TensorData::new(values, [len]))
}

/// The sums of parts of `len` elements, added up in the order of the parts.
pub fn add_up(parts: &[Vec<f32>], len: usize) -> Vec<f32> {
    let mut total = vec![0.0; len];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, x)| *total += x);
    }
    total
}
