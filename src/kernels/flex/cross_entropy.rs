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

/// Input: logits `[rows, classes]`. `targets`: the class of every row that counts. Result: the mean
/// over those rows, `[1]`; 0 where there is none. `smoothing`: the part of a row's weight that is
/// spread evenly over all classes.
pub fn forward(
    inputs: Vec<FlexTensor>,
    targets: &[Option<usize>],
    smoothing: f32,
) -> (FlexTensor, Pullback) {
    let [logits] = <[_; 1]>::try_from(inputs).expect("one input");
    let classes = logits.shape()[1];
    // The logarithm of the sum of e^x over every row, and the loss of it.
    let rows: Vec<(f32, f32)> = values(&logits)
        .par_chunks_exact(classes)
        .zip(targets)
        .map(|(row, target)| match *target {
            Some(target) => {
                let sum = log_sum_exp(row);
                (sum, sum - expected(row, target, smoothing))
            }
            None => (0.0, 0.0),
        })
        .collect();
    let counted = targets.iter().flatten().count().max(1) as f32;
    let loss: f64 = rows.iter().map(|(_, loss)| f64::from(*loss)).sum();
    let loss = vector(vec![(loss / f64::from(counted)) as f32]);
    let targets = targets.to_vec();
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let scale = values(&grad.to_contiguous())[0] / counted;
        let (spread, own) = (scale * smoothing / classes as f32, scale * (1.0 - smoothing));
        // SAFETY: `run_backward` writes an output for each input of every row, and the other rows
        // are filled.
        let dx = unsafe {
            build(logits.shape(), task(classes), |first, out| {
                let inputs = values(&logits)[first..first + out.len()].chunks_exact(classes);
                for (i, (x, out)) in inputs.zip(out.chunks_exact_mut(classes)).enumerate() {
                    let row = first / classes + i;
                    let Some(target) = targets[row] else {
                        out.fill(MaybeUninit::new(0.0));
                        continue;
                    };
                    run_backward(x, rows[row].0, scale, spread, out);
                    // SAFETY: `run_backward` has written it.
                    let target = out[target].assume_init_mut();
                    *target -= own;
                }
            })
        };
        vec![Some(dx)]
    };
    (loss, Box::new(pullback))
}

/// The mean of a row's logits under the distribution that it should predict.
fn expected(row: &[f32], target: usize, smoothing: f32) -> f32 {
    match smoothing == 0.0 {
        true => row[target],
        false => {
            let mean = sum([row], |[x]| x) / row.len() as f32;
            (1.0 - smoothing) * row[target] + smoothing * mean
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn log_sum_exp(row: &[f32]) -> f32 {
    let max = max([row], |[x]| x);
    max + sum([row], |[x]| exp(x - max)).ln()
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_backward(x: &[f32], sum: f32, scale: f32, spread: f32, out: &mut [MaybeUninit<f32>]) {
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(scale * exp(x - sum) - spread);
    }
}
