//! Models, one file each, and the loading of published checkpoints.

pub mod bert;
mod checkpoint;
pub mod lstm_classifier;
pub mod lstm_language_model;
pub mod mobilenet;
pub mod resnet;

pub use checkpoint::{CheckpointError, load_safetensors};

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

/// A model that sorts its input into classes.
pub trait Classifier: Module + ModuleDisplay + 'static {
    /// One batch of inputs.
    type Input: Send + 'static;

    /// The logits of every class, `[batch, classes]`.
    fn forward(&self, input: Self::Input) -> Tensor<2>;
}
