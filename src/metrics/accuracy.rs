use std::num::NonZeroUsize;

use super::MetricError;

const NAME: &str = "accuracy";

/// Top-k accuracy: the part of the examples whose true class is among the `k` classes with the highest scores,
/// from 0 to 1.
///
/// Of equal scores the one of the lower class ranks higher, so that top-1 accuracy counts what `argmax` predicts.
/// (scikit-learn's `top_k_accuracy_score` ranks the higher class first in that case; it is the same otherwise.) If `k` is
/// not below the number of classes, every example counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accuracy {
    k: NonZeroUsize,
    correct: u64,
    examples: u64,
}

impl Accuracy {
    /// Counts examples with their true class among the `k` highest scores.
    pub fn top(k: NonZeroUsize) -> Self {
        Self { k, correct: 0, examples: 0 }
    }

    /// Counts examples whose true class has the highest score.
    pub fn top1() -> Self {
        Self::top(NonZeroUsize::MIN)
    }

    /// Counts examples with their true class among the five highest scores, as is usual for ImageNet.
    pub fn top5() -> Self {
        Self::top(const { NonZeroUsize::new(5).unwrap() })
    }

    /// Adds an example: a score for every class, on any scale (logits or probabilities), and the true class.
    ///
    /// # Errors
    ///
    /// A true class without a score, and NaN among the scores. Infinite scores rank like any other number.
    pub fn add(&mut self, scores: &[f32], truth: usize) -> Result<(), MetricError> {
        let Some(&score) = scores.get(truth) else {
            return Err(MetricError::UnknownClass {
                metric: NAME,
                class: truth,
                classes: scores.len(),
            });
        };
        if let Some(class) = scores.iter().position(|score| score.is_nan()) {
            let what = format!("the score of class {class}");
            return Err(MetricError::NotFinite { metric: NAME, what, value: f64::NAN });
        }
        let (before, after) = (&scores[..truth], &scores[truth..]);
        let higher = before.iter().filter(|other| **other >= score).count()
            + after.iter().filter(|other| **other > score).count();
        self.correct += u64::from(higher < self.k.get());
        self.examples += 1;
        Ok(())
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.correct += other.correct;
        self.examples += other.examples;
    }

    /// The accuracy.
    ///
    /// # Errors
    ///
    /// If no example was added.
    pub fn value(&self) -> Result<f64, MetricError> {
        if self.examples == 0 {
            return Err(MetricError::NoExamples { metric: NAME, examples: "example" });
        }
        Ok(self.correct as f64 / self.examples as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        scores: Vec<Vec<f32>>,
        truth: Vec<usize>,
        top1: f64,
        top5: f64,
    }

    #[test]
    fn agrees_with_scikit_learn() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/accuracy.json"));
        assert_eq!(cases.len(), 4);
        for case in cases {
            let (mut top1, mut top5) = (Accuracy::top1(), Accuracy::top5());
            for (scores, &truth) in case.scores.iter().zip(&case.truth) {
                top1.add(scores, truth).unwrap();
                top5.add(scores, truth).unwrap();
            }
            assert_close(top1.value().unwrap(), case.top1);
            assert_close(top5.value().unwrap(), case.top5);
        }
    }

    fn correct(k: usize, scores: &[f32], truth: usize) -> bool {
        let mut accuracy = Accuracy::top(NonZeroUsize::new(k).unwrap());
        accuracy.add(scores, truth).unwrap();
        accuracy.value().unwrap() == 1.0
    }

    #[test]
    fn equal_scores_rank_by_class() {
        let constant = [0.5; 4];
        for truth in 0..4 {
            for k in 1..6 {
                assert_eq!(correct(k, &constant, truth), truth < k, "class {truth} in top {k}");
            }
        }
        assert!(correct(1, &[f32::NEG_INFINITY, f32::INFINITY], 1));
        assert!(correct(1, &[0.0, -0.0], 0) && !correct(1, &[-0.0, 0.0], 1));
    }

    #[test]
    fn refuses_what_has_no_rank() {
        let mut accuracy = Accuracy::top1();
        let message = |error: MetricError| error.to_string();
        assert_eq!(
            message(accuracy.value().unwrap_err()),
            "accuracy is not defined without examples: no example was added"
        );
        assert_eq!(
            message(accuracy.add(&[0.0, f32::NAN], 0).unwrap_err()),
            "accuracy: the score of class 1 is NaN: a finite number is expected; has the training diverged?"
        );
        assert_eq!(
            message(accuracy.add(&[0.0, 1.0], 2).unwrap_err()),
            "accuracy: the true class is 2, but there are scores for 2 classes only (counted from 0)"
        );
        assert!(accuracy.value().is_err(), "a refused example is not counted");
    }
}
