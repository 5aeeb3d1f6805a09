//! Cross-entropy of logits, without a tensor of probabilities.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::exp;
use super::parallel::{build, task, values, vector};
use super::reduce::{max, sum};

/// Input: logits `[rows, classes]`. `targets`: the class of every row. Result: the mean, `[1]`.
pub fn forward(inputs: Vec<FlexTensor>, targets: &[usize]) -> (FlexTensor, Pullback) {
    let [logits] = <[_; 1]>::try_from(inputs).expect("one input");
    let classes = logits.shape()[1];
    // The logarithm of the sum of e^x over every row.
    let sums: Vec<f32> = values(&logits).par_chunks_exact(classes).map(log_sum_exp).collect();
    let rows = values(&logits).chunks_exact(classes).zip(targets).zip(&sums);
    let loss: f64 = rows.map(|((row, &target), sum)| f64::from(sum - row[target])).sum();
    let loss = vector(vec![(loss / targets.len() as f64) as f32]);
    let targets = targets.to_vec();
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let scale = values(&grad.to_contiguous())[0] / targets.len() as f32;
        // SAFETY: `run_backward` writes an output for each input of every row.
        let dx = unsafe {
            build(logits.shape(), task(classes), |first, out| {
                let rows = values(&logits)[first..first + out.len()].chunks_exact(classes);
                for (i, (x, out)) in rows.zip(out.chunks_exact_mut(classes)).enumerate() {
                    let row = first / classes + i;
                    run_backward(x, sums[row], scale, out);
                    // SAFETY: `run_backward` has written it.
                    let target = out[targets[row]].assume_init_mut();
                    *target -= scale;
                }
            })
        };
        vec![Some(dx)]
    };
    (loss, Box::new(pullback))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn log_sum_exp(row: &[f32]) -> f32 {
    let max = max([row], |[x]| x);
    max + sum([row], |[x]| exp(x - max)).ln()
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_backward(x: &[f32], sum: f32, scale: f32, out: &mut [MaybeUninit<f32>]) {
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(scale * exp(x - sum));
    }
}
