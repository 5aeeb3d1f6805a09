//! The Transformer's encoder layer, as in BERT: normalization after each residual sum.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor};

use super::{LayerNorm, Quantized, SelfAttention, SelfAttentionConfig, dropout};
use crate::kernels::gelu;

/// Configuration of [`EncoderLayer`].
#[derive(Clone, Debug)]
pub struct EncoderLayerConfig {
    /// Width of the model.
    pub hidden_size: usize,
    /// Width between the two linear layers of the feed-forward part.
    pub intermediate_size: usize,
    /// Number of attention heads; divides the width.
    pub heads: usize,
    /// Dropout probability of each part's result.
    pub hidden_dropout: f64,
    /// Dropout probability of the attention probabilities.
    pub attention_dropout: f64,
    /// Added to the variance in layer normalization.
    pub layer_norm_epsilon: f64,
    /// How weights start.
    pub initializer: Initializer,
}

/// Self-attention and a feed-forward part, each with a residual sum and layer normalization after
/// it (Devlin et al. 2018, arXiv 1810.04805). The activation is GELU with the error function.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Self-attention.
    pub attention: SelfAttention,
    /// Normalization after the attention.
    pub attention_norm: LayerNorm,
    /// First linear layer of the feed-forward part.
    pub intermediate: Quantized<Linear>,
    /// Second linear layer of the feed-forward part.
    pub output: Quantized<Linear>,
    /// Normalization after the feed-forward part.
    pub output_norm: LayerNorm,
    /// Dropout of each part's result.
    pub dropout: Dropout,
}

impl EncoderLayerConfig {
    /// Makes the layer.
    pub fn init(&self, device: &Device) -> EncoderLayer {
        let linear = |from, to| {
            let config = LinearConfig::new(from, to).with_initializer(self.initializer.clone());
            Quantized::new(config.init(device), device)
        };
        let norm = || LayerNorm::new(self.hidden_size, self.layer_norm_epsilon, device);
        let attention = SelfAttentionConfig {
            hidden_size: self.hidden_size,
            heads: self.heads,
            dropout: self.attention_dropout,
            initializer: self.initializer.clone(),
        };
        EncoderLayer {
            attention: attention.init(device),
            attention_norm: norm(),
            intermediate: linear(self.hidden_size, self.intermediate_size),
            output: linear(self.intermediate_size, self.hidden_size),
            output_norm: norm(),
            dropout: DropoutConfig::new(self.hidden_dropout).init(),
        }
    }
}

impl EncoderLayer {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`
    /// - padding: `[batch, length]`, true where there is no token
    /// - output: `[batch, length, hidden_size]`
    pub fn forward(&self, x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<3> {
        let attended = dropout(&self.dropout, self.attention.forward(x.clone(), padding));
        let x = self.attention_norm.forward(x + attended);
        let inner = gelu(self.intermediate.forward(x.clone()));
        let result = dropout(&self.dropout, self.output.forward(inner));
        self.output_norm.forward(x + result)
    }
}
