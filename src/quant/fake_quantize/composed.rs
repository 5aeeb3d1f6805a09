//! Fake quantization composed of tensor operations: runs on every backend, and is what the fused
//! kernels are tested against.

use burn::tensor::Tensor;

use super::{Estimator, FakeQuantize};
use crate::coding::{AusnFormat, Underflow};
use crate::quant::{Folded, Granularity};

/// [`fake_quantize`](super::fake_quantize) composed of tensor operations.
///
/// Every step is exact in f32 (comparisons, products with powers of two, rounding to integers),
/// so the values are those of the fused kernels bit for bit; no logarithm is taken, since those
/// of a GPU may be one binade off. Needs about 4 + 2^E passes over memory. Gradients are those of
/// the fused kernels too, but that none passes where the input is infinite or NaN.
pub fn fake_quantize_composed<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    operation: FakeQuantize,
) -> Tensor<D> {
    let FakeQuantize { format, granularity, estimator } = operation;
    let scale = expand_scale(scale.detach(), x.dims(), granularity);
    let inner = x.clone().detach() / scale.clone();
    let max = f64::from(format.unit().max());
    let y = round_to_levels(inner.clone(), format, max) * scale;
    let passed = match estimator {
        Estimator::Identity => x,
        Estimator::Clipped => {
            let mut inside = inner.clone().abs().lower_equal_scalar(max);
            if !format.signed() {
                inside = inside.bool_and(inner.greater_equal_scalar(0.0));
            }
            x.mask_fill(inside.bool_not(), 0.0)
        }
    };
    // A zero that carries the gradient. Where the input is infinite or NaN the difference would
    // be NaN, so there its value is replaced.
    let carrier = passed.clone() - passed.detach();
    let broken = carrier.clone().detach().is_nan();
    y + carrier.mask_fill(broken, 0.0)
}

/// Repeats the scales so that they broadcast over a tensor of shape `dims`.
fn expand_scale<const D: usize>(
    scale: Tensor<1>,
    dims: [usize; D],
    granularity: Granularity,
) -> Tensor<D> {
    match granularity {
        Granularity::Tensor => scale.reshape([1; D]),
        Granularity::Channel { axis } => {
            let mut shape = [1; D];
            shape[axis] = dims[axis];
            scale.reshape(shape)
        }
        Granularity::Group { axis, size } => {
            let folded = Folded::new(&dims, axis);
            let groups = folded.axis.div_ceil(size);
            scale
                .reshape([folded.outer, groups, 1, folded.inner])
                .repeat_dim(2, size)
                .reshape([folded.outer, groups * size, folded.inner])
                .narrow(1, 0, folded.axis)
                .reshape(dims)
        }
    }
}

/// `Q(x)` for range exponent 0.
fn round_to_levels<const D: usize>(x: Tensor<D>, format: AusnFormat, max: f64) -> Tensor<D> {
    let magnitude = x.clone().abs().clamp_max(max);
    let rounded = match format.superposition_bits() {
        0 => round_to_powers(magnitude, format),
        _ => round_to_steps(magnitude, format),
    };
    let negative = x.clone().lower_scalar(0.0);
    let signed = match format.signed() {
        true => rounded.clone().mask_where(negative, rounded.neg()),
        false => rounded.mask_fill(negative, 0.0),
    };
    signed.mask_fill(x.is_nan(), f32::NAN)
}

/// S >= 1: inside a binade the levels are evenly spaced, and the parity of the multiple of that
/// spacing is the parity of the code, so a tie goes where `round` (half to even) sends it.
fn round_to_steps<const D: usize>(magnitude: Tensor<D>, format: AusnFormat) -> Tensor<D> {
    let coding = format.unit();
    let power = |k: i32| 2f64.powi(k);
    let lowest = match format.underflow() {
        Underflow::Gradual => coding.min_exponent() + 1,
        Underflow::ZeroCode => coding.min_exponent(),
    };
    let smallest = f64::from(coding.level(1));
    let (value, underflows) = match format.underflow() {
        Underflow::Gradual => (magnitude, None),
        // Between 0 and the smallest level there is no other: decide that case by itself.
        Underflow::ZeroCode => (
            magnitude.clone().clamp_min(smallest),
            Some(magnitude.lower_equal_scalar(smallest / 2.0)),
        ),
    };
    let mut step = value.zeros_like() + power(lowest - format.superposition_bits() as i32);
    for k in lowest + 1..=0 {
        let above = value.clone().greater_equal_scalar(power(k)).float();
        step = step * (above + 1.0);
    }
    let rounded = (value / step.clone()).round() * step;
    match underflows {
        Some(mask) => rounded.mask_fill(mask, 0.0),
        None => rounded,
    }
}

/// S = 0: the levels are 0 and powers of two; counts the midpoints passed, a tie going to the even code.
fn round_to_powers<const D: usize>(magnitude: Tensor<D>, format: AusnFormat) -> Tensor<D> {
    let levels = format.unit().levels();
    let mut rounded = magnitude.zeros_like();
    for (code, pair) in levels.windows(2).enumerate() {
        let (low, high) = (f64::from(pair[0]), f64::from(pair[1]));
        let middle = (low + high) / 2.0;
        // Code `code + 1` wins a tie where it is the even one.
        let passed = match code % 2 {
            0 => magnitude.clone().greater_scalar(middle),
            _ => magnitude.clone().greater_equal_scalar(middle),
        };
        rounded = rounded + passed.float() * (high - low);
    }
    rounded
}
