//! GELU with the normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415).

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::normal;
use super::parallel::{build, task, values};

pub fn forward(inputs: Vec<FlexTensor>) -> (FlexTensor, Pullback) {
    let [x] = <[_; 1]>::try_from(inputs).expect("one input");
    let source = values(&x);
    // SAFETY: `run` writes an output for each input.
    let y = unsafe {
        build(x.shape(), task(1), |first, out| run(&source[first..first + out.len()], out))
    };
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let grad = grad.to_contiguous();
        let (x, g) = (values(&x), values(&grad));
        // SAFETY: `run_backward` writes an output for each input.
        let dx = unsafe {
            build(grad.shape(), task(1), |first, out| {
                let range = first..first + out.len();
                run_backward(&x[range.clone()], &g[range], out)
            })
        };
        vec![Some(dx)]
    };
    (y, Box::new(pullback))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run(x: &[f32], out: &mut [MaybeUninit<f32>]) {
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(x * normal(x).0);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_backward(x: &[f32], grad: &[f32], out: &mut [MaybeUninit<f32>]) {
    for ((out, &x), &grad) in out.iter_mut().zip(x).zip(grad) {
        let (cumulative, density) = normal(x);
        out.write(grad * (cumulative + x * density));
    }
}
