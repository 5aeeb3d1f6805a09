//! Multi-head self-attention whose operands can be quantized.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Tensor};

use super::{Quantized, dropout, linear};
use crate::kernels::{masked_softmax, matmul};
use crate::quant::ActivationQuantizer;

/// Configuration of [`SelfAttention`].
#[derive(Clone, Debug)]
pub struct SelfAttentionConfig {
    /// Width of the model.
    pub hidden_size: usize,
    /// Number of heads; divides the width.
    pub heads: usize,
    /// Dropout probability of the attention probabilities.
    pub dropout: f64,
    /// How weights start.
    pub initializer: Initializer,
}

/// Multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).
///
/// Quantizers stand at the shared input of the three projections, at both operands of both
/// products, and at the input of the output projection, so that a plan can make every product
/// one of low-bit integers.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Quantizes the input of the three projections.
    pub input: ActivationQuantizer,
    /// Projection to queries.
    pub query: Linear,
    /// Projection to keys.
    pub key: Linear,
    /// Projection to values.
    pub value: Linear,
    /// Projection of the heads' results.
    pub output: Quantized<Linear>,
    /// Quantizes the queries, an operand of the product with the keys.
    pub query_operand: ActivationQuantizer,
    /// Quantizes the keys.
    pub key_operand: ActivationQuantizer,
    /// Quantizes the attention probabilities, an operand of the product with the values.
    pub probability_operand: ActivationQuantizer,
    /// Quantizes the values.
    pub value_operand: ActivationQuantizer,
    /// Dropout of the attention probabilities.
    pub dropout: Dropout,
    /// Number of heads.
    pub heads: usize,
}

impl SelfAttentionConfig {
    /// Makes the layer.
    pub fn init(&self, device: &Device) -> SelfAttention {
        let projection = || {
            LinearConfig::new(self.hidden_size, self.hidden_size)
                .with_initializer(self.initializer.clone())
                .init(device)
        };
        SelfAttention {
            input: ActivationQuantizer::signed(device),
            query: projection(),
            key: projection(),
            value: projection(),
            output: Quantized::new(projection(), device),
            query_operand: ActivationQuantizer::signed(device),
            key_operand: ActivationQuantizer::signed(device),
            probability_operand: ActivationQuantizer::non_negative(device),
            value_operand: ActivationQuantizer::signed(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            heads: self.heads,
        }
    }
}

impl SelfAttention {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`
    /// - padding: `[batch, length]`, true where there is no token; each row needs at least one
    /// - output: `[batch, length, hidden_size]`
    pub fn forward(&self, x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let head = width / self.heads;
        let split = |t: Tensor<3>| t.reshape([batch, length, self.heads, head]).swap_dims(1, 2);

        let x = self.input.forward(x);
        let query = split(self.query_operand.forward(linear(&self.query, x.clone())));
        let key = split(self.key_operand.forward(linear(&self.key, x.clone())));
        let value = split(self.value_operand.forward(linear(&self.value, x)));

        let scores = matmul(query, key.swap_dims(2, 3));
        let probabilities = masked_softmax(scores, 1.0 / (head as f64).sqrt(), padding);
        let probabilities = self.probability_operand.forward(dropout(&self.dropout, probabilities));

        let context = matmul(probabilities, value);
        self.output.forward(context.swap_dims(1, 2).reshape([batch, length, width]))
    }
}
