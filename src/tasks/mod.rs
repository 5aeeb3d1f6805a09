//! Tasks, one file each: which data, which model, loss and metric.

mod bootstrap;
mod classification;
mod detection;
mod digits;
mod glue;
mod images;
mod intents;
mod language_model;
mod listops;
mod objective;
mod part;
mod prefetch;
mod pretrained;
mod regression;
mod speech;
mod sst2;
mod supervised;
mod tokens;
mod translation;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, LearnerModel, SupervisedTraining, TrainStep};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Arch, Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::report::Report;
use crate::metrics::MetricError;
use crate::models::CheckpointError;
use crate::nn::FoldError;

pub(crate) use bootstrap::{error_of_difference, sample_deviation};
pub use classification::{
    ClassMetric, Classification, ClassificationBatch, ClassificationMeter, ClassificationTask,
    Prediction,
};
pub use detection::{Detected, Detecting, DetectionMeter, SceneBatch};
pub use intents::{TagBatch, TagMeter, TaggedRequest, Tagging};
pub use language_model::{LanguageModelling, PerplexityMeter, TextBatch, TextLoss};
pub use objective::{Meter, Objective};
pub use part::{Part, Share};
pub use prefetch::Prefetch;
pub use regression::{CorrelationMeter, Regression, RegressionBatch};
pub use supervised::{Evaluated, Loss, Supervised, SupervisedTask};
pub use translation::{Translated, Translating, TranslationBatch, TranslationMeter};

/// Examples that can be made into batches on a device.
pub trait Source<B>: Send + Sync {
    /// The number of examples.
    fn len(&self) -> usize;

    /// Whether there is no example.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much work an example is, in any unit: batches are made of examples of similar size.
    /// All are of one size where nothing else is said.
    fn size(&self, index: usize) -> usize {
        let _ = index;
        1
    }

    /// A batch of the given examples.
    ///
    /// # Errors
    ///
    /// If an example has to be read from a file, and cannot. Examples that can be done without are
    /// left out; [`DataError::BatchCorrupt`] if no other is left.
    fn batch(&self, indices: &[usize], device: &Device) -> Result<B, DataError>;

    /// The same to train on in an epoch, counted from 1: examples may be changed at random, in the
    /// same way whenever the epoch is repeated.
    ///
    /// # Errors
    ///
    /// Those of [`batch`](Self::batch).
    fn training_batch(
        &self,
        indices: &[usize],
        epoch: usize,
        device: &Device,
    ) -> Result<B, DataError> {
        let _ = epoch;
        self.batch(indices, device)
    }

    /// What was left out of the batches so far.
    fn report(&self) -> Report {
        Report::default()
    }
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
    /// How differences of it are told.
    #[serde(skip)]
    pub unit: Unit,
    /// Whether a larger value is better.
    #[serde(skip)]
    pub higher_is_better: bool,
}

/// How values of a metric and their differences are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// In points, hundredths: what lies between 0 and 1.
    Fraction,
    /// In points as they are: what lies between 0 and 100.
    Points,
    /// In percent of the value: what has no upper end.
    Ratio,
}

impl Unit {
    /// The change from one value of a metric to another.
    pub fn change(self, from: f64, to: f64) -> String {
        format!("{} {}", signed(self.difference(from, to)), self.of_differences())
    }

    /// The change as a number, in the unit [`of_differences`](Self::of_differences).
    pub fn difference(self, from: f64, to: f64) -> f64 {
        match self {
            Unit::Fraction => 100.0 * (to - from),
            Unit::Points => to - from,
            Unit::Ratio => 100.0 * (to / from - 1.0),
        }
    }

    /// What differences are counted in.
    pub fn of_differences(self) -> &'static str {
        match self {
            Unit::Fraction | Unit::Points => "points",
            Unit::Ratio => "%",
        }
    }

    /// A value as tables show it: fractions in hundredths.
    pub fn shown(self, value: f64) -> f64 {
        match self {
            Unit::Fraction => 100.0 * value,
            Unit::Points | Unit::Ratio => value,
        }
    }
}

/// A difference to two decimals, with its sign; what rounds to zero has a plus.
pub fn signed(difference: f64) -> String {
    let text = format!("{difference:+.2}");
    if text == "-0.00" { "+0.00".into() } else { text }
}

/// One metric's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The metric's name.
    pub name: String,
    /// Its value; accuracies lie between 0 and 1.
    pub value: f64,
    /// Its standard error over the examples, by the bootstrap; none for a single example, and where
    /// the metric is not defined for what is drawn of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
}

/// What was measured on a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The task's metric, then whatever else the task measures.
    pub measures: Vec<Measure>,
    /// The number of examples it was measured on.
    pub examples: usize,
    /// The task's metric over sets of as many examples, drawn with replacement: the bootstrap. The draws are the
    /// same for every model that is measured on the split, so that differences of two models, index by index,
    /// are differences on the same examples. Empty where there is no standard error.
    pub resampled: Vec<f64>,
}

/// A model to train, with its data, loss and metric.
pub trait Task: Send + Sync {
    /// The model: what is quantized, saved and exported.
    type Network: Module + 'static;
    /// The model with its loss: what burn-train trains. Its training step takes one device's part of
    /// a batch, and differentiates with [`Share::backward`].
    type Learner: LearnerModel
        + TrainStep<Input = Part<Self::Batch>>
        + InferenceStep<Input = Self::Batch>;
    /// A batch of training or evaluation data.
    type Batch: Clone + Send + 'static;

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

    /// A trained float model with its batch normalization folded into the convolutions before it.
    ///
    /// # Errors
    ///
    /// If it has none.
    fn fold_batch_norm(&self, network: Self::Network) -> Result<Self::Network, FoldError>;

    /// The layer whose weight the output layer shares, where that has none of its own.
    fn output_table(&self) -> Option<&'static str>;

    /// Adds the loss.
    fn learner(&self, network: Self::Network) -> Self::Learner;

    /// Takes the loss away.
    fn network_of(&self, learner: Self::Learner) -> Self::Network;

    /// The training data.
    fn train_source(&self) -> Arc<dyn Source<Self::Batch>>;

    /// What was left out of the data or changed when they were read; what is read only when a batch
    /// needs it joins in as it comes.
    fn report(&self) -> Report;

    /// The evaluation data; the first split is the one that training watches.
    fn evaluation_splits(&self) -> Vec<EvaluationSplit<Self::Batch>>;

    /// Registers loss and metric with burn-train.
    fn register(
        &self,
        training: SupervisedTraining<Self::Learner>,
    ) -> SupervisedTraining<Self::Learner>;

    /// The mean loss of a model on a batch of training data, `[1]`; also for those who observe what passes there.
    fn loss(&self, network: &Self::Network, batch: Self::Batch) -> Tensor<1>;

    /// Measures a model on batches of evaluation data.
    ///
    /// # Errors
    ///
    /// If a metric is not defined for the model's predictions: they are not numbers, say.
    fn evaluate(
        &self,
        network: &Self::Network,
        batches: &mut dyn Iterator<Item = Result<Self::Batch, DataError>>,
    ) -> Result<Score, TaskError>;
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
        "model.pretrained: there is no `{name}`; looked in:\n  {}\nput it there (for BERT a folder with \
         config.json, model.safetensors and tokenizer.json, for images a file of weights), or name \
         the folder that holds it in AUSN_PRETRAINED_DIR",
        looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n  ")
    )]
    PretrainedNotFound {
        /// What the configuration named.
        name: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// The model's predictions cannot be measured.
    #[error("the model cannot be measured: {0}")]
    Metric(#[from] MetricError),
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
            TaskError::Config { .. } | TaskError::PretrainedNotFound { .. } => true,
            TaskError::Data(error) => error.is_user_error(),
            TaskError::Checkpoint(_) | TaskError::Metric(_) => false,
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
    Ok(match config.task.name {
        TaskName::Digits if config.model.arch == Arch::Lstm => visitor.visit(digits::lstm(config)?),
        TaskName::Digits => visitor.visit(digits::resnet(config)?),
        TaskName::FashionMnist | TaskName::Cifar10 | TaskName::ImageFolder => {
            with_images(config, locations, visitor)?
        }
        TaskName::Bccd | TaskName::DigitScenes => {
            visitor.visit(detection::task(config, locations)?)
        }
        TaskName::Ptb | TaskName::Wikitext2 | TaskName::WordChain => {
            visitor.visit(language_model::task(config, locations)?)
        }
        TaskName::Fsdd | TaskName::ToneDigits => visitor.visit(speech::task(config, locations)?),
        TaskName::Listops => visitor.visit(listops::bert(config)?),
        TaskName::Sst2 => visitor.visit(sst2::bert(config, locations)?),
        TaskName::Cola | TaskName::Mrpc | TaskName::Rte => {
            visitor.visit(glue::classification(config, locations)?)
        }
        TaskName::Stsb => visitor.visit(glue::similarity(config, locations)?),
        TaskName::Snips | TaskName::Atis | TaskName::Requests => match config.model.arch {
            Arch::Bert => visitor.visit(intents::bert(config, locations)?),
            _ => visitor.visit(intents::bi_lstm(config, locations)?),
        },
        TaskName::Multi30k | TaskName::Scan => visitor.visit(translation::task(config, locations)?),
    })
}

/// The model family decides the type of the task.
fn with_images<V: TaskVisitor>(
    config: &Config,
    locations: &Locations,
    visitor: V,
) -> Result<V::Output, TaskError> {
    let model = &config.model;
    /// A task with the model that `$settings` makes for channels and classes, whatever the size of
    /// the images.
    macro_rules! visit {
        ($settings:expr) => {{
            let settings = $settings.clone();
            let build = move |[channels, ..]: [usize; 3], classes, device: &Device| {
                Ok(settings.init(channels, classes, device))
            };
            visitor.visit(images::task(config, locations, build)?)
        }};
    }
    /// The same for a model whose weights may be published.
    macro_rules! visit_published {
        ($settings:expr, $file:expr) => {{
            let (settings, head) = ($settings.clone(), model.head);
            let file = pretrained::find($file, Path::is_file, locations)?;
            let build = move |[channels, ..]: [usize; 3], classes, device: &Device| match channels {
                3 => Ok(settings.from_published(&file, classes, head, device)?),
                _ => Err(TaskError::Config {
                    key: "model.pretrained",
                    message: format!(
                        "is for images of 3 channels; those of this data set have {channels}"
                    ),
                }),
            };
            visitor.visit(images::task(config, locations, build)?)
        }};
    }
    Ok(match (model.arch, &model.pretrained) {
        (Arch::Vgg, _) => visit!(model.vgg),
        (Arch::MobilenetV2, Some(file)) => visit_published!(model.mobilenet_v2, file),
        (Arch::MobilenetV2, None) => visit!(model.mobilenet_v2),
        (Arch::ImagenetResnet, Some(file)) => visit_published!(model.imagenet_resnet, file),
        (Arch::ImagenetResnet, None) => visit!(model.imagenet_resnet),
        (Arch::Vit, _) => {
            let settings = model.vit.clone();
            let build = move |[channels, height, width]: [usize; 3], classes, device: &Device| {
                let refused =
                    |(_, message)| TaskError::Config { key: "model.vit.patch-size", message };
                settings.patches([height, width]).map_err(refused)?;
                Ok(settings.init([channels, height, width], classes, device))
            };
            visitor.visit(images::task(config, locations, build)?)
        }
        _ => visit!(model.resnet),
    })
}
