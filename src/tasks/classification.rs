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

    fn predict(&self, network: &N, batch: Self::Batch) -> (Tensor<1>, Predictions) {
        let logits = network.forward(batch.input);
        let [_, classes] = logits.dims();
        let loss = cross_entropy(logits.clone(), batch.targets.clone());
        let predictions = Predictions {
            logits: logits.into_data().iter::<f32>().collect(),
            classes,
            targets: batch.targets.into_data().iter::<i64>().map(|t| t as usize).collect(),
        };
        (loss, predictions)
    }
}

/// Logits of a batch and the true classes.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Logits, row by row.
    pub logits: Vec<f32>,
    /// Logits in a row.
    pub classes: usize,
    /// The true class of every row.
    pub targets: Vec<usize>,
}

impl Predictions {
    /// The logits and the true class of each example.
    pub fn examples(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.logits.chunks_exact(self.classes).zip(self.targets.iter().copied())
    }
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
    type Outcome = Predictions;

    fn add(&mut self, batch: &Predictions) -> Result<(), MetricError> {
        for (logits, target) in batch.examples() {
            self.top1.add(logits, target)?;
            self.top5.add(logits, target)?;
            if let &[negative, positive] = logits {
                self.f1.add(positive > negative, target == 1);
                self.matthews.add(positive > negative, target == 1);
            }
        }
        self.examples += batch.targets.len();
        self.classes = batch.classes;
        Ok(())
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
