use super::MetricError;

const NAME: &str = "Pearson correlation";

/// Pearson correlation of predictions with true values, from -1 to 1. STS-B is measured so, and by
/// [`Spearman`](super::Spearman).
///
/// ```text
/// r = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2  sum (y - mean y)^2)
/// ```
///
/// All pairs are kept until [`value`](Self::value) is asked for, as the means have to be known before the sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pearson {
    predicted: Vec<f32>,
    truth: Vec<f32>,
}

impl Pearson {
    /// Starts without examples.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an example: the prediction and the true value.
    ///
    /// # Errors
    ///
    /// Numbers that are not finite.
    pub fn add(&mut self, predicted: f32, truth: f32) -> Result<(), MetricError> {
        check_pair(NAME, predicted, truth)?;
        self.predicted.push(predicted);
        self.truth.push(truth);
        Ok(())
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.predicted.extend(&other.predicted);
        self.truth.extend(&other.truth);
    }

    /// The correlation.
    ///
    /// # Errors
    ///
    /// If no example was added, or if all predictions or all true values are equal (scipy's `pearsonr` gives NaN then).
    pub fn value(&self) -> Result<f64, MetricError> {
        let [x, y] = [&self.predicted, &self.truth]
            .map(|values| values.iter().copied().map(f64::from).collect::<Vec<_>>());
        correlation(NAME, &x, &y)
    }
}

/// Refuses a pair with a number that is not finite.
pub(super) fn check_pair(
    metric: &'static str,
    predicted: f32,
    truth: f32,
) -> Result<(), MetricError> {
    MetricError::check_finite(metric, predicted, || "the prediction".to_owned())?;
    MetricError::check_finite(metric, truth, || "the true value".to_owned())
}

/// The Pearson correlation of predictions `x` with as many true values `y`.
pub(super) fn correlation(metric: &'static str, x: &[f64], y: &[f64]) -> Result<f64, MetricError> {
    for (values, side) in [(x, "predictions"), (y, "true values")] {
        let Some(first) = values.first() else {
            return Err(MetricError::NoExamples { metric, examples: "example" });
        };
        if values.iter().all(|value| value == first) {
            return Err(MetricError::Constant { metric, side, count: values.len() });
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut squares_x, mut squares_y, mut products) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (from_x, from_y) = (x - mean_x, y - mean_y);
        squares_x += from_x * from_x;
        squares_y += from_y * from_y;
        products += from_x * from_y;
    }
    // Rounding can carry the quotient a little over 1; such an excess is cut off, as scipy does.
    Ok((products / (squares_x.sqrt() * squares_y.sqrt())).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        predicted: Vec<f32>,
        truth: Vec<f32>,
        pearson: f64,
    }

    #[test]
    fn agrees_with_scipy() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/correlation.json"));
        assert_eq!(cases.len(), 8);
        for case in cases {
            let mut pearson = Pearson::new();
            for (&predicted, &truth) in case.predicted.iter().zip(&case.truth) {
                pearson.add(predicted, truth).unwrap();
            }
            assert_close(pearson.value().unwrap(), case.pearson);
        }
    }

    #[test]
    fn refuses_what_does_not_vary() {
        let mut pearson = Pearson::new();
        assert_eq!(
            pearson.value().unwrap_err().to_string(),
            "Pearson correlation is not defined without examples: no example was added"
        );
        pearson.add(0.1, 1.0).unwrap();
        pearson.add(0.1, 2.0).unwrap();
        pearson.add(0.1, 0.0).unwrap();
        assert_eq!(
            pearson.value().unwrap_err().to_string(),
            "Pearson correlation is not defined: all 3 predictions are equal, and at least two different ones are needed"
        );
        pearson.add(0.2, 4.0).unwrap();
        assert!(pearson.value().is_ok());
    }

    #[test]
    fn refuses_what_is_no_number() {
        let mut pearson = Pearson::new();
        assert_eq!(
            pearson.add(f32::NAN, 1.0).unwrap_err().to_string(),
            "Pearson correlation: the prediction is NaN: a finite number is expected; has the training diverged?"
        );
        assert!(pearson.add(1.0, f32::INFINITY).is_err());
        assert_eq!(pearson, Pearson::new(), "a refused example is not counted");
    }

    #[test]
    fn extreme_numbers_stay_within_64_bits() {
        let mut pearson = Pearson::new();
        let tiny = f32::from_bits(1);
        for (x, y) in [(f32::MAX, tiny), (f32::MIN, 0.0), (f32::MAX, tiny), (f32::MIN, 0.0)] {
            pearson.add(x, y).unwrap();
        }
        assert_close(pearson.value().unwrap(), 1.0);
    }
}
