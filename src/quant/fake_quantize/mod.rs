//! The fake-quantize operation: round to the levels of a coding, pass gradients straight through.

mod composed;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod fused;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Granularity;
use crate::coding::Format;
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

/// Which gradient a scale gets. With `u = x / scale` and `y = scale * Q(u)`:
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleGradient {
    /// None: the scale does not train.
    #[default]
    None,
    /// `dL/dscale = sum dL/dy (Q(u) - u 1[in range])`: rounding counts as the identity.
    Full,
    /// `dL/dscale = sum dL/dy Q(u) 1[out of range]`: clipped values alone.
    Clipped,
}

/// What [`fake_quantize`] does to a tensor, apart from the scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeQuantize {
    /// The number format.
    pub format: Format,
    /// Which elements share a scale.
    pub granularity: Granularity,
    /// The straight-through estimator of the backward pass.
    pub estimator: Estimator,
    /// The gradient of the scales.
    pub scale_gradient: ScaleGradient,
}

impl FakeQuantize {
    /// The operation whose scales do not train.
    pub fn new(format: impl Into<Format>, granularity: Granularity, estimator: Estimator) -> Self {
        Self { format: format.into(), granularity, estimator, scale_gradient: ScaleGradient::None }
    }
}

/// The scales of a tensor, flat: one for each entry of the granularity's grid.
#[derive(Clone, Debug)]
pub struct ScaleTensors {
    /// The scales.
    pub scale: Tensor<1>,
    /// The codes that stand for 0, as many, where the format has zero points.
    pub zero_point: Option<Tensor<1>>,
}

impl From<Tensor<1>> for ScaleTensors {
    fn from(scale: Tensor<1>) -> Self {
        Self { scale, zero_point: None }
    }
}

/// Rounds `x` to the levels of a coding: `y = scale * Q(x / scale)`, with `Q` the
/// [format](Format) at scale 1, so that a scale of 2^r is the AUSN coding of range exponent r. The
/// quotient is the product with `1 / scale`, the same for a power of two.
///
/// # Shapes
///
/// - `x`: any; `scales`: flat, as many entries as [`Granularity::count`] says for `x`'s shape.
/// - the result has `x`'s shape.
///
/// Infinities saturate, NaN stays NaN. The gradient with respect to `x` is that of
/// [`Estimator`], the one with respect to the scale that of [`ScaleGradient`].
///
/// On the `flex` backend with 32-bit floats this is one pass over memory on all cores. On a GPU it is one
/// kernel that reads and writes each element once for the formats whose levels are superposed powers of two
/// and scales that do not train. Everything else is [`fake_quantize_composed`], which gives the same values.
///
/// # Panics
///
/// If there is another number of scales or zero points than granularity and format ask for.
pub fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    scales: impl Into<ScaleTensors>,
    operation: FakeQuantize,
) -> Tensor<D> {
    let scales = scales.into();
    let shape = x.dims();
    let count = operation.granularity.count(&shape);
    let found = scales.scale.dims()[0];
    assert_eq!(
        found, count,
        "fake_quantize: number of scales for a tensor of shape {shape:?} with one scale per {}",
        operation.granularity
    );
    assert_eq!(
        scales.zero_point.as_ref().map(|zero_point| zero_point.dims()[0]),
        operation.format.has_zero_point().then_some(count),
        "fake_quantize: number of zero points for {}",
        operation.format
    );
    #[cfg(feature = "flex")]
    if available(&x) {
        return fused::fake_quantize_fused(x, scales, operation);
    }
    #[cfg(feature = "cube")]
    if cube::available(&x) && cube::superposed(operation).is_some() {
        return cube::fake_quantize_cube(x, scales.scale, operation);
    }
    fake_quantize_composed(x, scales, operation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::{AusnFormat, Family, Reserved, Rounding, Underflow};
    use burn::tensor::{Device, Distribution, TensorData, Tolerance};

    fn ausn(e: u32, s: u32, signed: bool, underflow: Underflow) -> Format {
        AusnFormat::new(e, s, signed, underflow).unwrap().into()
    }

    fn formats() -> Vec<Format> {
        let mut all: Vec<Format> = Family::ALL.iter().filter_map(|f| f.element()).collect();
        for signed in [true, false] {
            for (e, s) in
                [(0, 3), (1, 2), (1, 6), (2, 0), (2, 1), (2, 2), (3, 0), (3, 4), (4, 3), (5, 2)]
            {
                for underflow in [Underflow::Gradual, Underflow::ZeroCode] {
                    if e > 0 || underflow == Underflow::Gradual {
                        all.push(ausn(e, s, signed, underflow));
                    }
                }
            }
            all.extend([2, 5, 11].map(|bits| Format::int(bits, signed).unwrap()));
            all.extend([2, 3, 4, 5, 6].map(|bits| Format::apot(bits, signed).unwrap()));
            all.push(Format::power_of_two(4, signed).unwrap());
            all.push(Format::minifloat(3, 0, signed, Reserved::Ieee).unwrap());
        }
        all.extend([2, 4, 8].map(|bits| Format::affine(bits).unwrap()));
        all
    }

    /// A zero point that differs from scale to scale.
    fn zero_point(format: Format, index: usize) -> i32 {
        match format.has_zero_point() {
            true => (5 * index as i32 + 1) % (format.max() as i32 + 1),
            false => 0,
        }
    }

    fn scales(format: Format, scale: &[f32], device: &Device) -> ScaleTensors {
        let zero_points: Vec<f32> =
            (0..scale.len()).map(|i| zero_point(format, i) as f32).collect();
        let zero_points = Tensor::from_floats(zero_points.as_slice(), device);
        ScaleTensors {
            scale: Tensor::from_floats(scale, device),
            zero_point: format.has_zero_point().then_some(zero_points),
        }
    }

    /// Values that a kernel gets wrong first: levels, midpoints between levels, both signs of
    /// zero, subnormals, infinities and NaN.
    fn hard_values(format: Format, scale: f32) -> Vec<f32> {
        let levels: Vec<f32> = format.levels().iter().map(|level| level * scale).collect();
        let mut values =
            vec![0.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, f32::INFINITY, f32::NAN];
        values.extend(&levels);
        values.extend(levels.windows(2).map(|w| (w[0] + w[1]) / 2.0));
        values.extend(levels.windows(2).map(|w| (0.49 * w[0]) + 0.51 * w[1]));
        let negated: Vec<f32> = values.iter().map(|v| -v).collect();
        values.extend(negated);
        values
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| if v.is_nan() { u32::MAX } else { (v + 0.0).to_bits() }).collect()
    }

    fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn operation_equals_the_scalar_definition() {
        let device = Device::default();
        for format in formats() {
            for scale in [2f32.powi(-9), 1.0, 32.0, 0.3, 17.7] {
                let values = hard_values(format, scale);
                let rounder = format.rounder(zero_point(format, 0));
                let expected: Vec<f32> =
                    values.iter().map(|x| rounder.quantize(x * (1.0 / scale)) * scale).collect();
                let x = Tensor::<1>::from_data(TensorData::from(values.as_slice()), &device);
                let operation = FakeQuantize::new(format, Granularity::Tensor, Estimator::Clipped);
                let scales = scales(format, &[scale], &device);
                let fast = fake_quantize(x.clone(), scales.clone(), operation);
                let composed = fake_quantize_composed(x, scales, operation);
                assert_eq!(bits(&host(fast)), bits(&expected), "{format}, scale {scale}");
                assert_eq!(bits(&host(composed)), bits(&expected), "composed, {format}, {scale}");
            }
        }
    }

    #[test]
    fn superposed_formats_decode_what_they_encode() {
        let device = Device::default();
        for format in formats() {
            for r in [-9, 0, 5] {
                let Some(coding) = format.with_range(r).map(Result::unwrap) else { continue };
                let mut values = hard_values(format, 2f32.powi(r));
                values.retain(|x| x.abs() <= format.max() * 2f32.powi(r));
                let decode = |&x: &f32| coding.decode(coding.encode(x).unwrap()).unwrap();
                let expected: Vec<f32> = values.iter().map(decode).collect();
                let x = Tensor::<1>::from_data(TensorData::from(values.as_slice()), &device);
                let scale = Tensor::<1>::from_floats([2f32.powi(r)], &device);
                let operation = FakeQuantize::new(format, Granularity::Tensor, Estimator::Clipped);
                let found = host(fake_quantize(x, scale, operation));
                assert_eq!(bits(&found), bits(&expected), "{format} r = {r}");
            }
        }
    }

    #[test]
    fn every_granularity_equals_the_composition_in_values_and_gradients() {
        let device = Device::default().autodiff();
        device.seed(3);
        let shape = [6, 10, 3];
        let some = [
            ausn(2, 1, true, Underflow::Gradual),
            Format::apot(4, false).unwrap(),
            Format::affine(4).unwrap(),
        ];
        let granularities = [
            Granularity::Tensor,
            Granularity::Channel { axis: 0 },
            Granularity::Channel { axis: 1 },
            Granularity::Channel { axis: 2 },
            Granularity::Group { axis: 0, size: 4 },
            Granularity::Group { axis: 1, size: 4 },
            Granularity::Group { axis: 2, size: 2 },
        ];
        let rules = [ScaleGradient::None, ScaleGradient::Full, ScaleGradient::Clipped];
        let rules = rules.map(|rule| (rule, Estimator::Clipped));
        let rules: Vec<_> =
            rules.into_iter().chain([(ScaleGradient::Full, Estimator::Identity)]).collect();
        for (format, granularity) in some.into_iter().flat_map(|f| granularities.map(|g| (f, g))) {
            for &(scale_gradient, estimator) in &rules {
                let operation = FakeQuantize { format, granularity, estimator, scale_gradient };
                let count = granularity.count(&shape);
                let scale: Vec<f32> =
                    (0..count).map(|i| 0.3 * 2f32.powi(i as i32 % 4 - 1)).collect();
                let x = Tensor::<3>::random(shape, Distribution::Normal(0.0, 1.0), &device);
                let weights = Tensor::<3>::random(shape, Distribution::Default, &device);
                let run = |f: fn(Tensor<3>, ScaleTensors, FakeQuantize) -> Tensor<3>| {
                    let x = x.clone().detach().require_grad();
                    let mut scales = scales(format, &scale, &device);
                    scales.scale = scales.scale.require_grad();
                    let y = f(x.clone(), scales.clone(), operation);
                    let grads = (y.clone() * weights.clone()).sum().backward();
                    let dscale = scales.scale.grad(&grads).map(|grad| grad.into_data());
                    (y.into_data(), x.grad(&grads).unwrap().into_data(), dscale)
                };
                let (y, dx, dscale) = run(fake_quantize);
                let (y_composed, dx_composed, dscale_composed) = run(fake_quantize_composed);
                y.assert_eq(&y_composed, true);
                dx.assert_eq(&dx_composed, true);
                if scale_gradient == ScaleGradient::None {
                    assert!(dscale.is_none() && dscale_composed.is_none());
                    continue;
                }
                let tolerance = Tolerance::rel_abs(1e-4, 1e-4);
                dscale.unwrap().assert_approx_eq::<f32>(&dscale_composed.unwrap(), tolerance);
            }
        }
    }

    #[test]
    fn clipped_estimator_stops_gradients_outside_the_range() {
        let device = Device::default().autodiff();
        let format = ausn(2, 1, false, Underflow::Gradual);
        let x =
            Tensor::<1>::from_floats([-0.5, -0.0, 0.3, 1.5, 1.51, 1e30], &device).require_grad();
        let grads_of = |estimator| {
            let operation = FakeQuantize::new(format, Granularity::Tensor, estimator);
            let y = fake_quantize(x.clone(), Tensor::<1>::ones([1], &device), operation);
            let grads = y.sum().backward();
            host(x.grad(&grads).unwrap())
        };
        assert_eq!(grads_of(Estimator::Clipped), [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(grads_of(Estimator::Identity), [1.0; 6]);
    }

    /// The rounding counts as the identity: `Q(u) - u` of a value in range does not change with the
    /// scale, and of a value out of range `Q(u)` does not. What remains is smooth.
    #[test]
    fn scale_gradients_are_finite_differences_of_the_smooth_part() {
        let device = Device::default().autodiff();
        device.seed(5);
        let x = Tensor::<1>::random([300], Distribution::Normal(0.0, 1.0), &device);
        let weights = Tensor::<1>::random([300], Distribution::Normal(0.0, 1.0), &device);
        for format in formats() {
            let at = 0.6f32;
            let mut scales = scales(format, &[at], &device);
            scales.scale = scales.scale.require_grad();
            let operation = FakeQuantize {
                scale_gradient: ScaleGradient::Full,
                ..FakeQuantize::new(format, Granularity::Tensor, Estimator::Clipped)
            };
            let y = fake_quantize(x.clone(), scales.clone(), operation);
            let grads = (y * weights.clone()).sum().backward();
            let found = f64::from(host(scales.scale.grad(&grads).unwrap())[0]);

            let rounder = format.rounder(zero_point(format, 0));
            let loss = |scale: f64| -> f64 {
                let one = |(&x, &weight): (&f32, &f32)| {
                    let unit = x * (1.0 / at);
                    let level = f64::from(rounder.quantize(unit));
                    let y = match rounder.in_range(unit) {
                        true => f64::from(x) + scale * (level - f64::from(unit)),
                        false => scale * level,
                    };
                    y * f64::from(weight)
                };
                host(x.clone()).iter().zip(&host(weights.clone())).map(one).sum()
            };
            let step = 1e-3;
            let expected = (loss(0.6 + step) - loss(0.6 - step)) / (2.0 * step);
            assert!(
                (found - expected).abs() < 1e-4 * expected.abs().max(1.0),
                "{format}: {found}, {expected}"
            );
        }
    }

    #[test]
    fn strided_input_is_quantized_in_its_own_order() {
        let device = Device::default();
        let format = ausn(2, 1, true, Underflow::Gradual);
        let operation =
            FakeQuantize::new(format, Granularity::Channel { axis: 1 }, Estimator::Clipped);
        let x = Tensor::<2>::random([5, 7], Distribution::Normal(0.0, 1.0), &device).transpose();
        let scale = Tensor::<1>::from_floats([0.25, 0.5, 1.0, 2.0, 4.0], &device);
        let fast = fake_quantize(x.clone(), scale.clone(), operation).into_data();
        fast.assert_eq(&fake_quantize_composed(x, scale, operation).into_data(), true);
    }
}
