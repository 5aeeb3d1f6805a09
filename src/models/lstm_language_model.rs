//! A word language model: embedding, LSTM layers, and a linear layer to the vocabulary.

use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig,
};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::{Lstm, LstmConfig, LstmState, Quantized, dropout};

/// Configuration of [`LstmLanguageModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LstmLanguageModelConfig {
    /// Size of the embeddings and of every hidden state.
    pub hidden_size: usize,
    /// LSTM layers.
    pub layers: usize,
    /// Dropout probability of the embeddings and of every layer's output.
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
    /// Dropout of the embeddings and of every layer's output.
    pub dropout: Dropout,
}

impl LstmLanguageModelConfig {
    /// Makes the model for a vocabulary of `words` words.
    pub fn init(&self, words: usize, device: &Device) -> LstmLanguageModel {
        let size = self.hidden_size;
        let layer = |_| LstmConfig { d_input: size, d_hidden: size }.init(device);
        LstmLanguageModel {
            embedding: EmbeddingConfig::new(words, size)
                .with_initializer(Initializer::Uniform { min: -0.1, max: 0.1 })
                .init(device),
            layers: (0..self.layers).map(layer).collect(),
            output: Quantized::new(LinearConfig::new(size, words).init(device), device),
            dropout: DropoutConfig::new(self.dropout).init(),
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
        self.forward_from(words, None).0
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
        let mut x = dropout(&self.dropout, self.embedding.forward(words));
        for layer in &self.layers {
            let (hidden, state) = layer.forward_from(x, before.next());
            x = dropout(&self.dropout, hidden);
            after.push(state);
        }
        (self.output.forward(x), after)
    }
}
