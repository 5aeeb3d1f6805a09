//! A plain copy, the yardstick of an operation that reads and writes each element once.

use std::hint::black_box;

use burn::tensor::{Device, Tensor};

/// Waits until the device has done what it was asked for.
pub fn finish<T>(result: T, device: &Device) {
    let _ = black_box(result);
    device.sync().expect("the device works");
}

/// A copy into fresh memory on all cores.
#[cfg(feature = "flex")]
pub fn copy<const D: usize>(x: &Tensor<D>) {
    use burn::backend::{BackendTensor, DispatchTensorKind};
    use rayon::prelude::*;

    let DispatchTensorKind::Flex(BackendTensor::Float(x)) = x.clone().into_dispatch().kind else {
        unreachable!("the default device is flex")
    };
    let values: &[f32] = x.as_slice().expect("32-bit floats in order");
    drop(black_box(values.par_iter().copied().collect::<Vec<f32>>()));
}

/// A copy as the device has it: one element-wise operation.
#[cfg(not(feature = "flex"))]
pub fn copy<const D: usize>(x: &Tensor<D>) {
    finish(x.clone() * 1.0, &x.device());
}
