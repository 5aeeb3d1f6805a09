//! The fake-quantize operation: round to the levels of a coding, pass gradients straight through.

mod composed;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod fused;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Granularity;
use crate::coding::AusnFormat;
#[cfg(feature = "flex")]
use crate::kernels::flex::available;

pub use composed::fake_quantize_composed;

/// How gradients pass the rounding (a straight-through estimator).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// dL/dx = dL/dy inside the representable range, 0 outside.
    #[default]
    Clipped,
    /// dL/dx = dL/dy everywhere.
    Identity,
}

/// What [`fake_quantize`] does to a tensor, apart from the scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeQuantize {
    /// The number format.
    pub format: AusnFormat,
    /// Which elements share a scale.
    pub granularity: Granularity,
    /// The straight-through estimator of the backward pass.
    pub estimator: Estimator,
}

/// Rounds `x` to the levels of a coding: `y = scale * Q(x / scale)`, with `Q` the coding of range
/// exponent 0, so that a scale of 2^r is the coding of range exponent r.
///
/// # Shapes
///
/// - `x`: any; `scale`: flat, as many entries as [`Granularity::count`] says for `x`'s shape.
/// - the result has `x`'s shape.
///
/// Infinities saturate, NaN stays NaN. The gradient with respect to `x` is that of
/// [`Estimator`]; `scale` gets none.
///
/// On the `flex` backend with 32-bit floats this is one pass over memory on all cores, on a GPU one
/// kernel that reads and writes each element once; on every other backend it is
/// [`fake_quantize_composed`], which gives the same values.
///
/// # Panics
///
/// If `scale` has another number of entries than the granularity asks for.
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    operation: FakeQuantize,
) -> Tensor<D> {
    let shape = x.dims();
    assert_eq!(
        scale.dims()[0],
        operation.granularity.count(&shape),
        "fake_quantize: number of scales for a tensor of shape {shape:?} with one scale per {}",
        operation.granularity
    );
    #[cfg(feature = "flex")]
    if available(&x) {
        return fused::fake_quantize_fused(x, scale, operation);
    }
    #[cfg(feature = "cube")]
    if cube::available(&x) {
        return cube::fake_quantize_cube(x, scale, operation);
    }
    fake_quantize_composed(x, scale, operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::{AusnFormat, Underflow};
    use burn::tensor::{Device, Distribution, TensorData};

    fn format(e: u32, s: u32, signed: bool, underflow: Underflow) -> AusnFormat {
        AusnFormat::new(e, s, signed, underflow).unwrap()
    }

    fn formats() -> Vec<AusnFormat> {
        let mut all = Vec::new();
        for (e, s) in
            [(0, 3), (1, 2), (1, 6), (2, 0), (2, 1), (2, 2), (3, 0), (3, 4), (4, 3), (5, 2)]
        {
            for signed in [true, false] {
                for underflow in [Underflow::Gradual, Underflow::ZeroCode] {
                    if e > 0 || underflow == Underflow::Gradual {
                        all.push(format(e, s, signed, underflow));
                    }
                }
            }
        }
        all
    }

    /// Values that a kernel gets wrong first: levels, midpoints between levels, both signs of
    /// zero, subnormals, infinities and NaN.
    fn hard_values(format: AusnFormat, r: i32) -> Vec<f32> {
        let levels = format.with_range(r).unwrap().levels();
        let mut values =
            vec![0.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::INFINITY, f32::NAN];
        values.extend(&levels);
        values.extend(levels.windows(2).map(|w| (w[0] + w[1]) / 2.0));
        values.extend(levels.windows(2).map(|w| (0.49 * w[0]) + 0.51 * w[1]));
        let negated: Vec<f32> = values.iter().map(|v| -v).collect();
        values.extend(negated);
        values
    }

    fn bits(tensor: Tensor<1>) -> Vec<u32> {
        let values: Vec<f32> = tensor.into_data().try_to_vec().unwrap();
        values.iter().map(|v| if v.is_nan() { u32::MAX } else { (v + 0.0).to_bits() }).collect()
    }

    #[test]
    fn operation_equals_the_scalar_definition() {
        let device = Device::default();
        for format in formats() {
            for r in [-9, 0, 5] {
                let values = hard_values(format, r);
                let coding = format.with_range(r).unwrap();
                let expected: Vec<u32> = values
                    .iter()
                    .map(|&x| match x.is_nan() {
                        true => u32::MAX,
                        false => coding.decode(coding.encode(x).unwrap()).unwrap().to_bits(),
                    })
                    .collect();
                let x = Tensor::<1>::from_data(TensorData::from(values.as_slice()), &device);
                let scale = Tensor::from_floats([2f32.powi(r)], &device);
                let operation = FakeQuantize {
                    format,
                    granularity: Granularity::Tensor,
                    estimator: Estimator::Clipped,
                };
                let fast = bits(fake_quantize(x.clone(), scale.clone(), operation));
                let composed = bits(fake_quantize_composed(x, scale, operation));
                assert_eq!(fast, expected, "{format} r = {r}");
                assert_eq!(composed, expected, "composed, {format} r = {r}");
            }
        }
    }

    #[test]
    fn every_granularity_equals_the_composition_in_values_and_gradients() {
        let device = Device::default().autodiff();
        device.seed(3);
        let shape = [6, 10, 3];
        for granularity in [
            Granularity::Tensor,
            Granularity::Channel { axis: 0 },
            Granularity::Channel { axis: 1 },
            Granularity::Channel { axis: 2 },
            Granularity::Group { axis: 0, size: 4 },
            Granularity::Group { axis: 1, size: 4 },
            Granularity::Group { axis: 2, size: 2 },
        ] {
            for estimator in [Estimator::Clipped, Estimator::Identity] {
                let format = format(2, 1, true, Underflow::Gradual);
                let operation = FakeQuantize { format, granularity, estimator };
                let count = granularity.count(&shape);
                let exponents: Vec<f32> = (0..count).map(|i| 2f32.powi(i as i32 % 5 - 3)).collect();
                let scale = Tensor::<1>::from_floats(exponents.as_slice(), &device);
                let x = Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
                let weights = Tensor::<3>::random(shape, Distribution::Default, &device);
                let run = |f: fn(Tensor<3>, Tensor<1>, FakeQuantize) -> Tensor<3>| {
                    let x = x.clone().detach().require_grad();
                    let y = f(x.clone(), scale.clone(), operation);
                    let grads = (y.clone() * weights.clone()).sum().backward();
                    (y.into_data(), x.grad(&grads).unwrap().into_data())
                };
                let (y, dx) = run(fake_quantize);
                let (y_composed, dx_composed) = run(fake_quantize_composed);
                y.assert_eq(&y_composed, true);
                dx.assert_eq(&dx_composed, true);
            }
        }
    }

    #[test]
    fn clipped_estimator_stops_gradients_outside_the_range() {
        let device = Device::default().autodiff();
        let format = format(2, 1, false, Underflow::Gradual);
        let x =
            Tensor::<1>::from_floats([-0.5, -0.0, 0.3, 1.5, 1.51, 1e30], &device).require_grad();
        let grads_of = |estimator| {
            let operation = FakeQuantize { format, granularity: Granularity::Tensor, estimator };
            let y = fake_quantize(x.clone(), Tensor::ones([1], &device), operation);
            let grads = y.sum().backward();
            x.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap()
        };
        assert_eq!(grads_of(Estimator::Clipped), [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(grads_of(Estimator::Identity), [1.0; 6]);
    }

    #[test]
    fn strided_input_is_quantized_in_its_own_order() {
        let device = Device::default();
        let format = format(2, 1, true, Underflow::Gradual);
        let operation = FakeQuantize {
            format,
            granularity: Granularity::Channel { axis: 1 },
            estimator: Estimator::Clipped,
        };
        let x = Tensor::<2>::random([5, 7], Distribution::Normal(0.0, 1.0), &device).transpose();
        let scale = Tensor::<1>::from_floats([0.25, 0.5, 1.0, 2.0, 4.0], &device);
        let fast = fake_quantize(x.clone(), scale.clone(), operation).into_data();
        fast.assert_eq(&fake_quantize_composed(x, scale, operation).into_data(), true);
    }
}
