//! Ranges that train: from the stored parameter to the scale, and back.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::ScaleKind;
use super::fake_quantize::ScaleGradient;
use crate::coding::{Family, Format, power_of_two};

/// By which recipe a range trains.
///
/// With `y = s Q(x / s)` all of them take the rounding for the identity inside the representable range,
/// so `dL/ds = sum dL/dy (y - x 1[|x| <= M s]) / s`. They differ in the parameter that trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearnedRange {
    /// Learned step size (LSQ, arXiv 1902.08153): the step between levels (of a uniform format all
    /// of them, else those next to 0), its gradient divided by `sqrt(N Q)` for `N` elements and a
    /// largest level of `Q` steps. It starts from the calibrated range, where the paper starts from
    /// the mean magnitude, `2 mean |x| / sqrt(Q)`.
    ///
    /// Of APoT the largest level trains instead, as that paper has it, and of any format with more
    /// steps than the 8-bit grids of the LSQ paper: an optimizer that moves a parameter by its
    /// learning rate would multiply a step that small, and the range with it. In its own unit the
    /// largest level is 1, so that its gradient is divided by `sqrt(N)`.
    Lsq,
    /// The base-2 logarithm of the scale (TQT, arXiv 1903.08066). With power-of-two scales the
    /// forward pass rounds it to the nearest integer, where TQT rounds its threshold up.
    Tqt {
        /// Whether the scale keeps to powers of two.
        scale: ScaleKind,
    },
    /// Parameterized clipping (PACT, arXiv 1805.06085): the largest level `alpha` of an unsigned
    /// activation, whose gradient is that of the values clipped to it alone. The penalty on `alpha`
    /// that the paper adds to the loss is left to `range-weight-decay`.
    Pact,
}

/// Scales do not train beyond these, so that they and their inverses stay normal numbers.
const SMALLEST: f32 = 1.0 / (1u64 << 63) as f32;

/// Steps up to the largest level of the finest grid whose step trains: 8 bits, unsigned.
const MOST_STEPS: f32 = 255.0;

/// Steps up to the largest level.
fn steps(format: Format) -> f32 {
    format.max() / format.step()
}

impl LearnedRange {
    /// Which gradient the scale gets from the fake-quantize operation.
    pub(super) fn gradient(self) -> ScaleGradient {
        match self {
            Self::Lsq | Self::Tqt { .. } => ScaleGradient::Full,
            Self::Pact => ScaleGradient::Clipped,
        }
    }

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lsq => "lsq",
            Self::Tqt { .. } => "tqt",
            Self::Pact => "pact",
        }
    }

    /// Which numbers the scale may be.
    pub fn scale_kind(self) -> ScaleKind {
        match self {
            Self::Lsq | Self::Pact => ScaleKind::Free,
            Self::Tqt { scale } => scale,
        }
    }

    /// The parameter for one unit of scale.
    fn unit(self, format: Format) -> f32 {
        match self {
            Self::Pact => format.max(),
            Self::Lsq if format.family() == Family::Apot || steps(format) > MOST_STEPS => {
                format.max()
            }
            Self::Lsq => format.step(),
            Self::Tqt { .. } => 1.0,
        }
    }

    /// The parameter that gives a scale.
    pub(super) fn parameter(self, scale: f32, format: Format) -> f32 {
        match self {
            Self::Lsq | Self::Pact => scale * self.unit(format),
            Self::Tqt { .. } => scale.log2(),
        }
    }

    /// The scale that a parameter stands for.
    pub(super) fn scale_of(self, parameter: f32, format: Format) -> f32 {
        match self {
            Self::Lsq | Self::Pact => (parameter * (1.0 / self.unit(format))).abs().max(SMALLEST),
            Self::Tqt { scale } => {
                let (lowest, highest) = exponents(format);
                let exponent = parameter.clamp(lowest as f32, highest as f32);
                match scale {
                    ScaleKind::PowerOfTwo => power_of_two(exponent.round_ties_even() as i32),
                    ScaleKind::Free => (exponent * std::f32::consts::LN_2).exp(),
                }
            }
        }
    }

    /// The scales that parameters stand for, differentiable. `elements` is how many share a scale,
    /// on which LSQ's gradient depends.
    pub(super) fn scale(self, parameter: Tensor<1>, format: Format, elements: usize) -> Tensor<1> {
        let inverse = 1.0 / self.unit(format);
        match self {
            Self::Lsq => {
                // The largest level, counted in what trains: 1 where that is the largest level.
                let largest = format.max() / self.unit(format);
                let factor = 1.0 / (elements.max(1) as f64 * f64::from(largest)).sqrt();
                // The difference is 0 and carries the gradient.
                let constant = parameter.clone().detach();
                let parameter = constant.clone() + (parameter - constant) * factor;
                positive(parameter * inverse)
            }
            Self::Pact => positive(parameter * inverse),
            Self::Tqt { scale } => {
                let (lowest, highest) = exponents(format);
                let exponent = parameter.clamp(lowest, highest);
                let fixed = exponent.clone().detach();
                let scale = match scale {
                    ScaleKind::PowerOfTwo => powers_of_two(fixed.clone().round()),
                    ScaleKind::Free => (fixed.clone() * std::f64::consts::LN_2).exp(),
                };
                let slope = scale.clone() * std::f64::consts::LN_2;
                scale + (exponent - fixed) * slope
            }
        }
    }
}

/// The exponents between which a scale trains.
fn exponents(format: Format) -> (i32, i32) {
    let allowed = format.range_exponents();
    ((*allowed.start()).max(-63), (*allowed.end()).min(63))
}

/// What is not positive has the sign of its gradient turned, and comes back.
fn positive(scale: Tensor<1>) -> Tensor<1> {
    scale.abs().clamp_min(SMALLEST)
}

/// `2^r` for whole numbers from -63 to 63, exact on every backend.
fn powers_of_two(r: Tensor<1>) -> Tensor<1> {
    let negative = r.clone().lower_scalar(0.0);
    let mut rest = r.abs();
    let mut power = rest.ones_like();
    for bit in (0..6).rev() {
        let weight = f64::from(1 << bit);
        let set = rest.clone().greater_equal_scalar(weight);
        rest = rest.clone().mask_where(set.clone(), rest - weight);
        let (up, down) = (power.clone() * 2f64.powf(weight), power.clone() * 2f64.powf(-weight));
        let moved = up.mask_where(negative.clone(), down);
        power = power.mask_where(set, moved);
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::Underflow;
    use burn::tensor::Device;

    fn host(x: Tensor<1>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn powers_of_two_are_exact() {
        let exponents: Vec<f32> = (-63..=63).map(|r| r as f32).collect();
        let found = host(powers_of_two(Tensor::from_floats(&exponents[..], &Device::default())));
        let expected: Vec<f32> = (-63..=63).map(|r| 2f32.powi(r)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn gradients_are_scaled_in_the_unit_of_what_trains() {
        let device = Device::default().autodiff();
        let factor = |format: Format| {
            let parameter = Tensor::<1>::from_floats([0.7], &device).require_grad();
            let scale = LearnedRange::Lsq.scale(parameter.clone(), format, 100);
            let gradient = host(parameter.grad(&scale.sum().backward()).unwrap())[0];
            gradient * LearnedRange::Lsq.unit(format)
        };
        // The largest level of 4 bits is 7 steps.
        assert!((factor(Format::int(4, true).unwrap()) - 1.0 / 700f32.sqrt()).abs() < 1e-6);
        // Where the largest level trains, however many steps there are below it.
        let steep = Format::ausn_candidates(8, true, Underflow::Gradual);
        let steep = steep.into_iter().find(|format| format.split() == Some((5, 2))).unwrap();
        assert!(steps(steep) > 1e9);
        for format in [steep, Format::apot(4, true).unwrap()] {
            assert!((factor(format) - 0.1).abs() < 1e-6, "{format}");
        }
    }

    #[test]
    fn parameters_stand_for_their_scales() {
        let device = Device::default();
        let (int, apot) = (Format::int(4, true).unwrap(), Format::apot(4, true).unwrap());
        // The largest level is 2^6 and 2^14 times the smallest.
        let [coarse, fine] = [4, 5].map(|bits| Format::power_of_two(bits, true).unwrap());
        let free = LearnedRange::Tqt { scale: ScaleKind::Free };
        let power = LearnedRange::Tqt { scale: ScaleKind::PowerOfTwo };
        for (rule, format, parameter, scale) in [
            // The step of 4 bits is a quarter of the scale.
            (LearnedRange::Lsq, int, 0.375, 1.5),
            (LearnedRange::Lsq, apot, 1.25, 1.0),
            (LearnedRange::Lsq, coarse, 0.015625, 1.0),
            (LearnedRange::Lsq, fine, 1.25, 1.25),
            (LearnedRange::Pact, Format::int(2, false).unwrap(), 3.0, 2.0),
            (free, int, -1.0, 0.5),
            (power, int, -1.4, 0.5),
            (power, int, -1.6, 0.25),
            (LearnedRange::Lsq, int, -0.375, 1.5),
        ] {
            let found = host(rule.scale(Tensor::from_floats([parameter], &device), format, 9));
            assert!((found[0] - scale).abs() < 1e-6, "{rule:?}: {found:?}");
            assert_eq!(rule.scale_of(parameter, format), found[0], "{rule:?}");
            if parameter > 0.0 {
                assert!((rule.parameter(scale, format) - parameter).abs() < 1e-6, "{rule:?}");
            }
        }
    }
}
