use super::MetricError;

const NAME: &str = "Matthews correlation";

/// Matthews correlation of two classes, from -1 (always wrong) over 0 (no better than chance) to 1 (always right).
/// CoLA is measured so, because two thirds of its sentences are of one class.
///
/// With the counts of true and false positives and negatives (B. W. Matthews, Biochimica et Biophysica Acta 405, 1975):
///
/// ```text
/// (TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN))
/// ```
///
/// If all predictions or all true classes are the same it is 0, as in scikit-learn's `matthews_corrcoef`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matthews {
    true_positives: u64,
    true_negatives: u64,
    false_positives: u64,
    false_negatives: u64,
}

impl Matthews {
    /// Starts without examples.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an example: whether it was predicted to be positive, and whether it is.
    pub fn add(&mut self, predicted: bool, truth: bool) {
        let count = match (predicted, truth) {
            (true, true) => &mut self.true_positives,
            (false, false) => &mut self.true_negatives,
            (true, false) => &mut self.false_positives,
            (false, true) => &mut self.false_negatives,
        };
        *count += 1;
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.true_positives += other.true_positives;
        self.true_negatives += other.true_negatives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
    }

    /// The correlation.
    ///
    /// # Errors
    ///
    /// If no example was added.
    pub fn value(&self) -> Result<f64, MetricError> {
        let [tp, tn, fp, fn_] =
            [self.true_positives, self.true_negatives, self.false_positives, self.false_negatives]
                .map(|count| count as f64);
        if tp + tn + fp + fn_ == 0.0 {
            return Err(MetricError::NoExamples { metric: NAME, examples: "example" });
        }
        let product = (tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_);
        if product == 0.0 {
            return Ok(0.0);
        }
        Ok((tp * tn - fp * fn_) / product.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        predicted: Vec<u8>,
        truth: Vec<u8>,
        matthews: f64,
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/binary.json"));
        assert_eq!(cases.len(), 9);
        for case in cases {
            let mut matthews = Matthews::new();
            for (&predicted, &truth) in case.predicted.iter().zip(&case.truth) {
                matthews.add(predicted == 1, truth == 1);
            }
            assert_close(matthews.value().unwrap(), case.matthews);
        }
    }

    #[test]
    fn needs_an_example() {
        assert_eq!(
            Matthews::new().value().unwrap_err().to_string(),
            "Matthews correlation is not defined without examples: no example was added"
        );
    }
}
