//! Why a training run stopped.

use std::path::PathBuf;

use burn::tensor::Device;
use thiserror::Error;

use crate::config::ConfigError;
use crate::evaluate::report::ReportError;
use crate::nn::FoldError;
use crate::quant::{AttachError, CalibrationError, PlanError};
use crate::search::SearchError;
use crate::tasks::TaskError;

/// Why a training run stopped.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The task could not be set up.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The configuration of an earlier run cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The layer patterns do not fit the model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Calibration failed.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// No plan fits the budget.
    #[error("quant.search: {0}")]
    Search(#[from] SearchError),
    /// A stored plan does not fit the model.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Batch normalization cannot be folded.
    #[error("quant.fold-batch-norm is true, but {0}")]
    Fold(#[from] FoldError),
    /// A split without examples.
    #[error("the {split} data hold no example, so there is nothing to {purpose}")]
    NoData {
        /// Which split.
        split: &'static str,
        /// `train on` or `measure`.
        purpose: &'static str,
    },
    /// The device does not compute in the precision that was asked for.
    #[error(
        "train.precision is \"{precision}\", in which {device:?} does not compute; use \"f32\", or \
         another device (`ausn devices` lists them)"
    )]
    Precision {
        /// The precision.
        precision: &'static str,
        /// The device.
        device: Box<Device>,
    },
    /// The training loss is NaN or infinite.
    #[error(
        "{stage} stage, epoch {epoch}: the training loss became {loss}; lower the learning rate, \
         warm it up, or set gradient-clip-norm"
    )]
    NonFiniteLoss {
        /// The stage.
        stage: &'static str,
        /// The epoch.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// The user stopped the run.
    #[error("stopped in the {stage} stage; everything up to the last finished epoch is saved")]
    Interrupted {
        /// The stage.
        stage: &'static str,
    },
    /// A file of the run folder cannot be read or written.
    #[error("cannot {action} {path}: {reason}", path = path.display())]
    File {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system or the file's reader said.
        reason: String,
    },
    /// A folder that is no run folder, or one that is in the way.
    #[error("{path}: {reason}", path = path.display())]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The report cannot be made.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// burn-train stopped with an error.
    #[error("{stage} stage: {reason}")]
    Training {
        /// The stage.
        stage: &'static str,
        /// What it said.
        reason: String,
    },
}

impl TrainError {
    /// Whether what the user wrote is the cause, rather than the state of files or the training.
    pub fn is_user_error(&self) -> bool {
        match self {
            TrainError::Config(_)
            | TrainError::Plan(_)
            | TrainError::Fold(_)
            | TrainError::RunFolder { .. }
            | TrainError::Precision { .. } => true,
            TrainError::Search(error) => !matches!(error, SearchError::NonFinite { .. }),
            TrainError::Calibration(error) => matches!(error, CalibrationError::FixedRange { .. }),
            TrainError::Task(error) => error.is_user_error(),
            TrainError::Report(error) => error.is_user_error(),
            _ => false,
        }
    }
}
