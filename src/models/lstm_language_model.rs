//! A word language model: embedding, LSTM layers, and a linear layer to the vocabulary.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::settings::{Refused, assert_valid, probabilities, sizes};
use crate::nn::{FoldBatchNorm, Lstm, LstmConfig, LstmState, Quantized};

/// Configuration of [`LstmLanguageModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LstmLanguageModelConfig {
    /// Size of the embeddings and of every hidden state.
    pub hidden_size: usize,
    /// LSTM layers.
    pub layers: usize,
    /// Dropout probability of the inputs of every layer.
    pub dropout: f64,
}

impl Default for LstmLanguageModelConfig {
    fn default() -> Self {
        Self { hidden_size: 300, layers: 1, dropout: 0.5 }
    }
}

/// A word language model (Zaremba et al. 2014, arXiv 1409.2329): predicts every next word.
#[derive(Module, Debug)]
pub struct LstmLanguageModel {
    /// One vector for each word.
    pub embedding: Embedding,
    /// The recurrent layers, first to last.
    pub layers: Vec<Lstm>,
    /// Linear layer to the vocabulary.
    pub output: Quantized<Linear>,
}

impl LstmLanguageModelConfig {
    /// What is wrong with the settings.
    ///
    /// # Errors
    ///
    /// No layer, a state without numbers, or no probability.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([("hidden-size", self.hidden_size), ("layers", self.layers)])?;
        probabilities([("dropout", self.dropout)])
    }

    /// Makes the model for a vocabulary of `words` words.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, words: usize, device: &Device) -> LstmLanguageModel {
        assert_valid(self.validate());
        let size = self.hidden_size;
        let dropout = self.dropout;
        let layer = |_| LstmConfig { d_input: size, d_hidden: size, dropout }.init(device);
        LstmLanguageModel {
            embedding: EmbeddingConfig::new(words, size)
                .with_initializer(Initializer::Uniform { min: -0.1, max: 0.1 })
                .init(device),
            layers: (0..self.layers).map(layer).collect(),
            output: Quantized::new(LinearConfig::new(size, words).init(device), device)
                .with_dropout(dropout),
        }
    }
}

impl LstmLanguageModel {
    /// Predicts the word after each word, from a zero state.
    ///
    /// # Shapes
    ///
    /// - words: `[batch, length]`
    /// - output: the logits of every word, `[batch, length, words]`
    pub fn forward(&self, words: Tensor<2, Int>) -> Tensor<3> {
        self.run(words, Lstm::forward)
    }

    /// Predicts the word after each word of the next window of a text, from the states that the
    /// window before left, or from zero where there are none. Gradients stop at the border between
    /// windows (truncated back-propagation through time).
    ///
    /// # Shapes
    ///
    /// - words: `[batch, length]`, each row going on where the same row of the window before ended
    /// - output: the logits of every word, `[batch, length, words]`, and the state of every layer
    ///   after the window
    pub fn forward_from(
        &self,
        words: Tensor<2, Int>,
        states: Option<Vec<LstmState>>,
    ) -> (Tensor<3>, Vec<LstmState>) {
        let mut before = states.into_iter().flatten();
        let mut after = Vec::with_capacity(self.layers.len());
        let logits = self.run(words, |layer, x| {
            let (hidden, state) = layer.forward_from(x, before.next());
            after.push(state);
            hidden
        });
        (logits, after)
    }

    /// The states that a window of a text leaves, from zero, without predicting anything.
    ///
    /// # Shapes
    ///
    /// - words: `[batch, length]`
    /// - output: the state of every layer
    pub fn states(&self, words: Tensor<2, Int>) -> Vec<LstmState> {
        let mut states = Vec::with_capacity(self.layers.len());
        self.hidden(words, |layer, x| {
            let (hidden, state) = layer.forward_from(x, None);
            states.push(state);
            hidden
        });
        states
    }

    fn run(
        &self,
        words: Tensor<2, Int>,
        run_layer: impl FnMut(&Lstm, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        self.output.forward(self.hidden(words, run_layer))
    }

    /// The last layer's states, `[batch, length, hidden_size]`.
    fn hidden(
        &self,
        words: Tensor<2, Int>,
        mut run_layer: impl FnMut(&Lstm, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        self.layers.iter().fold(self.embedding.forward(words), |x, layer| run_layer(layer, x))
    }
}

impl FoldBatchNorm for LstmLanguageModel {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cross_entropy;
    use crate::nn::testing::{device, quantized, trains};
    use burn::tensor::Tolerance;

    #[test]
    fn windows_of_a_text_equal_the_whole() {
        let device = Device::default();
        device.seed(20);
        let config = LstmLanguageModelConfig { hidden_size: 6, layers: 2, dropout: 0.5 };
        let model = config.init(11, &device);
        let text = (Tensor::<1, Int>::arange(0..24, &device) * 7 % 11).reshape([2, 12]);
        let expected = model.forward(text.clone()).into_data();
        let (mut logits, mut states) = (Vec::new(), None);
        for window in text.split(4, 1) {
            let (next, after) = model.forward_from(window, states);
            assert_eq!(after.len(), 2);
            states = Some(after);
            logits.push(next);
        }
        let found = Tensor::cat(logits, 1).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-6));
    }

    #[test]
    fn a_later_window_trains_every_parameter_also_quantized() {
        let device = device();
        let config = LstmLanguageModelConfig { hidden_size: 6, layers: 2, dropout: 0.1 };
        let model = config.init(11, &device);
        let text = (Tensor::<1, Int>::arange(0..24, &device) * 7 % 11).reshape([2, 12]);
        let quantized = quantized(&model, 4, |model| {
            model.forward(text.clone().inner());
        });
        for model in [model, quantized] {
            let (_, states) = model.forward_from(text.clone().narrow(1, 0, 6), None);
            let (logits, _) = model.forward_from(text.clone().narrow(1, 5, 6), Some(states));
            let targets = text.clone().narrow(1, 6, 6).reshape([-1]);
            trains(&model, cross_entropy(logits.reshape([12, 11]), targets));
        }
    }
}
