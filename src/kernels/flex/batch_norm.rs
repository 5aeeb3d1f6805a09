//! Batch normalization in training (Ioffe and Szegedy, arXiv 1502.03167), with the cut of a ReLU
//! after it.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::cut;
use super::parallel::{build, values, vector};
use super::reduce::{fold, sum};

/// Mean and variance of every channel.
pub struct Statistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// `[batch, channels, positions]` of a contiguous tensor.
#[derive(Clone, Copy)]
struct Planes {
    channels: usize,
    /// Elements of one channel of one example.
    plane: usize,
    /// Elements of each channel.
    count: usize,
}

impl Planes {
    fn new(x: &FlexTensor, channels: usize) -> Self {
        let shape = x.shape();
        let plane = shape[2..].iter().product();
        Self { channels, plane, count: shape[0] * plane }
    }

    /// The planes of a channel.
    fn of<'a>(&self, x: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> {
        let plane = self.plane;
        x.chunks_exact(self.channels * plane).map(move |x| &x[channel * plane..][..plane])
    }
}

/// Inputs: x `[batch, channels, ...]`, gamma and beta `[channels]`. The result is cut to `limits`.
pub fn forward(
    inputs: Vec<FlexTensor>,
    epsilon: f32,
    limits: (f32, f32),
) -> (FlexTensor, Pullback, Statistics) {
    let [x, gamma, beta] = <[_; 3]>::try_from(inputs).expect("three inputs");
    let channels = values(&gamma).len();
    let planes = Planes::new(&x, channels);
    let (mean, variance): (Vec<f32>, Vec<f32>) = (0..channels)
        .into_par_iter()
        .map(|channel| statistics(planes.of(values(&x), channel)))
        .unzip();
    // y = factor * x + offset
    let inverse: Vec<f32> = variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
    let factor: Vec<f32> = inverse.iter().zip(values(&gamma)).map(|(i, g)| i * g).collect();
    let offset: Vec<f32> = (0..channels).map(|c| values(&beta)[c] - mean[c] * factor[c]).collect();
    let example = channels * planes.plane;
    let source = values(&x);
    // SAFETY: `apply` writes an output for each input of every plane.
    let y = unsafe {
        build(x.shape(), example.max(1), |first, out| {
            for (c, out) in out.chunks_exact_mut(planes.plane).enumerate() {
                let x = &source[first + c * planes.plane..][..planes.plane];
                apply(x, factor[c], offset[c], limits, out);
            }
        })
    };
    let statistics = Statistics { mean: mean.clone(), variance };
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let grad = grad.to_contiguous();
        let (source, g) = (values(&x), values(&grad));
        let (dbeta, dgamma): (Vec<f32>, Vec<f32>) = (0..channels)
            .into_par_iter()
            .map(|c| {
                let (mut sum, mut product) = (0.0, 0.0);
                for (x, g) in planes.of(source, c).zip(planes.of(g, c)) {
                    let (s, p) = sums(x, g, factor[c], offset[c], limits, mean[c]);
                    sum += f64::from(s);
                    product += f64::from(p);
                }
                (sum as f32, product as f32 * inverse[c])
            })
            .unzip();
        // dx = factor * (g - dbeta / count - n * dgamma / count), n = (x - mean) * inverse
        let count = planes.count as f32;
        // SAFETY: `apply_backward` writes an output for each input of every plane.
        let dx = unsafe {
            build(x.shape(), example.max(1), |first, out| {
                for (c, out) in out.chunks_exact_mut(planes.plane).enumerate() {
                    let range = first + c * planes.plane..first + (c + 1) * planes.plane;
                    let slope = -factor[c] * inverse[c] * dgamma[c] / count;
                    let constant = -factor[c] * dbeta[c] / count - slope * mean[c];
                    let line = (factor[c], offset[c]);
                    let (x, g) = (&source[range.clone()], &g[range]);
                    apply_backward(x, g, line, limits, (slope, constant), out);
                }
            })
        };
        vec![Some(dx), Some(vector(dgamma)), Some(vector(dbeta))]
    };
    (y, Box::new(pullback), statistics)
}

/// Mean and biased variance of all values, joined plane by plane (Chan et al. 1979).
fn statistics<'a>(planes: impl Iterator<Item = &'a [f32]>) -> (f32, f32) {
    let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
    for plane in planes {
        let (sum, plane_squares) = moments(plane);
        let n = plane.len() as f64;
        let difference = f64::from(sum) / n - mean;
        mean += difference * n / (count + n);
        squares += f64::from(plane_squares) + difference * difference * count * n / (count + n);
        count += n;
    }
    (mean as f32, (squares / count) as f32)
}

/// Sum of the values, and sum of their squared distances from their mean.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn moments(x: &[f32]) -> (f32, f32) {
    let total = sum([x], |[x]| x);
    let mean = total / x.len() as f32;
    (total, sum([x], |[x]| (x - mean) * (x - mean)))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn apply(x: &[f32], factor: f32, offset: f32, limits: (f32, f32), out: &mut [MaybeUninit<f32>]) {
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(cut(x * factor + offset, limits.0, limits.1));
    }
}

/// The gradient before the cut: it passes strictly inside the limits.
#[inline(always)]
fn passed(x: f32, grad: f32, (factor, offset): (f32, f32), limits: (f32, f32)) -> f32 {
    let y = x * factor + offset;
    if y > limits.0 && y < limits.1 { grad } else { 0.0 }
}

/// Sums of the gradient, and of its product with `x - mean`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn sums(
    x: &[f32],
    grad: &[f32],
    factor: f32,
    offset: f32,
    limits: (f32, f32),
    mean: f32,
) -> (f32, f32) {
    let (mut sum, mut product) = ([0f32; 16], [0f32; 16]);
    fold([x, grad], |lane, [x, grad]| {
        let grad = passed(x, grad, (factor, offset), limits);
        sum[lane] += grad;
        product[lane] += grad * (x - mean);
    });
    (sum.iter().sum(), product.iter().sum())
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn apply_backward(
    x: &[f32],
    grad: &[f32],
    line: (f32, f32),
    limits: (f32, f32),
    (slope, constant): (f32, f32),
    out: &mut [MaybeUninit<f32>],
) {
    for ((out, &x), &grad) in out.iter_mut().zip(x).zip(grad) {
        let grad = passed(x, grad, line, limits);
        out.write(line.0 * grad + slope * x + constant);
    }
}
