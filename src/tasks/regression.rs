//! Regression: mean squared error; Spearman and Pearson correlation.

use burn::tensor::Tensor;

use super::{Meter, MetricInfo, Objective, Unit};
use crate::metrics::{MetricError, Pearson, Spearman};
use crate::models::bert::{BertRegressor, TokenBatch};

const SPEARMAN: &str = "Spearman correlation";
const PEARSON: &str = "Pearson correlation";

/// A batch of sequences and the number that belongs to each.
#[derive(Clone, Debug)]
pub struct RegressionBatch {
    /// The sequences.
    pub input: TokenBatch,
    /// The numbers, `[batch]`.
    pub targets: Tensor<1>,
}

/// Learns a number by its squared error.
#[derive(Clone, Debug)]
pub struct Regression;

impl Objective for Regression {
    type Network = BertRegressor;
    type Batch = RegressionBatch;
    type Meter = CorrelationMeter;

    fn metric(&self) -> MetricInfo {
        MetricInfo { name: SPEARMAN, unit: Unit::Fraction, higher_is_better: true }
    }

    fn meter(&self) -> CorrelationMeter {
        CorrelationMeter::default()
    }

    fn loss(&self, network: &BertRegressor, batch: RegressionBatch) -> Tensor<1> {
        (network.forward(batch.input) - batch.targets).square().mean()
    }

    fn predict(
        &self,
        network: &BertRegressor,
        batch: RegressionBatch,
    ) -> (Tensor<1>, Vec<(f32, f32)>) {
        let predicted = network.forward(batch.input);
        let loss = (predicted.clone() - batch.targets.clone()).square().mean();
        let values = |x: Tensor<1>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        (loss, values(predicted).into_iter().zip(values(batch.targets)).collect())
    }
}

/// Measures correlations of predicted and true numbers.
#[derive(Clone, Debug, Default)]
pub struct CorrelationMeter {
    spearman: Spearman,
    pearson: Pearson,
    examples: usize,
}

impl Meter for CorrelationMeter {
    type Example = (f32, f32);

    fn add(&mut self, &(predicted, truth): &(f32, f32)) -> Result<(), MetricError> {
        self.spearman.add(predicted, truth)?;
        self.pearson.add(predicted, truth)?;
        self.examples += 1;
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.spearman.merge(&other.spearman);
        self.pearson.merge(&other.pearson);
        self.examples += other.examples;
    }

    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError> {
        Ok(vec![
            (SPEARMAN, or_not_a_number(self.spearman.value())?),
            (PEARSON, or_not_a_number(self.pearson.value())?),
        ])
    }

    fn examples(&self) -> usize {
        self.examples
    }
}

/// A model that predicts the same for all has no correlation: that is a result, not a failure.
fn or_not_a_number(value: Result<f64, MetricError>) -> Result<f64, MetricError> {
    match value {
        Err(MetricError::Constant { .. }) => Ok(f64::NAN),
        other => other,
    }
}
