//! What passes a quantizer, recorded while a model runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::{FakeQuantize, Histogram, Moments, ScaleTensors};
use crate::coding::{QuantizationError, Rounding};

/// Values of one task. Sums are taken task after task, so that they do not depend on the number of cores.
const TASK: usize = 1 << 16;

/// Values of one batch that are kept as a sample for the range search.
const SAMPLES_PER_BATCH: usize = 1 << 13;

/// Values of a batch that stand for all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Each `step`-th value.
    pub values: Vec<f32>,
    /// How far they lie apart.
    pub step: usize,
}

/// What a float model's activation looked like on calibration data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// A sample of every batch.
    pub samples: Vec<Sample>,
    /// All values beyond the largest sampled magnitude of their batch. A few of them can hold most
    /// of a tensor's energy, and a sample alone would miss them.
    pub outliers: Vec<f32>,
    /// Values seen.
    pub count: u64,
    /// Largest magnitude of each batch, in order.
    pub batch_max: Vec<f32>,
    /// The smallest and the largest value, with 0 between them.
    pub ends: (f32, f32),
    /// Values that were NaN or infinite.
    pub non_finite: u64,
    /// The summed squares at each index of the last axis: the features of a linear layer's input.
    pub last_axis_energy: Vec<f64>,
    /// The same for the second axis: the channels of a convolution's input.
    pub second_axis_energy: Vec<f64>,
    /// Vectors along the last axis: the rows of a linear layer's input.
    pub rows: u64,
    /// Vectors along the second axis: the positions of a convolution's input.
    pub positions: u64,
    /// The positions of what a convolution made of it.
    pub output_positions: u64,
}

impl Observation {
    /// Adds one batch, a tensor of `shape`.
    pub fn record(&mut self, values: &[f32], shape: &[usize]) {
        let (low, high) = ends(values);
        self.non_finite += values.iter().filter(|v| !v.is_finite()).count() as u64;
        self.batch_max.push(high.max(-low));
        self.ends = (self.ends.0.min(low), self.ends.1.max(high));
        let step = sample_step(values.len());
        // From batch to batch another start, so that batches that lie alike are seen elsewhere.
        let start = self.batch_max.len() % step;
        let sample = values.iter().skip(start).step_by(step);
        let sampled_max = sample.clone().fold(0f32, |max, v| max.max(v.abs()));
        self.samples.push(Sample { values: sample.copied().collect(), step });
        self.outliers.extend(values.iter().filter(|v| v.abs() > sampled_max));
        self.count += values.len() as u64;
        self.positions += positions(shape);
        if let [ref rows @ .., last] = *shape {
            self.rows += rows.iter().product::<usize>() as u64;
            add_energies(&mut self.last_axis_energy, values, last, 1);
        }
        if let [_, second, ref rest @ ..] = *shape {
            add_energies(&mut self.second_axis_energy, values, second, rest.iter().product());
        }
    }

    /// A sample of all batches in which each value stands for as many: those of small batches are thinned out.
    pub fn even_sample(&self) -> Vec<f32> {
        let widest = self.samples.iter().map(|sample| sample.step).max().unwrap_or(1);
        let thinned = |Sample { values, step }: &'_ Sample| -> Vec<f32> {
            let count = (values.len() * step).div_ceil(widest);
            (0..count).map(|i| values[i * widest / step]).collect()
        };
        self.samples.iter().flat_map(thinned).collect()
    }
}

/// How far sampled values lie apart. It has no factor in common with any axis of the tensor, or the sample would see the
/// same few columns in every row: of wide layers some columns are many times larger than the others.
fn sample_step(values: usize) -> usize {
    let least = values.div_ceil(SAMPLES_PER_BATCH).max(1);
    let common = |step: usize| {
        let (mut a, mut b) = (values, step);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (least..).find(|&step| common(step) <= 1).unwrap_or(least)
}

/// The smallest and the largest of some numbers and 0.
///
/// Side by side, since one running minimum waits for each comparison.
fn ends(values: &[f32]) -> (f32, f32) {
    const LANES: usize = 16;
    let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for ((&x, low), high) in chunk.iter().zip(&mut low).zip(&mut high) {
            *low = if x < *low { x } else { *low };
            *high = if x > *high { x } else { *high };
        }
    }
    let all = |lanes: [f32; LANES]| lanes.into_iter().chain(rest.iter().copied());
    (all(low).fold(0.0, f32::min), all(high).fold(0.0, f32::max))
}

/// The vectors along the second axis of a tensor, its channels.
fn positions(shape: &[usize]) -> u64 {
    let others = shape.iter().enumerate().filter(|(axis, _)| *axis != 1);
    others.map(|(_, &size)| size as u64).product()
}

/// Adds the squares at each index of an axis of `size`, of whose steps each is `stride` values long.
/// Axes whose size changes from batch to batch are no axes of channels: theirs are left out.
fn add_energies(energies: &mut Vec<f64>, values: &[f32], size: usize, stride: usize) {
    if energies.is_empty() {
        energies.resize(size, 0.0);
    }
    if energies.len() != size {
        return;
    }
    let squared = |&v: &f32| f64::from(v) * f64::from(v);
    for block in values.chunks_exact((size * stride).max(1)) {
        if stride == 1 {
            // No runs to sum: neighbours go to neighbours, side by side.
            energies.iter_mut().zip(block).for_each(|(energy, v)| *energy += squared(v));
        } else {
            for (energy, run) in energies.iter_mut().zip(block.chunks_exact(stride.max(1))) {
                *energy += run.iter().map(squared).sum::<f64>();
            }
        }
    }
}

/// What quantizing some tensors of a site lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The error.
    pub error: QuantizationError,
    /// The scales with which the last tensor was quantized; empty if there was none.
    pub scales: Vec<f32>,
    /// How the values lay about the levels. Of a coding with zero points, about its codes.
    pub histogram: Histogram,
}

impl Measured {
    /// Nothing yet, for levels from `lowest` to `highest` (in units of the scale).
    fn about(lowest: f32, highest: f32) -> Self {
        let histogram = Histogram::about(lowest, highest);
        Self { error: QuantizationError::default(), scales: Vec::new(), histogram }
    }

    /// Adds the values of one tensor.
    fn record<const D: usize>(
        &mut self,
        x: &Tensor<D>,
        scales: &ScaleTensors,
        operation: FakeQuantize,
    ) {
        self.scales = floats(&host(&scales.scale)).to_vec();
        self.histogram.note_scales(&self.scales);
        let zero_points = scales.zero_point.as_ref().map(host);
        let zero_points = zero_points.as_ref().map(floats).unwrap_or_default();
        let zero_point = |group: usize| zero_points.get(group).copied().unwrap_or(0.0);
        let format = operation.format;
        let group_of = operation.granularity.indexer(&x.dims());
        let of_task = |(task, values): (usize, &[f32])| {
            let mut histogram = self.histogram.emptied();
            let mut error = QuantizationError::default();
            if let [scale] = self.scales[..] {
                let (inverse, zero_point) = (1.0 / scale, zero_point(0));
                error = format.error(values, scale, zero_point as i32);
                histogram.record_run(values, inverse, zero_point);
            } else {
                let centered = format.rounder(0);
                for (i, &x) in values.iter().enumerate() {
                    let group = group_of(task * TASK + i);
                    let (scale, zero_point) = (self.scales[group], zero_point(group));
                    let rounder = match zero_points.is_empty() {
                        true => centered,
                        false => format.rounder(zero_point as i32),
                    };
                    let unit = x * (1.0 / scale);
                    error.record(x, rounder.quantize(unit) * scale, rounder.in_range(unit));
                    histogram.record(unit + zero_point);
                }
            }
            (error, histogram)
        };
        let parts: Vec<_> = floats(&host(x)).par_chunks(TASK).enumerate().map(of_task).collect();
        for (error, histogram) in parts {
            self.error.merge(&error);
            self.histogram.merge(&histogram);
        }
    }
}

#[derive(Debug)]
enum State {
    Idle,
    Observing(Observation),
    Correlating(Moments),
    Measuring(Measured),
    /// What the latest measurement saw, kept after its error was taken.
    Measured(Histogram),
}

/// A recorder that a quantizer and its owner share: clones of a model write to the same probe.
#[derive(Clone, Debug)]
pub struct Probe(Arc<Mutex<State>>);

impl Default for Probe {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State::Idle)))
    }
}

impl Probe {
    /// Records the values of what passes from now on.
    pub fn observe(&self) {
        *self.state() = State::Observing(Observation::default());
    }

    /// Sums the moments of what passes from now on, as a weight of the shape of `moments` meets it.
    pub(crate) fn correlate(&self, moments: Moments) {
        *self.state() = State::Correlating(moments);
    }

    /// Stops summing; the moments of what was seen since [`correlate`](Self::correlate).
    pub(crate) fn take_moments(&self) -> Option<Moments> {
        match std::mem::replace(&mut *self.state(), State::Idle) {
            State::Correlating(moments) => Some(moments),
            _ => None,
        }
    }

    /// Measures the quantization error of what passes from now on, and how it lies about levels
    /// from `lowest` to `highest` (in units of the scale).
    pub fn measure(&self, lowest: f32, highest: f32) {
        *self.state() = State::Measuring(Measured::about(lowest, highest));
    }

    /// Stops observing; what was seen since [`observe`](Self::observe).
    pub fn take_observation(&self) -> Option<Observation> {
        match std::mem::replace(&mut *self.state(), State::Idle) {
            State::Observing(observation) => Some(observation),
            _ => None,
        }
    }

    /// Stops measuring; the error of what passed since [`measure`](Self::measure).
    pub fn take_measured(&self) -> Option<Measured> {
        let state = &mut *self.state();
        match std::mem::replace(state, State::Idle) {
            State::Measuring(measured) => {
                *state = State::Measured(measured.histogram.clone());
                Some(measured)
            }
            _ => None,
        }
    }

    /// Where the values lay in the latest measurement; none while something is recorded.
    pub fn histogram(&self) -> Option<Histogram> {
        match &*self.state() {
            State::Measured(histogram) => Some(histogram.clone()),
            _ => None,
        }
    }

    /// Called with every activation that passes.
    ///
    /// Reads it back from its device only while the probe is at work, and never in training,
    /// since validation data are what is measured.
    pub(super) fn activation<const D: usize>(
        &self,
        x: &Tensor<D>,
        quantizer: Option<(&ScaleTensors, FakeQuantize)>,
    ) {
        if x.is_autodiff() {
            return;
        }
        match (&mut *self.state(), quantizer) {
            (State::Observing(observation), _) => observation.record(floats(&host(x)), &x.dims()),
            (State::Correlating(moments), _) => moments.record_rows(x),
            (State::Measuring(measured), Some((scales, operation))) => {
                measured.record(x, scales, operation);
            }
            _ => {}
        }
    }

    /// Called with a convolution's input, of which `windows` makes what its kernel meets.
    pub(super) fn windows<const D: usize>(
        &self,
        x: &Tensor<D>,
        windows: impl FnOnce(Tensor<D>) -> Option<Tensor<D>>,
    ) {
        if x.is_autodiff() {
            return;
        }
        if let State::Correlating(moments) = &mut *self.state() {
            moments.record_windows(x, windows);
        }
    }

    /// Called with what a layer made of its input.
    pub(super) fn output<const D: usize>(&self, y: &Tensor<D>) {
        if let State::Observing(observation) = &mut *self.state() {
            observation.output_positions += positions(&y.dims());
        }
    }

    /// Called with a weight whenever it is materialized; measures the first one only, since it
    /// stays the same as long as nothing is trained.
    pub(super) fn weight<const D: usize>(
        &self,
        x: &Tensor<D>,
        scales: &ScaleTensors,
        operation: FakeQuantize,
    ) {
        if x.is_autodiff() {
            return;
        }
        if let State::Measuring(measured) = &mut *self.state()
            && measured.error.count == 0
        {
            measured.record(x, scales, operation);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The values of a tensor, wherever it lies.
fn host<const D: usize>(tensor: &Tensor<D>) -> TensorData {
    tensor.to_data().convert::<f32>()
}

fn floats(data: &TensorData) -> &[f32] {
    data.as_slice().expect("data converted to f32")
}
