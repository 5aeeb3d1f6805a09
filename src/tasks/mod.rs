//! Tasks, one file each: which data, which model, loss and metric.

mod classification;
mod digits;
mod listops;
mod prefetch;
mod sst2;
mod tokens;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use burn::train::{InferenceStep, LearnerModel, SupervisedTraining, TrainStep};
use serde::Serialize;
use thiserror::Error;

use crate::config::{Arch, Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::models::CheckpointError;

pub use classification::{Classification, ClassificationBatch, ClassificationTask};
pub use prefetch::Prefetch;

/// Examples that can be made into batches on a device.
pub trait Source<B>: Send + Sync {
    /// The number of examples.
    fn len(&self) -> usize;

    /// Whether there is no example.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much work an example is, in any unit: batches are made of examples of similar size.
    fn size(&self, index: usize) -> usize;

    /// A batch of the given examples.
    fn batch(&self, indices: &[usize], device: &Device) -> B;
}

/// The indices of examples `range` of a source in batches, those of similar size together.
pub fn batches_by_size<B>(
    source: &dyn Source<B>,
    range: Range<usize>,
    batch_size: usize,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = range.collect();
    order.sort_by_key(|&i| source.size(i));
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

/// A named set of examples that a model is evaluated on.
pub struct EvaluationSplit<B> {
    /// Its name in tables and files.
    pub name: &'static str,
    /// The examples.
    pub source: Arc<dyn Source<B>>,
}

/// What a task measures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricInfo {
    /// Its name in tables and files.
    pub name: &'static str,
    /// The name under which burn-train knows it.
    #[serde(skip)]
    pub burn_name: &'static str,
    /// What a value of burn-train's is multiplied with (its accuracies are percentages).
    #[serde(skip)]
    pub burn_scale: f64,
    /// Whether a larger value is better.
    #[serde(skip)]
    pub higher_is_better: bool,
}

/// The value of a task's metric on a split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The metric's value; accuracies lie between 0 and 1.
    pub value: f64,
    /// The number of examples it was measured on.
    pub examples: usize,
}

/// A model to train, with its data, loss and metric.
pub trait Task: Send + Sync {
    /// The model: what is quantized, saved and exported.
    type Network: Module + 'static;
    /// The model with its loss: what burn-train trains.
    type Learner: LearnerModel + TrainStep<Input = Self::Batch> + InferenceStep<Input = Self::Batch>;
    /// A batch of training or evaluation data.
    type Batch: Send + 'static;

    /// The task's name.
    fn name(&self) -> &'static str;

    /// What it measures.
    fn metric(&self) -> MetricInfo;

    /// A model to start from: fresh, or from the published checkpoint that the task was given.
    ///
    /// # Errors
    ///
    /// If that checkpoint cannot be loaded.
    fn network(&self, device: &Device) -> Result<Self::Network, TaskError>;

    /// Adds the loss.
    fn learner(&self, network: Self::Network) -> Self::Learner;

    /// Takes the loss away.
    fn network_of(&self, learner: Self::Learner) -> Self::Network;

    /// The training data.
    fn train_source(&self) -> Arc<dyn Source<Self::Batch>>;

    /// The evaluation data; the first split is the one that training watches.
    fn evaluation_splits(&self) -> Vec<EvaluationSplit<Self::Batch>>;

    /// Registers loss and metric with burn-train.
    fn register(
        &self,
        training: SupervisedTraining<Self::Learner>,
    ) -> SupervisedTraining<Self::Learner>;

    /// The metric of a model on batches of evaluation data.
    fn evaluate(
        &self,
        network: &Self::Network,
        batches: &mut dyn Iterator<Item = Self::Batch>,
    ) -> Score;
}

/// Why a task could not be set up.
#[derive(Debug, Error)]
pub enum TaskError {
    /// Its data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its checkpoint could not be loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its checkpoint could not be found.
    #[error(
        "no pretrained folder `{name}`; looked in:\n  {}\nput a folder with config.json, \
         model.safetensors and tokenizer.json there, or name its parent in AUSN_PRETRAINED_DIR",
        looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n  ")
    )]
    PretrainedNotFound {
        /// What the configuration named.
        name: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A configuration that its data contradict.
    #[error("{key} {message}")]
    Config {
        /// The dotted key.
        key: &'static str,
        /// What was found and what is allowed.
        message: String,
    },
}

impl TaskError {
    /// Whether what the user wrote is the cause, rather than the state of files.
    pub fn is_user_error(&self) -> bool {
        match self {
            TaskError::Config { .. } => true,
            TaskError::Data(error) => error.is_user_error(),
            TaskError::Checkpoint(_) | TaskError::PretrainedNotFound { .. } => false,
        }
    }
}

/// Something to do with whichever task a configuration names.
pub trait TaskVisitor {
    /// What it gives.
    type Output;

    /// Does it.
    fn visit<T: Task>(self, task: T) -> Self::Output;
}

/// Sets up the task that a configuration names and hands it to a visitor.
///
/// # Errors
///
/// If the task's data or checkpoint cannot be read.
pub fn with_task<V: TaskVisitor>(
    config: &Config,
    locations: &Locations,
    visitor: V,
) -> Result<V::Output, TaskError> {
    Ok(match (config.task.name, config.model.arch) {
        (TaskName::Digits, Arch::Lstm) => visitor.visit(digits::lstm(config)?),
        (TaskName::Digits, _) => visitor.visit(digits::resnet(config)?),
        (TaskName::Listops, _) => visitor.visit(listops::bert(config)?),
        (TaskName::Sst2, _) => visitor.visit(sst2::bert(config, locations)?),
    })
}
