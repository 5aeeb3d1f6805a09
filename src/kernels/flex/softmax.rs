//! Softmax over the last dimension of scaled, masked scores.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::exp;
use super::parallel::{build, task, values};
use super::reduce::{max, sum};

/// Input: scores `[batch, ..., width]`. `masked`: `[batch, width]`, the columns that get no part.
pub fn forward(inputs: Vec<FlexTensor>, scale: f32, masked: &[bool]) -> (FlexTensor, Pullback) {
    let [scores] = <[_; 1]>::try_from(inputs).expect("one input");
    let shape = scores.shape();
    let width = *shape.last().expect("scores have a last dimension");
    let rows_per_mask = values(&scores).len() / masked.len().max(1);
    // SAFETY: `run` writes every row of `out`.
    let y = unsafe {
        build(shape, task(width), |first, out| {
            let source = &values(&scores)[first..first + out.len()];
            run(source, scale, masked, (first / width, rows_per_mask), width, out)
        })
    };
    let kept = y.clone();
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let grad = grad.to_contiguous();
        let (y, g) = (values(&kept), values(&grad));
        // SAFETY: `run_backward` writes every row of `out`.
        let dx = unsafe {
            build(grad.shape(), task(width), |first, out| {
                let range = first..first + out.len();
                run_backward(&y[range.clone()], &g[range], scale, width, out)
            })
        };
        vec![Some(dx)]
    };
    (y, Box::new(pullback))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run(
    x: &[f32],
    scale: f32,
    masked: &[bool],
    (first_row, rows_per_mask): (usize, usize),
    width: usize,
    out: &mut [MaybeUninit<f32>],
) {
    let mut row = vec![0f32; width];
    for (i, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
        let mask = (first_row + i) / rows_per_mask * width;
        let mask = &masked[mask..mask + width];
        for ((row, &x), &masked) in row.iter_mut().zip(x).zip(mask) {
            *row = if masked { f32::NEG_INFINITY } else { x * scale };
        }
        let max = max([&row], |[x]| x);
        for (row, &masked) in row.iter_mut().zip(mask) {
            *row = if masked { 0.0 } else { exp(*row - max) };
        }
        let inverse = 1.0 / sum([&row], |[x]| x);
        for (out, &row) in out.iter_mut().zip(&row) {
            out.write(row * inverse);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_backward(y: &[f32], grad: &[f32], scale: f32, width: usize, out: &mut [MaybeUninit<f32>]) {
    let rows = y.chunks_exact(width).zip(grad.chunks_exact(width)).zip(out.chunks_exact_mut(width));
    for ((y, grad), out) in rows {
        let dot = sum([y, grad], |[y, grad]| y * grad);
        for ((out, &y), &grad) in out.iter_mut().zip(y).zip(grad) {
            out.write(scale * y * (grad - dot));
        }
    }
}
