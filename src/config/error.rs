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
    #[error("{path}{}: {key} {message}", line.map(|l| format!(", line {l}")).unwrap_or_default(), path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line of the key, where the file has it.
        line: Option<usize>,
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
    pub(super) fn syntax(path: &Path, text: &str, error: toml::de::Error, sets: &[String]) -> Self {
        let mut message = match error.span() {
            Some(span) => {
                let line = line_at(text, span.start);
                let source = text.lines().nth(line - 1).unwrap_or_default().trim();
                format!("line {line}: {}\n    {source}", error.message())
            }
            None => error.message().to_string(),
        };
        if !sets.is_empty() {
            message.push_str(&format!("\n(after --set {})", sets.join(" --set ")));
        }
        Self::Syntax { path: path.to_path_buf(), message }
    }

    /// The same before anything was read from the text.
    pub(super) fn toml(path: &Path, text: &str, error: &TomlError) -> Self {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        let message = format!("line {line}: {}", error.message());
        Self::Syntax { path: path.to_path_buf(), message }
    }

    pub(super) fn value(path: &Path, text: &str, problem: Problem) -> Self {
        Self::Value {
            path: path.to_path_buf(),
            line: line_of(text, &problem.key),
            key: problem.key,
            message: problem.message,
        }
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
