//! Errors of configuration files, with the line they are about.

use std::path::{Path, PathBuf};

use thiserror::Error;
use toml_edit::{Document, TomlError};

use super::Problem;
use crate::search::CostError;

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Text that is not TOML, an unknown key, or a value of the wrong type.
    #[error("{path}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, key, what was found and what is allowed.
        message: String,
    },
    /// A value that is not allowed.
    #[error("{path}{place}: {key} {message}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Where in it: `, line 7`, or what changed it: ` with --set KEY=VALUE`.
        place: String,
        /// The dotted key.
        key: String,
        /// What was found and what is allowed.
        message: String,
    },
    /// A file of layer rules that is none.
    #[error("the plan {path} cannot be used: {message}", path = path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A cost table that is none.
    #[error(transparent)]
    CostTable(#[from] CostError),
    /// An override that is not `key=value`, or whose key leads nowhere.
    #[error("--set {text}: {message}")]
    Override {
        /// The override.
        text: String,
        /// What is wrong with it.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn syntax(
        path: &Path,
        text: &str,
        error: toml::de::Error,
        changes: &Changes,
    ) -> Self {
        let mut message = match error.span() {
            Some(span) => {
                let line = line_at(text, span.start);
                let source = text.lines().nth(line - 1).unwrap_or_default().trim();
                format!("line {line}: {}\n    {source}", error.message())
            }
            None => error.message().to_string(),
        };
        if let Some(changes) = changes.all() {
            message.push_str(&format!("\n(after {changes})"));
        }
        Self::Syntax { path: path.to_path_buf(), message }
    }

    /// The same before anything was read from the text.
    pub(super) fn toml(path: &Path, text: &str, error: &TomlError) -> Self {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        let message = format!("line {line}: {}", error.message());
        Self::Syntax { path: path.to_path_buf(), message }
    }

    pub(super) fn value(path: &Path, text: &str, problem: Problem, changes: &Changes) -> Self {
        let Problem { key, message } = problem;
        let line = || line_of(text, &key).map(|line| format!(", line {line}"));
        let place = changes.of(&key).map(|change| format!(" with {change}")).or_else(line);
        Self::Value { path: path.to_path_buf(), place: place.unwrap_or_default(), key, message }
    }
}

/// What was changed in the text of a file before it was read: its lines are not those of the file any more.
#[derive(Clone, Copy, Default)]
pub(super) struct Changes<'a> {
    /// Overrides.
    pub(super) sets: &'a [String],
    /// A file of layer rules that were added, behind so many of the file's own.
    pub(super) plan: Option<(&'a Path, usize)>,
}

impl Changes<'_> {
    fn all(&self) -> Option<String> {
        let sets = self.sets.iter().map(|set| format!("--set {set}"));
        let plan = self.plan.map(|(plan, _)| format!("the rules of {}", plan.display()));
        let all: Vec<String> = sets.chain(plan).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// What gave a key its value: the last override of it, of what holds it or of what it holds; or the added rules.
    fn of(&self, key: &str) -> Option<String> {
        if let Some((plan, own)) = self.plan
            && let Some(rule) = key.strip_prefix("quant.layer.")
            && rule.split('.').next()?.parse::<usize>().is_ok_and(|index| index >= own)
        {
            return Some(format!("the rules of {}", plan.display()));
        }
        let within = |one: &str, other: &str| {
            one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let gave = |set: &&String| {
            let changed = set.split('=').next().unwrap_or_default().trim();
            within(key, changed) || within(changed, key)
        };
        self.sets.iter().rev().find(gave).map(|set| format!("--set {set}"))
    }
}

/// The line of a place in a text, counted from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

/// The line of a dotted key, or of the closest table around it that the text has.
pub(crate) fn line_of(text: &str, key: &str) -> Option<usize> {
    let document = Document::parse(text).ok()?;
    let mut item = document.as_item();
    let mut line = None;
    for part in key.split('.') {
        item = match part.parse::<usize>() {
            Ok(index) => item.get(index)?,
            Err(_) => match item.get(part) {
                Some(item) => item,
                None => break,
            },
        };
        if let Some(span) = item.span() {
            line = Some(line_at(text, span.start));
        }
    }
    line
}
