//! Fake quantization composed of tensor operations: runs on every backend, and is what the fused
//! kernels are tested against.

use burn::tensor::Tensor;

use super::{Estimator, FakeQuantize, ScaleGradient, ScaleTensors};
use crate::coding::{Ausn, Format, Rounder, TableQuantizer, Underflow};
use crate::quant::{Folded, Granularity};

/// [`fake_quantize`](super::fake_quantize) composed of tensor operations.
///
/// Every step is exact in f32 (comparisons, products with powers of two, rounding to integers) or one
/// operation of the fused kernels too, so the values are theirs bit for bit; no logarithm is taken, since
/// those of a GPU may be one binade off. Needs about 4 + 2^E passes over memory, or two for each level of a
/// table. Gradients are those of the fused kernels too, but that none passes where the input is infinite
/// or NaN.
pub fn fake_quantize_composed<const D: usize>(
    x: Tensor<D>,
    scales: impl Into<ScaleTensors>,
    operation: FakeQuantize,
) -> Tensor<D> {
    let ScaleTensors { scale, zero_point } = scales.into();
    let FakeQuantize { format, granularity, estimator, scale_gradient } = operation;
    let fixed = scale.clone().detach();
    let unit = x.clone().detach() * expand(fixed.clone().recip(), x.dims(), granularity);
    let zero_point = zero_point.map(|zero| expand(zero.detach(), x.dims(), granularity));
    let (level, inside) = round(unit.clone(), format, zero_point);
    let y = level.clone() * expand(fixed, x.dims(), granularity);
    let outside = inside.bool_not();
    let dims = x.dims();
    let passed = match estimator {
        Estimator::Identity => x,
        Estimator::Clipped => x.mask_fill(outside.clone(), 0.0),
    };
    let y = y + gradient_carrier(passed);
    let slope = match scale_gradient {
        ScaleGradient::None => return y,
        ScaleGradient::Full => level - unit.mask_fill(outside, 0.0),
        ScaleGradient::Clipped => level.mask_fill(outside.bool_not(), 0.0),
    };
    y + expand(gradient_carrier(scale), dims, granularity) * slope
}

/// A zero that carries the gradient. Where a value is infinite or NaN the difference would be NaN, so
/// there it is replaced.
fn gradient_carrier<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let carrier = x.clone() - x.detach();
    let broken = carrier.clone().detach().is_nan();
    carrier.mask_fill(broken, 0.0)
}

/// Repeats scales so that they broadcast over a tensor of shape `dims`.
fn expand<const D: usize>(
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

type Mask<const D: usize> = Tensor<D, burn::tensor::Bool>;

/// `Q(x)` at scale 1, and whether `x` is in range.
fn round<const D: usize>(
    x: Tensor<D>,
    format: Format,
    zero_point: Option<Tensor<D>>,
) -> (Tensor<D>, Mask<D>) {
    if let Some(zero_point) = zero_point {
        let lowest = zero_point.neg();
        let highest = lowest.clone() + f64::from(format.max());
        let inside = x.clone().greater_equal(lowest.clone());
        let inside = inside.bool_and(x.clone().lower_equal(highest.clone()));
        let clamped = x.clone().max_pair(lowest).min_pair(highest);
        return (clamped.round().mask_fill(x.is_nan(), f32::NAN), inside);
    }
    let max = f64::from(format.max());
    let magnitude = x.clone().abs();
    let mut inside = magnitude.clone().lower_equal_scalar(max);
    let magnitude = magnitude.clamp_max(max);
    let coding = format.with_range(0).map(|coding| coding.expect("scale 1 is legal"));
    let rounded = match (format.rounder(0), coding) {
        (Rounder::Table(table), _) => round_to_table(magnitude, table),
        (_, Some(coding)) if coding.format().superposition_bits() == 0 => {
            round_to_powers(magnitude, &format.levels())
        }
        (_, Some(coding)) => round_to_steps(magnitude, coding),
        (_, None) => unreachable!("an affine format has zero points"),
    };
    let negative = x.clone().lower_scalar(0.0);
    let signed = match format.signed() {
        true => rounded.clone().mask_where(negative, rounded.neg()),
        false => {
            inside = inside.bool_and(x.clone().greater_equal_scalar(0.0));
            rounded.mask_fill(negative, 0.0)
        }
    };
    (signed.mask_fill(x.is_nan(), f32::NAN), inside)
}

/// S >= 1: inside a binade the levels are evenly spaced, and the parity of the multiple of that
/// spacing is the parity of the code, so a tie goes where `round` (half to even) sends it.
fn round_to_steps<const D: usize>(magnitude: Tensor<D>, coding: Ausn) -> Tensor<D> {
    let format = coding.format();
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
fn round_to_powers<const D: usize>(magnitude: Tensor<D>, levels: &[f32]) -> Tensor<D> {
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

fn round_to_table<const D: usize>(magnitude: Tensor<D>, quantizer: TableQuantizer) -> Tensor<D> {
    let table = quantizer.table();
    let mut rounded = magnitude.zeros_like();
    for (&threshold, &level) in table.thresholds().iter().zip(&table.levels()[1..]) {
        let passed = magnitude.clone().greater_equal_scalar(threshold);
        rounded = rounded.mask_fill(passed, level);
    }
    rounded
}
