//! Two-dimensional convolution with its gradients, without unfolding the input.
//!
//! Each plane is padded and, for a stride s, split into s x s phases (every s-th row and column).
//! A tap of the kernel then reads a phase at a constant distance from the output's position, so
//! that over a padded plane laid out flat a convolution is a sum of shifted rows:
//! `out[o][p] = sum over (c, tap) of w[o][c, tap] * plane[c][p + shift(tap)]`. Positions in the
//! padding are computed too and dropped. The gradient of the input is the same sum over the padded
//! gradient, the gradient of the weight a sum of products of shifted rows.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Shape, TensorData};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::parallel::{build, values, vector};

/// Positions that are computed at once, and the zeros that may be read beyond the last one.
const SLACK: usize = 64;

/// Positions of a task, so that small images are worked on together.
const POSITIONS: usize = 256;

/// Floats that the partial sums of a weight's gradient may take.
const PARTIAL_SUMS: usize = 1 << 24;

/// Whether the kernels below serve a convolution: no dilation, no more padding than the kernel
/// reaches.
pub fn serves(options: &ConvOptions<2>, [_, _, height, width]: [usize; 4]) -> bool {
    let fits = |kernel: usize, (before, after): (usize, usize)| before < kernel && after < kernel;
    options.dilation == [1, 1]
        && fits(height, options.padding[0])
        && fits(width, options.padding[1])
}

/// Inputs: x `[batch, channels_in, height, width]`, weight
/// `[channels_out, channels_in / groups, kernel_height, kernel_width]`, perhaps a bias.
pub fn forward(inputs: Vec<FlexTensor>, options: &ConvOptions<2>) -> (FlexTensor, Pullback) {
    let mut inputs = inputs.into_iter();
    let (Some(x), Some(weight)) = (inputs.next(), inputs.next()) else {
        unreachable!("a convolution has two or three inputs")
    };
    let bias = inputs.next();
    let sizes = Sizes::new(&x.shape(), &weight.shape(), options);
    let y = sizes.run(values(&x), values(&weight), bias.as_ref().map(values));
    let has_bias = bias.is_some();
    let pullback = move |grad: FlexTensor, wanted: &[bool]| {
        let grad = grad.to_contiguous();
        let grad = values(&grad);
        let dx = wanted[0].then(|| sizes.input_gradient(values(&weight), grad));
        let dw = wanted[1].then(|| {
            let dw = sizes.weight_gradient(values(&x), grad);
            FlexTensor::from_data(TensorData::new(dw, weight.shape()))
        });
        let mut gradients = vec![dx, dw];
        if has_bias {
            gradients.push(wanted[2].then(|| vector(sizes.bias_gradient(grad))));
        }
        gradients
    };
    (y, Box::new(pullback))
}

/// One axis of a convolution.
#[derive(Clone, Copy, Debug)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Length of a phase of the padded input.
    phase: usize,
}

impl Axis {
    fn new(input: usize, kernel: usize, stride: usize, (before, after): (usize, usize)) -> Self {
        let padded = input + before + after;
        let output = (padded - kernel) / stride + 1;
        Self { input, output, kernel, stride, padding: before, phase: padded.div_ceil(stride) }
    }

    /// The indices of the input that stand in a phase, as (index in the phase, index).
    fn phase_indices(&self, phase: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Self { input, stride, padding, .. } = *self;
        // The first index i with i + padding = phase modulo stride.
        let first = (phase + stride - padding % stride) % stride;
        (first..input).step_by(stride).map(move |i| ((i + padding) / stride, i))
    }

    /// Taps before the current one that a phase of the input's gradient reads, at most.
    fn reach(&self) -> usize {
        self.kernel.div_ceil(self.stride) - 1
    }

    /// Length of a phase of the input's gradient.
    fn gradient_phase(&self) -> usize {
        (self.input - 1 + self.padding) / self.stride + 1
    }
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    groups: usize,
    /// Channels of one group.
    channels_in: usize,
    channels_out: usize,
    rows: Axis,
    columns: Axis,
}

/// A sum of shifted rows: for each term the distance of its row, and its weight for each output.
struct Terms {
    shifts: Vec<usize>,
    /// `[outputs / block][terms][block]`, zeros where the last block is not full.
    weights: Vec<f32>,
    outputs: usize,
    block: usize,
}

impl Terms {
    /// `weight(output, term)`.
    fn new(shifts: Vec<usize>, outputs: usize, weight: impl Fn(usize, usize) -> f32) -> Self {
        let block = if outputs == 1 { 1 } else { 8 };
        let mut weights = Vec::with_capacity(outputs.next_multiple_of(block) * shifts.len());
        for first in (0..outputs).step_by(block) {
            for term in 0..shifts.len() {
                weights.extend(
                    (first..first + block)
                        .map(|output| if output < outputs { weight(output, term) } else { 0.0 }),
                );
            }
        }
        Self { shifts, weights, outputs, block }
    }

    /// `out[o][p] = sum of weights * planes[p + shift]` for all positions `0..count`; `out` has
    /// rows of `pitch`, a multiple of [`SLACK`].
    fn run(&self, planes: &[f32], count: usize, out: &mut [f32], pitch: usize) {
        if self.shifts.is_empty() {
            // No tap meets this phase: a stride that is longer than the kernel.
            out.fill(0.0);
            return;
        }
        let arch = Arch::new();
        let weights = self.weights.chunks_exact(self.shifts.len() * self.block);
        for (weights, out) in weights.zip(out.chunks_mut(self.block * pitch)) {
            let shifts = &self.shifts;
            match self.block {
                1 => arch.dispatch(Accumulate::<1> { planes, shifts, weights, count, out, pitch }),
                _ => arch.dispatch(Accumulate::<8> { planes, shifts, weights, count, out, pitch }),
            }
        }
    }

    /// Floats that [`run`](Self::run) writes.
    fn floats(&self, pitch: usize) -> usize {
        self.outputs.next_multiple_of(self.block) * pitch
    }
}

impl Sizes {
    fn new(x: &Shape, weight: &Shape, options: &ConvOptions<2>) -> Self {
        let axis =
            |i: usize| Axis::new(x[2 + i], weight[2 + i], options.stride[i], options.padding[i]);
        let groups = options.groups;
        Self {
            batch: x[0],
            groups,
            channels_in: weight[1],
            channels_out: weight[0] / groups,
            rows: axis(0),
            columns: axis(1),
        }
    }

    fn input_plane(&self) -> usize {
        self.rows.input * self.columns.input
    }

    fn output_plane(&self) -> usize {
        self.rows.output * self.columns.output
    }

    fn phases(&self) -> usize {
        self.rows.stride * self.columns.stride
    }

    fn taps(&self) -> usize {
        self.rows.kernel * self.columns.kernel
    }

    /// Elements of all phases of one padded input plane of a task of `images` images.
    fn padded(&self, images: usize) -> usize {
        self.phases() * images * self.rows.phase * self.columns.phase
    }

    /// Images that a task works on.
    fn images(&self) -> usize {
        POSITIONS.div_ceil(self.rows.phase * self.columns.phase).min(self.batch).max(1)
    }

    /// The distance of every (channel, tap) of a group, in the order of the weight.
    fn shifts(&self, images: usize) -> Vec<usize> {
        let (rows, columns) = (self.rows, self.columns);
        let plane = rows.phase * columns.phase;
        let mut shifts = Vec::new();
        for channel in 0..self.channels_in {
            for i in 0..rows.kernel {
                for j in 0..columns.kernel {
                    let phase = i % rows.stride * columns.stride + j % columns.stride;
                    let inside = i / rows.stride * columns.phase + j / columns.stride;
                    shifts.push(channel * self.padded(images) + phase * images * plane + inside);
                }
            }
        }
        shifts
    }

    /// Copies one group's planes of some images into padded phases; the padding stays as it is.
    fn pad(&self, x: &[f32], group: usize, images: usize, out: &mut [f32]) {
        let (rows, columns) = (self.rows, self.columns);
        let (plane, channels) = (rows.phase * columns.phase, self.channels_in);
        for (image, x) in x.chunks_exact(self.groups * channels * self.input_plane()).enumerate() {
            let x = &x[group * channels * self.input_plane()..];
            for channel in 0..channels {
                let x = &x[channel * self.input_plane()..][..self.input_plane()];
                let out = &mut out[channel * self.padded(images)..];
                for i in 0..rows.stride {
                    for (row, y) in rows.phase_indices(i) {
                        let source = &x[y * columns.input..][..columns.input];
                        for j in 0..columns.stride {
                            let phase = i * columns.stride + j;
                            let start = (phase * images + image) * plane + row * columns.phase;
                            if columns.stride == 1 {
                                out[start + columns.padding..][..source.len()]
                                    .copy_from_slice(source);
                            } else {
                                for (column, x) in columns.phase_indices(j) {
                                    out[start + column] = source[x];
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn run(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> FlexTensor {
        let images = self.images();
        let (rows, columns) = (self.rows, self.columns);
        let shifts = self.shifts(images);
        let terms: Vec<Terms> = weight
            .chunks_exact(self.channels_out * shifts.len())
            .map(|w| {
                Terms::new(shifts.clone(), self.channels_out, |o, term| w[o * shifts.len() + term])
            })
            .collect();
        let plane = rows.phase * columns.phase;
        let pitch = (images * plane).next_multiple_of(SLACK);
        let example_in = self.groups * self.channels_in * self.input_plane();
        let example_out = self.groups * self.channels_out * self.output_plane();
        let shape =
            [self.batch, self.groups * self.channels_out, rows.output, columns.output].into();
        // SAFETY: every row of every plane of `out` is written.
        unsafe {
            build(shape, images * example_out, |first, out| {
                let here = out.len() / example_out;
                let x = &x[first / example_out * example_in..][..here * example_in];
                let mut padded = vec![0.0; self.channels_in * self.padded(images) + SLACK];
                let mut flat = vec![0.0; terms[0].floats(pitch)];
                let count = (images - 1) * plane + plane_span(rows.output, columns);
                for (group, terms) in terms.iter().enumerate() {
                    self.pad(x, group, images, &mut padded);
                    terms.run(&padded, count, &mut flat, pitch);
                    for (image, out) in out.chunks_exact_mut(example_out).enumerate() {
                        for o in 0..self.channels_out {
                            let channel = group * self.channels_out + o;
                            let bias = bias.map_or(0.0, |bias| bias[channel]);
                            let flat = &flat[o * pitch + image * plane..];
                            let out = &mut out[channel * self.output_plane()..];
                            for row in 0..rows.output {
                                let flat = &flat[row * columns.phase..][..columns.output];
                                let out = &mut out[row * columns.output..][..columns.output];
                                for (out, &value) in out.iter_mut().zip(flat) {
                                    out.write(value + bias);
                                }
                            }
                        }
                    }
                }
            })
        }
    }

    fn input_gradient(&self, weight: &[f32], grad: &[f32]) -> FlexTensor {
        let (rows, columns) = (self.rows, self.columns);
        let images = self.images();
        let height = rows.gradient_phase() + rows.reach();
        let pitch_in = columns.gradient_phase() + columns.reach();
        let plane = height * pitch_in;
        let channel_pitch = images * plane;
        // For each group and phase: the terms of the taps that meet in that phase.
        let phases: Vec<(usize, usize)> =
            (0..rows.stride).flat_map(|i| (0..columns.stride).map(move |j| (i, j))).collect();
        let terms: Vec<Vec<Terms>> = weight
            .chunks_exact(self.channels_out * self.channels_in * self.taps())
            .map(|w| {
                phases
                    .iter()
                    .map(|&(i, j)| {
                        let taps: Vec<(usize, usize)> = (i..rows.kernel)
                            .step_by(rows.stride)
                            .flat_map(|r| {
                                (j..columns.kernel).step_by(columns.stride).map(move |c| (r, c))
                            })
                            .collect();
                        let shift = |&(r, c): &(usize, usize)| {
                            (rows.reach() - r / rows.stride) * pitch_in
                                + (columns.reach() - c / columns.stride)
                        };
                        let shifts = (0..self.channels_out)
                            .flat_map(|o| {
                                taps.iter().map(move |tap| o * channel_pitch + shift(tap))
                            })
                            .collect();
                        Terms::new(shifts, self.channels_in, |channel, term| {
                            let (o, (r, c)) = (term / taps.len(), taps[term % taps.len()]);
                            w[(o * self.channels_in + channel) * self.taps()
                                + r * columns.kernel
                                + c]
                        })
                    })
                    .collect()
            })
            .collect();
        let pitch = channel_pitch.next_multiple_of(SLACK);
        let example_in = self.groups * self.channels_in * self.input_plane();
        let example_out = self.groups * self.channels_out * self.output_plane();
        let shape = [self.batch, self.groups * self.channels_in, rows.input, columns.input].into();
        // SAFETY: the phases of all planes hold all their elements.
        unsafe {
            build(shape, images * example_in, |first, out| {
                let here = out.len() / example_in;
                let grad = &grad[first / example_in * example_out..][..here * example_out];
                let mut padded = vec![0.0; self.channels_out * channel_pitch + SLACK];
                let mut flat = Vec::new();
                let count = channel_pitch - (rows.reach() * pitch_in + columns.reach());
                for (group, terms) in terms.iter().enumerate() {
                    for (image, grad) in grad.chunks_exact(example_out).enumerate() {
                        let grad = &grad[group * self.channels_out * self.output_plane()..];
                        for o in 0..self.channels_out {
                            for row in 0..rows.output {
                                let start = o * self.output_plane() + row * columns.output;
                                let target = o * channel_pitch
                                    + image * plane
                                    + (row + rows.reach()) * pitch_in
                                    + columns.reach();
                                padded[target..][..columns.output]
                                    .copy_from_slice(&grad[start..][..columns.output]);
                            }
                        }
                    }
                    for (&(i, j), terms) in phases.iter().zip(terms) {
                        flat.resize(terms.floats(pitch), 0.0);
                        terms.run(&padded, count, &mut flat, pitch);
                        for (image, out) in out.chunks_exact_mut(example_in).enumerate() {
                            for channel in 0..self.channels_in {
                                let flat = &flat[channel * pitch + image * plane..];
                                let out = &mut out
                                    [(group * self.channels_in + channel) * self.input_plane()..];
                                for (q, y) in rows.phase_indices(i) {
                                    let out = &mut out[y * columns.input..][..columns.input];
                                    let flat = &flat[q * pitch_in..][..columns.gradient_phase()];
                                    for (r, x) in columns.phase_indices(j) {
                                        out[x].write(flat[r]);
                                    }
                                }
                            }
                        }
                    }
                }
            })
        }
    }

    fn weight_gradient(&self, x: &[f32], grad: &[f32]) -> Vec<f32> {
        let (rows, columns) = (self.rows, self.columns);
        let images = self.images();
        let shifts = self.shifts(images);
        let plane = rows.phase * columns.phase;
        let count = ((images - 1) * plane + plane_span(rows.output, columns)).next_multiple_of(16);
        let pitch = (images * plane).next_multiple_of(SLACK);
        let example_in = self.groups * self.channels_in * self.input_plane();
        let example_out = self.groups * self.channels_out * self.output_plane();
        let weights = self.groups * self.channels_out * shifts.len();
        // Every part sums over its images; the parts are then added in their order.
        let parts = (PARTIAL_SUMS / weights.max(1)).clamp(1, 32);
        let part = self.batch.div_ceil(parts).next_multiple_of(images);
        let sum_part = |images_of_part: Range<usize>| {
            let mut sum = vec![0.0; weights];
            let mut padded = vec![0.0; self.channels_in * self.padded(images) + SLACK];
            let mut flat = vec![0.0; self.channels_out.next_multiple_of(4) * pitch];
            for first in images_of_part.clone().step_by(images) {
                let last = (first + images).min(images_of_part.end);
                for group in 0..self.groups {
                    let x = &x[first * example_in..last * example_in];
                    self.pad(x, group, images, &mut padded);
                    if last - first < images {
                        // What an earlier round left of images that this one lacks.
                        flat.fill(0.0);
                    }
                    for image in 0..last - first {
                        for o in 0..self.channels_out {
                            let source = (first + image) * example_out
                                + (group * self.channels_out + o) * self.output_plane();
                            for row in 0..rows.output {
                                let target = o * pitch + image * plane + row * columns.phase;
                                flat[target..][..columns.output].copy_from_slice(
                                    &grad[source + row * columns.output..][..columns.output],
                                );
                            }
                        }
                    }
                    let size = self.channels_out * shifts.len();
                    let sum = &mut sum[group * size..][..size];
                    Arch::new().dispatch(Products {
                        planes: &padded,
                        shifts: &shifts,
                        grad: &flat,
                        pitch,
                        count,
                        sum,
                    });
                }
            }
            sum
        };
        let starts: Vec<usize> = (0..self.batch).step_by(part).collect();
        let sums: Vec<Vec<f32>> = starts
            .into_par_iter()
            .map(|start| sum_part(start..(start + part).min(self.batch)))
            .collect();
        sums.into_iter()
            .reduce(|mut total, sum| {
                total.iter_mut().zip(&sum).for_each(|(total, sum)| *total += sum);
                total
            })
            .unwrap_or_else(|| vec![0.0; weights])
    }

    fn bias_gradient(&self, grad: &[f32]) -> Vec<f32> {
        let channels = self.groups * self.channels_out;
        let mut sum = vec![0.0; channels];
        for (i, plane) in grad.chunks_exact(self.output_plane()).enumerate() {
            sum[i % channels] += plane.iter().map(|&g| f64::from(g)).sum::<f64>();
        }
        sum.into_iter().map(|sum| sum as f32).collect()
    }
}

/// Positions from the first to the last output of a plane.
fn plane_span(rows: usize, columns: Axis) -> usize {
    (rows - 1) * columns.phase + columns.output
}

/// The inner loops of [`Terms::run`] for `BLOCK` outputs.
struct Accumulate<'a, const BLOCK: usize> {
    planes: &'a [f32],
    shifts: &'a [usize],
    /// `[terms][BLOCK]`
    weights: &'a [f32],
    count: usize,
    /// `BLOCK` rows of `pitch`.
    out: &'a mut [f32],
    pitch: usize,
}

impl<const BLOCK: usize> Accumulate<'_, BLOCK> {
    /// Works on `VECTORS` vectors of positions at once.
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Self { planes, shifts, weights, count, out, pitch } = self;
        let width = VECTORS * S::F32_LANES;
        for p in (0..count).step_by(width) {
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; BLOCK];
            for (&shift, weights) in shifts.iter().zip(weights.chunks_exact(BLOCK)) {
                let (row, _) = S::as_simd_f32s(&planes[p + shift..][..width]);
                let row: [S::f32s; VECTORS] = std::array::from_fn(|v| row[v]);
                for (sums, &weight) in sums.iter_mut().zip(weights) {
                    let weight = simd.splat_f32s(weight);
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum = simd.mul_add_f32s(x, weight, *sum);
                    }
                }
            }
            for (sums, out) in sums.iter().zip(out.chunks_exact_mut(pitch)) {
                let (out, _) = S::as_mut_simd_f32s(&mut out[p..][..width]);
                out.copy_from_slice(sums);
            }
        }
    }
}

impl WithSimd for Accumulate<'_, 8> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::REGISTER_COUNT >= 32 {
            true => self.run::<S, 2>(simd),
            false => self.run::<S, 1>(simd),
        }
    }
}

impl WithSimd for Accumulate<'_, 1> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run::<S, 4>(simd);
    }
}

/// Adds to `sum[o][term]` the products of row `o` of `grad` with the row at each term's distance.
struct Products<'a> {
    planes: &'a [f32],
    shifts: &'a [usize],
    /// Rows of `pitch`, a multiple of four of them.
    grad: &'a [f32],
    pitch: usize,
    /// A multiple of 16.
    count: usize,
    sum: &'a mut [f32],
}

impl Products<'_> {
    /// Works on four outputs and `TERMS` terms at once.
    #[inline(always)]
    fn run<S: Simd, const TERMS: usize>(self, simd: S) {
        const OUTPUTS: usize = 4;
        let Self { planes, shifts, grad, pitch, count, sum } = self;
        let outputs = sum.len() / shifts.len();
        for (block, chosen) in shifts.chunks(TERMS).enumerate() {
            // A block that is not full repeats its last term, whose sums are dropped.
            let rows: [&[S::f32s]; TERMS] = std::array::from_fn(|i| {
                S::as_simd_f32s(&planes[chosen[i.min(chosen.len() - 1)]..][..count]).0
            });
            for (first, grad) in grad.chunks_exact(OUTPUTS * pitch).enumerate() {
                let grads: [&[S::f32s]; OUTPUTS] =
                    std::array::from_fn(|i| S::as_simd_f32s(&grad[i * pitch..][..count]).0);
                let mut sums = [[simd.splat_f32s(0.0); TERMS]; OUTPUTS];
                for p in 0..count / S::F32_LANES {
                    let row: [S::f32s; TERMS] = std::array::from_fn(|i| rows[i][p]);
                    for (sums, grad) in sums.iter_mut().zip(&grads) {
                        for (sum, x) in sums.iter_mut().zip(row) {
                            *sum = simd.mul_add_f32s(grad[p], x, *sum);
                        }
                    }
                }
                for (o, sums) in sums.iter().enumerate().take(outputs - first * OUTPUTS) {
                    let target = (first * OUTPUTS + o) * shifts.len() + block * TERMS;
                    for (sum, &vector) in sum[target..].iter_mut().zip(&sums[..chosen.len()]) {
                        *sum += simd.reduce_sum_f32s(vector);
                    }
                }
            }
        }
    }
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::REGISTER_COUNT >= 32 {
            true => self.run::<S, 6>(simd),
            false => self.run::<S, 2>(simd),
        }
    }
}
