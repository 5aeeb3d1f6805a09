//! Weight normalization ahead of quantization (APoT, arXiv 1909.13144, section 2.3).

use burn::module::Module;
use burn::tensor::Tensor;

use super::{Plan, change_parameters, parameters};

/// Keeps the deviation of a constant weight from dividing by zero: a part of the variance that the weight had.
const EPSILON: f64 = 1e-12;

/// A weight with mean 0 and a given standard deviation.
///
/// The paper gives every weight the deviation 1 and leaves the scale to the batch normalization behind
/// the layer. Here it keeps the one that it had in the float model, so that layers without batch
/// normalization compute what they did. Mean and deviation count as constants in the gradient, as in
/// the authors' code.
pub(super) fn normalize<const D: usize>(weight: Tensor<D>, deviation: f32) -> Tensor<D> {
    let shape = weight.dims();
    let mean = weight.clone().detach().mean();
    let centered = weight - mean.expand(shape);
    let variance = centered.clone().detach().square().mean();
    // In parts of the deviation that it had, so that small weights are scaled like large ones.
    let part = variance.sqrt() / deviation.max(f32::MIN_POSITIVE);
    let factor = (part.square() + EPSILON).sqrt().recip();
    centered * factor.expand(shape)
}

/// The standard deviation of a weight.
pub(super) fn deviation(values: &[f32]) -> f32 {
    let count = values.len().max(1) as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
    (squares / count).sqrt() as f32
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}

/// The model that calibration is to see: every weight that the plan normalizes has mean 0 in it.
pub fn center_weights<M: Module>(model: M, plan: &Plan) -> M {
    let normalized = |path: &str| {
        plan.entries.iter().any(|entry| entry.spec.normalize && entry.site.path == path)
    };
    let mut weights = parameters(&model, normalized);
    for values in weights.values_mut() {
        let mean = mean(values) as f32;
        values.iter_mut().for_each(|value| *value -= mean);
    }
    match weights.is_empty() {
        true => model,
        false => change_parameters(model, weights),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tolerance};

    #[test]
    fn a_normalized_weight_has_mean_0_and_the_deviation_asked_for() {
        let device = Device::default().autodiff();
        let weight = Tensor::<2>::from_floats([[1.0, 4.0], [2.0, 9.0]], &device).require_grad();
        let normalized = normalize(weight.clone(), 0.5);
        // Mean 4, variance (9 + 0 + 4 + 25) / 4.
        let factor = 0.5 / 9.5f32.sqrt();
        let expected = [[-3.0 * factor, 0.0], [-2.0 * factor, 5.0 * factor]];
        let expected = Tensor::<2>::from_floats(expected, &Device::default()).into_data();
        let found = normalized.clone().inner().into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-6, 1e-6));

        let slopes = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
        let gradients = (normalized * slopes.clone()).sum().backward();
        let found = weight.grad(&gradients).unwrap().into_data();
        let expected = (slopes.inner() * factor).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-6, 1e-6));
    }

    #[test]
    fn normalizing_to_its_own_deviation_centers_and_a_constant_becomes_0() {
        // However small.
        for size in [1.0, 1e-8] {
            let values = [0.5, -0.25, 1.0, 2.75].map(|value: f32| value * size);
            let weight = Tensor::<1>::from_floats(values, &Device::default());
            let found = (normalize(weight, deviation(&values)) / size).into_data();
            let centered = Tensor::<1>::from_floats([-0.5, -1.25, 0.0, 1.75], &Device::default());
            found.assert_approx_eq::<f32>(&centered.into_data(), Tolerance::rel_abs(1e-5, 1e-5));
        }

        let constant = Tensor::<1>::ones([5], &Device::default());
        let found = normalize(constant, deviation(&[1.0; 5])).into_data();
        assert_eq!(found.iter::<f32>().collect::<Vec<_>>(), [0.0; 5]);
    }
}
