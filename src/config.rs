//! The configuration of a run: a TOML file, checked and resolved.
//!
//! [`Config`] mirrors the file as typed; unknown keys and wrong types are refused while it is read.
//! Its values are then checked, so that code past it meets none that is impossible.
//! Every error names the file, the line, the key, what was found and what is allowed.

mod error;
mod quant;
mod stage;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::data::DataError;
use crate::data::listops::ListOpsConfig;
use crate::models::{
    bert::BertConfig, lstm_classifier::LstmClassifierConfig, resnet::ResNetConfig,
};

pub use error::ConfigError;
pub use quant::QuantConfig;
pub use stage::{
    EarlyStopping, Optimizer, OptimizerName, Schedule, ScheduleName, Select, StageConfig,
    TrainConfig,
};

/// A configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What is learned from which data.
    pub task: TaskConfig,
    /// What learns it.
    pub model: ModelConfig,
    /// Which coding each layer gets; nothing is quantized without it.
    #[serde(default)]
    pub quant: QuantConfig,
    /// How it is trained.
    #[serde(default)]
    pub train: TrainConfig,
    /// The file's text with all overrides applied.
    #[serde(skip)]
    pub text: String,
}

/// The tasks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Optical digits, 8x8 images of ten classes (built in).
    Digits,
    /// ListOps expressions, ten classes (generated).
    Listops,
    /// Stanford Sentiment Treebank in GLUE's form, two classes.
    Sst2,
}

/// `[task]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TaskConfig {
    /// Which task.
    pub name: TaskName,
    /// Settings of `digits`.
    #[serde(default)]
    pub digits: DigitsConfig,
    /// Settings of `listops`.
    #[serde(default)]
    pub listops: ListOpsConfig,
    /// Settings of `sst2`.
    #[serde(default)]
    pub sst2: Sst2Config,
}

/// `[task.digits]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DigitsConfig {
    /// Part of every class (0 to 1) that is kept for validation.
    pub valid_fraction: f64,
}

impl Default for DigitsConfig {
    fn default() -> Self {
        Self { valid_fraction: 0.2 }
    }
}

/// `[task.sst2]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Sst2Config {
    /// Longest sentence in tokens, with the special ones; longer ones are cut.
    pub max_length: usize,
    /// Sentences of the training file to use; all of them by default.
    pub train_examples: Option<usize>,
    /// Whole sentences of the training file to hold out, with all phrases cut from them, as a
    /// second evaluation split.
    pub held_out: usize,
}

impl Default for Sst2Config {
    fn default() -> Self {
        Self { max_length: 64, train_examples: None, held_out: 0 }
    }
}

/// The model families there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// A BERT encoder.
    Bert,
    /// ResNet for small images.
    Resnet,
    /// An LSTM classifier.
    Lstm,
}

/// `[model]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelConfig {
    /// Which family.
    pub arch: Arch,
    /// A folder with `config.json`, `model.safetensors` and `tokenizer.json`, or the name of one
    /// in the folder that `AUSN_PRETRAINED_DIR` names.
    pub pretrained: Option<PathBuf>,
    /// Settings of `bert` that has no pretrained folder.
    #[serde(default)]
    pub bert: BertConfig,
    /// Settings of `resnet`.
    #[serde(default)]
    pub resnet: ResNetConfig,
    /// Settings of `lstm`.
    #[serde(default)]
    pub lstm: LstmClassifierConfig,
}

impl Config {
    /// Reads a file, applies overrides of the form `key=value`, and checks the result.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, text that is not TOML, and every value that is not allowed.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path, overrides)
    }

    /// The same for a text; `path` names its origin in errors.
    ///
    /// # Errors
    ///
    /// See [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let text = error::with_overrides(text, path, overrides)?;
        let mut config: Config = toml::from_str(&text)
            .map_err(|error| ConfigError::syntax(path, &text, error, overrides))?;
        config.text = text;
        config.validate().map_err(|problem| ConfigError::value(path, &config.text, problem))?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Problem> {
        let task = &self.task;
        let fraction = task.digits.valid_fraction;
        if !(fraction > 0.0 && fraction < 1.0) {
            let message = format!("is {fraction}; must be above 0 and below 1");
            return Err(Problem::new("task.digits.valid-fraction", message));
        }
        task.listops.validate().map_err(|error| match error {
            DataError::InvalidSetting { key, found, allowed } => {
                Problem::new(format!("task.listops.{key}"), format!("is {found}: {allowed}"))
            }
            other => Problem::new("task.listops", other.to_string()),
        })?;
        if task.sst2.max_length < 3 {
            return Err(Problem::new("task.sst2.max-length", "must be at least 3"));
        }
        if task.sst2.train_examples == Some(0) {
            return Err(Problem::new("task.sst2.train-examples", "must be at least 1"));
        }
        self.validate_model()?;
        self.quant.validate()?;
        self.train.validate()
    }

    fn validate_model(&self) -> Result<(), Problem> {
        let model = &self.model;
        let allowed: &[Arch] = match self.task.name {
            TaskName::Digits => &[Arch::Resnet, Arch::Lstm],
            TaskName::Listops | TaskName::Sst2 => &[Arch::Bert],
        };
        if !allowed.contains(&model.arch) {
            return Err(Problem::new(
                "model.arch",
                format!(
                    "the task {:?} runs on {allowed:?}, not on {:?}",
                    self.task.name, model.arch
                )
                .to_lowercase(),
            ));
        }
        match (self.task.name, &model.pretrained) {
            (TaskName::Sst2, None) => {
                return Err(Problem::new(
                    "model.pretrained",
                    "the task sst2 needs a pretrained folder, for its tokenizer and weights",
                ));
            }
            (TaskName::Digits | TaskName::Listops, Some(_)) => {
                return Err(Problem::new(
                    "model.pretrained",
                    "only the task sst2 starts from a pretrained folder; leave the key out",
                ));
            }
            _ => {}
        }
        let depth = model.resnet.depth;
        if depth < 8 || !(depth - 2).is_multiple_of(6) {
            return Err(Problem::new(
                "model.resnet.depth",
                format!("is {depth}; must be 6n + 2 with n >= 1: 8, 14, 20, ..."),
            ));
        }
        let bert = &model.bert;
        let positive = [
            ("model.resnet.width", model.resnet.width),
            ("model.lstm.hidden-size", model.lstm.hidden_size),
            ("model.bert.hidden-size", bert.hidden_size),
            ("model.bert.intermediate-size", bert.intermediate_size),
            ("model.bert.num-hidden-layers", bert.num_hidden_layers),
            ("model.bert.num-attention-heads", bert.num_attention_heads),
            ("model.bert.max-position-embeddings", bert.max_position_embeddings),
            ("model.bert.type-vocab-size", bert.type_vocab_size),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Problem::new(*key, "is 0; must be at least 1"));
        }
        if !bert.hidden_size.is_multiple_of(bert.num_attention_heads) {
            return Err(Problem::new(
                "model.bert.num-attention-heads",
                format!(
                    "is {}, which does not divide hidden-size {}",
                    bert.num_attention_heads, bert.hidden_size
                ),
            ));
        }
        for (key, p) in [
            ("model.bert.hidden-dropout-prob", bert.hidden_dropout_prob),
            ("model.bert.attention-probs-dropout-prob", bert.attention_probs_dropout_prob),
        ] {
            if !(0.0..1.0).contains(&p) {
                return Err(Problem::new(key, format!("is {p}; must be at least 0 and below 1")));
            }
        }
        for (key, value) in [
            ("model.bert.layer-norm-eps", bert.layer_norm_eps),
            ("model.bert.initializer-range", bert.initializer_range),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Problem::new(key, format!("is {value}; must be above 0")));
            }
        }
        Ok(())
    }
}

/// A value that is not allowed: its dotted key, and why.
#[derive(Debug)]
pub(crate) struct Problem {
    key: String,
    message: String,
}

impl Problem {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}
