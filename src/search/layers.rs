//! The candidates of every layer of a model, and the plan that the choice among them gives.

use std::collections::{BTreeMap, HashMap};

use burn::module::Module;
use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use super::cost::FLOAT_BITS;
use super::input::{input_of, multiply_accumulates};
use super::knapsack::keeps;
use super::objective::{Coded, Importance};
use super::{
    Activation, Candidate, Choice, CostError, CostModel, KnapsackError, LayerSize, Objective,
    SearchConfig, choose,
};
use crate::coding::{Format, QuantizationError, Underflow};
use crate::quant::{
    CalibrationError, CodingSpec, Grouped, Observation, Plan, PlanEntry, QuantSpec, Ranges, Site,
    SiteKind, change_parameters, check_fixed_range, choose_range, parameters,
};

/// One coding that a weight could get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerCandidate {
    /// The format.
    #[serde(skip)]
    pub format: Format,
    /// Its name.
    pub coding: String,
    /// Bits of a code word.
    pub bits: u32,
    /// Exponent bits E, where it has them.
    pub exponent_bits: Option<u32>,
    /// Superposition bits S, where it has them.
    pub superposition_bits: Option<u32>,
    /// Signal to quantization noise in dB; absent where there is no noise.
    pub sqnr_db: Option<f64>,
    /// What the search minimizes the sum of. Not a number where the loss is yet to be [measured](measure_loss).
    pub error: f64,
    /// In the unit of the budget.
    pub cost: f64,
    /// Its ranges.
    #[serde(skip)]
    ranges: Ranges,
}

impl LayerCandidate {
    pub(super) fn new(
        format: Format,
        (ranges, lost): (Ranges, QuantizationError),
        error: f64,
        cost: f64,
    ) -> Self {
        let split = format.split();
        Self {
            format,
            coding: format.to_string(),
            bits: format.bits(),
            exponent_bits: split.map(|(e, _)| e),
            superposition_bits: split.map(|(_, s)| s),
            sqnr_db: Some(lost.sqnr_db()).filter(|db| db.is_finite()),
            error,
            cost,
            ranges,
        }
    }
}

/// A weight, and the codings that it could get.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// The layer.
    pub layer: String,
    /// Which of its tensors.
    pub tensor: String,
    /// How many weights.
    pub weights: u64,
    /// Multiplications of a weight and an activation for one example; counted for a budget of their cost alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiply_accumulates: Option<u64>,
    /// The codings, from few bits to many.
    pub candidates: Vec<LayerCandidate>,
    /// What the plan says of it besides.
    #[serde(skip)]
    pub spec: QuantSpec,
    /// Where it is.
    #[serde(skip)]
    site: Site,
}

/// The task's loss on calibration data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeasuredLoss {
    /// Of the float model.
    pub float: f64,
    /// With the weights coded as least summed error has it.
    pub chosen: f64,
    /// After [`refine`](Found::refine).
    pub refined: f64,
}

/// A coding for each weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// What was minimized.
    pub objective: Objective,
    /// The unit of costs: `bits`, `bytes`, or that of the cost table.
    pub cost_unit: String,
    /// The weights with all their candidates.
    pub layers: Vec<Layer>,
    /// For each the index of the chosen candidate, with summed cost and error.
    pub choice: Choice,
    /// What the choice makes of the task's loss, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<MeasuredLoss>,
    /// Activations whose E and S were chosen too. The objectives that choose none leave them to calibration.
    pub activations: Vec<Activation>,
}

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum SearchError {
    /// A plan without a weight to choose a coding for.
    #[error(
        "the configuration quantizes no weight whose coding is left open; give `weight` under [quant] \
         the coding \"ausn\" without exponent-bits and superposition-bits"
    )]
    NothingToChoose,
    /// A weight, its input or its gradient that holds NaN or infinity.
    #[error(
        "layer `{layer}`: its {tensor} holds NaN or infinity, so no coding fits; train the float model with a \
         lower learning rate or gradient clipping first"
    )]
    NonFinite {
        /// The layer.
        layer: String,
        /// Which of its tensors.
        tensor: String,
    },
    /// A loss on calibration data that is NaN or infinity.
    #[error(
        "the loss on calibration data, with layer `{layer}` in {coding}, is NaN or infinity; take another objective, \
         or train the float model with a lower learning rate or gradient clipping first"
    )]
    Loss {
        /// The layer.
        layer: String,
        /// The coding of its weight.
        coding: String,
    },
    /// Settings without a budget, or that contradict each other.
    #[error("the search's `{key}` {message}")]
    Settings {
        /// The key in `[quant.search]`.
        key: &'static str,
        /// What was found and what is allowed.
        message: String,
    },
    /// A budget that no choice keeps.
    #[error("a budget of {limit} {unit} cannot be kept: the cheapest codings already take {least}")]
    Budget {
        /// The budget.
        limit: f64,
        /// The least that is possible.
        least: f64,
        /// The unit of both.
        unit: String,
    },
    /// Costs or errors that cannot be compared.
    #[error(transparent)]
    Knapsack(KnapsackError),
    /// A cost that is not known.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// A range that a coding cannot have.
    #[error(transparent)]
    Range(#[from] CalibrationError),
}

impl SearchError {
    /// Of a tensor that holds NaN or infinity.
    pub(super) fn non_finite(site: &Site) -> Self {
        Self::NonFinite { layer: site.layer.clone(), tensor: site.tensor.clone() }
    }
}

/// What a search knows of a model besides its weights.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Activations as observed on calibration data, by path; for [`Objective::OutputError`] and budgets of the cost of
    /// multiply-accumulates, and for the activations that [`Objective::Divergence`] chooses codings for.
    pub observed: BTreeMap<String, (Site, Observation)>,
    /// Examples that they were observed on.
    pub examples: u64,
    /// The Fisher information of every weight, by path; for [`Objective::Fisher`].
    pub fisher: HashMap<String, Vec<f32>>,
}

/// Every weight of a plan with the error and the cost of each coding that it could get: all E and S
/// of `fewest_bits` to `most_bits` where the plan leaves them open, the plan's own otherwise.
///
/// # Errors
///
/// If no weight's coding is open, the settings have no budget, or a weight, its input or its gradient is not finite.
pub fn layers<M: Module>(
    model: &M,
    plan: &Plan,
    settings: &SearchConfig,
    evidence: &Evidence,
) -> Result<Vec<Layer>, SearchError> {
    let entries: Vec<&PlanEntry> =
        plan.entries.iter().filter(|entry| entry.site.kind.is_weight()).collect();
    if !entries.iter().any(|entry| open(entry.spec.coding).is_some()) {
        return Err(SearchError::NothingToChoose);
    }
    let wanted = |path: &str| entries.iter().any(|entry| entry.site.path == path);
    let values = parameters(&model.valid(), wanted);
    let (cost, _) = settings.budget()?;
    entries
        .par_iter()
        .map(|entry| {
            let activation_bits = input_bits(&entry.site, plan, evidence);
            let values = &values[&entry.site.path];
            layer(entry, values, settings, (&cost, activation_bits), evidence)
        })
        .collect()
}

/// Gives every candidate the rise of the loss as its error: what `loss` finds of the model with this weight alone
/// coded, less what it finds of the model as it is, which is returned. For [`Objective::Loss`].
///
/// # Errors
///
/// A loss that is NaN or infinity.
pub fn measure_loss<M: Module>(
    model: &M,
    layers: &mut [Layer],
    mut loss: impl FnMut(&M) -> f64,
) -> Result<f64, SearchError> {
    let float = loss(model);
    let stored = weights(model, layers);
    for layer in layers {
        for index in 0..layer.candidates.len() {
            let coded = [(layer.site.path.clone(), layer.coded(index, &stored))];
            let error = loss(&change_parameters(model.clone(), coded.into())) - float;
            layer.candidates[index].error = layer.finite(index, error)?;
        }
    }
    Ok(float)
}

/// The stored values of the weights of some layers, by path.
fn weights<M: Module>(model: &M, layers: &[Layer]) -> HashMap<String, Vec<f32>> {
    parameters(&model.valid(), |path| layers.iter().any(|layer| layer.site.path == path))
}

impl Layer {
    /// The weight as one of its candidates stores it, in row-major order.
    fn coded(&self, candidate: usize, stored: &HashMap<String, Vec<f32>>) -> Vec<f32> {
        let SiteKind::Weight { shape, .. } = &self.site.kind else {
            unreachable!("layers are weights")
        };
        let values = &stored[&self.site.path];
        let granularity = self.spec.granularity.resolve(&self.site.kind);
        let LayerCandidate { format, ranges, .. } = &self.candidates[candidate];
        Coded { values, shape, granularity, format: *format, ranges }.quantized()
    }

    fn finite(&self, candidate: usize, loss: f64) -> Result<f64, SearchError> {
        let coding = || self.candidates[candidate].coding.clone();
        match loss.is_finite() {
            true => Ok(loss),
            false => Err(SearchError::Loss { layer: self.layer.clone(), coding: coding() }),
        }
    }
}

/// Checks what can be known of a search without a model's values: that a coding is open, and that the budget can be
/// kept; of multiply-accumulates that the table has their costs, where the plan quantizes the input.
///
/// # Errors
///
/// [`SearchError::NothingToChoose`], a budget below the least possible cost, and widths that the table lacks.
pub fn check(plan: &Plan, settings: &SearchConfig) -> Result<(), SearchError> {
    let weights = || {
        plan.entries.iter().filter_map(|entry| match &entry.site.kind {
            SiteKind::Weight { shape, .. } => Some((entry, shape)),
            SiteKind::Activation { .. } => None,
        })
    };
    if !weights().any(|(entry, _)| open(entry.spec.coding).is_some()) {
        return Err(SearchError::NothingToChoose);
    }
    let (cost, limit) = settings.budget()?;
    if let CostModel::MultiplyAccumulates(table) = &cost {
        // How many there are, data show; that the table has what they cost is better known before.
        let inputs = plan.entries.iter().map(|entry| &entry.site);
        for (entry, _) in weights() {
            let Some(input) = entry.site.input(inputs.clone()) else { continue };
            let bits = bits_of(input, plan);
            formats(entry, settings)
                .into_iter()
                .try_for_each(|f| table.cost(f.bits(), bits).map(drop))?;
        }
        return Ok(());
    }
    let (mut least, mut sizes) = (0.0, Vec::new());
    for (entry, shape) in weights() {
        let size = size(entry, shape);
        let costs =
            formats(entry, settings).into_iter().map(|f| cost.cost(&size, f.bits(), FLOAT_BITS));
        let costs = costs.collect::<Result<Vec<f64>, _>>()?;
        least += costs.into_iter().fold(f64::INFINITY, f64::min);
        sizes.push(size);
    }
    match keeps(least, cost.budget(limit, &sizes)) {
        true => Ok(()),
        false => Err(beyond(&cost, limit, least, &sizes)),
    }
}

/// What is said of a budget below the least summed cost, in the unit that budgets are given in.
fn beyond(cost: &CostModel, limit: f64, least: f64, sizes: &[LayerSize]) -> SearchError {
    let least = least / cost.budget(1.0, sizes);
    SearchError::Budget { limit, least, unit: cost.limit_unit().to_string() }
}

/// What of a weight's size does not depend on data.
fn size(entry: &PlanEntry, shape: &[usize]) -> LayerSize {
    LayerSize {
        weights: shape.iter().product::<usize>() as u64,
        scales: entry.spec.granularity.resolve(&entry.site.kind).count(shape) as u64,
        ..LayerSize::default()
    }
}

/// The codings that a weight could get.
fn formats(entry: &PlanEntry, settings: &SearchConfig) -> Vec<Format> {
    match open(entry.spec.coding) {
        Some(underflow) => (settings.fewest_bits..=settings.most_bits)
            .flat_map(|bits| Format::ausn_candidates(bits, true, underflow))
            .collect(),
        None => entry.spec.coding.candidates(true).expect("checked when the plan was resolved"),
    }
}

/// Chooses one candidate for each weight. The activations have theirs.
///
/// # Errors
///
/// A budget that no choice keeps.
pub fn search(
    layers: Vec<Layer>,
    activations: Vec<Activation>,
    settings: &SearchConfig,
) -> Result<Found, SearchError> {
    let (cost, limit) = settings.budget()?;
    let sizes: Vec<LayerSize> = layers
        .iter()
        .map(|layer| LayerSize { weights: layer.weights, ..LayerSize::default() })
        .collect();
    let candidates: Vec<Vec<Candidate>> = layers
        .iter()
        .map(|layer| {
            let candidates = layer.candidates.iter();
            candidates.map(|c| Candidate { cost: c.cost, error: c.error }).collect()
        })
        .collect();
    let choice = choose(&candidates, cost.budget(limit, &sizes)).map_err(|error| match error {
        KnapsackError::Infeasible { least, .. } => beyond(&cost, limit, least, &sizes),
        other => SearchError::Knapsack(other),
    })?;
    let (objective, cost_unit) = (settings.objective, cost.unit().to_string());
    Ok(Found { objective, cost_unit, layers, choice, loss: None, activations })
}

impl Found {
    /// The chosen candidate of every weight.
    pub fn chosen(&self) -> impl Iterator<Item = (&Layer, &LayerCandidate)> {
        let chosen = self.layers.iter().zip(&self.choice.candidates);
        chosen.map(|(layer, &index)| (layer, &layer.candidates[index]))
    }

    /// Bits of a weight on average.
    pub fn average_bits(&self) -> f64 {
        let bits = |(layer, c): (&Layer, &LayerCandidate)| layer.weights as f64 * f64::from(c.bits);
        let weights: u64 = self.layers.iter().map(|layer| layer.weights).sum();
        self.chosen().map(bits).sum::<f64>() / weights.max(1) as f64
    }

    /// Changes choices that `loss` shows to be worse than another E and S of the same bits, beside the other weights as
    /// they are coded: errors that are small one at a time may add up. One pass over the layers, in order; each goes
    /// on from the choices before it, so that the loss cannot rise. For [`Objective::Loss`], of whose float model
    /// the loss is `float`.
    ///
    /// # Errors
    ///
    /// A loss that is NaN or infinity.
    pub fn refine<M: Module>(
        &mut self,
        model: &M,
        float: f64,
        mut loss: impl FnMut(&M) -> f64,
    ) -> Result<(), SearchError> {
        let stored = weights(model, &self.layers);
        let chosen = self.layers.iter().zip(&self.choice.candidates);
        let coded =
            chosen.map(|(layer, &index)| (layer.site.path.clone(), layer.coded(index, &stored)));
        let mut model = change_parameters(model.clone(), coded.collect());
        let chosen = loss(&model);
        let mut refined = chosen;
        for (layer, choice) in self.layers.iter().zip(&mut self.choice.candidates) {
            refined = layer.finite(*choice, refined)?;
            let (first, bits) = (*choice, layer.candidates[*choice].bits);
            let others = (0..layer.candidates.len())
                .filter(|&index| index != first && layer.candidates[index].bits == bits);
            for index in others {
                let coded = [(layer.site.path.clone(), layer.coded(index, &stored))];
                let changed = change_parameters(model.clone(), coded.into());
                let found = layer.finite(index, loss(&changed))?;
                if found < refined {
                    (model, *choice, refined) = (changed, index, found);
                }
            }
        }
        self.choice.error = self.chosen().map(|(_, candidate)| candidate.error).sum();
        self.loss = Some(MeasuredLoss { float, chosen, refined });
        Ok(())
    }

    /// The plan with the chosen codings.
    pub fn apply(&self, mut plan: Plan) -> Plan {
        let weights = self.chosen().map(|(layer, candidate)| (layer.site.path.as_str(), candidate));
        let chosen: HashMap<&str, &LayerCandidate> =
            weights.chain(self.activations.iter().map(|a| (a.path.as_str(), a.chosen()))).collect();
        for entry in &mut plan.entries {
            let candidate = chosen.get(entry.site.path.as_str());
            if let (Some(candidate), Some(underflow)) = (candidate, open(entry.spec.coding))
                && let Some((e, s)) = candidate.format.split()
            {
                // With the sign bit that a specification counts, also for what needs none.
                let coding = CodingSpec::Ausn { bits: 1 + e + s, split: Some((e, s)), underflow };
                entry.spec.coding = coding;
            }
        }
        plan
    }
}

/// The underflow rule of a coding whose bits, E and S may be chosen.
pub(super) fn open(coding: CodingSpec) -> Option<Underflow> {
    match coding {
        CodingSpec::Ausn { split: None, underflow, .. } => Some(underflow),
        _ => None,
    }
}

/// Bits that the plan gives the input of a weight.
fn input_bits(weight: &Site, plan: &Plan, evidence: &Evidence) -> u32 {
    input_of(weight, &evidence.observed).map_or(FLOAT_BITS, |(input, _)| bits_of(input, plan))
}

/// Bits that the plan gives an activation.
fn bits_of(input: &Site, plan: &Plan) -> u32 {
    let Some(entry) = plan.entries.iter().find(|entry| entry.site == *input) else {
        return FLOAT_BITS;
    };
    let signed = !matches!(input.kind, SiteKind::Activation { non_negative: true });
    entry.spec.coding.bits(signed).expect("checked when the plan was resolved")
}

fn layer(
    entry: &PlanEntry,
    values: &[f32],
    settings: &SearchConfig,
    (cost, activation_bits): (&CostModel, u32),
    evidence: &Evidence,
) -> Result<Layer, SearchError> {
    let PlanEntry { site, spec } = entry;
    let SiteKind::Weight { shape, .. } = &site.kind else { unreachable!("weights were chosen") };
    if values.iter().any(|v| !v.is_finite()) {
        return Err(SearchError::non_finite(site));
    }
    if let Some((input, seen)) = input_of(site, &evidence.observed)
        && seen.non_finite > 0
    {
        return Err(SearchError::non_finite(input));
    }
    if evidence.fisher.get(&site.path).is_some_and(|f| f.iter().any(|v| !v.is_finite())) {
        let (layer, tensor) = (site.layer.clone(), format!("{}'s gradient", site.tensor));
        return Err(SearchError::NonFinite { layer, tensor });
    }
    let granularity = spec.granularity.resolve(&site.kind);
    let grouped = Grouped::weight(values, shape, granularity);
    let importance = match (settings.objective, evidence.fisher.get(&site.path)) {
        (Objective::OutputError, _) => Importance::of_output(site, values, &evidence.observed),
        (Objective::Fisher, Some(fisher)) => Importance::of_loss(fisher),
        // A weight that no gradient reached changes nothing.
        (Objective::Fisher, None) => Importance::Equal(0.0),
        (Objective::SquaredError | Objective::Divergence | Objective::Loss, _) => {
            Importance::of_weight(values)
        }
    };
    let formats = formats(entry, settings);
    check_fixed_range(entry, &formats)?;
    let multiply_accumulates = multiply_accumulates(site, &evidence.observed, evidence.examples);
    let size = LayerSize { multiply_accumulates, ..size(entry, shape) };
    let candidate = |format: Format| -> Result<LayerCandidate, SearchError> {
        let (ranges, lost) = choose_range(&grouped, format, spec.range, spec.scale);
        let coded = Coded { values, shape, granularity, format, ranges: &ranges };
        let error = match settings.objective {
            Objective::Divergence => coded.divergence(),
            Objective::Loss => f64::NAN,
            _ => coded.weighted_error(&importance),
        };
        let cost = cost.cost(&size, format.bits(), activation_bits)?;
        Ok(LayerCandidate::new(format, (ranges, lost), error, cost))
    };
    Ok(Layer {
        layer: site.layer.clone(),
        tensor: site.tensor.clone(),
        weights: size.weights,
        multiply_accumulates: matches!(cost, CostModel::MultiplyAccumulates(_))
            .then_some(size.multiply_accumulates),
        candidates: formats.into_iter().map(candidate).collect::<Result<_, _>>()?,
        spec: *spec,
        site: site.clone(),
    })
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;
    use crate::nn::Quantized;
    use crate::quant::sites;

    /// What is said of a linear layer of two inputs, of which `seen` was observed.
    fn refused(settings: &SearchConfig, seen: &[f32], fisher: Option<Vec<f32>>) -> String {
        let device = Device::default();
        let layer = Quantized::new(LinearConfig::new(2, 2).init(&device), &device);
        let sites = sites(&layer);
        let plan = Plan::resolve(&sites, Some(QuantSpec::ausn(4)), None, &[]).unwrap();
        let input = sites.iter().find(|site| !site.kind.is_weight()).unwrap().clone();
        let weight = sites.iter().find(|site| site.kind.is_weight()).unwrap();
        let mut observation = Observation::default();
        observation.record(seen, &[seen.len() / 2, 2]);
        let evidence = Evidence {
            observed: [(input.path.clone(), (input, observation))].into(),
            examples: 1,
            fisher: fisher.map(|fisher| (weight.path.clone(), fisher)).into_iter().collect(),
        };
        layers(&layer, &plan, settings, &evidence).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_number_is_named_by_its_layer() {
        let settings = SearchConfig { average_bits: Some(4.0), ..SearchConfig::default() };
        let input = refused(&settings, &[1.0, f32::NAN], None);
        assert!(input.contains("its input holds NaN or infinity"), "{input}");
        let fisher = refused(&settings, &[1.0, 2.0], Some(vec![1.0, f32::INFINITY, 1.0, 1.0]));
        assert!(fisher.contains("its weight's gradient holds NaN or infinity"), "{fisher}");
    }

    const VALUES: [[f32; 4]; 2] = [[0.3, -0.25, 0.55, 0.2], [1.0 / 3.0, 1.0, -0.4, 0.7]];

    /// Two linear layers that hold [`VALUES`], and their candidates.
    fn pair(settings: &SearchConfig) -> (Vec<Linear>, Vec<Layer>) {
        let config = LinearConfig::new(2, 2).with_bias(false);
        let two = vec![config.init(&Device::default()), config.init(&Device::default())];
        let stored = ["0.weight", "1.weight"].map(String::from).into_iter();
        let model = change_parameters(two, stored.zip(VALUES.map(Vec::from)).collect());
        let plan = Plan::resolve(&sites(&model), Some(QuantSpec::ausn(4)), None, &[]).unwrap();
        let layers = layers(&model, &plan, settings, &Evidence::default()).unwrap();
        (model, layers)
    }

    fn of_loss(fewest_bits: u32, most_bits: u32) -> SearchConfig {
        let (average_bits, objective) = (Some(4.0), Objective::Loss);
        SearchConfig { average_bits, objective, fewest_bits, most_bits, ..SearchConfig::default() }
    }

    /// The squared errors of both layers.
    fn moved(model: &Vec<Linear>) -> [f64; 2] {
        let weights = parameters(model, |_| true);
        [0, 1].map(|layer| {
            let weight = weights[&format!("{layer}.weight")].iter().zip(VALUES[layer]);
            weight.map(|(w, v)| f64::from(w - v).powi(2)).sum()
        })
    }

    #[test]
    fn a_rise_of_the_loss_is_that_of_one_weight_alone() {
        let settings = of_loss(2, 8);
        let (model, mut layers) = pair(&settings);
        let unmeasured = search(layers.clone(), Vec::new(), &settings);
        assert!(matches!(unmeasured, Err(SearchError::Knapsack(_))), "{unmeasured:?}");

        // The second weight counts ten times.
        let mut passes = 0;
        let loss = |model: &Vec<Linear>| {
            passes += 1;
            let [first, second] = moved(model);
            assert!(first == 0.0 || second == 0.0, "{first} {second}");
            5.0 + first + 10.0 * second
        };
        assert_eq!(measure_loss(&model, &mut layers, loss).unwrap(), 5.0);
        let candidates: usize = layers.iter().map(|layer| layer.candidates.len()).sum();
        assert_eq!(passes, 1 + candidates);
        for ((layer, values), factor) in layers.iter().zip(VALUES).zip([1.0, 10.0]) {
            let energy: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            for candidate in &layer.candidates {
                let noise = candidate.sqnr_db.map_or(0.0, |db| energy * 10f64.powf(-db / 10.0));
                let difference = (candidate.error - factor * noise).abs();
                assert!(difference < 1e-5 * energy, "{candidate:?}, not {}", factor * noise);
            }
        }

        let said = measure_loss(&model, &mut layers, |_| f64::NAN).unwrap_err().to_string();
        assert!(said.contains("with layer `0` in "), "{said}");
    }

    #[test]
    fn a_choice_is_refined_beside_the_others() {
        let settings = of_loss(4, 4);
        let (model, mut layers) = pair(&settings);
        // An error of the first weight makes up for one of the second.
        let loss = |model: &Vec<Linear>| {
            let [first, second] = moved(model);
            if second > 0.0 { 5.0 + second - first } else { 5.0 + first }
        };
        let float = measure_loss(&model, &mut layers, loss).unwrap();
        let mut found = search(layers, Vec::new(), &settings).unwrap();
        let least = |layer: usize, sign: f64| {
            let candidates = found.layers[layer].candidates.iter().map(|c| sign * c.error);
            candidates.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
        };
        let expected = [least(0, -1.0), least(1, 1.0)];
        assert_eq!(found.choice.candidates, [least(0, 1.0), expected[1]], "one at a time");
        assert_ne!(found.choice.candidates, expected);
        found.refine(&model, float, loss).unwrap();
        assert_eq!(found.choice.candidates, expected);
        let MeasuredLoss { float, chosen, refined } = found.loss.unwrap();
        assert!(float == 5.0 && refined < chosen, "{:?}", found.loss);
        let errors = found.chosen().map(|(_, candidate)| candidate.error);
        assert_eq!(found.choice.error, errors.sum::<f64>());
    }

    #[test]
    fn settings_without_a_budget_are_no_search_without_a_limit() {
        let said = refused(&SearchConfig::default(), &[1.0, 2.0], None);
        assert!(said.starts_with("the search's `average-bits` is missing"), "{said}");
    }
}
