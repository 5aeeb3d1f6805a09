//! Products of matrices that lie anywhere in a slice.

use gemm::{Parallelism, gemm};

/// Multiplications from which a product is shared among cores.
const PARALLEL: usize = 1 << 20;

/// Where the elements of a matrix stand in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// Index of the first element.
    pub start: usize,
    pub rows: usize,
    pub columns: usize,
    /// Distance of neighbouring rows.
    pub row_stride: usize,
    /// Distance of neighbouring columns.
    pub column_stride: usize,
}

impl Matrix {
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// One more than the index of the last element.
    fn end(&self) -> usize {
        self.start
            + self.rows.saturating_sub(1) * self.row_stride
            + self.columns.saturating_sub(1) * self.column_stride
            + usize::from(self.rows * self.columns > 0)
    }
}

/// `out += a b`.
pub fn multiply_add(
    (a, a_matrix): (&[f32], Matrix),
    (b, b_matrix): (&[f32], Matrix),
    (out, out_matrix): (&mut [f32], Matrix),
) {
    let (m, k, n) = (a_matrix.rows, a_matrix.columns, b_matrix.columns);
    assert_eq!((b_matrix.rows, out_matrix.rows, out_matrix.columns), (k, m, n));
    assert!(a_matrix.end() <= a.len() && b_matrix.end() <= b.len());
    assert!(out_matrix.end() <= out.len());
    let parallelism = match m * k * n >= PARALLEL {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    let strides = |matrix: Matrix| (matrix.column_stride as isize, matrix.row_stride as isize);
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(a_matrix), strides(b_matrix));
    let (out_cs, out_rs) = strides(out_matrix);
    // SAFETY: all elements of the three matrices lie inside their slices, as asserted above, and
    // `out` is borrowed mutably, so it overlaps neither of the others.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr().add(out_matrix.start),
            out_cs,
            out_rs,
            true,
            a.as_ptr().add(a_matrix.start),
            a_cs,
            a_rs,
            b.as_ptr().add(b_matrix.start),
            b_cs,
            b_rs,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
