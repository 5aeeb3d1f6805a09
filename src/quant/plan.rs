//! The plan: which coding every site of a model gets.

use globset::{GlobBuilder, GlobMatcher};
use thiserror::Error;

use super::{CalibrationError, LearnedRange, QuantSpec, Site, SiteKind, check_fixed_range};
use crate::coding::CodingError;

/// What a rule says of one kind of tensor: keep it in float, or quantize it.
pub type SiteRule = Option<QuantSpec>;

/// A rule for the layers that a pattern matches.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRule {
    /// A glob over layer paths: `*` any run of characters, `?` one, `{a,b}` either, `[0-3]` a range.
    pub pattern: String,
    /// The only tensor of the layers that the rule is for, such as `input`; all where it is not given.
    pub tensor: Option<String>,
    /// For the layers' weights; `None` leaves them to earlier rules.
    pub weight: Option<SiteRule>,
    /// For the layers' activations; `None` leaves them to earlier rules.
    pub activation: Option<SiteRule>,
}

/// One site and what it is to become.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanEntry {
    /// The site.
    pub site: Site,
    /// Its coding, range rule and estimator.
    pub spec: QuantSpec,
}

/// Which coding every site of a model gets; sites without an entry stay float.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// One entry for each tensor to quantize, in the order of the model's fields.
    pub entries: Vec<PlanEntry>,
}

/// Why a plan could not be made.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A pattern that is no glob.
    #[error("layer pattern `{pattern}` is not a valid glob: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern that matches no layer of the model.
    #[error(
        "layer pattern `{pattern}` matches no layer of the model{}; its layers are: {}",
        closest.as_ref().map(|c| format!(" (did you mean `{c}`?)")).unwrap_or_default(),
        layers.join(", ")
    )]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// The layer whose path is most like it.
        closest: Option<String>,
        /// All layers that could be matched.
        layers: Vec<String>,
    },
    /// A fixed range that the coding cannot have.
    #[error(transparent)]
    Range(CalibrationError),
    /// Clipping is learned of an activation of both signs.
    #[error(
        "layer `{layer}`, {tensor}: learn-range = \"pact\" is for activations that cannot be negative; \
         give this layer learn-range = \"lsq\", \"tqt\" or \"none\""
    )]
    SignedPact {
        /// The layer.
        layer: String,
        /// Which of its tensors.
        tensor: String,
    },
    /// A tensor that no layer of a pattern has.
    #[error(
        "layer pattern `{pattern}`: none of its layers has a tensor `{tensor}`; they have: {}",
        tensors.join(", ")
    )]
    NoTensor {
        /// The pattern.
        pattern: String,
        /// The tensor.
        tensor: String,
        /// The tensors of the layers that the pattern matches.
        tensors: Vec<String>,
    },
    /// A rule whose coding no tensor that it is for can get.
    #[error("layer pattern `{pattern}`{}: gives {given} a coding, but is for none; its tensors are {}",
        tensor.as_ref().map(|tensor| format!(", tensor \"{tensor}\"")).unwrap_or_default(),
        tensors.join(", ")
    )]
    NoEffect {
        /// The pattern.
        pattern: String,
        /// The tensor that the rule names.
        tensor: Option<String>,
        /// `weights` or `activations`.
        given: &'static str,
        /// The tensors that it is for.
        tensors: Vec<String>,
    },
    /// A coding that does not exist.
    #[error("layer `{layer}`, {tensor}: {source}")]
    Coding {
        /// The layer.
        layer: String,
        /// Which of its tensors.
        tensor: String,
        /// What is wrong with the coding.
        source: CodingError,
    },
}

impl Plan {
    /// Gives every site its coding: the default for its kind, overridden by the last rule whose
    /// pattern matches its layer. Where ranges train, scales are those of the rule that they train by.
    ///
    /// # Errors
    ///
    /// A pattern that is no glob or matches nothing, and a coding that does not exist.
    pub fn resolve(
        sites: &[Site],
        weight: SiteRule,
        activation: SiteRule,
        rules: &[LayerRule],
    ) -> Result<Self, PlanError> {
        let matchers = rules
            .iter()
            .map(|rule| {
                let matcher = matcher(&rule.pattern, sites)?;
                check_tensor(rule, &matcher, sites)?;
                check_effect(rule, &matcher, sites)?;
                Ok((matcher, rule))
            })
            .collect::<Result<Vec<_>, PlanError>>()?;
        let mut entries = Vec::new();
        for site in sites {
            let is_weight = site.kind.is_weight();
            let default = if is_weight { weight } else { activation };
            let rule = matchers
                .iter()
                .rev()
                .filter(|(matcher, rule)| matcher.is_match(&site.layer) && rule.is_for(site))
                .find_map(|(_, rule)| if is_weight { rule.weight } else { rule.activation });
            if let Some(mut spec) = rule.unwrap_or(default) {
                // Training leaves no other scale than its rule allows.
                spec.scale = spec.learned.map_or(spec.scale, LearnedRange::scale_kind);
                let signed = site.kind != SiteKind::Activation { non_negative: true };
                let formats =
                    spec.coding.candidates(signed).map_err(|source| PlanError::Coding {
                        layer: site.layer.clone(),
                        tensor: site.tensor.clone(),
                        source,
                    })?;
                if spec.learned == Some(LearnedRange::Pact) && signed {
                    let (layer, tensor) = (site.layer.clone(), site.tensor.clone());
                    return Err(PlanError::SignedPact { layer, tensor });
                }
                let entry = PlanEntry { site: site.clone(), spec };
                check_fixed_range(&entry, &formats).map_err(PlanError::Range)?;
                entries.push(entry);
            }
        }
        Ok(Self { entries })
    }
}

impl LayerRule {
    fn is_for(&self, site: &Site) -> bool {
        self.tensor.as_ref().is_none_or(|tensor| *tensor == site.tensor)
    }
}

fn check_tensor(rule: &LayerRule, matcher: &GlobMatcher, sites: &[Site]) -> Result<(), PlanError> {
    let matched = || sites.iter().filter(|site| matcher.is_match(&site.layer));
    let Some(tensor) = &rule.tensor else { return Ok(()) };
    if matched().any(|site| rule.is_for(site)) {
        return Ok(());
    }
    let mut tensors: Vec<String> = matched().map(|site| site.tensor.clone()).collect();
    tensors.sort();
    tensors.dedup();
    let (pattern, tensor) = (rule.pattern.clone(), tensor.clone());
    Err(PlanError::NoTensor { pattern, tensor, tensors })
}

fn check_effect(rule: &LayerRule, matcher: &GlobMatcher, sites: &[Site]) -> Result<(), PlanError> {
    let matched = || sites.iter().filter(|s| matcher.is_match(&s.layer) && rule.is_for(s));
    let given = [
        ("weights", rule.weight.is_some(), true),
        ("activations", rule.activation.is_some(), false),
    ];
    for (given, is_given, is_weight) in given {
        if is_given && !matched().any(|site| site.kind.is_weight() == is_weight) {
            let mut tensors: Vec<String> = matched().map(|site| site.tensor.clone()).collect();
            tensors.sort();
            tensors.dedup();
            let (pattern, tensor) = (rule.pattern.clone(), rule.tensor.clone());
            return Err(PlanError::NoEffect { pattern, tensor, given, tensors });
        }
    }
    Ok(())
}

fn matcher(pattern: &str, sites: &[Site]) -> Result<GlobMatcher, PlanError> {
    let glob = GlobBuilder::new(pattern).build().map_err(|error| PlanError::Pattern {
        pattern: pattern.to_string(),
        reason: error.kind().to_string(),
    })?;
    let matcher = glob.compile_matcher();
    if sites.iter().any(|site| matcher.is_match(&site.layer)) {
        return Ok(matcher);
    }
    let mut layers: Vec<String> = sites.iter().map(|site| site.layer.clone()).collect();
    layers.dedup();
    let closest = layers
        .iter()
        .map(|layer| (strsim::jaro_winkler(layer, pattern), layer))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, layer)| layer.clone());
    Err(PlanError::NoMatch { pattern: pattern.to_string(), closest, layers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::ScaleKind;

    fn site(layer: &str, tensor: &str) -> Site {
        let kind = match tensor {
            "weight" => SiteKind::Weight { shape: vec![2, 2], channel_axis: 1, input_axis: 0 },
            _ => SiteKind::Activation { non_negative: false },
        };
        Site { path: format!("{layer}.{tensor}"), layer: layer.into(), tensor: tensor.into(), kind }
    }

    fn rule(pattern: &str, weight: Option<SiteRule>) -> LayerRule {
        LayerRule { pattern: pattern.into(), tensor: None, weight, activation: None }
    }

    fn model() -> Vec<Site> {
        vec![
            site("stem", "weight"),
            site("encoder.layers.0.query", "weight"),
            site("encoder.layers.0.query", "input"),
            site("encoder.layers.1.query", "weight"),
            site("classifier", "weight"),
        ]
    }

    fn bits(plan: &Plan) -> Vec<(&str, u32)> {
        plan.entries
            .iter()
            .map(|e| (e.site.path.as_str(), e.spec.coding.bits(true).unwrap()))
            .collect()
    }

    #[test]
    fn scales_are_those_of_the_rule_that_trains_them() {
        for (rule, expected) in [
            (LearnedRange::Lsq, ScaleKind::Free),
            (LearnedRange::Tqt { scale: ScaleKind::PowerOfTwo }, ScaleKind::PowerOfTwo),
        ] {
            let spec = QuantSpec { learned: Some(rule), ..QuantSpec::ausn(4) };
            let plan = Plan::resolve(&model(), Some(spec), None, &[]).unwrap();
            assert!(plan.entries.iter().all(|entry| entry.spec.scale == expected), "{rule:?}");
        }
    }

    #[test]
    fn bits_that_no_split_has_are_refused() {
        let mut activation = site("stem", "input");
        activation.kind = SiteKind::Activation { non_negative: true };
        for (bits, site) in
            [(16, activation), (1, site("stem", "weight")), (17, site("stem", "weight"))]
        {
            let spec = Some(QuantSpec::ausn(bits));
            let error = Plan::resolve(&[site], spec, spec, &[]).unwrap_err().to_string();
            let expected = format!("no exponent and superposition bits of ausn make {bits} bits");
            assert!(error.starts_with("layer `stem`") && error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn last_matching_rule_wins_and_float_removes() {
        let rules = [
            rule("encoder.layers.*", Some(Some(QuantSpec::ausn(3)))),
            rule("encoder.layers.1.*", Some(Some(QuantSpec::ausn(5)))),
            rule("{stem,classifier}", Some(None)),
        ];
        let plan =
            Plan::resolve(&model(), Some(QuantSpec::ausn(4)), Some(QuantSpec::ausn(8)), &rules)
                .unwrap();
        assert_eq!(
            bits(&plan),
            [
                ("encoder.layers.0.query.weight", 3),
                ("encoder.layers.0.query.input", 8),
                ("encoder.layers.1.query.weight", 5)
            ]
        );
    }

    #[test]
    fn a_rule_may_be_for_one_tensor_of_its_layers() {
        let model = [site("a", "weight"), site("a", "input"), site("a", "memory")];
        let of = |tensor: &str, bits| LayerRule {
            pattern: "a".into(),
            tensor: Some(tensor.into()),
            weight: None,
            activation: Some(Some(QuantSpec::ausn(bits))),
        };
        let eight = Some(QuantSpec::ausn(8));
        let plan = Plan::resolve(&model, None, eight, &[of("memory", 5)]).unwrap();
        assert_eq!(bits(&plan), [("a.input", 8), ("a.memory", 5)]);
        let error = Plan::resolve(&model, None, eight, &[of("weight", 3)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer pattern `a`, tensor \"weight\": gives activations a coding, but is for none; its tensors are weight"
        );
        let error = Plan::resolve(&model, None, eight, &[of("output", 5)]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer pattern `a`: none of its layers has a tensor `output`; they have: input, memory, weight"
        );
    }

    #[test]
    fn no_defaults_and_no_rules_give_an_empty_plan() {
        assert_eq!(Plan::resolve(&model(), None, None, &[]).unwrap(), Plan::default());
    }

    #[test]
    fn pattern_without_a_match_is_an_error_that_suggests_a_layer() {
        let error = Plan::resolve(&model(), None, None, &[rule("clasifier", None)]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("`clasifier` matches no layer"), "{message}");
        assert!(message.contains("did you mean `classifier`?"), "{message}");
        assert!(message.contains("encoder.layers.0.query"), "{message}");
        let error = Plan::resolve(&model(), None, None, &[rule("a[", None)]).unwrap_err();
        assert!(error.to_string().contains("not a valid glob"), "{error}");
    }
}
