//! What a model learns, and how it is measured.

use std::fmt::Debug;

use burn::module::ModuleDisplay;
use burn::tensor::Tensor;

use super::MetricInfo;
use crate::metrics::MetricError;
use crate::nn::FoldBatchNorm;

/// What a model learns, and how it is measured: a loss and a meter.
pub trait Objective: Clone + Debug + Send + Sync + 'static {
    /// The model.
    type Network: FoldBatchNorm + ModuleDisplay + 'static;
    /// A batch of training or evaluation data.
    type Batch: Clone + Send + 'static;
    /// What measures it.
    type Meter: Meter;

    /// The metric that counts: the first that the meter gives.
    fn metric(&self) -> MetricInfo;

    /// A meter that has seen nothing.
    fn meter(&self) -> Self::Meter;

    /// The layer whose weight the output layer shares, where that has none of its own.
    fn output_table(&self) -> Option<&'static str> {
        None
    }

    /// The mean loss of a training batch, `[1]`.
    fn loss(&self, network: &Self::Network, batch: Self::Batch) -> Tensor<1>;

    /// The mean loss of an evaluation batch, `[1]`, and what the meter needs of its examples.
    fn predict(
        &self,
        network: &Self::Network,
        batch: Self::Batch,
    ) -> (Tensor<1>, Vec<<Self::Meter as Meter>::Example>);
}

/// Accumulates what is measured of a model's predictions.
pub trait Meter: Clone + Send + Sync + 'static {
    /// Prediction and truth of an example, in memory of the host; of a language model those of a
    /// batch, whose words do not stand for themselves.
    type Example: Send + Sync + 'static;

    /// Adds an example.
    ///
    /// # Errors
    ///
    /// Predictions that are not numbers.
    fn add(&mut self, example: &Self::Example) -> Result<(), MetricError>;

    /// Adds what another meter has seen.
    fn merge(&mut self, other: &Self);

    /// All metrics over what was added, by name, the one that counts first.
    ///
    /// # Errors
    ///
    /// A metric that is not defined for what was added.
    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError>;

    /// The number of examples that were added.
    fn examples(&self) -> usize;
}
