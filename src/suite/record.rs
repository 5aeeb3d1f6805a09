//! What is kept of a cell: a few small files in the results, from which tables are made.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::write::{write_file, write_folder};
use super::{Cell, SuiteError};
use crate::evaluate::{
    CALIBRATED, LayerBits, LayerError, Metric, Resamples, Seconds, SplitSummary, Summary,
    TensorKind,
};

const RECORD: &str = "result.json";
const FAILURE: &str = "failure.json";

/// What became of a cell: `result.json` of one that is done, `failure.json` of one that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The task's name.
    pub task: String,
    /// The column's name, or `float`.
    pub cell: String,
    /// The seed.
    pub seed: u64,
    /// The fingerprint of the configuration that was run.
    pub fingerprint: String,
    /// Whether there is a result, and which.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran to its end.
    Done {
        /// What it found.
        summary: Box<RunSummary>,
    },
    /// It did not.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What tables need of a run's [`Summary`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The metric.
    pub metric: Metric,
    /// Seconds that the stages took.
    pub seconds: Seconds,
    /// What the first layer is quantized to.
    pub first_layer: LayerBits,
    /// What the last layer is quantized to.
    pub last_layer: LayerBits,
    /// The metric on all evaluation splits.
    pub splits: SplitSummary,
    /// The version of the program that finished the run.
    pub version: String,
    /// The commit that it was built from.
    pub commit: Option<String>,
}

impl Record {
    /// What is kept of a cell, unless it is of another configuration. A record that is damaged, as a machine that goes
    /// down may leave it, is that of a failure: the suite goes on without it and tries the cell again.
    ///
    /// # Errors
    ///
    /// A record that cannot be read.
    pub fn load(cell: &Cell) -> Result<Option<Self>, SuiteError> {
        for file in [RECORD, FAILURE] {
            let path = cell.kept.join(file);
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text.map_err(|e| SuiteError::kept(cell, &path, e.to_string()))?,
            };
            match serde_json::from_str::<Self>(&text) {
                Ok(record) if record.fingerprint == cell.fingerprint => return Ok(Some(record)),
                Ok(_) => {}
                Err(error) => {
                    let reason = format!("{} is damaged: {error}", path.display());
                    return Ok(Some(Self::new(cell, Outcome::Failed { reason })));
                }
            }
        }
        Ok(None)
    }

    /// The metric over the bootstrap's draws of the examples; empty for a run of an older version.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn resamples(cell: &Cell) -> Result<Vec<Resamples>, SuiteError> {
        Resamples::read(&cell.kept).map_err(|why| misread(cell, Resamples::FILE, why))
    }

    /// Whether there is a result.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done { .. })
    }

    /// Keeps the result of a run that ended: its summary, its configuration, the layer error log,
    /// its [`Resamples`], and the epochs of the metrics log. A failure, if it lacks the split that the suite shows, and if its files cannot be understood.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn keep_result(cell: &Cell) -> Result<Self, SuiteError> {
        let path = cell.run.join(Summary::FILE);
        let text = fs::read_to_string(&path).map_err(|e| SuiteError::file("read", &path, e))?;
        let summary: RunSummary = match serde_json::from_str(&text) {
            Ok(summary) => summary,
            Err(error) => return Self::keep_failure(cell, &unreadable(cell, &path, error)),
        };
        let resamples = match Resamples::read(&cell.run) {
            Ok(resamples) => resamples,
            Err((_, error)) => {
                let path = cell.run.join(Resamples::FILE);
                return Self::keep_failure(cell, &unreadable(cell, &path, error));
            }
        };
        let splits: Vec<&str> = summary.splits.float.iter().map(|s| s.split.as_str()).collect();
        if let Some(split) = cell.split.as_ref().filter(|split| !splits.contains(&split.as_str())) {
            let reason = format!(
                "the suite asks for the split `{split}`, the task has {}",
                splits.join(", ")
            );
            return Self::keep_failure(cell, &reason);
        }
        let record = Self::new(cell, Outcome::Done { summary: Box::new(summary) });
        let mut files = vec![
            (RECORD, record.json()),
            ("config.toml", cell.config.text.clone().into_bytes()),
            ("epochs.jsonl", epochs(&cell.run)?.into_bytes()),
            (Resamples::FILE, Resamples::lines(&resamples).into_bytes()),
        ];
        let layers = cell.run.join(LayerError::FILE);
        if layers.is_file() {
            let bytes = fs::read(&layers).map_err(|e| SuiteError::file("read", &layers, e))?;
            files.push((LayerError::FILE, bytes));
        }
        write_folder(&cell.kept, &files)?;
        Ok(record)
    }

    /// Keeps why a run failed, beside a result of another configuration. A result of an earlier run of the same one,
    /// repeated for its model, stands.
    ///
    /// # Errors
    ///
    /// If an earlier record cannot be read, or this one not be written.
    pub fn keep_failure(cell: &Cell, reason: &str) -> Result<Self, SuiteError> {
        if let Some(earlier) = Self::load(cell)?.filter(Self::is_done) {
            return Ok(earlier);
        }
        let record = Self::new(cell, Outcome::Failed { reason: reason.to_string() });
        write_file(&cell.kept.join(FAILURE), &record.json())?;
        Ok(record)
    }

    fn new(cell: &Cell, outcome: Outcome) -> Self {
        Self {
            task: cell.task.clone(),
            cell: cell.name().to_string(),
            seed: cell.seed,
            fingerprint: cell.fingerprint.clone(),
            outcome,
        }
    }

    fn json(&self) -> Vec<u8> {
        let mut text = serde_json::to_string_pretty(self).expect("a record is plain data");
        text.push('\n');
        text.into_bytes()
    }
}

/// How far a run's quantized tensors are from what they were in float, straight after calibration: means over the
/// tensors of the layer error log.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TensorErrors {
    /// Signal-to-quantization-noise ratio, in dB.
    pub sqnr_db: f64,
    /// What clipping makes of the squared error, 0 to 1; the rest is rounding.
    pub clipping_share: f64,
}

impl TensorErrors {
    /// Of what is kept of a cell: weights and activations. None where it quantizes none, and of tensors that lost nothing.
    ///
    /// # Errors
    ///
    /// A layer error log that cannot be read.
    pub(super) fn load(cell: &Cell) -> Result<[Option<Self>; 2], SuiteError> {
        let lines =
            LayerError::read(&cell.kept).map_err(|why| misread(cell, LayerError::FILE, why))?;
        Ok([TensorKind::Weight, TensorKind::Activation].map(|kind| {
            let lines = lines.iter().filter(|line| line.stage == CALIBRATED && line.kind == kind);
            let found = lines.filter_map(|line| {
                let sqnr_db = line.sqnr_db.filter(|sqnr| sqnr.is_finite())?;
                Some(Self { sqnr_db, clipping_share: line.clipping_share })
            });
            Self::mean(found)
        }))
    }

    /// The mean of some; none of none.
    pub(super) fn mean(errors: impl Iterator<Item = Self> + Clone) -> Option<Self> {
        let count = errors.clone().count();
        let mean = |of: fn(Self) -> f64| errors.clone().map(of).sum::<f64>() / count as f64;
        (count > 0).then(|| Self {
            sqnr_db: mean(|error| error.sqnr_db),
            clipping_share: mean(|error| error.clipping_share),
        })
    }
}

/// What is said of a file of what is kept of a cell, with the line that cannot be understood.
fn misread(cell: &Cell, file: &str, (line, reason): (Option<u64>, String)) -> SuiteError {
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    SuiteError::kept(cell, &cell.kept.join(file), line + &reason)
}

/// What is said of a run that left a file which cannot be understood.
fn unreadable(cell: &Cell, path: &Path, reason: impl Display) -> String {
    format!(
        "cannot read {}: {reason}; delete {} to run it again",
        path.display(),
        cell.run.display()
    )
}

/// The lines of a run's metrics log that are about whole epochs.
fn epochs(run: &Path) -> Result<String, SuiteError> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(String::new()); // no stage had an epoch
    }
    let text = fs::read_to_string(&path).map_err(|e| SuiteError::file("read", &path, e))?;
    let is_epoch = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|entry| entry["split"].is_string())
    };
    Ok(text.lines().filter(is_epoch).map(|line| format!("{line}\n")).collect())
}
