//! A linear layer: one product forward, two backward.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use burn::tensor::TensorData;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::matrix::{Matrix, multiply, multiply_add};
use super::parallel::{task, values, vector};

/// Inputs: x `[rows, d_input]`, weight `[d_input, d_output]`, perhaps a bias `[d_output]`.
pub fn forward(inputs: Vec<FlexTensor>) -> (FlexTensor, Pullback) {
    let mut inputs = inputs.into_iter();
    let (Some(x), Some(weight)) = (inputs.next(), inputs.next()) else {
        unreachable!("a linear layer has two or three inputs")
    };
    let bias = inputs.next();
    let (rows, d_input, d_output) = (x.shape()[0], x.shape()[1], weight.shape()[1]);
    let (x_matrix, weight_matrix) = (Matrix::new(rows, d_input), Matrix::new(d_input, d_output));
    let y_matrix = Matrix::new(rows, d_output);
    let y = match &bias {
        None => multiply((values(&x), x_matrix), (values(&weight), weight_matrix)),
        Some(bias) => {
            let mut y = repeat(values(bias), rows);
            let weight = (values(&weight), weight_matrix);
            multiply_add((values(&x), x_matrix), weight, (&mut y, y_matrix));
            y
        }
    };
    let has_bias = bias.is_some();
    let pullback = move |grad: FlexTensor, wanted: &[bool]| {
        let grad = grad.to_contiguous();
        let grad = (values(&grad), y_matrix);
        let tensor =
            |values, shape: [usize; 2]| FlexTensor::from_data(TensorData::new(values, shape));
        let dx = wanted[0].then(|| {
            let dx = multiply(grad, (values(&weight), weight_matrix.transposed()));
            tensor(dx, [rows, d_input])
        });
        let dweight = wanted[1].then(|| {
            let dweight = multiply((values(&x), x_matrix.transposed()), grad);
            tensor(dweight, [d_input, d_output])
        });
        let mut gradients = vec![dx, dweight];
        if has_bias {
            gradients.push(wanted[2].then(|| vector(column_sums(grad.0, d_output))));
        }
        gradients
    };
    let y = FlexTensor::from_data(TensorData::new(y, [rows, d_output]));
    (y, Box::new(pullback))
}

/// `row`, `count` times.
fn repeat(row: &[f32], count: usize) -> Vec<f32> {
    let len = row.len() * count;
    let mut out = Vec::with_capacity(len);
    out.spare_capacity_mut()[..len].par_chunks_mut(task(row.len())).for_each(|out| {
        for out in out.chunks_exact_mut(row.len()) {
            out.iter_mut().zip(row).for_each(|(out, &value)| {
                MaybeUninit::write(out, value);
            });
        }
    });
    // SAFETY: all chunks are whole rows, and each of their elements is written.
    unsafe { out.set_len(len) };
    out
}

/// The sum of every column of rows of `width`; the order of the additions is fixed.
fn column_sums(x: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = x
        .par_chunks(16 * task(width))
        .map(|rows| {
            let mut sums = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    for part in &parts {
        total.iter_mut().zip(part).for_each(|(total, x)| *total += x);
    }
    total
}
