//! Why a suite was refused, or cannot be written down.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Cell;
use crate::config::{line_at, line_of};

/// Why a suite was refused, or cannot be written down.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// A suite file that cannot be read.
    #[error("cannot read the suite {path}: {source}", path = path.display())]
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
    /// Cells whose configurations are refused.
    #[error(
        "{path}: {} of {cells} cells are refused:\n  {}", refused.len(), shortened(refused),
        path = path.display()
    )]
    Cells {
        /// The suite file.
        path: PathBuf,
        /// Cells of the suite.
        cells: usize,
        /// Which cells, and why.
        refused: Vec<String>,
    },
    /// A shard that is not `i/n`.
    #[error("{text}: must be i/n with 1 <= i <= n, such as 2/8")]
    Shard {
        /// What was found.
        text: String,
    },
    /// A name of a task, a cell or a seed that the suite does not have.
    #[error(
        "{option} `{found}`: is none of {}{}", quoted(known),
        closest.as_ref().map(|c| format!("; did you mean `{c}`?")).unwrap_or_default()
    )]
    Selection {
        /// The option that names it.
        option: &'static str,
        /// What was found.
        found: String,
        /// The known name that is like it.
        closest: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A file of the results that cannot be read or written.
    #[error("cannot {action} {path}: {reason}", path = path.display())]
    File {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A document without a place for the table.
    #[error(
        "{path}: {reason}; put the lines `<!-- table:{name} -->` and `<!-- /table -->` where the \
         table is to stand", path = path.display()
    )]
    NoPlace {
        /// The document.
        path: PathBuf,
        /// The suite's name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A task that was not measured on the split that the suite shows.
    #[error(
        "task `{task}`: it is not measured on the split `{split}`; its splits are {}",
        found.join(", ")
    )]
    Split {
        /// The task.
        task: String,
        /// The split of the suite.
        split: String,
        /// Those that there are.
        found: Vec<String>,
    },
}

impl SuiteError {
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let mut message = match error.span() {
            Some(span) => {
                let line = line_at(text, span.start);
                let source = text.lines().nth(line - 1).unwrap_or_default().trim();
                format!("line {line}: {}\n    {source}", error.message())
            }
            None => error.message().to_string(),
        };
        if let Some(closest) = closest_key(error.message()) {
            message.push_str(&format!("\n    did you mean `{closest}`?"));
        }
        Self::Syntax { path: path.to_path_buf(), message }
    }

    pub(super) fn value(path: &Path, text: &str, key: String, message: String) -> Self {
        Self::Value { path: path.to_path_buf(), line: line_of(text, &key), key, message }
    }

    pub(super) fn file(action: &'static str, path: &Path, error: impl ToString) -> Self {
        Self::File { action, path: path.to_path_buf(), reason: error.to_string() }
    }

    /// A file that is kept of a cell and cannot be understood.
    pub(super) fn kept(cell: &Cell, path: &Path, error: impl Display) -> Self {
        let folder = cell.kept.display();
        Self::file("read", path, format!("{error}; delete {folder} to have its cell run again"))
    }

    /// Whether what the user wrote is the cause, rather than the state of files.
    pub fn is_user_error(&self) -> bool {
        !matches!(self, SuiteError::File { .. })
    }
}

/// The first few of many lines, and how many there are beside them.
fn shortened(lines: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = lines[..lines.len().min(SHOWN)].join("\n  ");
    if lines.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", lines.len() - SHOWN));
    }
    text
}

/// Names in backquotes, as they may have commas.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The allowed key that an unknown one is most like, from the message of serde, which names the
/// unknown key and then those that are allowed.
fn closest_key(message: &str) -> Option<&str> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (unknown, allowed) = names.split_first()?;
    message.starts_with("unknown field").then(|| closest(unknown, allowed.iter().copied()))?
}

/// The name that another one is most like, if it is like any.
pub(super) fn closest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names
        .into_iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
