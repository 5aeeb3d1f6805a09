//! How a model and its objective are trained by burn-train, and evaluated.

use std::sync::Arc;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, ExecutionError, Tensor, TensorReadError};
use burn::train::metric::{
    Adaptor, ItemLazy, LossInput, LossMetric, Metric, MetricAttributes, MetricMetadata, MetricName,
    Numeric, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn::train::{InferenceStep, SupervisedTraining, TrainOutput, TrainStep};

use super::bootstrap::score;
use super::{EvaluationSplit, Meter, MetricInfo, Objective, Part, Score, Source, Task, TaskError};

use crate::data::DataError;
use crate::data::report::Report;
use crate::nn::{FoldBatchNorm, FoldError};

type Examples<O> = Arc<dyn Source<<O as Objective>::Batch>>;
pub(super) type Build<N> = dyn Fn(&Device) -> Result<N, TaskError> + Send + Sync;
type Example<O> = <<O as Objective>::Meter as Meter>::Example;

/// A task: data of one kind, a model for it, and an objective.
pub struct SupervisedTask<O: Objective> {
    /// Its name.
    pub name: &'static str,
    /// Loss and metric.
    pub objective: O,
    /// Makes the model to start from.
    pub build: Box<Build<O::Network>>,
    /// Training data.
    pub train: Examples<O>,
    /// Evaluation data by name; training watches the first.
    pub evaluation: Vec<(&'static str, Examples<O>)>,
    /// What was left out of the data or changed when they were read.
    pub report: Report,
}

impl<O: Objective> Task for SupervisedTask<O> {
    type Network = O::Network;
    type Learner = Supervised<O::Network, O>;
    type Batch = O::Batch;

    fn name(&self) -> &'static str {
        self.name
    }

    fn metric(&self) -> MetricInfo {
        self.objective.metric()
    }

    fn network(&self, device: &Device) -> Result<O::Network, TaskError> {
        (self.build)(device)
    }

    fn fold_batch_norm(&self, network: O::Network) -> Result<O::Network, FoldError> {
        network.fold_batch_norm()
    }

    fn output_table(&self) -> Option<&'static str> {
        self.objective.output_table()
    }

    fn learner(&self, network: O::Network) -> Self::Learner {
        Supervised { network, objective: self.objective.clone() }
    }

    fn network_of(&self, learner: Self::Learner) -> O::Network {
        learner.network
    }

    fn train_source(&self) -> Examples<O> {
        self.train.clone()
    }

    fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.merge(self.train.report());
        for (_, source) in &self.evaluation {
            report.merge(source.report());
        }
        report
    }

    fn evaluation_splits(&self) -> Vec<EvaluationSplit<O::Batch>> {
        self.evaluation
            .iter()
            .map(|(name, source)| EvaluationSplit { name, source: source.clone() })
            .collect()
    }

    fn register(
        &self,
        training: SupervisedTraining<Self::Learner>,
    ) -> SupervisedTraining<Self::Learner> {
        training
            .metric_train_numeric(LossMetric::new())
            .metric_valid_numeric(LossMetric::new())
            .metric_valid_numeric(Measured::<O::Meter>::new(self.objective.meter(), self.metric()))
    }

    fn loss(&self, network: &O::Network, batch: O::Batch) -> Tensor<1> {
        self.objective.loss(network, batch)
    }

    fn evaluate(
        &self,
        network: &O::Network,
        batches: &mut dyn Iterator<Item = Result<O::Batch, DataError>>,
    ) -> Result<Score, TaskError> {
        let empty = self.objective.meter();
        let mut seen = Vec::new();
        for batch in batches {
            let (_, examples) = self.objective.predict(network, batch?);
            for example in examples {
                let mut meter = empty.clone();
                meter.add(&example)?;
                seen.push(meter);
            }
        }
        Ok(score(&empty, &seen)?)
    }
}

/// A model with its objective: what burn-train trains.
#[derive(Module, Debug)]
pub struct Supervised<N: Module + ModuleDisplay, O: Clone + std::fmt::Debug + Send + Sync> {
    /// The model.
    pub network: N,
    #[module(skip)]
    objective: O,
}

impl<O: Objective> TrainStep for Supervised<O::Network, O> {
    type Input = Part<O::Batch>;
    type Output = Loss;

    fn step(&self, part: Part<O::Batch>) -> TrainOutput<Loss> {
        let mut loss = self.objective.loss(&self.network, part.batch);
        let gradients = part.share.backward(&mut loss);
        TrainOutput::new(self, gradients, Loss(loss))
    }
}

impl<O: Objective> InferenceStep for Supervised<O::Network, O> {
    type Input = O::Batch;
    type Output = Evaluated<Example<O>>;

    fn step(&self, batch: O::Batch) -> Self::Output {
        let (loss, examples) = self.objective.predict(&self.network, batch);
        Evaluated { loss: Loss(loss), examples: Arc::new(examples) }
    }
}

/// The loss of a batch, `[1]`.
pub struct Loss(Tensor<1>);

impl ItemLazy for Loss {
    fn sync(self) -> Result<Self, ExecutionError> {
        // The log reads it on another thread; until then the device goes on.
        self.0.device().flush()?;
        Ok(Self(self.0.without_autodiff()))
    }
}

impl Adaptor<LossInput> for Loss {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.0.clone())
    }
}

/// The loss of a batch and what was predicted of its examples.
pub struct Evaluated<T> {
    loss: Loss,
    examples: Arc<Vec<T>>,
}

impl<T: Send + Sync> ItemLazy for Evaluated<T> {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(Self { loss: self.loss.sync()?, ..self })
    }
}

impl<T> Adaptor<LossInput> for Evaluated<T> {
    fn adapt(&self) -> LossInput {
        self.loss.adapt()
    }
}

impl<T> Adaptor<Arc<Vec<T>>> for Evaluated<T> {
    fn adapt(&self) -> Arc<Vec<T>> {
        self.examples.clone()
    }
}

/// A meter as a metric of burn-train, with a value at the end of an epoch only.
#[derive(Clone)]
struct Measured<M> {
    empty: M,
    meter: M,
    info: MetricInfo,
    /// Not a number until the epoch's end, and where the metric is not defined.
    value: f64,
}

impl<M: Meter> Measured<M> {
    fn new(meter: M, info: MetricInfo) -> Self {
        Self { empty: meter.clone(), meter, info, value: f64::NAN }
    }
}

impl<M: Meter> Metric for Measured<M> {
    type Input = Arc<Vec<M::Example>>;

    fn name(&self) -> MetricName {
        Arc::new(self.info.name.to_string())
    }

    fn attributes(&self) -> MetricAttributes {
        let higher_is_better = self.info.higher_is_better;
        NumericAttributes { unit: None, higher_is_better }.into()
    }

    fn update(
        &mut self,
        examples: &Self::Input,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if let Err(error) = examples.iter().try_for_each(|example| self.meter.add(example)) {
            tracing::warn!("validation: {error}");
        }
        Ok(SerializedEntry::not_available(None))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.value = match self.meter.measures() {
            Ok(measures) => measures[0].1,
            Err(error) => {
                tracing::warn!("validation: {error}");
                f64::NAN
            }
        };
        Ok(SerializedEntry::new(format!("{:.4}", self.value), self.value.to_string()))
    }

    fn clear(&mut self) {
        self.meter = self.empty.clone();
        self.value = f64::NAN;
    }
}

impl<M: Meter> Numeric for Measured<M> {
    fn value(&self) -> Option<NumericEntry> {
        None
    }

    fn running_value(&self) -> Option<NumericEntry> {
        None
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.value)
    }
}
