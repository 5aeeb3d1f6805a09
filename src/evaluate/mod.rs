//! Evaluation: the task's metric on each split, and the quantization error of each quantized tensor.

mod layers;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use crate::quant::{QuantizedModel, Quantizers};
use crate::tasks::{EvaluationSplit, Source, Task};

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
    let score = |split: EvaluationSplit<T::Batch>| {
        let mut batches = batches(split.source.as_ref(), batch_size, device);
        let score = task.evaluate(&network, &mut batches);
        SplitScore { split: split.name.to_string(), value: score.value, examples: score.examples }
    };
    task.evaluation_splits().into_iter().map(score).collect()
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
    for (index, split) in task.evaluation_splits().into_iter().enumerate() {
        if index == 0 {
            model.quantizers.measure();
        }
        let mut batches = batches(split.source.as_ref(), batch_size, device);
        let score = task.evaluate(&network, &mut batches);
        if index == 0 {
            errors = take_errors(&model.quantizers, stage);
        }
        scores.push(SplitScore {
            split: split.name.to_string(),
            value: score.value,
            examples: score.examples,
        });
    }
    (scores, errors)
}

/// What the quantizers measured since they were told to, under the name of a stage.
pub fn take_errors(quantizers: &Quantizers, stage: &str) -> Vec<LayerError> {
    let measured = quantizers.take_measurements();
    measured.iter().map(|(site, m)| LayerError::new(stage, site, &m.error)).collect()
}

/// All examples in batches, those of similar size together.
pub fn batches<'a, B: 'a>(
    source: &'a dyn Source<B>,
    batch_size: usize,
    device: &'a Device,
) -> impl Iterator<Item = B> + 'a {
    let mut order: Vec<usize> = (0..source.len()).collect();
    order.sort_by_key(|&i| source.size(i));
    let starts = (0..order.len()).step_by(batch_size);
    starts.map(move |start| {
        let end = (start + batch_size).min(order.len());
        source.batch(&order[start..end], device)
    })
}
