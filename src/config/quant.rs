//! `[quant]`: which coding each layer gets.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Problem, Select, StageConfig};
use crate::coding::{AusnFormat, Family, Format, Reserved, Underflow};
use crate::post_training::PostTrainingConfig;
use crate::quant::{
    CodingSpec, Estimator, GranularitySpec, LayerRule, LearnedRange, Plan, PlanError, QuantSpec,
    RangeRule, ScaleKind, Site, SiteRule,
};
use crate::search::SearchConfig;

/// `[quant]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuantConfig {
    /// Whether batch normalization is folded into the convolutions before calibration, so that the
    /// quantized stage trains the weights and biases that are deployed.
    pub fold_batch_norm: bool,
    /// A file of `[[layer]]` rules, which come behind those of `layer`; what `ausn search --out` writes. A run keeps the rules
    /// in its own configuration.
    pub plan: Option<PathBuf>,
    /// A search for the coding of each weight under a budget, before calibration.
    pub search: Option<SearchConfig>,
    /// What calibration does for the weights besides, without training.
    pub post_training: PostTrainingConfig,
    /// Epochs of the quantized stage, ascending, after each of which codings and ranges are chosen
    /// again from the weights as they are then.
    pub choose_again: Vec<usize>,
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
    tensor: Option<String>,
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
    mantissa_bits: Option<u32>,
    reserved: Option<Reserved>,
    scale: Option<ScaleKind>,
    learn_range: Option<LearnName>,
    range: Option<RangeName>,
    percentile: Option<f64>,
    ema_decay: Option<f64>,
    range_exponent: Option<i32>,
    granularity: Option<GranularityName>,
    group_size: Option<usize>,
    estimator: Option<Estimator>,
    normalize: Option<bool>,
}

/// A family by its name, or no coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum CodingName {
    Family(Family),
    Float,
}

impl CodingName {
    fn allowed() -> String {
        Family::ALL.map(|family| format!("\"{family}\", ")).concat() + "\"float\""
    }
}

impl TryFrom<String> for CodingName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match (name.as_str(), name.parse()) {
            ("float", _) => Ok(Self::Float),
            (_, Ok(family)) => Ok(Self::Family(family)),
            _ => Err(format!("unknown coding \"{name}\", expected one of {}", Self::allowed())),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LearnName {
    None,
    Lsq,
    Tqt,
    Pact,
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
    /// How many layer rules there are.
    pub(super) fn layer_rules(&self) -> usize {
        self.layer.len()
    }

    /// Gives every site of a model its coding.
    ///
    /// # Errors
    ///
    /// Those of [`Plan::resolve`].
    pub fn plan(&self, sites: &[Site]) -> Result<Plan, PlanError> {
        let Rules { weight, activation, layers } = self.rules();
        Plan::resolve(sites, weight, activation, &layers)
    }

    /// Whether any coding is given.
    pub fn quantizes(&self) -> bool {
        let Rules { weight, activation, layers } = self.rules();
        let of_layers = layers.iter().flat_map(|rule| [rule.weight, rule.activation]).flatten();
        [weight, activation].into_iter().chain(of_layers).any(|rule| rule.is_some())
    }

    /// Bits of the codes that `weight` and `activation` give, or where they are not given all layer rules alike; on
    /// average where a search chooses those of weights. None for floats, and where there is no single whole number.
    pub(crate) fn widths(&self) -> [Option<u32>; 2] {
        let Rules { weight, activation, layers } = self.rules();
        let width = |default: SiteRule, of_layer: fn(&LayerRule) -> Option<SiteRule>| {
            let of = |spec: QuantSpec| spec.coding.bits(true).ok();
            let mut of_layers = layers.iter().filter_map(of_layer).flatten().map(of);
            match default {
                Some(spec) => of(spec),
                None => of_layers.next().filter(|first| of_layers.all(|other| other == *first))?,
            }
        };
        let weight = width(weight, |rule| rule.weight);
        let activation = width(activation, |rule| rule.activation);
        let searched = self.search.as_ref().map(|search| {
            search.average_bits.filter(|bits| bits.fract() == 0.0).map(|bits| bits as u32)
        });
        [searched.unwrap_or(weight), activation]
    }

    fn rules(&self) -> Rules {
        self.resolve().expect("the configuration was validated when it was read")
    }

    /// Checks the epochs of `choose-again` against those of the quantized stage.
    pub(super) fn validate_epochs(&self, stage: &StageConfig) -> Result<(), Problem> {
        let fail = |message: String| Err(Problem::new("quant.choose-again", message));
        let mut earlier = 0;
        for &epoch in &self.choose_again {
            if epoch <= earlier || epoch >= stage.epochs {
                return fail(format!(
                    "names epoch {epoch}; epochs must ascend from 1, and one of the quantized \
                     stage's {} must come after each",
                    stage.epochs
                ));
            }
            earlier = epoch;
        }
        if !self.choose_again.is_empty()
            && (stage.select == Select::Best || stage.early_stopping.is_some())
        {
            return fail(
                "changes the codings, so that the model of an earlier epoch is of others; use \
                 select = \"last\" and no early-stopping in [train.quantized]"
                    .to_string(),
            );
        }
        Ok(())
    }

    pub(super) fn validate(&self) -> Result<(), Problem> {
        if let Some(Err((key, message))) = self.search.as_ref().map(SearchConfig::validate) {
            return Err(Problem::new(format!("quant.search.{key}"), message));
        }
        if let Err((key, message)) = self.post_training.validate() {
            return Err(Problem::new(format!("quant.post-training.{key}"), message));
        }
        let Rules { weight, layers, .. } = self.resolve()?;
        let rules = layers.iter().filter_map(|rule| rule.weight).chain([weight]);
        let weights: Vec<QuantSpec> = rules.flatten().collect();
        if self.post_training.is_active() && weights.is_empty() {
            let message = "corrects quantized weights, but no weight is given a coding";
            return Err(Problem::new("quant.post-training".to_string(), message));
        }
        if weights.iter().any(|spec| spec.normalize) {
            // Both take the stored weights for what is quantized.
            for (present, name) in [
                (!self.choose_again.is_empty(), "choose-again"),
                (self.post_training.is_active(), "post-training"),
            ] {
                if present {
                    let message = "does not go with normalize = true, which has training see other weights than those that are stored";
                    return Err(Problem::new(format!("quant.{name}"), message));
                }
            }
        }
        Ok(())
    }

    fn resolve(&self) -> Result<Rules, Problem> {
        let base_weight = self.weight.unwrap_or_default();
        let base_activation = self.activation.unwrap_or_default();
        let rule = |(index, layer): (usize, &RawLayer)| {
            if layer.weight.is_none() && layer.activation.is_none() {
                let message = "gives neither a weight nor an activation a coding";
                return Err(Problem::new(format!("quant.layer.{index}"), message));
            }
            let of = |own: Option<RawTensor>, base: RawTensor, name: &str, is_weight: bool| {
                let key = format!("quant.layer.{index}.{name}");
                own.map(|own| {
                    own.refuse_keys_of_float(&key)?;
                    own.over(base).resolve(&key, is_weight)
                })
                .transpose()
            };
            Ok(LayerRule {
                pattern: layer.pattern.clone(),
                tensor: layer.tensor.clone(),
                weight: of(layer.weight, base_weight, "weight", true)?,
                activation: of(layer.activation, base_activation, "activation", false)?,
            })
        };
        let default = |own: Option<RawTensor>, key: &str, is_weight: bool| match own {
            Some(own) => own.refuse_keys_of_float(key).and_then(|()| own.resolve(key, is_weight)),
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
    /// sense together are inherited together, and those of another coding are not.
    fn over(self, base: Self) -> Self {
        let coding = self.coding.or(base.coding);
        let base = match coding {
            _ if coding == base.coding => base,
            Some(CodingName::Family(family)) if family.is_microscaling() => {
                Self { estimator: base.estimator, normalize: base.normalize, ..Self::default() }
            }
            _ => Self {
                exponent_bits: None,
                superposition_bits: None,
                underflow: None,
                mantissa_bits: None,
                reserved: None,
                bits: base.bits.filter(|_| coding != Some(CodingName::Family(Family::Minifloat))),
                learn_range: base
                    .learn_range
                    .filter(|_| coding != Some(CodingName::Family(Family::Affine))),
                ..base
            },
        };
        let own_format = self
            .bits
            .or(self.exponent_bits)
            .or(self.superposition_bits)
            .or(self.mantissa_bits)
            .is_some();
        let format = if own_format { self } else { base };
        let range = if self.range.is_some() { self } else { base };
        let granularity = if self.granularity.is_some() { self } else { base };
        Self {
            coding,
            bits: format.bits,
            exponent_bits: format.exponent_bits,
            superposition_bits: format.superposition_bits,
            underflow: self.underflow.or(base.underflow),
            mantissa_bits: format.mantissa_bits,
            reserved: self.reserved.or(base.reserved),
            scale: self.scale.or(base.scale),
            learn_range: self.learn_range.or(base.learn_range),
            range: range.range,
            percentile: self.percentile.or(range.percentile),
            ema_decay: self.ema_decay.or(range.ema_decay),
            range_exponent: self.range_exponent.or(range.range_exponent),
            granularity: granularity.granularity,
            group_size: self.group_size.or(granularity.group_size),
            estimator: self.estimator.or(base.estimator),
            normalize: self.normalize.or(base.normalize),
        }
    }

    /// A float tensor has no other keys of its own; those that it inherits have no effect.
    fn refuse_keys_of_float(self, key: &str) -> Result<(), Problem> {
        let coding = Some(CodingName::Float);
        if self.coding == coding && self != (Self { coding, ..Self::default() }) {
            let message = "is \"float\", beside which other keys have no effect; leave them out";
            return Err(Problem::new(format!("{key}.coding"), message));
        }
        Ok(())
    }

    fn resolve(self, key: &str, is_weight: bool) -> Result<SiteRule, Problem> {
        let family = match self.coding {
            Some(CodingName::Float) => return Ok(None),
            Some(CodingName::Family(family)) => family,
            None => {
                let message = format!("is missing; must be one of {}", CodingName::allowed());
                return Err(Problem::new(format!("{key}.coding"), message));
            }
        };
        self.refuse_keys_of_other_codings(key, family)?;
        if self.normalize.is_some() && !is_weight {
            let message = "is for weights; activations are normalized by the layers of the model";
            return Err(Problem::new(format!("{key}.normalize"), message));
        }
        if family.is_microscaling() {
            if !is_weight {
                let message = format!(
                    "is {family}, which has a scale for each block of {}; an activation has one \
                     scale for the tensor: \"minifloat\" has the same levels",
                    Family::BLOCK
                );
                return Err(Problem::new(format!("{key}.coding"), message));
            }
            return Ok(Some(QuantSpec {
                coding: CodingSpec::Microscaling(family),
                granularity: GranularitySpec::PerGroup(Family::BLOCK),
                range: RangeRule::Binade,
                scale: ScaleKind::PowerOfTwo,
                learned: None,
                estimator: self.estimator.unwrap_or_default(),
                normalize: self.normalizes(),
            }));
        }
        let (scale, learned) = self.scale(key, is_weight)?;
        Ok(Some(QuantSpec {
            coding: self.coding_spec(key, family)?,
            granularity: self.granularity(key, is_weight)?,
            range: self.range(key, is_weight)?,
            scale,
            learned,
            estimator: self.estimator.unwrap_or_default(),
            normalize: self.normalizes(),
        }))
    }

    fn refuse_keys_of_other_codings(self, key: &str, family: Family) -> Result<(), Problem> {
        let block = family.is_microscaling();
        let ausn = family == Family::Ausn;
        let float = family == Family::Minifloat;
        for (name, present, allowed) in [
            ("bits", self.bits.is_some(), !block && !float),
            ("exponent-bits", self.exponent_bits.is_some(), ausn || float),
            ("superposition-bits", self.superposition_bits.is_some(), ausn),
            ("underflow", self.underflow.is_some(), ausn),
            ("mantissa-bits", self.mantissa_bits.is_some(), float),
            ("reserved", self.reserved.is_some(), float),
            ("scale", self.scale.is_some(), !block),
            ("learn-range", self.learns(), !block && family != Family::Affine),
            ("range", self.range.is_some(), !block),
            ("percentile", self.percentile.is_some(), !block),
            ("ema-decay", self.ema_decay.is_some(), !block),
            ("range-exponent", self.range_exponent.is_some(), !block),
            ("granularity", self.granularity.is_some(), !block),
            ("group-size", self.group_size.is_some(), !block),
        ] {
            if present && !allowed {
                let message = match block {
                    true => {
                        format!("does not belong to coding = \"{family}\", which sets it itself")
                    }
                    false => format!("does not belong to coding = \"{family}\""),
                };
                return Err(Problem::new(format!("{key}.{name}"), message));
            }
        }
        Ok(())
    }

    fn normalizes(self) -> bool {
        self.normalize.unwrap_or_default()
    }

    fn learns(self) -> bool {
        !matches!(self.learn_range, None | Some(LearnName::None))
    }

    fn scale(
        self,
        key: &str,
        is_weight: bool,
    ) -> Result<(ScaleKind, Option<LearnedRange>), Problem> {
        let learned = match self.learn_range {
            None | Some(LearnName::None) => return Ok((self.scale.unwrap_or_default(), None)),
            Some(LearnName::Lsq) => LearnedRange::Lsq,
            Some(LearnName::Pact) if is_weight => {
                let message = "is \"pact\", which is for activations; \"lsq\" and \"tqt\" train ranges of weights";
                return Err(Problem::new(format!("{key}.learn-range"), message));
            }
            Some(LearnName::Pact) => LearnedRange::Pact,
            Some(LearnName::Tqt) => LearnedRange::Tqt { scale: self.scale.unwrap_or_default() },
        };
        let kind = learned.scale_kind();
        if self.scale.is_some_and(|scale| scale != kind) {
            let message = "is \"power-of-two\", but \"lsq\" and \"pact\" train a free scale; \"tqt\" trains either";
            return Err(Problem::new(format!("{key}.scale"), message));
        }
        Ok((kind, Some(learned)))
    }

    fn coding_spec(self, key: &str, family: Family) -> Result<CodingSpec, Problem> {
        let of_bits = |make: fn(u32) -> CodingSpec| {
            let allowed = family.bits();
            let limits = format!("must be {} to {}", allowed.start(), allowed.end());
            let message = match self.bits {
                Some(bits) if allowed.contains(&bits) => return Ok(make(bits)),
                Some(bits) => format!("is {bits}; {limits} for coding = \"{family}\""),
                None => format!("is missing; {limits}"),
            };
            Err(Problem::new(format!("{key}.bits"), message))
        };
        match family {
            Family::Ausn => self.ausn(key),
            Family::Int => of_bits(CodingSpec::Int),
            Family::PowerOfTwo => of_bits(CodingSpec::PowerOfTwo),
            Family::Apot => of_bits(CodingSpec::Apot),
            Family::Affine => of_bits(CodingSpec::Affine),
            Family::Minifloat => self.minifloat(key),
            _ => Ok(CodingSpec::Microscaling(family)),
        }
    }

    fn minifloat(self, key: &str) -> Result<CodingSpec, Problem> {
        let missing = |name: &str| {
            Problem::new(format!("{key}.{name}"), "is missing for coding = \"minifloat\"")
        };
        let exponent_bits = self.exponent_bits.ok_or_else(|| missing("exponent-bits"))?;
        let mantissa_bits = self.mantissa_bits.ok_or_else(|| missing("mantissa-bits"))?;
        let reserved = self.reserved.unwrap_or_default();
        for signed in [true, false] {
            let format = Format::minifloat(exponent_bits, mantissa_bits, signed, reserved);
            format.map_err(|error| {
                Problem::new(format!("{key}.exponent-bits"), format!("is refused: {error}"))
            })?;
        }
        Ok(CodingSpec::Minifloat { exponent_bits, mantissa_bits, reserved })
    }

    fn ausn(self, key: &str) -> Result<CodingSpec, Problem> {
        let fail =
            |name: &str, message: String| Err(Problem::new(format!("{key}.{name}"), message));
        let underflow = self.underflow.unwrap_or_default();
        match (self.bits, self.exponent_bits, self.superposition_bits) {
            (None, None, None) => fail("bits", "is missing; must be 2 to 16".into()),
            (Some(bits), None, None) => {
                if AusnFormat::candidates(bits, true, underflow).is_empty() {
                    return fail("bits", format!("is {bits}; must be 2 to 16"));
                }
                Ok(CodingSpec::Ausn { bits, split: None, underflow })
            }
            (bits, Some(e), Some(s)) => {
                let format = AusnFormat::new(e, s, true, underflow).map_err(|error| {
                    let message = format!("is {e} beside superposition-bits {s}: {error}");
                    Problem::new(format!("{key}.exponent-bits"), message)
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
                Ok(CodingSpec::Ausn { bits: format.bits(), split: Some((e, s)), underflow })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_code_words_or_the_average_of_a_search() {
        for (text, expected) in [
            ("weight = { coding = \"int\", bits = 5 }", [Some(5), None]),
            ("activation = { coding = \"ausn\", bits = 8 }", [None, Some(8)]),
            (
                "weight = { coding = \"ausn\", exponent-bits = 2, superposition-bits = 1 }",
                [Some(4), None],
            ),
            (
                "weight = { coding = \"minifloat\", exponent-bits = 4, mantissa-bits = 3 }",
                [Some(8), None],
            ),
            ("weight = { coding = \"mxfp6-e2m3\" }", [Some(6), None]),
            ("weight = { coding = \"float\" }", [None, None]),
            ("weight = { coding = \"ausn\", bits = 8 }\nsearch.average-bits = 4", [Some(4), None]),
            ("weight = { coding = \"ausn\", bits = 8 }\nsearch.average-bits = 4.5", [None, None]),
            (
                "layer = [{ match = \"a\", weight = { coding = \"int\", bits = 3 } },
                           { match = \"b\", weight = { coding = \"float\" } },
                           { match = \"c\", weight = { coding = \"int\", bits = 3 },
                             activation = { coding = \"int\", bits = 8 } },
                           { match = \"d\", activation = { coding = \"int\", bits = 6 } }]",
                [Some(3), None],
            ),
            ("weight = { coding = \"ausn\", bits = 8 }\nsearch.bytes = 1000", [None, None]),
        ] {
            assert_eq!(toml::from_str::<QuantConfig>(text).unwrap().widths(), expected, "{text}");
        }
    }

    #[test]
    fn a_rule_takes_what_its_coding_knows_from_the_default() {
        let rules = |text: &str| toml::from_str::<QuantConfig>(text).unwrap();
        let rule = |weight: &str, own: &str| {
            let text = format!(
                "weight = {{ {weight} }}\nlayer = [{{ match = \"a\", weight = {{ {own} }} }}]"
            );
            let resolved = rules(&text).resolve().map_err(|problem| problem.message);
            let rules = resolved.unwrap_or_else(|said| panic!("{text}: {said}"));
            rules.layers[0].weight.flatten().unwrap()
        };
        let base = "coding = \"ausn\", bits = 4, scale = \"free\", learn-range = \"lsq\", \
                    estimator = \"identity\", normalize = true";
        let spec = rule(base, "coding = \"mxfp4\"");
        assert_eq!(
            (spec.estimator, spec.normalize, spec.learned),
            (Estimator::Identity, true, None)
        );
        assert_eq!((spec.scale, spec.range), (ScaleKind::PowerOfTwo, RangeRule::Binade));
        let spec = rule(base, "coding = \"affine\", bits = 8");
        assert_eq!((spec.scale, spec.learned), (ScaleKind::Free, None));
        assert_eq!(rule(base, "coding = \"int\", bits = 8").learned, Some(LearnedRange::Lsq));
    }
}
