use super::MetricError;
use super::pearson::{check_pair, correlation};

const NAME: &str = "Spearman correlation";

/// Spearman's rank correlation of predictions with true values, from -1 to 1. STS-B is measured so, and by
/// [`Pearson`](super::Pearson).
///
/// It is the Pearson correlation of the ranks, where equal numbers share the mean of the ranks that they take up, as in
/// scipy's `spearmanr`. All pairs are kept until [`value`](Self::value) sorts them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spearman {
    predicted: Vec<f32>,
    truth: Vec<f32>,
}

impl Spearman {
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
    /// If no example was added, or if all predictions or all true values are equal (scipy gives NaN then).
    pub fn value(&self) -> Result<f64, MetricError> {
        correlation(NAME, &ranks(&self.predicted), &ranks(&self.truth))
    }
}

/// The rank of every number, counted from 1; equal numbers have the mean of their ranks.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = below as f64 + (equal.len() + 1) as f64 / 2.0;
        for &index in equal {
            ranks[index] = rank;
        }
        below += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        predicted: Vec<f32>,
        truth: Vec<f32>,
        spearman: f64,
    }

    #[test]
    fn agrees_with_scipy() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/correlation.json"));
        assert_eq!(cases.len(), 8);
        for case in cases {
            let mut spearman = Spearman::new();
            for (&predicted, &truth) in case.predicted.iter().zip(&case.truth) {
                spearman.add(predicted, truth).unwrap();
            }
            assert_close(spearman.value().unwrap(), case.spearman);
        }
    }

    #[test]
    fn equal_numbers_share_their_rank() {
        assert_eq!(ranks(&[]), [] as [f64; 0]);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, -2.0, 3.0]), [4.0, 2.0, 4.0, 1.0, 4.0]);
        assert_eq!(ranks(&[0.0, -0.0, 1.0]), [1.5, 1.5, 3.0]);
    }

    #[test]
    fn refuses_what_has_no_correlation() {
        let mut spearman = Spearman::new();
        assert_eq!(
            spearman.value().unwrap_err().to_string(),
            "Spearman correlation is not defined without examples: no example was added"
        );
        assert!(spearman.add(1.0, f32::NAN).is_err());
        spearman.add(1.0, 4.0).unwrap();
        spearman.add(2.0, 4.0).unwrap();
        assert_eq!(
            spearman.value().unwrap_err().to_string(),
            "Spearman correlation is not defined: all 2 true values are equal, and at least two different ones are needed"
        );
    }
}
