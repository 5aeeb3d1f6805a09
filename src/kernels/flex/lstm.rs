//! A whole LSTM layer (Hochreiter and Schmidhuber 1997) as one operation: one small product a step,
//! gates and cell in one pass, and one product for the gradient of the recurrent weight.
//!
//! Sequences do not depend on each other: groups of them run through all steps on a core each, which
//! need not wait for each other at every step.

use burn::backend::TensorMetadata;
use burn::tensor::TensorData;
use multiversion::multiversion;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::{sigmoid, tanh};
use super::matrix::{Matrix, multiply, multiply_add};
use super::parallel::values;
use crate::kernels::HiddenQuantizer;

/// Sequences of a group, at most: two columns of the product's blocks, which then read the weight
/// from the cache twice.
const GROUP: usize = 12;

/// Columns of a matrix that a product reads as they are are a multiple of this; others are copied.
const COLUMNS: usize = 16;

/// Sizes of a layer's sequences, or of a group of them. All of them are laid out
/// `[batch, length, ...]`.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    hidden: usize,
}

impl Sizes {
    fn elements(&self) -> usize {
        self.batch * self.length * self.hidden
    }

    /// Where the elements of one step of one sequence begin, in a tensor of `width` elements a step.
    fn at(&self, sequence: usize, step: usize, width: usize) -> usize {
        (sequence * self.length + step) * width
    }

    /// One step of all sequences, as a matrix of `width` columns.
    fn step(&self, step: usize, width: usize) -> Matrix {
        let row_stride = self.length * width;
        Matrix { start: step * width, row_stride, ..Matrix::new(self.batch, width) }
    }

    /// All steps of all sequences, as a matrix of `width` columns.
    fn all(&self, width: usize) -> Matrix {
        Matrix::new(self.batch * self.length, width)
    }

    /// The recurrent weight.
    fn weight(&self) -> Matrix {
        Matrix::new(self.hidden, 4 * self.hidden)
    }

    /// Sequences of a group; the last one may have fewer.
    fn group(&self) -> usize {
        self.batch.div_ceil(self.batch.div_ceil(GROUP).max(1)).max(1)
    }

    /// Those of the group with so many elements of its hidden states.
    fn of_group(self, elements: usize) -> Self {
        Self { batch: elements / (self.length * self.hidden), ..self }
    }
}

/// What the backward pass needs: gates after their functions, cells (also that before the first
/// step, where it is not zero), and the hidden states as the recurrent product saw them, each state
/// one step later than it was computed.
struct Kept {
    gates: Vec<f32>,
    cells: Vec<f32>,
    first_cell: Option<FlexTensor>,
    inputs: Vec<f32>,
    states: FlexTensor,
    weight: FlexTensor,
}

/// Inputs: gates `[batch, length, 4 * hidden]` from the inputs, recurrent weight
/// `[hidden, 4 * hidden]`. Results: the hidden states `[batch, length, hidden]`, and the cell after
/// the last step, `[batch, hidden]`. `start`: hidden state and cell before the first step, each
/// `[batch, hidden]`; zero where there is none.
pub fn forward(
    inputs: Vec<FlexTensor>,
    start: &Option<[FlexTensor; 2]>,
    quantizer: Option<HiddenQuantizer>,
) -> (FlexTensor, Pullback, Vec<f32>) {
    let [gates, weight] = <[_; 2]>::try_from(inputs).expect("two inputs");
    let shape = gates.shape();
    let sizes = Sizes { batch: shape[0], length: shape[1], hidden: shape[2] / 4 };
    let hidden = sizes.hidden;
    let mut gates = values(&gates).to_vec();
    let [mut states, mut cells, mut inputs] = [(); 3].map(|()| vec![0.0; sizes.elements()]);
    let (group, elements) = (sizes.group(), sizes.group() * sizes.length * hidden);
    gates
        .par_chunks_mut(4 * elements)
        .zip(states.par_chunks_mut(elements))
        .zip(cells.par_chunks_mut(elements))
        .zip(inputs.par_chunks_mut(elements))
        .enumerate()
        .for_each(|(index, (((gates, states), cells), inputs))| {
            let start = start.as_ref().map(|start| {
                let own = |x| &values(x)[index * group * hidden..];
                start.each_ref().map(own)
            });
            let sizes = sizes.of_group(states.len());
            let outputs = Outputs { gates, states, cells, inputs };
            run_group(outputs, sizes, start, values(&weight), quantizer);
        });
    let states =
        FlexTensor::from_data(TensorData::new(states, [sizes.batch, sizes.length, hidden]));
    let last = |sequence| &cells[sizes.at(sequence, sizes.length - 1, hidden)..][..hidden];
    let cell = (0..sizes.batch).flat_map(last).copied().collect();
    let first_cell = start.as_ref().map(|[_, cell]| cell.clone());
    let kept = Kept { gates, cells, first_cell, inputs, states: states.clone(), weight };
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        backward(&kept, sizes, quantizer, &grad.to_contiguous()).map(Some).to_vec()
    };
    (states, Box::new(pullback), cell)
}

/// What the forward pass of a group writes; the gates come in from the inputs.
struct Outputs<'a> {
    gates: &'a mut [f32],
    states: &'a mut [f32],
    cells: &'a mut [f32],
    inputs: &'a mut [f32],
}

fn run_group(
    outputs: Outputs,
    sizes: Sizes,
    start: Option<[&[f32]; 2]>,
    weight: &[f32],
    quantizer: Option<HiddenQuantizer>,
) {
    let Outputs { gates, states, cells, inputs } = outputs;
    let hidden = sizes.hidden;
    let zero = vec![0.0; hidden];
    for step in 0..sizes.length {
        if step > 0 || start.is_some() {
            for sequence in 0..sizes.batch {
                let from = match (step, start) {
                    (0, Some([state, _])) => &state[sequence * hidden..][..hidden],
                    _ => &states[sizes.at(sequence, step - 1, hidden)..][..hidden],
                };
                let to = &mut inputs[sizes.at(sequence, step, hidden)..][..hidden];
                match quantizer {
                    Some(quantizer) => quantize(quantizer, from, to),
                    None => to.copy_from_slice(from),
                }
            }
            let (input, gate) = (sizes.step(step, hidden), sizes.step(step, 4 * hidden));
            multiply_add((inputs, input), (weight, sizes.weight()), (gates, gate));
        }
        for sequence in 0..sizes.batch {
            let (before, cells) = cells.split_at_mut(sizes.at(sequence, step, hidden));
            let before = match (step, start) {
                (0, None) => &zero,
                (0, Some([_, cell])) => &cell[sequence * hidden..],
                _ => &before[sizes.at(sequence, step - 1, hidden)..],
            };
            let gates = &mut gates[sizes.at(sequence, step, 4 * hidden)..][..4 * hidden];
            let states = &mut states[sizes.at(sequence, step, hidden)..][..hidden];
            run_cell(gates, before, &mut cells[..hidden], states);
        }
    }
}

fn backward(
    kept: &Kept,
    sizes: Sizes,
    quantizer: Option<HiddenQuantizer>,
    grad: &FlexTensor,
) -> [FlexTensor; 2] {
    let Sizes { batch, length, hidden } = sizes;
    let weight = transpose(values(&kept.weight), sizes);
    let mut dgates = vec![0.0; 4 * sizes.elements()];
    let elements = sizes.group() * length * hidden;
    dgates.par_chunks_mut(4 * elements).enumerate().for_each(|(index, dgates)| {
        let group = GroupBackward {
            sizes: sizes.of_group(dgates.len() / 4),
            gates: &kept.gates[4 * index * elements..],
            cells: &kept.cells[index * elements..],
            first_cell: kept
                .first_cell
                .as_ref()
                .map(|cell| &values(cell)[index * sizes.group() * hidden..]),
            states: &values(&kept.states)[index * elements..],
            grad: &values(grad)[index * elements..],
        };
        group.run(&weight, quantizer, dgates);
    });
    let inputs = (kept.inputs.as_slice(), sizes.all(hidden).transposed());
    let dweight = multiply(inputs, (&dgates, sizes.all(4 * hidden)));
    [
        FlexTensor::from_data(TensorData::new(dgates, [batch, length, 4 * hidden])),
        FlexTensor::from_data(TensorData::new(dweight, [hidden, 4 * hidden])),
    ]
}

/// The recurrent weight, transposed, its columns filled up to a multiple of [`COLUMNS`].
fn transpose(weight: &[f32], sizes: Sizes) -> Vec<f32> {
    let (hidden, gates) = (sizes.hidden, 4 * sizes.hidden);
    let width = hidden.next_multiple_of(COLUMNS);
    let mut out = vec![0.0; gates * width];
    // A few rows at a time, so that a line of the cache is read once.
    out.par_chunks_mut(COLUMNS * width).enumerate().for_each(|(task, rows)| {
        let first = task * COLUMNS;
        for column in 0..hidden {
            let from = &weight[column * gates + first..];
            for (row, &x) in rows.chunks_exact_mut(width).zip(from) {
                row[column] = x;
            }
        }
    });
    out
}

/// What the backward pass of a group reads.
struct GroupBackward<'a> {
    sizes: Sizes,
    gates: &'a [f32],
    cells: &'a [f32],
    first_cell: Option<&'a [f32]>,
    states: &'a [f32],
    grad: &'a [f32],
}

impl GroupBackward<'_> {
    /// `weight`: [`transpose`]d.
    fn run(&self, weight: &[f32], quantizer: Option<HiddenQuantizer>, dgates: &mut [f32]) {
        let sizes = self.sizes;
        let Sizes { batch, length, hidden } = sizes;
        let width = hidden.next_multiple_of(COLUMNS);
        // Gradients that a step hands to the one before it.
        let mut dhidden = vec![0.0; batch * width];
        let mut dcell = vec![0.0; batch * hidden];
        let zero = vec![0.0; hidden];
        for step in (0..length).rev() {
            for sequence in 0..batch {
                let here = sizes.at(sequence, step, hidden);
                let dhidden = &mut dhidden[sequence * width..][..hidden];
                dhidden.iter_mut().zip(&self.grad[here..][..hidden]).for_each(|(d, g)| *d += g);
                let before = match (step, self.first_cell) {
                    (0, None) => &zero,
                    (0, Some(cell)) => &cell[sequence * hidden..][..hidden],
                    _ => &self.cells[sizes.at(sequence, step - 1, hidden)..][..hidden],
                };
                let gates =
                    sizes.at(sequence, step, 4 * hidden)..sizes.at(sequence, step + 1, 4 * hidden);
                run_cell_backward(
                    &self.gates[gates.clone()],
                    before,
                    &self.cells[here..][..hidden],
                    dhidden,
                    &mut dcell[sequence * hidden..][..hidden],
                    &mut dgates[gates],
                );
            }
            if step > 0 {
                dhidden.fill(0.0);
                let target = (&mut *dhidden, Matrix::new(batch, width));
                let weight = (weight, Matrix::new(4 * hidden, width));
                multiply_add((dgates, sizes.step(step, 4 * hidden)), weight, target);
                if let Some(quantizer) = quantizer.filter(|quantizer| quantizer.clipped) {
                    for (sequence, dhidden) in dhidden.chunks_exact_mut(width).enumerate() {
                        let state = &self.states[sizes.at(sequence, step - 1, hidden)..][..hidden];
                        mask(quantizer, state, &mut dhidden[..hidden]);
                    }
                }
            }
        }
    }
}

/// Applies the gates' functions in place, and computes cell and state.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_cell(gates: &mut [f32], before: &[f32], cell: &mut [f32], state: &mut [f32]) {
    let width = state.len();
    let (input, rest) = gates.split_at_mut(width);
    let (forget, rest) = rest.split_at_mut(width);
    let (candidate, output) = rest.split_at_mut(width);
    for i in 0..width {
        input[i] = sigmoid(input[i]);
        forget[i] = sigmoid(forget[i]);
        candidate[i] = tanh(candidate[i]);
        output[i] = sigmoid(output[i]);
        cell[i] = forget[i] * before[i] + input[i] * candidate[i];
        state[i] = output[i] * tanh(cell[i]);
    }
}

/// `dcell` comes in as the gradient of this step's cell from the next step, and goes out as that
/// of the cell before.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_cell_backward(
    gates: &[f32],
    before: &[f32],
    cell: &[f32],
    dstate: &[f32],
    dcell: &mut [f32],
    dgates: &mut [f32],
) {
    let width = dstate.len();
    let (input, rest) = gates.split_at(width);
    let (forget, rest) = rest.split_at(width);
    let (candidate, output) = rest.split_at(width);
    let (dinput, rest) = dgates.split_at_mut(width);
    let (dforget, rest) = rest.split_at_mut(width);
    let (dcandidate, doutput) = rest.split_at_mut(width);
    for i in 0..width {
        let squashed = tanh(cell[i]);
        let d = dcell[i] + dstate[i] * output[i] * (1.0 - squashed * squashed);
        doutput[i] = dstate[i] * squashed * output[i] * (1.0 - output[i]);
        dinput[i] = d * candidate[i] * input[i] * (1.0 - input[i]);
        dforget[i] = d * before[i] * forget[i] * (1.0 - forget[i]);
        dcandidate[i] = d * input[i] * (1.0 - candidate[i] * candidate[i]);
        dcell[i] = d * forget[i];
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn quantize(quantizer: HiddenQuantizer, x: &[f32], out: &mut [f32]) {
    let HiddenQuantizer { quantizer, scale, .. } = quantizer;
    let inverse = 1.0 / scale;
    for (out, &x) in out.iter_mut().zip(x) {
        *out = quantizer.quantize(x * inverse) * scale;
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn mask(quantizer: HiddenQuantizer, x: &[f32], grad: &mut [f32]) {
    let HiddenQuantizer { quantizer, scale, .. } = quantizer;
    let inverse = 1.0 / scale;
    for (grad, &x) in grad.iter_mut().zip(x) {
        *grad = if quantizer.in_range(x * inverse) { *grad } else { 0.0 };
    }
}
