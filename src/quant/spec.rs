//! What a plan says of a site, before and after its data were seen.

use serde::{Deserialize, Serialize};

use super::fake_quantize::{Estimator, ScaleGradient};
use super::{
    FakeQuantize, Granularity, LearnedRange, RangeRule, Ranges, ScaleKind, Scales, Site, SiteKind,
};
use crate::coding::{AusnFormat, CodingError, Family, Format, Reserved, Underflow};

/// Which coding a site is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingSpec {
    /// Superposed powers of two.
    Ausn {
        /// Bits of a code word, with the sign bit where there is one.
        bits: u32,
        /// Exponent bits E and superposition bits S; chosen by least squared error where not given.
        /// A tensor that needs no sign bit keeps E and S and has one bit fewer.
        split: Option<(u32, u32)>,
        /// The underflow rule.
        underflow: Underflow,
    },
    /// Symmetric uniform, of so many bits.
    Int(u32),
    /// Zero and powers of two, of so many bits.
    PowerOfTwo(u32),
    /// Additive powers of two, of so many bits.
    Apot(u32),
    /// Uniform with a zero point, of so many bits.
    Affine(u32),
    /// A small float. A tensor that needs no sign bit has one bit fewer.
    Minifloat {
        /// Exponent bits.
        exponent_bits: u32,
        /// Mantissa bits.
        mantissa_bits: u32,
        /// The codes that are no numbers.
        reserved: Reserved,
    },
    /// The element of an OCP Microscaling format, which always has a sign bit.
    Microscaling(Family),
}

impl CodingSpec {
    /// The formats that the specification leaves open for a signed or unsigned tensor.
    ///
    /// # Errors
    ///
    /// If bits are outside the family's limits.
    pub fn candidates(&self, signed: bool) -> Result<Vec<Format>, CodingError> {
        let one = match *self {
            Self::Ausn { bits, split: None, underflow } => {
                let candidates = Format::ausn_candidates(bits, signed, underflow);
                return match candidates.is_empty() {
                    true => Err(CodingError::NoSplit { bits, signed }),
                    false => Ok(candidates),
                };
            }
            Self::Ausn { split: Some((e, s)), underflow, .. } => {
                AusnFormat::new(e, s, signed, underflow)?.into()
            }
            Self::Int(bits) => Format::int(bits, signed)?,
            Self::PowerOfTwo(bits) => Format::power_of_two(bits, signed)?,
            Self::Apot(bits) => Format::apot(bits, signed)?,
            Self::Affine(bits) => Format::affine(bits)?,
            Self::Minifloat { exponent_bits, mantissa_bits, reserved } => {
                Format::minifloat(exponent_bits, mantissa_bits, signed, reserved)?
            }
            Self::Microscaling(family) => {
                family.element().ok_or(CodingError::NotMicroscaling { family })?
            }
        };
        Ok(vec![one])
    }

    /// The family.
    pub fn family(&self) -> Family {
        match *self {
            Self::Ausn { .. } => Family::Ausn,
            Self::Int(_) => Family::Int,
            Self::PowerOfTwo(_) => Family::PowerOfTwo,
            Self::Apot(_) => Family::Apot,
            Self::Affine(_) => Family::Affine,
            Self::Minifloat { .. } => Family::Minifloat,
            Self::Microscaling(family) => family,
        }
    }

    /// Bits of a code word, with the sign bit where there is one.
    ///
    /// # Errors
    ///
    /// If bits are outside the family's limits.
    pub fn bits(&self, signed: bool) -> Result<u32, CodingError> {
        match *self {
            Self::Ausn { bits, split: None, .. } => Ok(bits),
            _ => Ok(self.candidates(signed)?[0].bits()),
        }
    }
}

/// Which elements of a weight share a scale, before the weight's axes are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GranularitySpec {
    /// One scale for the tensor.
    #[default]
    PerTensor,
    /// One scale for each output channel.
    PerChannel,
    /// One scale for each block of this many elements along the input dimension.
    PerGroup(usize),
}

impl GranularitySpec {
    /// The granularity on a site's own axes. Activations have one scale each: a scale that changes
    /// along the input dimension of a dot product could not leave the sum.
    pub fn resolve(&self, kind: &SiteKind) -> Granularity {
        match (self, kind) {
            (Self::PerChannel, &SiteKind::Weight { channel_axis, .. }) => {
                Granularity::Channel { axis: channel_axis }
            }
            (&Self::PerGroup(size), &SiteKind::Weight { input_axis, .. }) => {
                Granularity::Group { axis: input_axis, size }
            }
            _ => Granularity::Tensor,
        }
    }
}

/// Everything a plan says of a site before its data were seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantSpec {
    /// The coding.
    pub coding: CodingSpec,
    /// Which elements share a scale.
    pub granularity: GranularitySpec,
    /// How ranges are chosen.
    pub range: RangeRule,
    /// Which numbers scales may be.
    pub scale: ScaleKind,
    /// How ranges train after they were chosen; not at all where not given.
    pub learned: Option<LearnedRange>,
    /// How gradients pass.
    pub estimator: Estimator,
    /// Whether a weight is normalized before it is quantized: its mean is taken off, and its standard
    /// deviation stays what it was ([APoT](https://arxiv.org/abs/1909.13144), section 2.3). Calibration
    /// must see it [centered](super::center_weights).
    pub normalize: bool,
}

impl QuantSpec {
    /// AUSN of `bits` bits with everything else left to the data: E and S of least squared error,
    /// one range for the tensor, of least squared error too.
    pub fn ausn(bits: u32) -> Self {
        Self {
            coding: CodingSpec::Ausn { bits, split: None, underflow: Underflow::default() },
            granularity: GranularitySpec::PerTensor,
            range: RangeRule::Mse,
            scale: ScaleKind::PowerOfTwo,
            learned: None,
            estimator: Estimator::Clipped,
            normalize: false,
        }
    }
}

/// A site with the coding and the ranges that calibration gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CalibratedSite {
    /// The site.
    pub site: Site,
    /// Its number format.
    pub format: Format,
    /// Which elements share a scale.
    pub granularity: GranularitySpec,
    /// How gradients pass.
    pub estimator: Estimator,
    /// How the ranges train; absent where they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedRange>,
    /// The standard deviation that the weight is normalized to before it is quantized; absent where it
    /// is not normalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f32>,
    /// Its scales, and zero points where the format has them. Where ranges train, those that
    /// training starts from.
    #[serde(flatten)]
    pub ranges: Ranges,
}

impl CalibratedSite {
    /// The same site with scales as training left them.
    pub(super) fn with_scales(&self, scales: Vec<f32>) -> Self {
        let scales = Scales::new(self.ranges.scales.kind(), scales);
        let zero_points = self.ranges.zero_points.clone();
        Self { ranges: Ranges { scales, zero_points }, ..self.clone() }
    }

    /// The scales that the site's quantizer divides by: where ranges train, as the parameter gives them back.
    pub(crate) fn attached_scales(&self) -> Vec<f32> {
        let mut scales = self.ranges.scales.factors();
        if let Some(learned) = self.learned {
            let given_back =
                |s: f32| learned.scale_of(learned.parameter(s, self.format), self.format);
            scales.iter_mut().for_each(|scale| *scale = given_back(*scale));
        }
        scales
    }

    /// The operation that the site's quantizer runs.
    pub fn operation(&self) -> FakeQuantize {
        FakeQuantize {
            format: self.format,
            granularity: self.granularity.resolve(&self.site.kind),
            estimator: self.estimator,
            scale_gradient: self.learned.map_or(ScaleGradient::None, |rule| rule.gradient()),
        }
    }

    /// The levels that a value divided by its scale is rounded to, ascending; of a coding with a
    /// zero point, its codes.
    pub fn levels(&self) -> Vec<f32> {
        self.format.signed_levels()
    }
}

/// All calibrated sites of a model: what `plan.json` of a run folder holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CalibratedPlan {
    /// One entry for each quantized tensor, in the order of the model's fields.
    pub sites: Vec<CalibratedSite>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_ascend_and_have_both_signs_where_there_is_a_sign_bit() {
        let levels = |signed: bool| {
            let site = CalibratedSite {
                site: Site {
                    path: "layer.input".into(),
                    layer: "layer".into(),
                    tensor: "input".into(),
                    kind: SiteKind::Activation { non_negative: !signed },
                },
                format: AusnFormat::new(2, 0, signed, Underflow::ZeroCode).unwrap().into(),
                granularity: GranularitySpec::PerTensor,
                estimator: Estimator::Clipped,
                learned: None,
                deviation: None,
                ranges: Ranges { scales: Scales::RangeExponents(vec![3]), zero_points: vec![] },
            };
            site.levels()
        };
        assert_eq!(levels(false), [0.0, 0.25, 0.5, 1.0]);
        assert_eq!(levels(true), [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]);
    }
}
