//! Better quantized weights without training: each rounded to the level that serves the layer's
//! output, and biases that make up for what is left on average.
//!
//! | piece | what it does |
//! |---|---|
//! | [`PostTrainingConfig`] | `[quant.post-training]`: which of the two |
//! | [`correct`] | changes a float model so that its calibrated plan loses less |
//! | [`Correction`] | what was done to a weight, and what it gained |
//!
//! Both need only the moments of each layer's input on calibration data. Learned rounding leaves the
//! weights on their levels, so that the quantizer of the plan gives them back as they are.

mod rounding;

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::Device;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::coding::{QuantizationError, Rounding};
use crate::quant::{
    CalibratedPlan, CalibratedSite, CalibrationError, Moments, Probe, Site, SiteKind, WeightMatrix,
    change_parameters, check_float, parameters, run_observed, sites,
};
use rounding::{Neighbours, OutputErrors, learn};

/// `[quant.post-training]`: what calibration does beyond choosing codings and ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PostTrainingConfig {
    /// Whether biases make up for the mean error of each output channel (Nagel et al. 2019, arXiv
    /// 1906.04721, section 4.2). Where batch normalization follows, its running mean does.
    pub bias_correction: bool,
    /// How weights are rounded.
    pub rounding: WeightRounding,
    /// Iterations of the learning, for each layer.
    pub iterations: usize,
}

impl Default for PostTrainingConfig {
    /// Nothing; 1000 iterations where rounding is learned.
    fn default() -> Self {
        Self { bias_correction: false, rounding: WeightRounding::Nearest, iterations: 1000 }
    }
}

impl PostTrainingConfig {
    /// Whether there is anything to do.
    pub fn is_active(&self) -> bool {
        self.bias_correction || self.rounding == WeightRounding::Learned
    }

    /// What is wrong with it: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// No iterations, or very many.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        match self.iterations {
            1..=1_000_000 => Ok(()),
            given => Err(("iterations", format!("is {given}; must be 1 to 1000000"))),
        }
    }
}

/// How a weight is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WeightRounding {
    /// To the nearest level.
    #[default]
    Nearest,
    /// Up or down, learned layer by layer (AdaRound).
    ///
    /// So that the layer's output on calibration data changes least (Nagel et al. 2020, arXiv
    /// 2004.10568, with the objective of equation 21; inputs are those of the float model).
    Learned,
}

/// What was done to a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// The layer.
    pub layer: String,
    /// Which of its tensors.
    pub tensor: String,
    /// The error of the rounded weight, to the float weight.
    pub error: QuantizationError,
    /// How many weights are not at their nearest level.
    pub moved: u64,
    /// The mean squared error of the layer's output over its mean square, all weights at their
    /// nearest level; absent where rounding was not learned. Where a bias makes up for the mean, both
    /// are of what deviates from it.
    pub output_error_nearest: Option<f64>,
    /// The same after learning.
    pub output_error: Option<f64>,
    /// The parameter that makes up for the mean error of the outputs; absent where there is none.
    pub bias: Option<String>,
}

/// Changes a float model so that what a plan makes of it loses less.
///
/// `run` must run calibration batches through the model that it is given; `watch` is called before
/// each weight with its index, the number of all and its layer, and may stop the work with an error.
///
/// Running statistics change in clones of the model too, which share them (Burn's `RunningState`).
///
/// A weight whose input is not known (an embedding, a transposed convolution, a layer of a user's that
/// does not say what its kernel meets) keeps the nearest levels and its bias.
///
/// # Errors
///
/// Those of `run` and `watch`; a model that carries quantizers, or that the plan is not of; a weight that is NaN or
/// infinite.
pub fn correct<M: Module, E: From<CalibrationError>>(
    model: M,
    plan: &CalibratedPlan,
    settings: &PostTrainingConfig,
    device: &Device,
    run: impl FnOnce(&M) -> Result<(), E>,
    mut watch: impl FnMut(usize, usize, &str) -> Result<(), E>,
) -> Result<(M, Vec<Correction>), E> {
    check_float(&model, plan.sites.iter().map(|site| &site.site))
        .map_err(CalibrationError::from)?;
    let all = sites(&model);
    let weights: Vec<(&CalibratedSite, Option<&Site>)> = plan
        .sites
        .iter()
        .filter(|site| site.site.kind.is_weight())
        .map(|site| (site, site.site.input(all.iter())))
        .collect();
    let mut probes: HashMap<String, Probe> = HashMap::new();
    for (site, input) in &weights {
        if let Some(input) = input {
            // Weights that share an input are of linear layers, which all see it alike.
            probes.entry(input.path.clone()).or_insert_with(|| {
                let probe = Probe::default();
                let products = settings.rounding == WeightRounding::Learned;
                probe.correlate(Moments::new(&site.site.kind, products));
                probe
            });
        }
    }
    run_observed(&model, &probes, run)?;
    let moments: HashMap<String, Moments> = probes
        .into_iter()
        .filter_map(|(path, probe)| Some((path, probe.take_moments()?)))
        .collect();

    let values = parameters(&model.valid(), |path| {
        let (own, shifted) = (
            |site: &Site| site.path == path,
            |site: &Site| bias_of(site).iter().any(|(bias, _)| bias == path),
        );
        weights.iter().any(|(site, _)| own(&site.site) || shifted(&site.site))
    });
    for (site, _) in &weights {
        let weight = &values[&site.site.path];
        let count = weight.iter().filter(|value| !value.is_finite()).count() as u64;
        if count > 0 {
            let (layer, tensor) = (site.site.layer.clone(), site.site.tensor.clone());
            return Err(CalibrationError::NonFinite { layer, tensor, count }.into());
        }
    }
    let mut changed = HashMap::new();
    let mut corrections = Vec::new();
    for (number, (site, input)) in weights.iter().enumerate() {
        watch(number, weights.len(), &site.site.layer)?;
        let levels = WeightLevels::new(site, &values[&site.site.path]);
        let seen = input.and_then(|input| {
            let moments = moments.get(&input.path)?;
            Some((moments, moments.matrix(&site.site.kind)?))
        });
        let (correction, new) = levels.correct(settings, seen, &values, device);
        corrections.push(correction);
        changed.extend(new);
    }
    Ok((change_parameters(model, changed), corrections))
}

/// The parameters that may make up for a shift of a layer's outputs, with the sign of the shift:
/// the layer's bias, or the running mean of the batch normalization behind it.
fn bias_of(site: &Site) -> Vec<(String, f64)> {
    let Some(holder) = site.path.strip_suffix("weight") else { return Vec::new() };
    let mut found = vec![(format!("{holder}bias"), -1.0)];
    if let Some(around) = holder.strip_suffix("layer.") {
        found.push((format!("{around}norm.running_mean"), 1.0));
    }
    found
}

/// A level times its scale, as a number that the quantizer of the plan takes for one inside its range: the product with
/// a free scale, rounded, may lie a hair outside, and would count as clipped.
fn in_range_at(level: f32, scale: f32, rounder: &impl Rounding) -> f32 {
    let mut value = level * scale;
    while !rounder.in_range(value * (1.0 / scale)) {
        value = if value > 0.0 { value.next_down() } else { value.next_up() };
    }
    value
}

/// A weight with the levels on either side of each element, in row-major order.
struct WeightLevels<'a> {
    site: &'a CalibratedSite,
    weights: &'a [f32],
    nearest: Vec<f32>,
    other: Vec<f32>,
    in_range: Vec<bool>,
}

impl<'a> WeightLevels<'a> {
    fn new(site: &'a CalibratedSite, weights: &'a [f32]) -> Self {
        let SiteKind::Weight { shape, .. } = &site.site.kind else {
            unreachable!("activations were left out")
        };
        let scales = site.attached_scales();
        let zero_points = &site.ranges.zero_points;
        let scale_of = site.granularity.resolve(&site.site.kind).indexer(shape);
        let levels = site.levels();
        let mut rounding = Self {
            site,
            weights,
            nearest: Vec::with_capacity(weights.len()),
            other: Vec::with_capacity(weights.len()),
            in_range: Vec::with_capacity(weights.len()),
        };
        for (i, &weight) in weights.iter().enumerate() {
            let group = scale_of(i);
            let zero_point = zero_points.get(group).copied().unwrap_or(0);
            let rounder = site.format.rounder(zero_point);
            let unit = weight * (1.0 / scales[group]);
            let nearest = rounder.quantize(unit);
            let in_range = rounder.in_range(unit);
            // Levels of a format with zero points are its codes.
            let code = nearest + zero_point as f32;
            let at = levels.partition_point(|&level| level < code);
            let beside = match in_range && unit != nearest {
                false => None,
                true if unit > nearest => levels.get(at + 1),
                true => at.checked_sub(1).map(|at| &levels[at]),
            };
            let other = beside.map_or(nearest, |level| level - zero_point as f32);
            let stored = |level: f32| in_range_at(level, scales[group], &rounder);
            rounding.nearest.push(stored(nearest));
            rounding.other.push(stored(other));
            rounding.in_range.push(in_range);
        }
        rounding
    }

    /// What was done, and the parameters that it changed.
    fn correct(
        self,
        settings: &PostTrainingConfig,
        seen: Option<(&Moments, WeightMatrix)>,
        values: &HashMap<String, Vec<f32>>,
        device: &Device,
    ) -> (Correction, Vec<(String, Vec<f32>)>) {
        let bias = bias_of(&self.site.site)
            .into_iter()
            .filter(|_| settings.bias_correction && seen.is_some())
            .find(|(path, _)| values.contains_key(path));
        let mut quantized = self.nearest.clone();
        let mut learned = None;
        let mut changed = Vec::new();
        if let (WeightRounding::Learned, Some((moments, matrix))) = (settings.rounding, &seen) {
            let (taken, errors) =
                self.learn(moments, matrix, bias.is_some(), settings.iterations, device);
            for (i, _) in taken.iter().enumerate().filter(|(_, taken)| **taken) {
                let at = matrix.source(i);
                quantized[at] = self.other[at];
            }
            learned = Some(errors);
            changed.push((self.site.site.path.clone(), quantized.clone()));
        }
        if let (Some((path, sign)), Some((moments, matrix))) = (&bias, &seen) {
            let mut shifted = values[path].clone();
            for (value, shift) in shifted.iter_mut().zip(self.shift(&quantized, moments, matrix)) {
                *value += (sign * shift) as f32;
            }
            changed.push((path.clone(), shifted));
        }
        let mut error = QuantizationError::default();
        for ((&x, &q), &in_range) in self.weights.iter().zip(&quantized).zip(&self.in_range) {
            error.record(x, q, in_range);
        }
        let moved = quantized.iter().zip(&self.nearest).filter(|(a, b)| a != b).count() as u64;
        let relative = |error: f64, of: &OutputErrors| error / of.energy.max(f64::MIN_POSITIVE);
        let correction = Correction {
            layer: self.site.site.layer.clone(),
            tensor: self.site.site.tensor.clone(),
            error,
            moved,
            output_error_nearest: learned.map(|errors| relative(errors.nearest, &errors)),
            output_error: learned.map(|errors| relative(errors.learned, &errors)),
            bias: bias.map(|(path, _)| path),
        };
        (correction, changed)
    }

    /// Which elements of the matrices take the other level. Where a bias makes up for the mean,
    /// only what the outputs deviate from it counts.
    fn learn(
        &self,
        moments: &Moments,
        matrix: &WeightMatrix,
        centred: bool,
        iterations: usize,
        device: &Device,
    ) -> (Vec<bool>, OutputErrors) {
        let mut second = moments.second();
        if centred {
            let inputs = matrix.inputs;
            let mean = moments.mean();
            for (i, second) in second.iter_mut().enumerate() {
                let (row, column) = (i / inputs, i % inputs);
                *second -= mean[row] * mean[row / inputs * inputs + column];
            }
        }
        let layer = Neighbours {
            matrix,
            weights: &matrix.gather(self.weights),
            nearest: &matrix.gather(&self.nearest),
            other: &matrix.gather(&self.other),
        };
        learn(&layer, second.into_iter().map(|x| x as f32).collect(), iterations, device)
    }

    /// The mean of the outputs of each channel with quantized weights, less that with float ones.
    fn shift(&self, quantized: &[f32], moments: &Moments, matrix: &WeightMatrix) -> Vec<f64> {
        let mean = moments.mean();
        let mut shift = vec![0.0; matrix.groups * matrix.outputs];
        for i in 0..quantized.len() {
            let at = matrix.source(i);
            let error = f64::from(quantized[at]) - f64::from(self.weights[at]);
            shift[matrix.channel(i)] += error * mean[i / matrix.outputs];
        }
        shift
    }
}

#[cfg(test)]
mod tests;
