//! Training: a float stage, calibration, a quantization-aware stage, each resumable.
//!
//! burn-train runs the loops; this module feeds it data in an order that depends on seed and epoch
//! alone, writes checkpoints that are whole or absent, and keeps the log of a run.

mod checkpoint;
mod error;
mod fisher;
mod interrupt;
mod loader;
mod log;
mod optimizer;
mod pipeline;
mod renderer;
mod run_folder;
mod stage;

pub use error::TrainError;
pub use fisher::fisher;
pub use interrupt::Interrupt;
pub use loader::{EpochLoader, PartLoader};
pub use pipeline::{
    Evaluation, Start, TrainOptions, evaluate_config, evaluate_run, initial_network, prepare,
    search_config, train, weigh_config,
};
pub use renderer::Progress;
pub use run_folder::{RunFolder, is_running};
