//! A classifier of sequences of vectors: an LSTM and a linear layer on its last state.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::Classifier;
use super::settings::{Refused, assert_valid, sizes};
use crate::nn::{FoldBatchNorm, Lstm, LstmConfig, Quantized};

/// Configuration of [`LstmClassifier`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LstmClassifierConfig {
    /// Size of the hidden state.
    pub hidden_size: usize,
}

impl Default for LstmClassifierConfig {
    fn default() -> Self {
        Self { hidden_size: 64 }
    }
}

/// An LSTM and a linear layer on its last state.
#[derive(Module, Debug)]
pub struct LstmClassifier {
    /// The recurrent layer.
    pub lstm: Lstm,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

impl LstmClassifierConfig {
    /// What is wrong with the settings.
    ///
    /// # Errors
    ///
    /// A state without numbers.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([("hidden-size", self.hidden_size)])
    }

    /// Makes the model for steps of `d_input` numbers and `classes` classes.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, d_input: usize, classes: usize, device: &Device) -> LstmClassifier {
        assert_valid(self.validate());
        LstmClassifier {
            lstm: LstmConfig { d_input, d_hidden: self.hidden_size, dropout: 0.0 }.init(device),
            classifier: Quantized::new(
                LinearConfig::new(self.hidden_size, classes).init(device),
                device,
            ),
        }
    }
}

impl FoldBatchNorm for LstmClassifier {}

impl Classifier for LstmClassifier {
    /// Sequences, `[batch, length, d_input]`.
    type Input = Tensor<3>;

    fn forward(&self, sequence: Tensor<3>) -> Tensor<2> {
        let [_, length, _] = sequence.dims();
        let states = self.lstm.forward(sequence);
        self.classifier.forward(states.narrow(1, length - 1, 1).squeeze_dim(1))
    }
}
