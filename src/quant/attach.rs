//! Turning a float model into a fake-quantized one.

use std::collections::HashMap;

use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::Tensor;
use thiserror::Error;

use super::{CalibratedPlan, CalibratedSite, FakeQuantizer, Probe, SiteKind, sites};
use crate::coding::QuantizationError;

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
        self.0.iter().for_each(|(_, probe)| probe.measure());
    }

    /// Stops measuring; the error of each quantized tensor, in the order of the plan.
    pub fn take_errors(&self) -> Vec<(CalibratedSite, QuantizationError)> {
        self.0
            .iter()
            .map(|(site, probe)| (site.clone(), probe.take_error().unwrap_or_default()))
            .collect()
    }
}

/// Why a plan could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The model is no float model.
    #[error("the model already carries quantizers; attach a plan to the float model")]
    AlreadyQuantized,
    /// A site of the plan that the model lacks, or that is of another kind or shape there.
    #[error(
        "the plan's `{path}` is not in the model, or has another shape there: the plan is of another model"
    )]
    UnknownSite {
        /// The site's path.
        path: String,
    },
    /// A number of ranges that the site's shape does not have.
    #[error("the plan gives `{path}` {found} range exponents; its shape asks for {expected}")]
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
    if has_quantizers(&model) {
        return Err(AttachError::AlreadyQuantized);
    }
    let known = sites(&model);
    for CalibratedSite { site, granularity, range_exponents, .. } in &plan.sites {
        if !known.contains(site) {
            return Err(AttachError::UnknownSite { path: site.path.clone() });
        }
        let expected = match &site.kind {
            SiteKind::Weight { shape, .. } => granularity.resolve(&site.kind).count(shape),
            SiteKind::Activation { .. } => 1,
        };
        if range_exponents.len() != expected {
            return Err(AttachError::Ranges {
                path: site.path.clone(),
                found: range_exponents.len(),
                expected,
            });
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
            FakeQuantizer::new(&site.range_exponents, site.operation(), probe.clone(), &device)
        });
        (param, quantizer)
    }
}

/// Whether a plan was attached to a model.
pub(crate) fn has_quantizers<M: Module>(model: &M) -> bool {
    struct Finder(bool);
    impl burn::module::ModuleVisitor for Finder {
        fn enter_module(&mut self, _name: &str, container_type: &str) {
            self.0 |= container_type == "Reparameterization";
        }
    }
    let mut finder = Finder(false);
    model.visit(&mut finder);
    finder.0
}
