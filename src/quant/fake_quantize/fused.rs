//! Fake quantization on the `flex` backend: one pass over memory on all cores, with a
//! hand-written gradient that keeps one bit of each element.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use burn::tensor::{Tensor, TensorData};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{Estimator, FakeQuantize, ScaleGradient, ScaleTensors};
use crate::coding::{AffineQuantizer, Rounder, Rounding};
use crate::kernels::flex::{FlexTensor, Pullback, differentiable, is_unshared, task, values};
use crate::quant::{Folded, Granularity};

/// Elements that a word of a mask tells of.
const WORD: usize = 32;

/// [`fake_quantize`](super::fake_quantize) for a 32-bit float tensor on `flex`.
pub(super) fn fake_quantize_fused<const D: usize>(
    x: Tensor<D>,
    scales: ScaleTensors,
    operation: FakeQuantize,
) -> Tensor<D> {
    let scale = match operation.scale_gradient {
        // A detached tensor that asked for a gradient still does.
        ScaleGradient::None => scales.scale.detach().set_require_grad(false),
        _ => scales.scale,
    };
    let mut inputs = vec![x.into_dispatch(), scale.into_dispatch()];
    inputs.extend(scales.zero_point.map(|zero_point| zero_point.detach().into_dispatch()));
    differentiable(inputs, move |mut inputs, tracked| {
        let zero_point = inputs.get(2).map(|zero_point| values(zero_point).to_vec());
        inputs.truncate(2);
        let [x, scale] = <[_; 2]>::try_from(inputs).expect("two inputs");
        let zeros = operation.format.has_zero_point() as usize;
        let run = Run { operation, tracked, zeros };
        match (operation.format.rounder(0), zero_point) {
            (Rounder::Superposed(quantizer), _) => run.forward(x, scale, Same(quantizer)),
            (Rounder::Table(quantizer), _) => run.forward(x, scale, Same(quantizer)),
            (Rounder::Affine(_), zero_points) => {
                let zero_points = zero_points.expect("an affine format has zero points");
                let highest_code = operation.format.max();
                run.forward(x, scale, Shifted { highest_code, zero_points })
            }
        }
    })
}

/// The rounding of each scale's elements.
trait Roundings: Clone + Send + Sync + 'static {
    type Each: Rounding;

    /// For the elements of the scale of this index.
    fn at(&self, scale: usize) -> Self::Each;
}

/// One rounding for all.
#[derive(Clone)]
struct Same<R>(R);

impl<R: Rounding + 'static> Roundings for Same<R> {
    type Each = R;

    #[inline(always)]
    fn at(&self, _scale: usize) -> R {
        self.0
    }
}

/// Roundings that differ by the zero point.
#[derive(Clone)]
struct Shifted {
    highest_code: f32,
    zero_points: Vec<f32>,
}

impl Roundings for Shifted {
    type Each = AffineQuantizer;

    #[inline(always)]
    fn at(&self, scale: usize) -> AffineQuantizer {
        AffineQuantizer::new(self.highest_code, self.zero_points[scale])
    }
}

/// One pass of the operation.
#[derive(Clone, Copy)]
struct Run {
    operation: FakeQuantize,
    tracked: bool,
    /// Inputs after `x` and the scales, which get no gradient.
    zeros: usize,
}

impl Run {
    fn forward<R: Roundings>(
        self,
        mut x: FlexTensor,
        scales: FlexTensor,
        roundings: R,
    ) -> (FlexTensor, Pullback) {
        let Run { operation, tracked, zeros } = self;
        let shape = x.shape();
        let rows = Rows::new(&shape, operation.granularity);
        let masked = tracked && operation.estimator == Estimator::Clipped;
        let learned = tracked && operation.scale_gradient != ScaleGradient::None;
        let scale = values(&scales);

        // One bit for each element of a task: whether it is inside the representable range.
        let run = |(task, mut elements): (usize, Elements)| {
            let mut mask = Vec::new();
            rows.for_each_run(task, elements.len(), |range, scales| match scales {
                Scales::One(i) => {
                    let rounding = roundings.at(i);
                    if masked {
                        let x = &elements.input()[range.clone()];
                        mask_run(rounding, scale[i], x, &mut mask);
                    }
                    match &mut elements {
                        Elements::Apart(x, out) => {
                            quantize_run(rounding, scale[i], &x[range.clone()], &mut out[range]);
                        }
                        Elements::InPlace(x) => {
                            quantize_run_in_place(rounding, scale[i], &mut x[range])
                        }
                    }
                }
                Scales::Each(first) => {
                    let scale = &scale[first..first + range.len()];
                    if masked {
                        let x = &elements.input()[range.clone()];
                        mask_each(&roundings, first, scale, x, &mut mask);
                    }
                    match &mut elements {
                        Elements::Apart(x, out) => {
                            let (x, out) = (&x[range.clone()], &mut out[range]);
                            quantize_each(&roundings, first, scale, x, out);
                        }
                        Elements::InPlace(x) => {
                            quantize_each_in_place(&roundings, first, scale, &mut x[range]);
                        }
                    }
                }
            });
            mask
        };
        // What the gradient of the scales is computed from.
        let kept = learned.then(|| x.clone());
        let (y, masks): (_, Vec<Vec<u32>>) = if is_unshared(&mut x) {
            // The input becomes the result.
            let tasks = x.storage_mut::<f32>().par_chunks_mut(rows.task).map(Elements::InPlace);
            let masks = tasks.enumerate().map(run).collect();
            (x, masks)
        } else {
            let x = values(&x);
            let mut out = Vec::with_capacity(x.len());
            let tasks = out.spare_capacity_mut()[..x.len()].par_chunks_mut(rows.task);
            let tasks = tasks.zip(x.par_chunks(rows.task)).map(|(out, x)| Elements::Apart(x, out));
            let masks = tasks.enumerate().map(run).collect();
            // SAFETY: the runs of all tasks cover `0..x.len()`, and a run writes each of its elements.
            unsafe { out.set_len(x.len()) };
            (FlexTensor::from_data(TensorData::new(out, shape)), masks)
        };
        let pullback = move |grad: FlexTensor, wanted: &[bool]| {
            let dscale = kept.as_ref().filter(|_| wanted[1]).map(|x| {
                let grad = grad.to_contiguous();
                let rule = operation.scale_gradient;
                let gradient = scale_gradient(
                    values(x),
                    values(&scales),
                    values(&grad),
                    &rows,
                    &roundings,
                    rule,
                );
                let shape = scales.shape();
                FlexTensor::from_data(TensorData::new(gradient, shape))
            });
            let dx = match masked && wanted[0] {
                true => backward(grad, &rows, &masks),
                false => grad,
            };
            let mut gradients = vec![Some(dx), dscale];
            gradients.extend((0..zeros).map(|_| None));
            gradients
        };
        (y, Box::new(pullback))
    }
}

/// The gradient of every scale. Sums are taken in f64, task after task, so that they do not depend on
/// the number of cores.
fn scale_gradient<R: Roundings>(
    x: &[f32],
    scales: &[f32],
    grad: &[f32],
    rows: &Rows,
    roundings: &R,
    rule: ScaleGradient,
) -> Vec<f32> {
    let slope = |rounding: R::Each, unit: f32| match (rule, rounding.in_range(unit)) {
        (ScaleGradient::Full, true) => rounding.quantize(unit) - unit,
        (ScaleGradient::Full | ScaleGradient::Clipped, false) => rounding.quantize(unit),
        (ScaleGradient::Clipped, true) | (ScaleGradient::None, _) => 0.0,
    };
    let product = |rounding, x: f32, inverse: f32, grad: f32| {
        f64::from(slope(rounding, x * inverse)) * f64::from(grad)
    };
    let of_task = |(task, (x, grad)): (usize, (&[f32], &[f32]))| {
        let mut sums = Sums::default();
        rows.for_each_run(task, x.len(), |range, run_scales| {
            let elements = x[range.clone()].iter().zip(&grad[range]);
            match run_scales {
                Scales::One(i) => {
                    let (rounding, inverse) = (roundings.at(i), 1.0 / scales[i]);
                    let products = elements.map(|(&x, &grad)| product(rounding, x, inverse, grad));
                    sums.of(i, 1)[0] += products.sum::<f64>();
                }
                Scales::Each(first) => {
                    let sums = sums.of(first, elements.len());
                    for (i, (sum, (&x, &grad))) in (first..).zip(sums.iter_mut().zip(elements)) {
                        *sum += product(roundings.at(i), x, 1.0 / scales[i], grad);
                    }
                }
            }
        });
        sums
    };
    let tasks = x.par_chunks(rows.task).zip(grad.par_chunks(rows.task)).enumerate();
    let sums: Vec<Sums> = tasks.map(of_task).collect();
    let mut gradient = vec![0f64; scales.len()];
    sums.iter().for_each(|sums| sums.add_to(&mut gradient));
    gradient.into_iter().map(|sum| sum as f32).collect()
}

/// Sums of a task, each for a scale, in runs of neighbouring scales.
#[derive(Default)]
struct Sums {
    /// The first scale of each run, and how many there are.
    runs: Vec<(usize, usize)>,
    sums: Vec<f64>,
}

impl Sums {
    /// Those of a run: the latest ones, where they are of the same scales, else new ones.
    fn of(&mut self, first: usize, count: usize) -> &mut [f64] {
        if self.runs.last() != Some(&(first, count)) {
            self.runs.push((first, count));
            self.sums.resize(self.sums.len() + count, 0.0);
        }
        let start = self.sums.len() - count;
        &mut self.sums[start..]
    }

    fn add_to(&self, totals: &mut [f64]) {
        let mut sums = &self.sums[..];
        for &(first, count) in &self.runs {
            let (run, rest) = sums.split_at(count);
            totals[first..][..count].iter_mut().zip(run).for_each(|(total, sum)| *total += sum);
            sums = rest;
        }
    }
}

/// The elements of a task, and where their rounded values go.
enum Elements<'a> {
    Apart(&'a [f32], &'a mut [MaybeUninit<f32>]),
    InPlace(&'a mut [f32]),
}

impl Elements<'_> {
    fn input(&self) -> &[f32] {
        match self {
            Elements::Apart(x, _) => x,
            Elements::InPlace(x) => x,
        }
    }

    fn len(&self) -> usize {
        self.input().len()
    }
}

fn backward(grad: FlexTensor, rows: &Rows, masks: &[Vec<u32>]) -> FlexTensor {
    // One handle at a time: a gradient that nobody else holds is then written in place.
    let contiguous = grad.to_contiguous();
    drop(grad);
    let mut grad = contiguous;
    grad.storage_mut::<f32>().par_chunks_mut(rows.task).zip(masks).enumerate().for_each(
        |(task, (grad, mask))| {
            let mut words = mask.as_slice();
            rows.for_each_run(task, grad.len(), |range, _| {
                let here = words.split_off(..range.len().div_ceil(WORD));
                apply_mask(here.expect("as many words as forward"), &mut grad[range]);
            });
        },
    );
    grad
}

/// The scales of a run of neighbouring elements.
#[derive(Clone, Copy)]
enum Scales {
    /// All share the scale of this index.
    One(usize),
    /// Each has its own, from this index on.
    Each(usize),
}

/// A row-major tensor cut into rows whose scales are easy to tell.
struct Rows {
    /// Elements of one row.
    row: usize,
    /// Elements of one task: a whole number of rows.
    task: usize,
    granularity: Granularity,
    folded: Folded,
}

impl Rows {
    fn new(shape: &[usize], granularity: Granularity) -> Self {
        let folded = match granularity {
            Granularity::Tensor => Folded { outer: 1, axis: 1, inner: shape.iter().product() },
            Granularity::Channel { axis } | Granularity::Group { axis, .. } => {
                Folded::new(shape, axis)
            }
        };
        let row = match granularity {
            Granularity::Tensor => task(1),
            _ if folded.inner > 1 => folded.inner,
            _ => folded.axis,
        }
        .max(1);
        Self { row, task: task(row), granularity, folded }
    }

    /// Calls `run(range, scales)` for the runs of task number `task`, which has `len` elements;
    /// ranges count from the start of the task.
    fn for_each_run(
        &self,
        task: usize,
        len: usize,
        mut run: impl FnMut(std::ops::Range<usize>, Scales),
    ) {
        let Folded { axis, inner, .. } = self.folded;
        let first_row = task * (self.task / self.row);
        for (i, start) in (0..len).step_by(self.row).enumerate() {
            let row = first_row + i;
            let range = start..(start + self.row).min(len);
            match self.granularity {
                Granularity::Tensor => run(range, Scales::One(0)),
                Granularity::Channel { .. } if inner > 1 => run(range, Scales::One(row % axis)),
                Granularity::Channel { .. } => run(range, Scales::Each(0)),
                Granularity::Group { size, .. } if inner > 1 => {
                    let groups = axis.div_ceil(size);
                    let group = row / axis * groups + row % axis / size;
                    run(range, Scales::Each(group * inner));
                }
                Granularity::Group { size, .. } => {
                    let groups = axis.div_ceil(size);
                    for (g, from) in range.clone().step_by(size).enumerate() {
                        let to = (from + size).min(range.end);
                        run(from..to, Scales::One(row * groups + g));
                    }
                }
            }
        }
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_run<R: Rounding>(rounding: R, scale: f32, x: &[f32], out: &mut [MaybeUninit<f32>]) {
    let inverse = 1.0 / scale;
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(rounding.quantize(x * inverse) * scale);
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_run_in_place<R: Rounding>(rounding: R, scale: f32, x: &mut [f32]) {
    let inverse = 1.0 / scale;
    for x in x {
        *x = rounding.quantize(*x * inverse) * scale;
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_each<R: Roundings>(
    roundings: &R,
    first: usize,
    scale: &[f32],
    x: &[f32],
    out: &mut [MaybeUninit<f32>],
) {
    for (i, ((out, &x), &scale)) in out.iter_mut().zip(x).zip(scale).enumerate() {
        out.write(roundings.at(first + i).quantize(x * (1.0 / scale)) * scale);
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_each_in_place<R: Roundings>(roundings: &R, first: usize, scale: &[f32], x: &mut [f32]) {
    for (i, (x, &scale)) in x.iter_mut().zip(scale).enumerate() {
        *x = roundings.at(first + i).quantize(*x * (1.0 / scale)) * scale;
    }
}

/// A word in which the bit of every element is set that is inside the range.
#[inline(always)]
fn word(inside: impl Fn(usize) -> bool) -> u32 {
    let mut bits = [0u32; WORD];
    for (i, bit) in bits.iter_mut().enumerate() {
        *bit = if inside(i) { 1 << i } else { 0 };
    }
    bits.iter().fold(0, |word, bit| word | bit)
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn mask_run<R: Rounding>(rounding: R, scale: f32, x: &[f32], mask: &mut Vec<u32>) {
    let inverse = 1.0 / scale;
    let (whole, rest) = x.as_chunks::<WORD>();
    mask.extend(whole.iter().map(|x| word(|i| rounding.in_range(x[i] * inverse))));
    if !rest.is_empty() {
        mask.push(word(|i| i < rest.len() && rounding.in_range(rest[i] * inverse)));
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn mask_each<R: Roundings>(
    roundings: &R,
    first: usize,
    scale: &[f32],
    x: &[f32],
    mask: &mut Vec<u32>,
) {
    let inside = |i: usize, x: f32, scale: f32| roundings.at(first + i).in_range(x * (1.0 / scale));
    let ((whole, rest), (scales, last)) = (x.as_chunks::<WORD>(), scale.as_chunks::<WORD>());
    let words = whole.iter().zip(scales).enumerate();
    mask.extend(words.map(|(w, (x, scale))| word(|i| inside(w * WORD + i, x[i], scale[i]))));
    if !rest.is_empty() {
        let start = whole.len() * WORD;
        mask.push(word(|i| i < rest.len() && inside(start + i, rest[i], last[i])));
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn apply_mask(mask: &[u32], grad: &mut [f32]) {
    for (grad, &word) in grad.chunks_mut(WORD).zip(mask) {
        for (i, grad) in grad.iter_mut().enumerate() {
            *grad = if word & (1 << i) != 0 { *grad } else { 0.0 };
        }
    }
}
