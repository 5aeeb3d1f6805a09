//! `[quant]`: which coding each layer gets.

use serde::Deserialize;

use super::Problem;
use crate::coding::{AusnFormat, Underflow};
use crate::quant::{
    CodingSpec, Estimator, GranularitySpec, LayerRule, Plan, PlanError, QuantSpec, RangeRule, Site,
    SiteRule,
};

/// `[quant]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuantConfig {
    /// Whether batch normalization is folded into the convolutions before calibration, so that the
    /// quantized stage trains the weights and biases that are deployed.
    pub fold_batch_norm: bool,
    weight: Option<RawTensor>,
    activation: Option<RawTensor>,
    layer: Vec<RawLayer>,
}

/// `[[quant.layer]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawLayer {
    #[serde(rename = "match")]
    pattern: String,
    weight: Option<RawTensor>,
    activation: Option<RawTensor>,
}

/// `weight = { ... }`, `activation = { ... }`
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct RawTensor {
    coding: Option<CodingName>,
    bits: Option<u32>,
    exponent_bits: Option<u32>,
    superposition_bits: Option<u32>,
    underflow: Option<Underflow>,
    range: Option<RangeName>,
    percentile: Option<f64>,
    ema_decay: Option<f64>,
    range_exponent: Option<i32>,
    granularity: Option<GranularityName>,
    group_size: Option<usize>,
    estimator: Option<Estimator>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CodingName {
    Ausn,
    Float,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RangeName {
    Max,
    Mse,
    Percentile,
    EmaMax,
    Fixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum GranularityName {
    #[serde(rename = "per-tensor")]
    Tensor,
    #[serde(rename = "per-channel")]
    Channel,
    #[serde(rename = "per-group")]
    Group,
}

/// The rules of `[quant]`, checked.
struct Rules {
    /// For weights that no rule matches.
    weight: SiteRule,
    /// For activations that no rule matches.
    activation: SiteRule,
    /// `[[quant.layer]]`, in order.
    layers: Vec<LayerRule>,
}

impl QuantConfig {
    /// Gives every site of a model its coding.
    ///
    /// # Errors
    ///
    /// Those of [`Plan::resolve`].
    pub fn plan(&self, sites: &[Site]) -> Result<Plan, PlanError> {
        let Rules { weight, activation, layers } =
            self.resolve().expect("the configuration was validated when it was read");
        Plan::resolve(sites, weight, activation, &layers)
    }

    pub(super) fn validate(&self) -> Result<(), Problem> {
        self.resolve().map(|_| ())
    }

    fn resolve(&self) -> Result<Rules, Problem> {
        let base_weight = self.weight.unwrap_or_default();
        let base_activation = self.activation.unwrap_or_default();
        let rule = |(index, layer): (usize, &RawLayer)| {
            let of = |own: Option<RawTensor>, base: RawTensor, name: &str, is_weight: bool| {
                own.map(|own| {
                    own.over(base).resolve(&format!("quant.layer.{index}.{name}"), is_weight)
                })
                .transpose()
            };
            Ok(LayerRule {
                pattern: layer.pattern.clone(),
                weight: of(layer.weight, base_weight, "weight", true)?,
                activation: of(layer.activation, base_activation, "activation", false)?,
            })
        };
        let default = |own: Option<RawTensor>, key: &str, is_weight: bool| match own {
            Some(own) => own.resolve(key, is_weight),
            None => Ok(None),
        };
        Ok(Rules {
            weight: default(self.weight, "quant.weight", true)?,
            activation: default(self.activation, "quant.activation", false)?,
            layers: self.layer.iter().enumerate().map(rule).collect::<Result<_, Problem>>()?,
        })
    }
}

impl RawTensor {
    /// A layer's own keys, with those of `[quant]` for what it leaves out. Keys that only make
    /// sense together are inherited together.
    fn over(self, base: Self) -> Self {
        let own_format = self.bits.or(self.exponent_bits).or(self.superposition_bits).is_some();
        let format = if own_format { self } else { base };
        let range = if self.range.is_some() { self } else { base };
        let granularity = if self.granularity.is_some() { self } else { base };
        Self {
            coding: self.coding.or(base.coding),
            bits: format.bits,
            exponent_bits: format.exponent_bits,
            superposition_bits: format.superposition_bits,
            underflow: self.underflow.or(base.underflow),
            range: range.range,
            percentile: self.percentile.or(range.percentile),
            ema_decay: self.ema_decay.or(range.ema_decay),
            range_exponent: self.range_exponent.or(range.range_exponent),
            granularity: granularity.granularity,
            group_size: self.group_size.or(granularity.group_size),
            estimator: self.estimator.or(base.estimator),
        }
    }

    fn resolve(self, key: &str, is_weight: bool) -> Result<SiteRule, Problem> {
        let fail =
            |name: &str, message: String| Err(Problem::new(format!("{key}.{name}"), message));
        match self.coding {
            Some(CodingName::Float) => return Ok(None),
            Some(CodingName::Ausn) => {}
            None => return fail("coding", "is missing; must be \"ausn\" or \"float\"".into()),
        }
        Ok(Some(QuantSpec {
            coding: self.coding_spec(key)?,
            granularity: self.granularity(key, is_weight)?,
            range: self.range(key, is_weight)?,
            estimator: self.estimator.unwrap_or_default(),
        }))
    }

    fn coding_spec(self, key: &str) -> Result<CodingSpec, Problem> {
        let fail =
            |name: &str, message: String| Err(Problem::new(format!("{key}.{name}"), message));
        let underflow = self.underflow.unwrap_or_default();
        match (self.bits, self.exponent_bits, self.superposition_bits) {
            (None, None, None) => fail("bits", "is missing; must be 2 to 16".into()),
            (Some(bits), None, None) => {
                if AusnFormat::candidates(bits, true, underflow).is_empty() {
                    return fail("bits", format!("is {bits}; must be 2 to 16"));
                }
                Ok(CodingSpec { bits, split: None, underflow })
            }
            (bits, Some(e), Some(s)) => {
                let format = AusnFormat::new(e, s, true, underflow).map_err(|error| {
                    Problem::new(format!("{key}.exponent-bits"), error.to_string())
                })?;
                if let Some(bits) = bits.filter(|&bits| bits != format.bits()) {
                    return fail(
                        "bits",
                        format!(
                            "is {bits}, but 1 sign bit, {e} exponent bits and {s} superposition bits are {}",
                            format.bits()
                        ),
                    );
                }
                Ok(CodingSpec { bits: format.bits(), split: Some((e, s)), underflow })
            }
            (_, Some(_), None) => {
                fail("superposition-bits", "is missing beside exponent-bits".into())
            }
            (_, None, Some(_)) => {
                fail("exponent-bits", "is missing beside superposition-bits".into())
            }
        }
    }

    fn granularity(self, key: &str, is_weight: bool) -> Result<GranularitySpec, Problem> {
        let fail = |name: &str, message: &str| Err(Problem::new(format!("{key}.{name}"), message));
        if !is_weight && (self.granularity.is_some() || self.group_size.is_some()) {
            return fail(
                "granularity",
                "is for weights: an activation has one scale for the tensor",
            );
        }
        match (self.granularity, self.group_size) {
            (Some(GranularityName::Group), Some(size @ 1..)) => Ok(GranularitySpec::PerGroup(size)),
            (Some(GranularityName::Group), _) => {
                fail("group-size", "must be at least 1 for per-group; 32 is MXFP4's block")
            }
            (_, Some(_)) => fail("group-size", "belongs to granularity = \"per-group\""),
            (Some(GranularityName::Channel), None) => Ok(GranularitySpec::PerChannel),
            (Some(GranularityName::Tensor) | None, None) => Ok(GranularitySpec::PerTensor),
        }
    }

    fn range(self, key: &str, is_weight: bool) -> Result<RangeRule, Problem> {
        let fail =
            |name: &str, message: String| Err(Problem::new(format!("{key}.{name}"), message));
        let name = self.range.unwrap_or(if is_weight { RangeName::Mse } else { RangeName::EmaMax });
        for (present, owner, own_key, range) in [
            (self.percentile.is_some(), RangeName::Percentile, "percentile", "percentile"),
            (self.ema_decay.is_some(), RangeName::EmaMax, "ema-decay", "ema-max"),
            (self.range_exponent.is_some(), RangeName::Fixed, "range-exponent", "fixed"),
        ] {
            if present && name != owner {
                return fail(own_key, format!("belongs to range = \"{range}\""));
            }
        }
        match name {
            RangeName::Max => Ok(RangeRule::Max),
            RangeName::Mse => Ok(RangeRule::Mse),
            RangeName::Percentile => match self.percentile {
                Some(p) if p > 0.0 && p <= 100.0 => Ok(RangeRule::Percentile(p)),
                Some(p) => fail("percentile", format!("is {p}; must be above 0 and at most 100")),
                None => fail("percentile", "is missing; 99.9 is a usual value".into()),
            },
            RangeName::EmaMax if is_weight => {
                fail("range", "`ema-max` follows batches of activations; a weight has none".into())
            }
            RangeName::EmaMax => match self.ema_decay.unwrap_or(0.9) {
                decay if (0.0..1.0).contains(&decay) => Ok(RangeRule::EmaMax(decay)),
                decay => fail("ema-decay", format!("is {decay}; must be at least 0 and below 1")),
            },
            RangeName::Fixed => match self.range_exponent {
                Some(r) => Ok(RangeRule::Fixed(r)),
                None => fail("range-exponent", "is missing for range = \"fixed\"".into()),
            },
        }
    }
}
