//! How several devices train together.

use serde::Deserialize;

/// How several devices share a training step. Each takes its part of the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One device does all.
    #[default]
    Single,
    /// Gradients are gathered where the optimizer is; every device gets the new weights.
    MultiDevice,
    /// Distributed data parallel: every device has weights and optimizer of its own, and gradients
    /// are reduced between them.
    Ddp,
}

/// Where the optimizer of [`Strategy::MultiDevice`] runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerPlacement {
    /// On the first device.
    #[default]
    FirstDevice,
    /// Each parameter's on one of the devices, with its state.
    Sharded,
}
