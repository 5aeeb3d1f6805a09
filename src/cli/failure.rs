//! From an error to a message and an exit code.

use std::io::Write;
use std::process::ExitCode;

use crate::coding::CodingError;
use crate::coding::theory::TheoryError;
use crate::config::ConfigError;
use crate::data::DataError;
use crate::devices::DeviceError;
use crate::evaluate::report::ReportError;
use crate::search::CostError;
use crate::suite::SuiteError;
use crate::tasks::TaskError;
use crate::train::TrainError;

/// Why a command did not do what it was asked for.
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// What the user wrote was refused.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }

    /// Something went wrong.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The user stopped it.
    pub(super) fn interrupted(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 130 }
    }

    fn new(message: String, is_user_error: bool) -> Self {
        if is_user_error { Self::refused(message) } else { Self::failed(message) }
    }

    /// Adds a line that says what to do next.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(hint);
        self
    }

    pub(super) fn report(self) -> ExitCode {
        // Without an error stream the exit code still tells.
        let _ = writeln!(std::io::stderr(), "error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<CodingError> for Failure {
    fn from(error: CodingError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<CostError> for Failure {
    fn from(error: CostError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<TheoryError> for Failure {
    fn from(error: TheoryError) -> Self {
        Self::refused(error.to_string())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::new(error.to_string(), error.is_user_error())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::new(error.to_string(), error.is_user_error())
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::new(error.to_string(), error.is_user_error())
    }
}

impl From<SuiteError> for Failure {
    fn from(error: SuiteError) -> Self {
        Self::new(error.to_string(), error.is_user_error())
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Self::new(error.to_string(), error.is_user_error())
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Interrupted { .. } => Self::interrupted(error.to_string()),
            _ => Self::new(error.to_string(), error.is_user_error()),
        }
    }
}
