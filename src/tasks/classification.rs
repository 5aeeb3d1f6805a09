//! Classification: cross-entropy loss; accuracy, F1 or Matthews correlation, for any [`Classifier`].

use std::marker::PhantomData;

use burn::tensor::{Int, Tensor};

use super::{Meter, MetricInfo, Objective, SupervisedTask, Unit};
use crate::kernels::cross_entropy;
use crate::metrics::{Accuracy, F1, Matthews, MetricError};
use crate::models::Classifier;

const ACCURACY: &str = "accuracy";
const F1_SCORE: &str = "F1";
const MATTHEWS: &str = "Matthews correlation";

/// A batch of inputs and their classes.
#[derive(Clone, Debug)]
pub struct ClassificationBatch<I> {
    /// The inputs.
    pub input: I,
    /// The class of each, `[batch]`.
    pub targets: Tensor<1, Int>,
}

/// A classification task.
pub type ClassificationTask<N> = SupervisedTask<Classification<N>>;

/// Learns classes by cross-entropy.
#[derive(Debug)]
pub struct Classification<N> {
    metric: ClassMetric,
    network: PhantomData<fn() -> N>,
}

/// What counts in a classification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassMetric {
    /// Top-1 accuracy; top-5 beside it where there are more than five classes.
    Accuracy,
    /// F1 of class 1 of two, accuracy beside it.
    F1,
    /// Matthews correlation of two classes, accuracy beside it.
    Matthews,
}

impl<N> Classification<N> {
    /// The objective.
    pub fn new(metric: ClassMetric) -> Self {
        Self { metric, network: PhantomData }
    }
}

impl<N> Clone for Classification<N> {
    fn clone(&self) -> Self {
        Self::new(self.metric)
    }
}

impl<N: Classifier> Objective for Classification<N> {
    type Network = N;
    type Batch = ClassificationBatch<N::Input>;
    type Meter = ClassificationMeter;

    fn metric(&self) -> MetricInfo {
        let name = match self.metric {
            ClassMetric::Accuracy => ACCURACY,
            ClassMetric::F1 => F1_SCORE,
            ClassMetric::Matthews => MATTHEWS,
        };
        MetricInfo { name, unit: Unit::Fraction, higher_is_better: true }
    }

    fn meter(&self) -> ClassificationMeter {
        ClassificationMeter {
            metric: self.metric,
            top1: Accuracy::top1(),
            top5: Accuracy::top5(),
            f1: F1::new(),
            matthews: Matthews::new(),
            examples: 0,
            classes: 0,
        }
    }

    fn loss(&self, network: &N, batch: Self::Batch) -> Tensor<1> {
        cross_entropy(network.forward(batch.input), batch.targets)
    }

    fn predict(&self, network: &N, batch: Self::Batch) -> (Tensor<1>, Vec<Prediction>) {
        let logits = network.forward(batch.input);
        let [_, classes] = logits.dims();
        let loss = cross_entropy(logits.clone(), batch.targets.clone());
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let targets = batch.targets.into_data();
        let predictions = logits.chunks_exact(classes).zip(targets.iter::<i64>());
        let predictions =
            predictions.map(|(row, t)| Prediction { logits: row.to_vec(), target: t as usize });
        (loss, predictions.collect())
    }
}

/// The logits of an example and its true class.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The logits.
    pub logits: Vec<f32>,
    /// The true class.
    pub target: usize,
}

/// Measures classes.
#[derive(Clone, Debug)]
pub struct ClassificationMeter {
    metric: ClassMetric,
    top1: Accuracy,
    top5: Accuracy,
    f1: F1,
    matthews: Matthews,
    examples: usize,
    classes: usize,
}

impl Meter for ClassificationMeter {
    type Example = Prediction;

    fn add(&mut self, Prediction { logits, target }: &Prediction) -> Result<(), MetricError> {
        self.top1.add(logits, *target)?;
        self.top5.add(logits, *target)?;
        if let &[negative, positive] = &logits[..] {
            self.f1.add(positive > negative, *target == 1);
            self.matthews.add(positive > negative, *target == 1);
        }
        self.examples += 1;
        self.classes = logits.len();
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.top1.merge(&other.top1);
        self.top5.merge(&other.top5);
        self.f1.merge(&other.f1);
        self.matthews.merge(&other.matthews);
        self.examples += other.examples;
        self.classes = other.classes;
    }

    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError> {
        let accuracy = (ACCURACY, self.top1.value()?);
        Ok(match self.metric {
            ClassMetric::Accuracy if self.classes > 5 => {
                vec![accuracy, ("top-5 accuracy", self.top5.value()?)]
            }
            ClassMetric::Accuracy => vec![accuracy],
            ClassMetric::F1 => vec![(F1_SCORE, self.f1.value()?), accuracy],
            ClassMetric::Matthews => vec![(MATTHEWS, self.matthews.value()?), accuracy],
        })
    }

    fn examples(&self) -> usize {
        self.examples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::vgg::VggSmall;

    /// What two meters measure together of predicted and true classes.
    fn measure(
        metric: ClassMetric,
        classes: usize,
        pairs: [(usize, usize); 5],
    ) -> Vec<(&'static str, f64)> {
        let objective = Classification::<VggSmall>::new(metric);
        let mut meter = objective.meter();
        for part in [&pairs[..2], &pairs[2..]] {
            let mut of_part = objective.meter();
            for &(predicted, target) in part {
                let logit = |class| if class == predicted { 1.5 } else { -0.5 };
                let logits = (0..classes).map(logit).collect();
                of_part.add(&Prediction { logits, target }).unwrap();
            }
            meter.merge(&of_part);
        }
        assert_eq!(meter.examples(), 5);
        let measures = meter.measures().unwrap();
        assert_eq!(measures[0].0, objective.metric().name);
        measures
    }

    #[test]
    fn every_metric_comes_first_with_accuracy_beside_it() {
        // Two positives found, one missed, one false, and one negative.
        let pairs = [(1, 1), (0, 1), (1, 0), (0, 0), (1, 1)];
        for (metric, expected) in [
            (ClassMetric::Accuracy, vec![(ACCURACY, 0.6)]),
            (ClassMetric::F1, vec![(F1_SCORE, 4.0 / 6.0), (ACCURACY, 0.6)]),
            (ClassMetric::Matthews, vec![(MATTHEWS, 1.0 / 6.0), (ACCURACY, 0.6)]),
        ] {
            assert_eq!(measure(metric, 2, pairs), expected);
        }
    }

    #[test]
    fn top_5_accuracy_is_measured_of_more_than_five_classes() {
        // Of equal scores the lower classes rank first: class 5 is the seventh where 7 is predicted.
        let pairs = [(7, 7), (7, 0), (7, 5), (5, 5), (2, 4)];
        let top_5 = ("top-5 accuracy", 0.8);
        assert_eq!(measure(ClassMetric::Accuracy, 8, pairs), [(ACCURACY, 0.4), top_5]);
        let five = [(4, 4), (4, 0), (4, 1), (0, 0), (2, 3)];
        assert_eq!(measure(ClassMetric::Accuracy, 5, five), [(ACCURACY, 0.4)]);
    }
}
