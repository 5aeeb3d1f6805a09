//! A tagger of words: embeddings, bidirectional LSTM layers, a slot label for each word and an
//! intent for the sentence.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::bert::TokenBatch;
use super::settings::{Refused, assert_valid, probabilities, sizes};
use super::{Tagger, Tags};
use crate::nn::{BiLstm, FoldBatchNorm, LstmConfig, Quantized};

/// Configuration of [`BiLstmTagger`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BiLstmTaggerConfig {
    /// Size of the embeddings.
    pub embedding_size: usize,
    /// Size of the hidden state of each direction.
    pub hidden_size: usize,
    /// Bidirectional layers; at least 1.
    pub layers: usize,
    /// Dropout probability of the inputs of every layer.
    pub dropout: f64,
}

impl Default for BiLstmTaggerConfig {
    fn default() -> Self {
        Self { embedding_size: 128, hidden_size: 128, layers: 1, dropout: 0.4 }
    }
}

/// Joint tagging of slots and intent (Hakkani-Tür et al. 2016). The intent is read from the largest
/// of every feature over the words (Conneau et al. 2017, arXiv 1705.02364).
#[derive(Module, Debug)]
pub struct BiLstmTagger {
    /// One vector for each word.
    pub embedding: Embedding,
    /// The recurrent layers, first to last.
    pub layers: Vec<BiLstm>,
    /// Linear layer from a word to its slot label.
    pub slots: Quantized<Linear>,
    /// Linear layer from the sentence to its intent.
    pub intent: Quantized<Linear>,
}

impl BiLstmTaggerConfig {
    /// What is wrong with the configuration: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// No layer, sizes of 0, or dropout that is no probability.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([
            ("embedding-size", self.embedding_size),
            ("hidden-size", self.hidden_size),
            ("layers", self.layers),
        ])?;
        probabilities([("dropout", self.dropout)])
    }

    /// Makes the model for so many words, slot labels and intents.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(
        &self,
        words: usize,
        labels: usize,
        intents: usize,
        device: &Device,
    ) -> BiLstmTagger {
        assert_valid(self.validate());
        let (size, dropout) = (self.hidden_size, self.dropout);
        let layer = |i| {
            let d_input = if i == 0 { self.embedding_size } else { 2 * size };
            LstmConfig { d_input, d_hidden: size, dropout }.init_bidirectional(device)
        };
        let linear = |to| {
            Quantized::new(LinearConfig::new(2 * size, to).init(device), device)
                .with_dropout(dropout)
        };
        BiLstmTagger {
            embedding: EmbeddingConfig::new(words, self.embedding_size).init(device),
            layers: (0..self.layers).map(layer).collect(),
            slots: linear(labels),
            intent: linear(intents),
        }
    }
}

impl FoldBatchNorm for BiLstmTagger {}

impl Tagger for BiLstmTagger {
    /// Words, with padding at the end; each sentence has at least one.
    type Input = TokenBatch;

    fn forward(&self, batch: TokenBatch) -> Tags {
        let TokenBatch { tokens, padding, .. } = batch;
        let lengths = padding.clone().bool_not().int().sum_dim(1).squeeze_dim::<1>(1);
        let mut x = self.embedding.forward(tokens);
        for layer in &self.layers {
            x = layer.forward(x, lengths.clone());
        }
        Tags {
            intent: self.intent.forward(largest(x.clone(), padding)),
            slots: self.slots.forward(x),
        }
    }
}

/// The largest of every feature over the tokens of a sequence: `[batch, width]`.
fn largest(x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<2> {
    let padding = padding.unsqueeze_dim::<3>(2).expand(x.dims());
    x.mask_fill(padding, f32::NEG_INFINITY).max_dim(1).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cross_entropy;
    use crate::nn::testing::{device, quantized, trains};
    use burn::tensor::{Int, Tolerance};

    fn model(device: &Device) -> BiLstmTagger {
        let config =
            BiLstmTaggerConfig { embedding_size: 5, hidden_size: 6, layers: 2, dropout: 0.2 };
        config.init(9, 4, 3, device)
    }

    /// Sentences of four words and of two.
    fn batch(device: &Device) -> TokenBatch {
        TokenBatch {
            tokens: Tensor::<2, Int>::from_ints([[1, 2, 3, 4], [5, 6, 0, 0]], device),
            padding: Tensor::from_data([[false; 4], [false, false, true, true]], device),
            types: None,
        }
    }

    #[test]
    fn padding_changes_nothing() {
        let device = Device::default();
        device.seed(22);
        let model = model(&device);
        let together = model.forward(batch(&device));
        assert_eq!((together.intent.dims(), together.slots.dims()), ([2, 3], [2, 4, 4]));
        let alone = model.forward(TokenBatch {
            tokens: Tensor::from_ints([[5, 6]], &device),
            padding: Tensor::from_data([[false; 2]], &device),
            types: None,
        });
        let tolerance = Tolerance::rel_abs(1e-5, 1e-6);
        let intent = together.intent.narrow(0, 1, 1).into_data();
        intent.assert_approx_eq::<f32>(&alone.intent.into_data(), tolerance);
        let slots = together.slots.narrow(0, 1, 1).narrow(1, 0, 2).into_data();
        slots.assert_approx_eq::<f32>(&alone.slots.into_data(), tolerance);
    }

    #[test]
    fn every_parameter_trains_also_quantized() {
        let device = device();
        let model = model(&device);
        let quantized = quantized(&model, 4, |model| {
            model.forward(batch(&device.clone().inner()));
        });
        for model in [model, quantized] {
            let tags = model.forward(batch(&device));
            let intents = Tensor::from_ints([2, 0], &device);
            let labels = Tensor::from_ints([0, 1, 2, 3, 3, 2, 1, 0], &device);
            let loss = cross_entropy(tags.intent, intents)
                + cross_entropy(tags.slots.reshape([8, 4]), labels);
            trains(&model, loss);
        }
    }
}
