//! Evaluation: the task's metric on each split, and the quantization error of each quantized tensor.

mod layers;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use crate::quant::{QuantizedModel, Quantizers};
use crate::tasks::{EvaluationSplit, Prefetch, Task, batches_by_size};

pub use layers::{LayerError, LayerTable, write_csv};

/// The metric on one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitScore {
    /// The split's name.
    pub split: String,
    /// The metric's value.
    pub value: f64,
    /// The number of examples.
    pub examples: usize,
}

/// The metric of a model on every evaluation split of its task, the first one first.
pub fn evaluate<T: Task>(
    task: &T,
    network: &T::Network,
    batch_size: usize,
    device: &Device,
) -> Vec<SplitScore> {
    let network = network.valid();
    let splits = task.evaluation_splits();
    splits.iter().map(|split| score(task, &network, split, batch_size, device)).collect()
}

/// The metric of a quantized model on every split, and the errors of its quantized tensors on the
/// first split.
pub fn evaluate_quantized<T: Task>(
    task: &T,
    model: &QuantizedModel<T::Network>,
    stage: &str,
    batch_size: usize,
    device: &Device,
) -> (Vec<SplitScore>, Vec<LayerError>) {
    let network = model.model.valid();
    let mut scores = Vec::new();
    let mut errors = Vec::new();
    for (index, split) in task.evaluation_splits().iter().enumerate() {
        if index == 0 {
            model.quantizers.measure();
        }
        scores.push(score(task, &network, split, batch_size, device));
        if index == 0 {
            errors = take_errors(&model.quantizers, stage);
        }
    }
    (scores, errors)
}

fn score<T: Task>(
    task: &T,
    network: &T::Network,
    split: &EvaluationSplit<T::Batch>,
    batch_size: usize,
    device: &Device,
) -> SplitScore {
    let source = &split.source;
    let indices = batches_by_size(source.as_ref(), 0..source.len(), batch_size);
    let score = task.evaluate(network, &mut Prefetch::new(source.clone(), indices, device));
    SplitScore { split: split.name.to_string(), value: score.value, examples: score.examples }
}

/// What the quantizers measured since they were told to, under the name of a stage.
pub fn take_errors(quantizers: &Quantizers, stage: &str) -> Vec<LayerError> {
    let errors = quantizers.take_errors();
    errors.iter().map(|(site, error)| LayerError::new(stage, site, error)).collect()
}
