//! The Transformer's encoder layer, with normalization after each residual sum as in BERT, or
//! before each part as in ViT.

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
    /// Whether the normalization stands before each part rather than after its residual sum.
    pub norm_first: bool,
}

/// Self-attention and a feed-forward part, each with a residual sum and layer normalization: after
/// the sum (Devlin et al. 2018, arXiv 1810.04805) or before the part (Dosovitskiy et al. 2020,
/// arXiv 2010.11929). The activation is GELU with the error function.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Self-attention.
    pub attention: SelfAttention,
    /// Normalization of the attention's sum or input.
    pub attention_norm: LayerNorm,
    /// First linear layer of the feed-forward part.
    pub intermediate: Quantized<Linear>,
    /// Second linear layer of the feed-forward part.
    pub output: Quantized<Linear>,
    /// Normalization of the feed-forward part's sum or input.
    pub output_norm: LayerNorm,
    /// Dropout of each part's result.
    pub dropout: Dropout,
    /// Whether the normalization stands before each part.
    pub norm_first: bool,
}

/// What encoder and decoder layers are made of.
impl EncoderLayerConfig {
    pub(super) fn linear(&self, from: usize, to: usize, device: &Device) -> Quantized<Linear> {
        let config = LinearConfig::new(from, to).with_initializer(self.initializer.clone());
        Quantized::new(config.init(device), device)
    }

    pub(super) fn norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(self.hidden_size, self.layer_norm_epsilon, device)
    }

    pub(super) fn attention(&self) -> SelfAttentionConfig {
        SelfAttentionConfig {
            hidden_size: self.hidden_size,
            heads: self.heads,
            dropout: self.attention_dropout,
            initializer: self.initializer.clone(),
        }
    }
}

impl EncoderLayerConfig {
    /// Makes the layer.
    pub fn init(&self, device: &Device) -> EncoderLayer {
        let linear = |from, to| self.linear(from, to, device);
        let norm = || self.norm(device);
        let attention = self.attention();
        EncoderLayer {
            attention: attention.init(device),
            attention_norm: norm(),
            intermediate: linear(self.hidden_size, self.intermediate_size),
            output: linear(self.intermediate_size, self.hidden_size),
            output_norm: norm(),
            dropout: DropoutConfig::new(self.hidden_dropout).init(),
            norm_first: self.norm_first,
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
        if self.norm_first {
            let x = self.attend(self.attention_norm.forward(x.clone()), padding) + x;
            return self.feed_forward(self.output_norm.forward(x.clone())) + x;
        }
        let x = self.attention_norm.forward(x.clone() + self.attend(x, padding));
        self.output_norm.forward(x.clone() + self.feed_forward(x))
    }

    fn attend(&self, x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<3> {
        dropout(&self.dropout, self.attention.forward(x, padding))
    }

    fn feed_forward(&self, x: Tensor<3>) -> Tensor<3> {
        dropout(&self.dropout, self.output.forward(gelu(self.intermediate.forward(x))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{
        agree, burns_attention, burns_feed_forward, burns_norm, device, quantizes, random,
        transformer_config,
    };
    use burn::nn::attention::MhaInput;

    /// The second of two sequences of five ends after three tokens.
    fn padding(device: &Device) -> Tensor<2, Bool> {
        let padding = [[false; 5], [false, false, false, true, true]];
        Tensor::from_data(padding, device)
    }

    /// The two parts of Burn's operations, written out for either order of normalization.
    fn composed(layer: &EncoderLayer, x: Tensor<3>) -> Tensor<3> {
        let attend = |x: Tensor<3>| {
            let padding = padding(&x.device());
            let input = MhaInput::self_attn(x).mask_pad(padding);
            burns_attention(&layer.attention).forward(input).context
        };
        let feed_forward = |x| burns_feed_forward(&layer.intermediate, &layer.output, x);
        if layer.norm_first {
            let x = x.clone() + attend(burns_norm(&layer.attention_norm, x));
            x.clone() + feed_forward(burns_norm(&layer.output_norm, x))
        } else {
            let x = burns_norm(&layer.attention_norm, x.clone() + attend(x));
            burns_norm(&layer.output_norm, x.clone() + feed_forward(x))
        }
    }

    fn run(layer: &EncoderLayer, x: Tensor<3>) -> Tensor<3> {
        let padding = padding(&x.device());
        layer.forward(x, padding)
    }

    #[test]
    fn layer_is_the_composition_of_its_parts() {
        let device = device();
        for norm_first in [false, true] {
            let layer = transformer_config(norm_first).init(&device);
            agree(&layer, &random([2, 5, 6], &device), run, composed);
        }
    }

    #[test]
    fn every_operand_quantizes() {
        let device = device();
        for norm_first in [false, true] {
            let layer = transformer_config(norm_first).init(&device);
            quantizes(&layer, [6, 8], &random([2, 5, 6], &device), run);
        }
    }
}
