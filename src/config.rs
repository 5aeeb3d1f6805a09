//! The configuration of a run: a TOML file, checked and resolved.
//!
//! [`Config`] mirrors the file as typed; unknown keys and wrong types are refused while it is read.
//! Its values are then checked, so that code past it meets none that is impossible.
//! Every error names the file, the line, the key, what was found and what is allowed.

mod draft;
mod error;
mod model;
mod quant;
mod stage;
mod task;

use std::path::Path;

use serde::Deserialize;

use crate::models::encoder_decoder::Positions;

pub use draft::{Draft, Quantized};
use error::Changes;
pub use error::ConfigError;
pub(crate) use error::{line_at, line_of};
pub use model::{Arch, ModelConfig};
pub use quant::QuantConfig;
pub use stage::{
    EarlyStopping, Optimizer, OptimizerName, Schedule, ScheduleName, Select, StageConfig,
    TrainConfig,
};
pub use task::{
    BccdConfig, DigitsConfig, GlueConfig, ImagesConfig, IntentsConfig, Normalization, Sst2Config,
    TaskConfig, TaskName, TextConfig, TranslationConfig,
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

    /// Whether the model is a trained one before the run begins: a published one, or another run's.
    pub fn starts_trained(&self) -> bool {
        self.train.float_checkpoint.is_some() || self.model.pretrained.is_some()
    }

    /// Why this configuration's data and model are not those that `other` trained: the first key in which they differ,
    /// with both values; `None` where they are the same.
    pub(crate) fn differs_from(&self, other: &Config) -> Option<String> {
        let arch = |config: &Config| config.model.arch.name().to_string();
        let keys = |config: &Config| {
            let mut keys = vec![
                ("task.name", format!("{:?}", named(config.task.name))),
                ("model.arch", arch(config)),
            ];
            keys.extend(config.task.held_out(config.train.seed));
            keys
        };
        // Where the keys themselves differ, an earlier one has other values.
        let differ = |((_, own), (_, theirs)): &((&str, String), (&str, String))| own != theirs;
        let (key, own, theirs) = keys(self)
            .into_iter()
            .zip(keys(other))
            .find(differ)
            .map(|((k, a), (_, b))| (k, a, b))?;
        Some(format!("{key} is {own} here and {theirs} there"))
    }

    /// The same for a text; `path` names its origin in errors.
    ///
    /// # Errors
    ///
    /// See [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        Self::read(text, path, overrides, None)
    }

    /// The same, with the rules of a plan added, behind so many of the file's own.
    fn read(
        text: &str,
        path: &Path,
        overrides: &[String],
        plan: Option<(&Path, usize)>,
    ) -> Result<Self, ConfigError> {
        let mut text = match overrides {
            [] => text.to_string(),
            overrides => {
                let mut draft = Draft::parse(text, path)?;
                draft.set(overrides)?;
                draft.text()
            }
        };
        // What is wrong with text that is no TOML, the next step says with the line itself.
        if let Ok(mut draft) = Draft::parse(&text, path)
            && draft.take_cost_table()?
        {
            text = draft.text();
        }
        let changes = Changes { sets: overrides, plan };
        let mut config: Config = toml::from_str(&text)
            .map_err(|error| ConfigError::syntax(path, &text, error, &changes))?;
        if let Some(plan) = &config.quant.plan {
            let mut draft = Draft::parse(&text, path)?;
            draft.take_plan()?;
            let own = config.quant.layer_rules();
            // The overrides are in the text already, and mean the same again.
            return Self::read(&draft.text(), path, &[], Some((plan, own)));
        }
        config.text = text;
        config
            .validate()
            .map_err(|problem| ConfigError::value(path, &config.text, problem, &changes))?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Problem> {
        self.task.validate()?;
        self.model.validate(self.task.name)?;
        self.validate_tables()?;
        self.validate_positions()?;
        self.quant.validate()?;
        self.train.validate()?;
        self.quant.validate_epochs(&self.train.quantized_stage())
    }

    /// Refuses settings of other tasks and model families than the named ones: they would have no effect.
    fn validate_tables(&self) -> Result<(), Problem> {
        let document: toml::Table = toml::from_str(&self.text).expect("it has been read");
        let (task, arch) = (self.task.name, self.model.arch);
        for (part, own, what) in [
            ("task", task.tables(), format!("task {:?}", named(task))),
            ("model", &[arch.name()], format!("model {:?}", arch.name())),
        ] {
            let tables = document.get(part).and_then(toml::Value::as_table).into_iter().flatten();
            for (key, _) in tables.filter(|(_, value)| value.is_table()) {
                if !own.contains(&key.as_str()) {
                    let message = format!("is not a table of the {what}; leave it out");
                    return Err(Problem::new(format!("{part}.{key}"), message));
                }
            }
        }
        Ok(())
    }

    /// Checks that learned positions suffice for all that an encoder-decoder reads and writes.
    fn validate_positions(&self) -> Result<(), Problem> {
        let (model, settings) = (&self.model.encoder_decoder, &self.task.translation);
        if self.model.arch != Arch::EncoderDecoder || model.positions != Positions::Learned {
            return Ok(());
        }
        for (key, tokens, of_frame, frame) in [
            ("max-tokens", settings.max_tokens, 2, "start and end"),
            // The end is one of the tokens.
            ("beam-search.max-length", settings.beam_search.max_length, 1, "the start"),
        ] {
            let (longest, positions) = (tokens.saturating_add(of_frame), model.max_positions);
            if longest > positions {
                let message = format!(
                    "is {tokens}, which takes {longest} positions with {frame}; lower it, or raise \
                     model.encoder-decoder.max-positions, {positions}"
                );
                return Err(Problem::new(format!("task.translation.{key}"), message));
            }
        }
        Ok(())
    }
}

/// A task's name in a configuration.
fn named(task: TaskName) -> String {
    serde_json::json!(task).as_str().expect("a name is a string").to_string()
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
