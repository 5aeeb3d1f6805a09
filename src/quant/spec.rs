//! What a plan says of a site, before and after its data were seen.

use serde::{Deserialize, Serialize};

use super::fake_quantize::Estimator;
use super::{FakeQuantize, Granularity, RangeRule, Site, SiteKind};
use crate::coding::{AusnFormat, CodingError, Underflow};

/// Which coding a site is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingSpec {
    /// Bits of a code word, with the sign bit where there is one.
    pub bits: u32,
    /// Exponent bits E and superposition bits S; chosen by least squared error where not given.
    /// A tensor that needs no sign bit keeps E and S and has one bit fewer.
    pub split: Option<(u32, u32)>,
    /// The underflow rule.
    pub underflow: Underflow,
}

impl CodingSpec {
    /// The formats that the specification leaves open for a signed or unsigned tensor.
    ///
    /// # Errors
    ///
    /// If E and S are outside the family's limits.
    pub fn candidates(&self, signed: bool) -> Result<Vec<AusnFormat>, CodingError> {
        match self.split {
            Some((e, s)) => Ok(vec![AusnFormat::new(e, s, signed, self.underflow)?]),
            None => Ok(AusnFormat::candidates(self.bits, signed, self.underflow)),
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
    /// How gradients pass.
    pub estimator: Estimator,
}

impl QuantSpec {
    /// AUSN of `bits` bits with everything else left to the data: E and S of least squared error,
    /// one range for the tensor, of least squared error too.
    pub fn ausn(bits: u32) -> Self {
        Self {
            coding: CodingSpec { bits, split: None, underflow: Underflow::default() },
            granularity: GranularitySpec::PerTensor,
            range: RangeRule::Mse,
            estimator: Estimator::Clipped,
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
    pub format: AusnFormat,
    /// Which elements share a scale.
    pub granularity: GranularitySpec,
    /// How gradients pass.
    pub estimator: Estimator,
    /// The range exponent of every scale.
    pub range_exponents: Vec<i32>,
}

impl CalibratedSite {
    /// The operation that the site's quantizer runs.
    pub fn operation(&self) -> FakeQuantize {
        FakeQuantize {
            format: self.format,
            granularity: self.granularity.resolve(&self.site.kind),
            estimator: self.estimator,
        }
    }
}

/// All calibrated sites of a model: what `plan.json` of a run folder holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CalibratedPlan {
    /// One entry for each quantized tensor, in the order of the model's fields.
    pub sites: Vec<CalibratedSite>,
}
