//! Layer normalization (Ba et al. 2016, arXiv 1607.06450) with its gradient.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::parallel::{add_up, build, task, values, vector};
use super::reduce::sum;

/// Inputs: x `[..., width]`, gamma `[width]`, beta `[width]`.
pub fn forward(inputs: Vec<FlexTensor>, epsilon: f32) -> (FlexTensor, Pullback) {
    let [x, gamma, beta] = <[_; 3]>::try_from(inputs).expect("three inputs");
    let width = values(&gamma).len();
    let source = values(&x);
    // SAFETY: `run` writes an output for each input.
    let y = unsafe {
        build(x.shape(), task(width), |first, out| {
            run(&source[first..first + out.len()], values(&gamma), values(&beta), epsilon, out)
        })
    };
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let grad = grad.to_contiguous();
        backward(&x, &gamma, &grad, epsilon).map(Some).to_vec()
    };
    (y, Box::new(pullback))
}

fn backward(
    x: &FlexTensor,
    gamma: &FlexTensor,
    grad: &FlexTensor,
    epsilon: f32,
) -> [FlexTensor; 3] {
    let gamma = values(gamma);
    let (width, len) = (gamma.len(), values(x).len());
    let task = task(width);
    let mut dx = Vec::with_capacity(len);
    // The sums over rows of each task, added up in the order of the tasks.
    let sums: Vec<Vec<f32>> = dx.spare_capacity_mut()[..len]
        .par_chunks_mut(task)
        .zip(values(x).par_chunks(task))
        .zip(values(grad).par_chunks(task))
        .map(|((dx, x), grad)| {
            let mut sums = vec![0.0; 2 * width];
            let (dgamma, dbeta) = sums.split_at_mut(width);
            run_backward(x, gamma, grad, epsilon, dx, dgamma, dbeta);
            sums
        })
        .collect();
    // SAFETY: the tasks cover `0..len`, and `run_backward` writes each of its elements.
    unsafe { dx.set_len(len) };
    let mut total = add_up(&sums, 2 * width);
    let dbeta = total.split_off(width);
    [
        FlexTensor::from_data(burn::tensor::TensorData::new(dx, x.shape())),
        vector(total),
        vector(dbeta),
    ]
}

/// Mean of a row, and one over its standard deviation.
#[inline(always)]
fn statistics(row: &[f32], epsilon: f32) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = sum([row], |[x]| x) / width;
    let variance = sum([row], |[x]| (x - mean) * (x - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32, out: &mut [MaybeUninit<f32>]) {
    let width = gamma.len();
    for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let (mean, inverse) = statistics(row, epsilon);
        for (((out, &x), &gamma), &beta) in out.iter_mut().zip(row).zip(gamma).zip(beta) {
            out.write((x - mean) * inverse * gamma + beta);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_backward(
    x: &[f32],
    gamma: &[f32],
    grad: &[f32],
    epsilon: f32,
    dx: &mut [MaybeUninit<f32>],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let width = gamma.len();
    let rows = x.chunks_exact(width).zip(grad.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for ((row, grad), dx) in rows {
        let (mean, inverse) = statistics(row, epsilon);
        // With n the normalized row and h = grad * gamma:
        // dx = inverse * (h - mean(h) - n * mean(h * n)).
        let mean_h = sum([grad, gamma], |[g, gamma]| g * gamma) / width as f32;
        let h_n = sum([grad, gamma, row], |[g, gamma, x]| g * gamma * (x - mean));
        let mean_hn = h_n * inverse / width as f32;
        for (i, dx) in dx.iter_mut().enumerate() {
            let n = (row[i] - mean) * inverse;
            dx.write(inverse * (grad[i] * gamma[i] - mean_h - n * mean_hn));
            dgamma[i] += grad[i] * n;
            dbeta[i] += grad[i];
        }
    }
}
