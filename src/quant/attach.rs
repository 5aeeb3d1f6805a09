//! Turning a float model into a fake-quantized one.

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleVisitor, Param, Reparameterization, Reparameterizer};
use burn::tensor::Tensor;
use thiserror::Error;

use super::probe::Measured;
use super::{
    CalibratedPlan, CalibratedSite, FakeQuantizer, Histogram, LearnedRange, Probe, ScaleKind, Site,
    SiteKind, parameters, sites,
};
use crate::coding::{Format, QuantizationError};

/// A fake-quantized model, with a hold on its quantizers.
#[derive(Clone, Debug)]
pub struct QuantizedModel<M> {
    /// The model; the same type as the float model.
    pub model: M,
    /// What is quantized in it, and how to look inside.
    pub quantizers: Quantizers,
}

/// A hold on the quantizers of a model and of all its clones.
#[derive(Clone, Debug, Default)]
pub struct Quantizers(Vec<(CalibratedSite, Probe)>);

impl Quantizers {
    /// Starts measuring the quantization error of whatever passes outside of training.
    pub fn measure(&self) {
        for (site, probe) in &self.0 {
            let levels = site.levels();
            probe.measure(levels[0], levels[levels.len() - 1]);
        }
    }

    /// Stops measuring; the error of each quantized tensor, in the order of the plan. A site whose
    /// ranges train has those that it was measured with.
    pub fn take_errors(&self) -> Vec<(CalibratedSite, QuantizationError)> {
        let taken = |(site, probe): &(CalibratedSite, Probe)| {
            let Some(Measured { error, scales, .. }) = probe.take_measured() else {
                return (site.clone(), QuantizationError::default());
            };
            (if scales.is_empty() { site.clone() } else { site.with_scales(scales) }, error)
        };
        self.0.iter().map(taken).collect()
    }

    /// How the values of each quantized tensor lay about its levels in the latest measurement, in
    /// the order of the plan.
    pub fn histograms(&self) -> Vec<(CalibratedSite, Histogram)> {
        self.0.iter().filter_map(|(site, probe)| Some((site.clone(), probe.histogram()?))).collect()
    }
}

/// Why a plan is not one for a model.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The model is no float model.
    #[error("the model already carries quantizers; give the float model")]
    AlreadyQuantized,
    /// A site of the plan that the model lacks, or that is of another kind or shape there.
    #[error(
        "the plan's `{path}` is not in the model, or has another shape there: the plan is of another model"
    )]
    UnknownSite {
        /// The site's path.
        path: String,
    },
}

/// Refuses a model that carries quantizers, and one that lacks a site of a plan.
pub(crate) fn check_float<'a, M: Module>(
    model: &M,
    mut planned: impl Iterator<Item = &'a Site>,
) -> Result<(), ModelError> {
    if has_quantizers(model) {
        return Err(ModelError::AlreadyQuantized);
    }
    let known = sites(model);
    match planned.find(|site| !known.contains(site)) {
        Some(site) => Err(ModelError::UnknownSite { path: site.path.clone() }),
        None => Ok(()),
    }
}

/// Why a plan could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// A model that is not the plan's.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Scales that cannot be what training makes of them.
    #[error(
        "the plan's `{path}` trains its range by \"{}\", whose scales are {}; its own are not: calibrate again",
        rule.name(), if rule.scale_kind() == ScaleKind::Free { "free" } else { "powers of two" }
    )]
    LearnedScale {
        /// The site's path.
        path: String,
        /// How its range trains.
        rule: LearnedRange,
    },
    /// A range exponent, a scale or a zero point that the format cannot have.
    #[error("the plan gives `{path}` {found}, which {format} cannot have")]
    Range {
        /// The site's path.
        path: String,
        /// The format.
        format: Format,
        /// What it gives.
        found: String,
    },
    /// A number of ranges that the site's shape does not have.
    #[error("the plan gives `{path}` {found} scales or zero points; its shape asks for {expected}")]
    Ranges {
        /// The site's path.
        path: String,
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
}

/// Attaches a quantizer to every site of a plan.
///
/// The stored weights stay as they are; an empty plan changes nothing.
///
/// # Errors
///
/// If the model already carries quantizers, or the plan was made for another model.
pub fn attach<M: Module>(
    model: M,
    plan: &CalibratedPlan,
) -> Result<QuantizedModel<M>, AttachError> {
    check_float(&model, plan.sites.iter().map(|site| &site.site))?;
    for CalibratedSite { site, format, granularity, ranges, learned, .. } in &plan.sites {
        let expected = match &site.kind {
            SiteKind::Weight { shape, .. } => granularity.resolve(&site.kind).count(shape),
            SiteKind::Activation { .. } => 1,
        };
        let zero_points = if format.has_zero_point() { expected } else { 0 };
        if let Some(rule) = learned.filter(|rule| rule.scale_kind() != ranges.scales.kind()) {
            return Err(AttachError::LearnedScale { path: site.path.clone(), rule });
        }
        for (found, expected) in
            [(ranges.scales.len(), expected), (ranges.zero_points.len(), zero_points)]
        {
            if found != expected {
                return Err(AttachError::Ranges { path: site.path.clone(), found, expected });
            }
        }
        if let Some(found) = ranges.beyond(*format) {
            return Err(AttachError::Range { path: site.path.clone(), format: *format, found });
        }
    }
    let probes: HashMap<&str, (&CalibratedSite, Probe)> =
        plan.sites.iter().map(|site| (site.site.path.as_str(), (site, Probe::default()))).collect();
    let model = model.apply_reparameterization(AttachQuantizers(&probes));
    let quantizers = plan
        .sites
        .iter()
        .map(|site| (site.clone(), probes[site.site.path.as_str()].1.clone()))
        .collect();
    Ok(QuantizedModel { model, quantizers: Quantizers(quantizers) })
}

/// A calibrated plan with the ranges that the quantizers of a model have now: where ranges train,
/// they are no longer those of calibration.
pub fn trained_plan<M: Module>(model: &M, plan: &CalibratedPlan) -> CalibratedPlan {
    let parameter =
        |site: &CalibratedSite| format!("{}.{}.scale", site.site.path, FakeQuantizer::NAME);
    let learned = |site: &&CalibratedSite| site.learned.is_some();
    let wanted: HashSet<String> = plan.sites.iter().filter(learned).map(parameter).collect();
    let found = parameters(model, |path| wanted.contains(path));
    let current = |site: &CalibratedSite| match (site.learned, found.get(&parameter(site))) {
        (Some(learned), Some(parameters)) => {
            let scale = |&parameter: &f32| learned.scale_of(parameter, site.format);
            site.with_scales(parameters.iter().map(scale).collect())
        }
        _ => site.clone(),
    };
    CalibratedPlan { sites: plan.sites.iter().map(current).collect() }
}

struct AttachQuantizers<'a>(&'a HashMap<&'a str, (&'a CalibratedSite, Probe)>);

impl Reparameterizer for AttachQuantizers<'_> {
    type Reparam = FakeQuantizer;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<FakeQuantizer>) {
        let quantizer = self.0.get(path).map(|(site, probe)| {
            let device = param.lazy_device();
            FakeQuantizer::new(site, probe.clone(), &device)
        });
        (param, quantizer)
    }
}

/// Whether a plan was attached to a model.
pub(crate) fn has_quantizers<M: Module>(model: &M) -> bool {
    struct Finder(bool);
    impl ModuleVisitor for Finder {
        fn enter_module(&mut self, _name: &str, container_type: &str) {
            self.0 |= container_type == "Reparameterization";
        }
    }
    let mut finder = Finder(false);
    model.visit(&mut finder);
    finder.0
}
