//! Classification: cross-entropy loss and accuracy, for any [`Classifier`].

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Int, Tensor};
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{
    ClassificationOutput, InferenceStep, SupervisedTraining, TrainOutput, TrainStep,
};

use super::{EvaluationSplit, MetricInfo, Score, Source, Task, TaskError};
use crate::kernels::cross_entropy;
use crate::models::Classifier;

/// A batch of inputs and their classes.
#[derive(Clone, Debug)]
pub struct ClassificationBatch<I> {
    /// The inputs.
    pub input: I,
    /// The class of each, `[batch]`.
    pub targets: Tensor<1, Int>,
}

/// A classifier with cross-entropy loss.
#[derive(Module, Debug)]
pub struct Classification<N: Module + ModuleDisplay> {
    /// The classifier.
    pub network: N,
}

type Examples<N> = Arc<dyn Source<ClassificationBatch<<N as Classifier>::Input>>>;
type Build<N> = dyn Fn(&Device) -> Result<N, TaskError> + Send + Sync;

/// A classification task: data of one kind and a classifier for it.
pub struct ClassificationTask<N: Classifier> {
    pub(super) name: &'static str,
    pub(super) build: Box<Build<N>>,
    pub(super) train: Examples<N>,
    pub(super) evaluation: Vec<(&'static str, Examples<N>)>,
}

impl<N: Classifier> Classification<N> {
    fn forward(&self, batch: ClassificationBatch<N::Input>) -> ClassificationOutput {
        let logits = self.network.forward(batch.input);
        let loss = cross_entropy(logits.clone(), batch.targets.clone());
        ClassificationOutput::new(loss, logits, batch.targets)
    }
}

impl<N: Classifier> TrainStep for Classification<N> {
    type Input = ClassificationBatch<N::Input>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Self::Input) -> TrainOutput<ClassificationOutput> {
        let output = self.forward(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl<N: Classifier> InferenceStep for Classification<N> {
    type Input = ClassificationBatch<N::Input>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Self::Input) -> ClassificationOutput {
        self.forward(batch)
    }
}

impl<N: Classifier> Task for ClassificationTask<N> {
    type Network = N;
    type Learner = Classification<N>;
    type Batch = ClassificationBatch<N::Input>;

    fn name(&self) -> &'static str {
        self.name
    }

    fn metric(&self) -> MetricInfo {
        MetricInfo {
            name: "accuracy",
            burn_name: "Accuracy",
            burn_scale: 0.01,
            higher_is_better: true,
        }
    }

    fn network(&self, device: &Device) -> Result<N, TaskError> {
        (self.build)(device)
    }

    fn learner(&self, network: N) -> Classification<N> {
        Classification { network }
    }

    fn network_of(&self, learner: Classification<N>) -> N {
        learner.network
    }

    fn train_source(&self) -> Arc<dyn Source<Self::Batch>> {
        self.train.clone()
    }

    fn evaluation_splits(&self) -> Vec<EvaluationSplit<Self::Batch>> {
        self.evaluation
            .iter()
            .map(|(name, source)| EvaluationSplit { name, source: source.clone() })
            .collect()
    }

    fn register(
        &self,
        training: SupervisedTraining<Classification<N>>,
    ) -> SupervisedTraining<Classification<N>> {
        training.metrics((AccuracyMetric::new(), LossMetric::new()))
    }

    fn evaluate(&self, network: &N, batches: &mut dyn Iterator<Item = Self::Batch>) -> Score {
        let (mut correct, mut examples) = (0i64, 0);
        for batch in batches {
            examples += batch.targets.dims()[0];
            let predicted = network.forward(batch.input).argmax(1).squeeze_dim::<1>(1);
            correct += predicted.equal(batch.targets).int().sum().into_scalar::<i64>();
        }
        Score { value: correct as f64 / examples.max(1) as f64, examples }
    }
}
