//! Calibration: choosing E, S and ranges from a float model and a few batches.

use std::collections::HashMap;

use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::Tensor;
use thiserror::Error;

use super::parameters::parameters;
use super::quantizer::Observer;
use super::range::{Grouped, WeighedCoding, weigh_codings};
use super::{
    CalibratedPlan, CalibratedSite, ModelError, Observation, Plan, PlanEntry, Probe, QuantSpec,
    RangeRule, Site, SiteKind, check_float,
};
use crate::coding::Format;

/// Why calibration failed.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// A model that is not the plan's.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A weight or an activation holds NaN or infinity.
    #[error(
        "layer `{layer}`: {count} value(s) of its {tensor} are NaN or infinite, so no range fits them; \
         train the float model with a lower learning rate or gradient clipping first"
    )]
    NonFinite {
        /// The layer.
        layer: String,
        /// Which of its tensors.
        tensor: String,
        /// How many values.
        count: u64,
    },
    /// No calibration batch reached an activation.
    #[error(
        "layer `{layer}`: no calibration batch reached its {tensor}; calibrate on at least one \
         batch, or exclude the layer from the plan"
    )]
    NeverReached {
        /// The layer.
        layer: String,
        /// Which of its tensors.
        tensor: String,
    },
    /// A fixed range exponent that the format cannot have.
    #[error(
        "layer `{layer}`: range exponent {exponent} of its {tensor} is outside what {format} \
         allows ({} to {})", format.range_exponents().start(), format.range_exponents().end()
    )]
    FixedRange {
        /// The layer.
        layer: String,
        /// Which of its tensors.
        tensor: String,
        /// The range exponent asked for.
        exponent: i32,
        /// The format.
        format: Format,
    },
}

/// Chooses E, S and ranges for every entry of a plan.
///
/// `run` must run validation batches through the model that it is given: a copy of `model` whose
/// planned activations are observed and still in float. It is not called when the plan has no
/// activation.
///
/// # Errors
///
/// What `run` returns, and [`CalibrationError`] through `E`.
pub fn calibrate<M: Module, E: From<CalibrationError>>(
    model: &M,
    plan: &Plan,
    run: impl FnOnce(&M) -> Result<(), E>,
) -> Result<CalibratedPlan, E> {
    let sites = weigh(model, plan, run)?.into_iter().map(WeighedSite::calibrated).collect();
    Ok(CalibratedPlan { sites })
}

/// An entry of a plan with every coding that the plan leaves open to it.
#[derive(Clone, Debug, PartialEq)]
pub struct WeighedSite {
    /// The site.
    pub site: Site,
    /// What the plan says of it.
    pub spec: QuantSpec,
    /// The codings, each with its own ranges and error.
    pub codings: Vec<WeighedCoding>,
    /// The index of the coding of least squared error, which calibration chooses.
    pub chosen: usize,
    /// The standard deviation of a weight that the plan normalizes.
    pub deviation: Option<f32>,
}

impl WeighedSite {
    fn calibrated(mut self) -> CalibratedSite {
        let WeighedCoding { format, ranges, .. } = self.codings.swap_remove(self.chosen);
        CalibratedSite {
            site: self.site,
            format,
            granularity: self.spec.granularity,
            estimator: self.spec.estimator,
            learned: self.spec.learned,
            deviation: self.deviation,
            ranges,
        }
    }
}

/// Every coding that each entry of a plan could get, and the one that [`calibrate`] chooses of them.
///
/// # Errors
///
/// As [`calibrate`].
pub fn weigh<M: Module, E: From<CalibrationError>>(
    model: &M,
    plan: &Plan,
    run: impl FnOnce(&M) -> Result<(), E>,
) -> Result<Vec<WeighedSite>, E> {
    let candidates = plan.entries.iter().map(candidates).collect::<Result<Vec<_>, _>>()?;
    let observed = observe(model, plan, run)?;
    let entries = plan.entries.iter().zip(&candidates).zip(&observed);
    let weigh = |((entry, candidates), values): ((&PlanEntry, &Vec<Format>), &Grouped)| {
        let PlanEntry { site, spec } = entry.clone();
        let (codings, chosen) = weigh_codings(values, candidates, spec.range, spec.scale);
        let deviation = spec.normalize.then(|| values.deviation());
        WeighedSite { site, spec, codings, chosen, deviation }
    };
    Ok(entries.map(weigh).collect())
}

fn candidates(entry: &PlanEntry) -> Result<Vec<Format>, CalibrationError> {
    let signed = !matches!(entry.site.kind, SiteKind::Activation { non_negative: true });
    let formats = entry.spec.coding.candidates(signed);
    let formats = formats.expect("a plan's codings were checked when it was resolved");
    check_fixed_range(entry, &formats)?;
    Ok(formats)
}

/// Refuses a fixed range that one of the formats of an entry cannot have.
pub(crate) fn check_fixed_range(
    entry: &PlanEntry,
    formats: &[Format],
) -> Result<(), CalibrationError> {
    if let RangeRule::Fixed(exponent) = entry.spec.range {
        for &format in formats {
            if !format.range_exponents().contains(&exponent) {
                return Err(CalibrationError::FixedRange {
                    layer: entry.site.layer.clone(),
                    tensor: entry.site.tensor.clone(),
                    exponent,
                    format,
                });
            }
        }
    }
    Ok(())
}

/// The values of every entry: a weight's own, an activation's as seen while `run` runs.
fn observe<M: Module, E: From<CalibrationError>>(
    model: &M,
    plan: &Plan,
    run: impl FnOnce(&M) -> Result<(), E>,
) -> Result<Vec<Grouped>, E> {
    check_float(model, plan.entries.iter().map(|entry| &entry.site))
        .map_err(CalibrationError::from)?;
    let model = model.valid();
    let activations = plan.entries.iter().map(|entry| &entry.site);
    let mut seen = observe_activations(&model, activations, run)?;
    let planned = |path: &str| {
        plan.entries.iter().any(|entry| entry.site.kind.is_weight() && entry.site.path == path)
    };
    let weights = parameters(&model, planned);

    let mut observed = Vec::new();
    for PlanEntry { site, spec } in &plan.entries {
        let (layer, tensor) = (site.layer.clone(), site.tensor.clone());
        let (values, non_finite) = match &site.kind {
            SiteKind::Weight { shape, .. } => {
                let values = &weights[&site.path];
                let non_finite = values.iter().filter(|v| !v.is_finite()).count() as u64;
                let granularity = spec.granularity.resolve(&site.kind);
                (Grouped::weight(values, shape, granularity), non_finite)
            }
            SiteKind::Activation { .. } => {
                let seen = seen.remove(&site.path).unwrap_or_default();
                if seen.batch_max.is_empty() {
                    return Err(CalibrationError::NeverReached { layer, tensor }.into());
                }
                let non_finite = seen.non_finite;
                (Grouped::activation(seen), non_finite)
            }
        };
        if non_finite > 0 {
            return Err(CalibrationError::NonFinite { layer, tensor, count: non_finite }.into());
        }
        observed.push(values);
    }
    Ok(observed)
}

/// What passes the activations among `sites`, by path, while `run` runs the model that it is given. It is not called where
/// there is none.
pub(crate) fn observe_activations<'a, M: Module, E>(
    model: &M,
    sites: impl Iterator<Item = &'a Site>,
    run: impl FnOnce(&M) -> Result<(), E>,
) -> Result<HashMap<String, Observation>, E> {
    let probes: HashMap<String, Probe> = sites
        .filter(|site| !site.kind.is_weight())
        .map(|site| (site.path.clone(), Probe::default()))
        .collect();
    probes.values().for_each(Probe::observe);
    run_observed(model, &probes, run)?;
    let seen = |(path, probe): (String, Probe)| Some((path, probe.take_observation()?));
    Ok(probes.into_iter().filter_map(seen).collect())
}

/// Runs a model, with each probe at the activation whose path it has. Nothing runs without a probe.
pub(crate) fn run_observed<M: Module, E>(
    model: &M,
    probes: &HashMap<String, Probe>,
    run: impl FnOnce(&M) -> Result<(), E>,
) -> Result<(), E> {
    match probes.is_empty() {
        true => Ok(()),
        false => run(&model.valid().apply_reparameterization(AttachObservers(probes))),
    }
}

struct AttachObservers<'a>(&'a HashMap<String, Probe>);

impl Reparameterizer for AttachObservers<'_> {
    type Reparam = Observer;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Observer>) {
        let observer = self.0.get(path).map(|probe| Observer { probe: probe.clone() });
        (param, observer)
    }
}
