//! Evaluation: the task's metric on each split, the quantization error of each quantized tensor, and
//! [reports](report) of runs.

mod histograms;
mod layers;
pub mod report;
mod resamples;
mod sqnr_chart;
mod summary;

use std::fmt;

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::quant::{QuantizedModel, Quantizers};
use crate::tasks::{EvaluationSplit, Measure, Prefetch, Task, TaskError, batches_by_size};

pub use histograms::{Histograms, TensorHistogram};
pub use layers::{LayerError, LayerTable, TensorKind, write_csv};
pub use resamples::Resamples;
pub use sqnr_chart::{SqnrPanel, sqnr_chart};
pub use summary::{Epochs, LayerBits, Metric, MetricSummary, Seconds, SplitSummary, Summary};

/// The name, in logs, tables and files, of the stage that trains in float.
pub(crate) const FLOAT: &str = "float";
/// That of the quantized model straight after calibration.
pub(crate) const CALIBRATED: &str = "calibrated";
/// That of the stage that fine-tunes the quantized model.
pub(crate) const QUANTIZED: &str = "quantized";

/// What was measured on one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitScore {
    /// The split's name.
    pub split: String,
    /// The value of the task's metric.
    pub value: f64,
    /// Its standard error over the examples, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// The number of examples.
    pub examples: usize,
    /// Whatever else the task measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Measure>,
    /// The task's metric over the bootstrap's draws: [`Score::resampled`](crate::tasks::Score::resampled).
    #[serde(skip)]
    pub resampled: Vec<f64>,
}

/// The value, the split, the number of examples, and what else was measured.
impl fmt::Display for SplitScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}  on {} ({} examples", self.value, self.split, self.examples)?;
        for Measure { name, value, .. } in &self.others {
            write!(f, "; {name} {value:.4}")?;
        }
        f.write_str(")")
    }
}

/// The metric of a model on every evaluation split of its task, the first one first.
///
/// # Errors
///
/// If a metric is not defined for the model's predictions.
pub fn evaluate<T: Task>(
    task: &T,
    network: &T::Network,
    batch_size: usize,
    device: &Device,
) -> Result<Vec<SplitScore>, TaskError> {
    let network = network.valid();
    let splits = task.evaluation_splits();
    splits.iter().map(|split| score(task, &network, split, batch_size, device)).collect()
}

/// The metric of a quantized model on every split, and the errors of its quantized tensors on the
/// first split.
///
/// # Errors
///
/// If a metric is not defined for the model's predictions.
pub fn evaluate_quantized<T: Task>(
    task: &T,
    model: &QuantizedModel<T::Network>,
    stage: &str,
    batch_size: usize,
    device: &Device,
) -> Result<(Vec<SplitScore>, Vec<LayerError>), TaskError> {
    let network = model.model.valid();
    let mut scores = Vec::new();
    let mut errors = Vec::new();
    for (index, split) in task.evaluation_splits().iter().enumerate() {
        if index == 0 {
            model.quantizers.measure();
        }
        scores.push(score(task, &network, split, batch_size, device)?);
        if index == 0 {
            errors = take_errors(&model.quantizers, stage);
        }
    }
    Ok((scores, errors))
}

fn score<T: Task>(
    task: &T,
    network: &T::Network,
    split: &EvaluationSplit<T::Batch>,
    batch_size: usize,
    device: &Device,
) -> Result<SplitScore, TaskError> {
    let source = &split.source;
    let indices = batches_by_size(source.as_ref(), 0..source.len(), batch_size);
    let score = task.evaluate(network, &mut Prefetch::new(source.clone(), indices, device))?;
    let mut measures = score.measures.into_iter();
    let Measure { value, standard_error, .. } = measures.next().expect("a task has a metric");
    Ok(SplitScore {
        split: split.name.to_string(),
        value,
        standard_error,
        examples: score.examples,
        others: measures.collect(),
        resampled: score.resampled,
    })
}

/// What the quantizers measured since they were told to, under the name of a stage.
pub fn take_errors(quantizers: &Quantizers, stage: &str) -> Vec<LayerError> {
    let errors = quantizers.take_errors();
    errors.iter().map(|(site, error)| LayerError::new(stage, site, error)).collect()
}
