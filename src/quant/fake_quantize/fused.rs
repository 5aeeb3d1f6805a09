//! Fake quantization on the `flex` backend: one pass over memory on all cores, with a
//! hand-written gradient.

use std::mem::MaybeUninit;

use burn::backend::autodiff::{
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind, unary},
};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use multiversion::multiversion;
use rayon::prelude::*;

use super::{Estimator, FakeQuantize};
use crate::coding::Quantizer;
use crate::quant::{Folded, Granularity};

type FlexTensor = FloatTensor<Flex>;

/// Elements that one task handles: small enough to share out, large enough to pay for a task.
const TASK: usize = 1 << 14;

/// Fake quantization as an operation of a backend.
#[backend_extension(Flex, Autodiff)]
pub(super) trait FakeQuantizeOps: Backend {
    /// The forward pass. `x` has any shape, `scale` is flat.
    fn fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        operation: FakeQuantize,
    ) -> FloatTensor<Self>;

    /// `grad` where `x` is inside the representable range, 0 elsewhere.
    fn fake_quantize_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        operation: FakeQuantize,
    ) -> FloatTensor<Self>;
}

/// [`fake_quantize`](super::fake_quantize) for a 32-bit float tensor on `flex`.
pub(super) fn fake_quantize_fused<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    operation: FakeQuantize,
) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fake_quantize(
        x.into_dispatch(),
        scale.into_dispatch(),
        operation,
    ))
}

impl<B: Backend + FakeQuantizeOps, C: CheckpointStrategy> FakeQuantizeOps for Autodiff<B, C> {
    fn fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        operation: FakeQuantize,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct StraightThrough;

        impl<B: Backend + FakeQuantizeOps> Backward<B, 1> for StraightThrough {
            /// The input and its scales, or nothing where all gradients pass.
            type State = Option<(FloatTensor<B>, FloatTensor<B>, FakeQuantize)>;

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                grads: &mut Gradients,
                _checkpointer: &mut Checkpointer,
            ) {
                unary::<B, _>(ops.parents, ops.node, grads, |grad| match ops.state {
                    None => grad,
                    Some((x, scale, operation)) => {
                        B::fake_quantize_backward(x, scale, grad, operation)
                    }
                });
            }
        }

        let (x, guard) = x.into_parts();
        let scale = scale.into_primitive();
        match StraightThrough.prepare::<C>([guard]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = (operation.estimator == Estimator::Clipped)
                    .then(|| (x.clone(), scale.clone(), operation));
                prep.finish(state, B::fake_quantize(x, scale, operation))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fake_quantize(x, scale, operation)),
        }
    }

    fn fake_quantize_backward(
        _x: FloatTensor<Self>,
        _scale: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _operation: FakeQuantize,
    ) -> FloatTensor<Self> {
        unimplemented!("a straight-through estimator has no second derivative")
    }
}

impl FakeQuantizeOps for Flex {
    fn fake_quantize(x: FlexTensor, scale: FlexTensor, operation: FakeQuantize) -> FlexTensor {
        let x = x.to_contiguous();
        let scale = scale.to_contiguous();
        let shape = x.shape();
        let rows = Rows::new(&shape, operation.granularity);
        let (x, scale) = (slice(&x), slice(&scale));
        let quantizer = unit_quantizer(operation);

        let mut out = Vec::with_capacity(x.len());
        out.spare_capacity_mut()[..x.len()]
            .par_chunks_mut(rows.task)
            .zip(x.par_chunks(rows.task))
            .enumerate()
            .for_each(|(task, (out, x))| {
                rows.for_each_run(task, x.len(), |range, scales| {
                    let (x, out) = (&x[range.clone()], &mut out[range]);
                    match scales {
                        Scales::One(i) => quantize_run(quantizer, scale[i], x, out),
                        Scales::Each(first) => {
                            quantize_each(quantizer, &scale[first..first + x.len()], x, out)
                        }
                    }
                });
            });
        // SAFETY: the runs of all tasks cover `0..x.len()`, and a run writes each of its elements.
        unsafe { out.set_len(x.len()) };
        FlexTensor::from_data(TensorData::new(out, shape))
    }

    fn fake_quantize_backward(
        x: FlexTensor,
        scale: FlexTensor,
        grad: FlexTensor,
        operation: FakeQuantize,
    ) -> FlexTensor {
        let x = x.to_contiguous();
        let scale = scale.to_contiguous();
        // One handle at a time: a gradient that nobody else holds is then written in place.
        let contiguous = grad.to_contiguous();
        drop(grad);
        let mut grad = contiguous;
        let rows = Rows::new(&x.shape(), operation.granularity);
        let (x, scale) = (slice(&x), slice(&scale));
        let quantizer = unit_quantizer(operation);

        grad.storage_mut::<f32>()
            .par_chunks_mut(rows.task)
            .zip(x.par_chunks(rows.task))
            .enumerate()
            .for_each(|(task, (grad, x))| {
                rows.for_each_run(task, x.len(), |range, scales| {
                    let (x, grad) = (&x[range.clone()], &mut grad[range]);
                    match scales {
                        Scales::One(i) => mask_run(quantizer, scale[i], x, grad),
                        Scales::Each(first) => {
                            mask_each(quantizer, &scale[first..first + x.len()], x, grad)
                        }
                    }
                });
            });
        grad
    }
}

/// The coding at range exponent 0, to which the scales map every element.
fn unit_quantizer(operation: FakeQuantize) -> Quantizer {
    let coding = operation.format.with_range(0);
    coding.expect("0 is a legal range exponent of every format").quantizer()
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of 32-bit floats")
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
            Granularity::Tensor => TASK,
            _ if folded.inner > 1 => folded.inner,
            _ => folded.axis,
        }
        .max(1);
        Self { row, task: row * TASK.div_ceil(row), granularity, folded }
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
fn mask_run(quantizer: Quantizer, scale: f32, x: &[f32], grad: &mut [f32]) {
    let inverse = 1.0 / scale;
    for (grad, &x) in grad.iter_mut().zip(x) {
        *grad = if quantizer.in_range(x * inverse) { *grad } else { 0.0 };
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn mask_each(quantizer: Quantizer, scale: &[f32], x: &[f32], grad: &mut [f32]) {
    for ((grad, &x), &scale) in grad.iter_mut().zip(x).zip(scale) {
        *grad = if quantizer.in_range(x / scale) { *grad } else { 0.0 };
    }
}
