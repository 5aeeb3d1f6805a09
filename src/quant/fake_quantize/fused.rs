//! Fake quantization on the `flex` backend: one pass over memory on all cores, with a
//! hand-written gradient that keeps one bit of each element.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use burn::tensor::{Tensor, TensorData};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{Estimator, FakeQuantize};
use crate::coding::Quantizer;
use crate::kernels::flex::{FlexTensor, Pullback, differentiable, is_unshared, task, values};
use crate::quant::{Folded, Granularity};

/// Elements that a word of a mask tells of.
const WORD: usize = 32;

/// [`fake_quantize`](super::fake_quantize) for a 32-bit float tensor on `flex`.
pub(super) fn fake_quantize_fused<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    operation: FakeQuantize,
) -> Tensor<D> {
    let inputs = vec![x.into_dispatch(), scale.detach().into_dispatch()];
    differentiable(inputs, move |inputs, tracked| forward(inputs, operation, tracked))
}

fn forward(
    inputs: Vec<FlexTensor>,
    operation: FakeQuantize,
    tracked: bool,
) -> (FlexTensor, Pullback) {
    let [mut x, scale] = <[_; 2]>::try_from(inputs).expect("two inputs");
    let shape = x.shape();
    let rows = Rows::new(&shape, operation.granularity);
    let masked = tracked && operation.estimator == Estimator::Clipped;
    let scale = values(&scale);
    let quantizer = operation.format.unit().quantizer();

    // One bit for each element of a task: whether it is inside the representable range.
    let run = |(task, mut elements): (usize, Elements)| {
        let mut mask = Vec::new();
        rows.for_each_run(task, elements.len(), |range, scales| match scales {
            Scales::One(i) => {
                if masked {
                    mask_run(quantizer, scale[i], &elements.input()[range.clone()], &mut mask);
                }
                match &mut elements {
                    Elements::Apart(x, out) => {
                        quantize_run(quantizer, scale[i], &x[range.clone()], &mut out[range]);
                    }
                    Elements::InPlace(x) => {
                        quantize_run_in_place(quantizer, scale[i], &mut x[range])
                    }
                }
            }
            Scales::Each(first) => {
                let scale = &scale[first..first + range.len()];
                if masked {
                    mask_each(quantizer, scale, &elements.input()[range.clone()], &mut mask);
                }
                match &mut elements {
                    Elements::Apart(x, out) => {
                        quantize_each(quantizer, scale, &x[range.clone()], &mut out[range]);
                    }
                    Elements::InPlace(x) => quantize_each_in_place(quantizer, scale, &mut x[range]),
                }
            }
        });
        mask
    };
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
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let dx = match masked {
            true => backward(grad, &rows, &masks),
            false => grad,
        };
        vec![Some(dx), None]
    };
    (y, Box::new(pullback))
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
fn quantize_run(quantizer: Quantizer, scale: f32, x: &[f32], out: &mut [MaybeUninit<f32>]) {
    let inverse = 1.0 / scale;
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(quantizer.quantize(x * inverse) * scale);
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_run_in_place(quantizer: Quantizer, scale: f32, x: &mut [f32]) {
    let inverse = 1.0 / scale;
    for x in x {
        *x = quantizer.quantize(*x * inverse) * scale;
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_each(quantizer: Quantizer, scale: &[f32], x: &[f32], out: &mut [MaybeUninit<f32>]) {
    for ((out, &x), &scale) in out.iter_mut().zip(x).zip(scale) {
        out.write(quantizer.quantize(x / scale) * scale);
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn quantize_each_in_place(quantizer: Quantizer, scale: &[f32], x: &mut [f32]) {
    for (x, &scale) in x.iter_mut().zip(scale) {
        *x = quantizer.quantize(*x / scale) * scale;
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
fn mask_run(quantizer: Quantizer, scale: f32, x: &[f32], mask: &mut Vec<u32>) {
    let inverse = 1.0 / scale;
    let (whole, rest) = x.as_chunks::<WORD>();
    mask.extend(whole.iter().map(|x| word(|i| quantizer.in_range(x[i] * inverse))));
    if !rest.is_empty() {
        mask.push(word(|i| i < rest.len() && quantizer.in_range(rest[i] * inverse)));
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn mask_each(quantizer: Quantizer, scale: &[f32], x: &[f32], mask: &mut Vec<u32>) {
    let ((whole, rest), (scales, last)) = (x.as_chunks::<WORD>(), scale.as_chunks::<WORD>());
    let words = whole.iter().zip(scales);
    mask.extend(words.map(|(x, scale)| word(|i| quantizer.in_range(x[i] / scale[i]))));
    if !rest.is_empty() {
        mask.push(word(|i| i < rest.len() && quantizer.in_range(rest[i] / last[i])));
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
