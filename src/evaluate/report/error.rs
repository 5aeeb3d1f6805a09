//! Why there is no report.

use std::path::PathBuf;

use thiserror::Error;

/// Why a report could not be made.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A folder that no run left.
    #[error("{path}: {reason}; name the folder that `ausn train` made", path = path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What it lacks.
        reason: &'static str,
    },
    /// A file of the run that cannot be read.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A file of the run that holds something else than a run writes.
    #[error(
        "{path}{}: {reason}; the file is damaged: train again, or take it from a copy of the run",
        line.map(|line| format!(", line {line}")).unwrap_or_default(), path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, where there is one, from 1.
        line: Option<u64>,
        /// What was found and what was expected.
        reason: String,
    },
    /// A plot that cannot be made into pixels.
    #[error("cannot draw the plot `{plot}` as PNG: {reason}")]
    Png {
        /// The plot's name.
        plot: String,
        /// What the renderer said.
        reason: String,
    },
}

impl ReportError {
    /// Whether what the user wrote is the cause, rather than the state of files.
    pub fn is_user_error(&self) -> bool {
        matches!(self, ReportError::NoRun { .. })
    }
}
