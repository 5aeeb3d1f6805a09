//! Products of matrices that lie anywhere in a slice.

use gemm::{Parallelism, gemm};
use rayon::prelude::*;

/// Multiplications from which a product is shared among cores.
const PARALLEL: usize = 1 << 20;

/// Elements of a block of a product that stays in a core's cache.
const BLOCK: usize = 1 << 17;

/// Columns of a block, at least.
const BLOCK_COLUMNS: usize = 128;

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
    /// A matrix that fills a slice row by row.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { start: 0, rows, columns, row_stride: columns, column_stride: 1 }
    }

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

/// `out += a b`, on this core alone: for products of which there are many at a time.
pub fn multiply_add(a: (&[f32], Matrix), b: (&[f32], Matrix), out: (&mut [f32], Matrix)) {
    let (values, matrix) = out;
    assert!(matrix.end() <= values.len());
    // SAFETY: all elements of `matrix` lie inside `values`, and are initialized.
    unsafe { product(a, b, values.as_mut_ptr(), matrix, true, Parallelism::None) };
}

/// `a b`, row by row.
pub fn multiply(a: (&[f32], Matrix), b: (&[f32], Matrix)) -> Vec<f32> {
    let matrix = Matrix::new(a.1.rows, b.1.columns);
    let mut out = Vec::with_capacity(matrix.end());
    let parallelism = match a.1.rows * a.1.columns * b.1.columns >= PARALLEL {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    // SAFETY: the vector has room for all elements of `matrix`; the product writes each of them.
    unsafe {
        product(a, b, out.as_mut_ptr(), matrix, false, parallelism);
        out.set_len(matrix.end());
    }
    out
}

/// `a b` plus a row, row by row.
///
/// The product is taken in blocks of columns, and the row written to a block just before its
/// product is added: the result passes through memory once.
pub fn multiply_add_row(a: (&[f32], Matrix), b: (&[f32], Matrix), row: &[f32]) -> Vec<f32> {
    let matrix = Matrix::new(a.1.rows, b.1.columns);
    assert_eq!(row.len(), matrix.columns);
    let mut out: Vec<f32> = Vec::with_capacity(matrix.end());
    let start = SendPointer(out.as_mut_ptr());
    let width = (BLOCK / matrix.rows.max(1)).max(BLOCK_COLUMNS);
    (0..matrix.columns).into_par_iter().step_by(width).for_each(|first| {
        let columns = first..matrix.columns.min(first + width);
        // SAFETY: the vector has room for all elements of `matrix`; each block writes its own
        // columns of every row, and nobody else writes them.
        unsafe {
            for i in 0..matrix.rows {
                let out = start.get().add(i * matrix.row_stride + first);
                out.copy_from_nonoverlapping(row[columns.clone()].as_ptr(), columns.len());
            }
            let block = |of: Matrix| Matrix {
                start: of.start + first * of.column_stride,
                columns: columns.len(),
                ..of
            };
            product(a, (b.0, block(b.1)), start.get(), block(matrix), true, Parallelism::None);
        }
    });
    // SAFETY: the blocks cover all columns.
    unsafe { out.set_len(matrix.end()) };
    out
}

/// A pointer that goes to other threads; who uses it keeps what they write apart.
#[derive(Clone, Copy)]
struct SendPointer(*mut f32);

// SAFETY: as above.
unsafe impl Send for SendPointer {}
// SAFETY: as above.
unsafe impl Sync for SendPointer {}

impl SendPointer {
    fn get(self) -> *mut f32 {
        self.0
    }
}

/// Writes `a b` to `out`, or adds it to what stands there.
///
/// # Safety
///
/// All elements of `out_matrix` must be valid for writes, and where `add` is set, initialized.
unsafe fn product(
    (a, a_matrix): (&[f32], Matrix),
    (b, b_matrix): (&[f32], Matrix),
    out: *mut f32,
    out_matrix: Matrix,
    add: bool,
    parallelism: Parallelism,
) {
    let (m, k, n) = (a_matrix.rows, a_matrix.columns, b_matrix.columns);
    assert_eq!((b_matrix.rows, out_matrix.rows, out_matrix.columns), (k, m, n));
    assert!(a_matrix.end() <= a.len() && b_matrix.end() <= b.len());
    let strides = |matrix: Matrix| (matrix.column_stride as isize, matrix.row_stride as isize);
    let ((a_cs, a_rs), (b_cs, b_rs)) = (strides(a_matrix), strides(b_matrix));
    let (out_cs, out_rs) = strides(out_matrix);
    // SAFETY: all elements of `a` and `b` lie inside their slices, as asserted above; `out` is as
    // the caller promises, and overlaps neither, since they are borrowed.
    unsafe {
        gemm(
            m,
            n,
            k,
            out.add(out_matrix.start),
            out_cs,
            out_rs,
            add,
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
