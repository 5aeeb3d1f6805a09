//! A linear layer: one product forward, two backward.

use burn::backend::TensorMetadata;
use burn::tensor::TensorData;
use rayon::prelude::*;

use super::FlexTensor;
use super::extension::Pullback;
use super::matrix::{Matrix, multiply, multiply_add_row};
use super::parallel::{add_up, task, values, vector};

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
    let tensor = |values, shape: [usize; 2]| FlexTensor::from_data(TensorData::new(values, shape));
    let (x_values, weight_values) = ((values(&x), x_matrix), (values(&weight), weight_matrix));
    let y = match &bias {
        None => multiply(x_values, weight_values),
        Some(bias) => multiply_add_row(x_values, weight_values, values(bias)),
    };
    let y = tensor(y, [rows, d_output]);
    let has_bias = bias.is_some();
    let pullback = move |grad: FlexTensor, wanted: &[bool]| {
        let grad = grad.to_contiguous();
        let grad = (values(&grad), y_matrix);
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
    (y, Box::new(pullback))
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
    add_up(&parts, width)
}
