//! Cross-entropy of logits, without a tensor of probabilities.

use burn::backend::TensorMetadata;
use burn::tensor::TensorData;
use multiversion::multiversion;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::exp;
use super::parallel::{build, is_unshared, task, values, vector};
use super::reduce::{max, sum};

/// Input: logits `[rows, classes]`. `targets`: the class of every row that counts. Result: the mean
/// over those rows, `[1]`; 0 where there is none. `smoothing`: the part of a row's weight that is
/// spread evenly over all classes.
///
/// Where a gradient is wanted, it is computed right away, and takes the place of logits that nobody
/// else holds: they pass through memory once instead of three times.
pub fn forward(
    inputs: Vec<FlexTensor>,
    targets: &[Option<usize>],
    smoothing: f32,
    tracked: bool,
) -> (FlexTensor, Pullback) {
    let [mut logits] = <[_; 1]>::try_from(inputs).expect("one input");
    let classes = logits.shape()[1];
    let counted = targets.iter().flatten().count().max(1) as f32;
    let mean = |losses: Vec<f32>| {
        let sum: f64 = losses.into_iter().map(f64::from).sum();
        vector(vec![(sum / f64::from(counted)) as f32])
    };
    let rows = values(&logits).par_chunks_exact(classes).zip(targets);
    if !tracked {
        let loss = |(row, target): (&[f32], &Option<usize>)| {
            target.map_or(0.0, |target| log_sum_exp(row) - expected(row, target, smoothing))
        };
        let losses = mean(rows.map(loss).collect());
        return (losses, Box::new(|_, _| unreachable!("no gradient is wanted")));
    }
    let mut gradient = match is_unshared(&mut logits) {
        true => logits,
        false => {
            let copy: Vec<f32> = values(&logits).par_iter().copied().collect();
            FlexTensor::from_data(TensorData::new(copy, logits.shape()))
        }
    };
    let rows = gradient.storage_mut::<f32>().par_chunks_exact_mut(classes).zip(targets);
    let loss = |(row, target): (&mut [f32], &Option<usize>)| match *target {
        Some(target) => to_gradient(row, target, smoothing, 1.0 / counted),
        None => {
            row.fill(0.0);
            0.0
        }
    };
    let losses = mean(rows.map(loss).collect());
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let scale = values(&grad.to_contiguous())[0];
        vec![Some(if scale == 1.0 { gradient.clone() } else { scaled(&gradient, scale) })]
    };
    (losses, Box::new(pullback))
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

/// The loss of a row, which becomes its gradient times `weight`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn to_gradient(row: &mut [f32], target: usize, smoothing: f32, weight: f32) -> f32 {
    let expected = expected(row, target, smoothing);
    let max = max([row], |[x]| x);
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let sum = sum([row], |[x]| x);
    let (scale, spread) = (weight / sum, weight * smoothing / row.len() as f32);
    for x in row.iter_mut() {
        *x = *x * scale - spread;
    }
    row[target] -= weight * (1.0 - smoothing);
    max + sum.ln() - expected
}

fn scaled(x: &FlexTensor, scale: f32) -> FlexTensor {
    let source = values(x);
    // SAFETY: an output is written for each input.
    unsafe {
        build(x.shape(), task(1), |first, out| {
            for (out, &x) in out.iter_mut().zip(&source[first..]) {
                out.write(scale * x);
            }
        })
    }
}
