//! Number formats on tensors: fake quantization, ranges, and the plan that gives every layer its coding.
//!
//! | piece | what it does |
//! |---|---|
//! | [`fake_quantize`] | the operation: rounds a tensor to a coding's levels, with a straight-through gradient |
//! | [`FakeQuantizer`] | the operation with its scales, attached to a parameter as a Burn [`Reparameterization`](burn::module::Reparameterization) |
//! | [`ActivationQuantizer`] | a place in a layer where a `FakeQuantizer` for an activation attaches |
//! | [`Ranges`], [`LearnedRange`] | scales and zero points, and the recipes by which scales train |
//! | [`sites`] | finds every weight and activation of a model that can be quantized |
//! | [`Plan`] | which coding each site gets, resolved from layer patterns |
//! | [`center_weights`] | readies the weights that a plan normalizes |
//! | [`calibrate`] | observes a float model on data and chooses E, S and range for each planned site |
//! | [`weigh`] | the same with the error of every coding that could have been chosen |
//! | [`attach`] | turns a float model into a fake-quantized one |
//!
//! A model is quantized in three steps: make a plan from its [`sites`], [`calibrate`] it on a few
//! batches, and [`attach`] the result. The float model and the quantized model are the same type
//! with the same forward function; without a plan entry a site computes what the float model computes.

mod activation;
mod attach;
mod calibrate;
mod fake_quantize;
mod granularity;
mod histogram;
mod learned;
mod moments;
mod normalize;
mod parameters;
mod plan;
mod probe;
mod quantizer;
mod range;
mod ranges;
mod site;
mod spec;

pub use activation::ActivationQuantizer;
pub use attach::{AttachError, ModelError, QuantizedModel, Quantizers, attach, trained_plan};
pub(crate) use attach::{check_float, has_quantizers};
pub use calibrate::{CalibrationError, WeighedSite, calibrate, weigh};
pub(crate) use calibrate::{check_fixed_range, observe_activations, run_observed};
pub use fake_quantize::{
    Estimator, FakeQuantize, ScaleGradient, ScaleTensors, fake_quantize, fake_quantize_composed,
};
pub use granularity::{Folded, Granularity};
pub use histogram::Histogram;
pub use learned::LearnedRange;
pub(crate) use moments::{Moments, WeightMatrix};
pub use normalize::center_weights;
pub use parameters::parameter_count;
pub(crate) use parameters::{change_parameters, parameters};
pub use plan::{LayerRule, Plan, PlanEntry, PlanError, SiteRule};
pub use probe::{Measured, Observation, Probe, Sample};
pub use quantizer::FakeQuantizer;
pub use range::{Grouped, RangeRule, WeighedCoding, choose_coding, choose_range, weigh_codings};
pub use ranges::{Ranges, ScaleKind, Scales};
pub use site::{Site, SiteKind, sites};
pub use spec::{CalibratedPlan, CalibratedSite, CodingSpec, GranularitySpec, QuantSpec};
