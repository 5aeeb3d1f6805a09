use super::MetricError;

const NAME: &str = "F1";

/// Precision, recall and F1 of the positive class, from 0 to 1. MRPC and QQP are measured so.
///
/// With `TP` positives that were predicted, `FP` negatives predicted to be positive, and `FN` positives that were
/// missed:
///
/// ```text
/// precision = TP / (TP + FP)      recall = TP / (TP + FN)      F1 = 2 TP / (2 TP + FP + FN)
/// ```
///
/// Where a denominator is 0 the figure is 0, as in scikit-learn's `f1_score`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct F1 {
    matches: Matches,
    examples: u64,
}

impl F1 {
    /// Starts without examples.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an example: whether it was predicted to be positive, and whether it is.
    pub fn add(&mut self, predicted: bool, truth: bool) {
        self.matches.correct += u64::from(predicted && truth);
        self.matches.predicted += u64::from(predicted);
        self.matches.truth += u64::from(truth);
        self.examples += 1;
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.matches.merge(&other.matches);
        self.examples += other.examples;
    }

    /// The part of the predicted positives that are positive.
    ///
    /// # Errors
    ///
    /// If no example was added.
    pub fn precision(&self) -> Result<f64, MetricError> {
        self.matches().map(Matches::precision)
    }

    /// The part of the positives that were predicted.
    ///
    /// # Errors
    ///
    /// If no example was added.
    pub fn recall(&self) -> Result<f64, MetricError> {
        self.matches().map(Matches::recall)
    }

    /// F1, the harmonic mean of precision and recall.
    ///
    /// # Errors
    ///
    /// If no example was added.
    pub fn value(&self) -> Result<f64, MetricError> {
        self.matches().map(Matches::f1)
    }

    fn matches(&self) -> Result<&Matches, MetricError> {
        if self.examples == 0 {
            return Err(MetricError::NoExamples { metric: NAME, examples: "example" });
        }
        Ok(&self.matches)
    }
}

/// How many things were predicted, how many there are, and how many of the predicted ones are right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matches {
    pub(super) correct: u64,
    pub(super) predicted: u64,
    pub(super) truth: u64,
}

impl Matches {
    pub(super) fn merge(&mut self, other: &Self) {
        self.correct += other.correct;
        self.predicted += other.predicted;
        self.truth += other.truth;
    }

    pub(super) fn precision(&self) -> f64 {
        ratio(self.correct, self.predicted)
    }

    pub(super) fn recall(&self) -> f64 {
        ratio(self.correct, self.truth)
    }

    pub(super) fn f1(&self) -> f64 {
        ratio(2 * self.correct, self.predicted + self.truth)
    }
}

/// `part / whole`; 0 if there is no whole.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        predicted: Vec<u8>,
        truth: Vec<u8>,
        precision: f64,
        recall: f64,
        f1: f64,
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/binary.json"));
        assert_eq!(cases.len(), 9);
        for case in cases {
            let mut f1 = F1::new();
            for (&predicted, &truth) in case.predicted.iter().zip(&case.truth) {
                f1.add(predicted == 1, truth == 1);
            }
            assert_close(f1.precision().unwrap(), case.precision);
            assert_close(f1.recall().unwrap(), case.recall);
            assert_close(f1.value().unwrap(), case.f1);
        }
    }

    #[test]
    fn needs_an_example() {
        let none = Err(MetricError::NoExamples { metric: "F1", examples: "example" });
        let f1 = F1::new();
        assert_eq!((f1.precision(), f1.recall(), f1.value()), (none.clone(), none.clone(), none));
    }
}
