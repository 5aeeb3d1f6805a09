//! Softmax over the last dimension of scaled, masked scores.

use std::mem::MaybeUninit;

use burn::backend::TensorMetadata;
use multiversion::multiversion;

use super::FlexTensor;
use super::extension::Pullback;
use super::math::exp;
use super::parallel::{build, task, values};
use super::reduce::{max, sum};

/// The columns of each row that get no part.
pub struct Mask {
    /// `[batch, width]`, for all rows of an example.
    pub padding: Option<Vec<bool>>,
    /// Whether a row sees no column after its own: the last row sees all columns, the row before
    /// it one less.
    pub causal: bool,
}

/// Where a row stands, and what it sees.
struct Rows<'a> {
    mask: &'a Mask,
    /// Rows of an example.
    per_example: usize,
    /// Rows of one head.
    length: usize,
    width: usize,
}

impl Rows<'_> {
    /// How many columns a row sees at most.
    fn end(&self, row: usize) -> usize {
        match self.mask.causal {
            true => (row % self.length + 1 + self.width).saturating_sub(self.length),
            false => self.width,
        }
    }

    /// The padding of a row's example, in as many columns as there are.
    fn padding(&self, row: usize) -> Option<&[bool]> {
        let start = row / self.per_example * self.width;
        self.mask.padding.as_ref().map(|padding| &padding[start..start + self.width])
    }
}

/// Input: scores `[batch, heads, length, width]`.
pub fn forward(inputs: Vec<FlexTensor>, scale: f32, mask: &Mask) -> (FlexTensor, Pullback) {
    let [scores] = <[_; 1]>::try_from(inputs).expect("one input");
    let shape = scores.shape();
    let [heads, length, width] = [shape[1], shape[2], shape[3]];
    let rows = Rows { mask, per_example: heads * length, length, width };
    // SAFETY: `run` writes every row of `out`.
    let y = unsafe {
        build(shape, task(width), |first, out| {
            let source = &values(&scores)[first..first + out.len()];
            run(source, scale, &rows, first / width, out)
        })
    };
    let kept = y.clone();
    let pullback = move |grad: FlexTensor, _: &[bool]| {
        let grad = grad.to_contiguous();
        let (y, g) = (values(&kept), values(&grad));
        // SAFETY: `run_backward` writes every row of `out`.
        let dx = unsafe {
            build(grad.shape(), task(width), |first, out| {
                let range = first..first + out.len();
                run_backward(&y[range.clone()], &g[range], scale, width, out)
            })
        };
        vec![Some(dx)]
    };
    (y, Box::new(pullback))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run(x: &[f32], scale: f32, rows: &Rows, first_row: usize, out: &mut [MaybeUninit<f32>]) {
    let width = rows.width;
    let mut buffer = vec![0f32; width];
    for (i, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
        let end = rows.end(first_row + i);
        let (seen, unseen) = out.split_at_mut(end);
        unseen.iter_mut().for_each(|out| {
            out.write(0.0);
        });
        let row = &mut buffer[..end];
        match rows.padding(first_row + i) {
            Some(padding) => {
                for ((row, &x), &masked) in row.iter_mut().zip(x).zip(padding) {
                    *row = if masked { f32::NEG_INFINITY } else { x * scale };
                }
                let max = max([row], |[x]| x);
                for (row, &masked) in row.iter_mut().zip(padding) {
                    *row = if masked { 0.0 } else { exp(*row - max) };
                }
            }
            None => {
                row.iter_mut().zip(x).for_each(|(row, &x)| *row = x * scale);
                let max = max([row], |[x]| x);
                row.iter_mut().for_each(|row| *row = exp(*row - max));
            }
        }
        let inverse = 1.0 / sum([row], |[x]| x);
        for (out, &row) in seen.iter_mut().zip(&*row) {
            out.write(row * inverse);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma"))]
fn run_backward(y: &[f32], grad: &[f32], scale: f32, width: usize, out: &mut [MaybeUninit<f32>]) {
    let rows = y.chunks_exact(width).zip(grad.chunks_exact(width)).zip(out.chunks_exact_mut(width));
    for ((y, grad), out) in rows {
        let dot = sum([y, grad], |[y, grad]| y * grad);
        for ((out, &y), &grad) in out.iter_mut().zip(y).zip(grad) {
            out.write(scale * y * (grad - dot));
        }
    }
}
