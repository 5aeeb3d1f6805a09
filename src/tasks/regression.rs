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
            (SPEARMAN, none_of_equal_predictions(self.spearman.value())?),
            (PEARSON, none_of_equal_predictions(self.pearson.value())?),
        ])
    }

    fn examples(&self) -> usize {
        self.examples
    }
}

/// A model that predicts the same for all knows nothing of the truth: that is a result, of correlation 0 (as Matthews'
/// is defined to be then), and no failure.
fn none_of_equal_predictions(value: Result<f64, MetricError>) -> Result<f64, MetricError> {
    match value {
        Err(MetricError::Constant { side: "predictions", .. }) => Ok(0.0),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::bert::tests::config;
    use burn::tensor::Device;

    #[test]
    fn loss_is_the_mean_squared_error_of_what_is_predicted() {
        let device = Device::default();
        device.seed(31);
        let network = config().init_regressor(&device);
        let batch = RegressionBatch {
            input: TokenBatch {
                tokens: Tensor::from_ints([[1, 2, 3], [4, 5, 0]], &device),
                padding: Tensor::from_data([[false; 3], [false, false, true]], &device),
                types: None,
            },
            targets: Tensor::from_floats([4.5, 0.5], &device),
        };
        let (loss, pairs) = Regression.predict(&network, batch.clone());
        let predicted = network.forward(batch.input.clone()).into_data();
        let expected: Vec<(f32, f32)> = predicted.iter::<f32>().zip([4.5, 0.5]).collect();
        assert_eq!(pairs, expected);
        let squares = pairs.iter().map(|(predicted, truth)| (predicted - truth).powi(2));
        let expected = squares.sum::<f32>() / 2.0;
        for loss in [loss, Regression.loss(&network, batch)] {
            let found = loss.into_scalar::<f32>();
            assert!((found - expected).abs() < 1e-5 * expected, "{found} instead of {expected}");
        }
    }

    #[test]
    fn correlations_are_those_of_all_examples() {
        let (mut meter, mut other) = (Regression.meter(), Regression.meter());
        for pair in [(1.0, 1.0), (2.0, 3.0)] {
            meter.add(&pair).unwrap();
        }
        for pair in [(3.0, 2.0), (5.0, 4.0)] {
            other.add(&pair).unwrap();
        }
        meter.merge(&other);
        assert_eq!(meter.examples(), 4);
        let [(first, spearman), (second, pearson)] = meter.measures().unwrap()[..] else {
            panic!("two measures")
        };
        assert_eq!((first, second), (Regression.metric().name, PEARSON));
        assert!((spearman - 0.8).abs() < 1e-12, "{spearman}");
        assert!((pearson - 5.5 / 43.75f64.sqrt()).abs() < 1e-12, "{pearson}");
    }

    #[test]
    fn equal_predictions_have_no_correlation_and_no_examples_are_an_error() {
        let mut meter = Regression.meter();
        assert!(matches!(meter.measures(), Err(MetricError::NoExamples { .. })));
        assert!(meter.add(&(f32::NAN, 1.0)).is_err());
        for pair in [(0.5, 1.0), (0.5, 2.0)] {
            meter.add(&pair).unwrap();
        }
        let measures = meter.measures().unwrap();
        assert!(measures.len() == 2 && measures.iter().all(|(_, value)| *value == 0.0));
        let mut meter = Regression.meter();
        for pair in [(0.5, 1.0), (0.7, 1.0)] {
            meter.add(&pair).unwrap();
        }
        let error = meter.measures().unwrap_err().to_string();
        assert!(error.contains("all 2 true values are equal"), "{error}");
    }
}
