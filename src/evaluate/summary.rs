//! `summary.json`: what a run found. Training writes it, reports and suites read it.

use serde::{Deserialize, Serialize};

use super::{LayerError, SplitScore, TensorKind};
use crate::tasks::{MetricInfo, Unit, error_of_difference};

/// What a run found: `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The task.
    pub task: String,
    /// The metric on the first evaluation split.
    pub metric: MetricSummary,
    /// The seed.
    pub seed: u64,
    /// How long training took.
    pub seconds: Seconds,
    /// Quantized tensors.
    pub layers: usize,
    /// What the model's first layer is quantized to.
    pub first_layer: LayerBits,
    /// What its last layer is quantized to.
    pub last_layer: LayerBits,
    /// The model's parameters.
    pub parameters: usize,
    /// Training examples.
    pub train_examples: usize,
    /// Epochs that each stage has trained.
    pub epochs: Epochs,
    /// The metric on all evaluation splits.
    pub splits: SplitSummary,
    /// The version of the program that finished the run.
    pub version: String,
    /// The commit that it was built from, where that is known.
    pub commit: Option<String>,
    /// Errors of the quantized tensors, before and after fine-tuning; in `layers.csv`.
    #[serde(skip)]
    pub layer_errors: Vec<LayerError>,
}

impl Summary {
    /// The name of the file in a run's folder.
    pub const FILE: &str = "summary.json";

    /// The standard error over the examples of the first split of what the finished model is above float, in the
    /// unit of differences: on the same examples.
    pub fn error_of_change(&self) -> Option<f64> {
        let SplitSummary { float, calibrated, quantized } = &self.splits;
        let last = quantized.first().or(calibrated.first())?;
        let difference = |from, to| self.metric.info.unit.difference(from, to);
        error_of_difference(&float.first()?.resampled, &last.resampled, difference)
    }
}

/// A metric, without values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// How its values and their differences are told.
    pub unit: Unit,
    /// Whether a larger value is better.
    pub higher_is_better: bool,
}

impl From<MetricInfo> for Metric {
    fn from(MetricInfo { name, unit, higher_is_better }: MetricInfo) -> Self {
        Self { name: name.to_string(), unit, higher_is_better }
    }
}

/// The metric of the task before and after quantization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricSummary {
    /// Which one.
    #[serde(flatten)]
    pub info: Metric,
    /// Of the float model.
    pub float: f64,
    /// Of the quantized model straight after calibration, with what the configuration asks for
    /// without training; absent where nothing is quantized.
    pub calibrated: Option<f64>,
    /// Of the quantized model after fine-tuning; absent where there was none.
    pub quantized: Option<f64>,
}

/// Seconds that the stages took, validation included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// The float stage.
    pub float: f64,
    /// The quantization-aware stage.
    pub quantized: f64,
}

/// Epochs that each stage has trained in this run: none of a float model that another run has trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs {
    /// The float stage.
    pub float: usize,
    /// The quantization-aware stage.
    pub quantized: usize,
}

/// The metric on every evaluation split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Of the float model.
    pub float: Vec<SplitScore>,
    /// Straight after calibration.
    pub calibrated: Vec<SplitScore>,
    /// After fine-tuning; empty where there was none.
    pub quantized: Vec<SplitScore>,
}

/// Bits of a layer's tensors; those of a float tensor are absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBits {
    /// The layer.
    pub layer: String,
    /// Of its weight, the widest where it has several; of the table whose vectors it multiplies with, where it has none
    /// of its own.
    pub weight: Option<u32>,
    /// Of its input, the widest where it has several.
    pub activation: Option<u32>,
}

impl LayerBits {
    /// Looks a layer up among those that were measured, as they were the last time. `table` is the layer whose weight it
    /// shares, if it has none of its own.
    pub fn of(layer: &str, table: Option<&str>, errors: &[LayerError]) -> Self {
        let stage = errors.last().map(|last| &last.stage);
        let widest = |layer: &str, kind: TensorKind| {
            let found = errors.iter().filter(|e| Some(&e.stage) == stage);
            found.filter(|e| e.layer == layer && e.kind == kind).map(|e| e.bits).max()
        };
        Self {
            layer: layer.to_string(),
            weight: widest(layer, TensorKind::Weight)
                .or_else(|| widest(table?, TensorKind::Weight)),
            activation: widest(layer, TensorKind::Activation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::Family;
    use crate::evaluate::{CALIBRATED, QUANTIZED};

    #[test]
    fn bits_are_those_of_the_last_stage_and_of_the_table_that_an_output_shares() {
        let line = |stage: &str, layer: &str, kind: TensorKind, bits: u32| LayerError {
            stage: stage.into(),
            layer: layer.into(),
            tensor: String::new(),
            kind,
            coding: Family::Int,
            bits,
            signed: true,
            exponent_bits: None,
            superposition_bits: None,
            underflow: None,
            scales: 1,
            range_min: None,
            range_max: None,
            scale_min: None,
            scale_max: None,
            values: 1,
            clipping_error: 0.0,
            rounding_error: 0.0,
            clipped_fraction: 0.0,
            clipping_share: 0.0,
            sqnr_db: None,
        };
        let lines = [
            line(CALIBRATED, "table", TensorKind::Weight, 6),
            line(CALIBRATED, "output", TensorKind::Activation, 8),
            line(QUANTIZED, "table", TensorKind::Weight, 4),
            line(QUANTIZED, "output", TensorKind::Activation, 8),
        ];
        let bits = |layer: &str, table: Option<&str>| {
            let found = LayerBits::of(layer, table, &lines);
            (found.weight, found.activation)
        };
        assert_eq!(bits("output", Some("table")), (Some(4), Some(8)));
        assert_eq!(bits("output", None), (None, Some(8)));
        assert_eq!(bits("table", None), (Some(4), None));
        assert_eq!(LayerBits::of("table", None, &[]).weight, None);
    }
}
