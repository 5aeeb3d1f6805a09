//! Multi-head self-attention whose operands can be quantized.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::{Quantized, dropout, linear};
use crate::kernels::{AttentionMask, masked_softmax, matmul};
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

/// Keys and values of every head, as the two products of attention take them.
#[derive(Clone, Debug)]
pub struct KeysValues {
    /// `[batch, heads, length, head_size]`.
    pub keys: Tensor<4>,
    /// `[batch, heads, length, head_size]`.
    pub values: Tensor<4>,
}

impl KeysValues {
    /// Those of other examples, in the order of their indices.
    pub fn select(&self, examples: &Tensor<1, Int>) -> Self {
        Self {
            keys: self.keys.clone().select(0, examples.clone()),
            values: self.values.clone().select(0, examples.clone()),
        }
    }

    /// These and then those of the positions that follow.
    fn append(self, next: Self) -> Self {
        Self {
            keys: Tensor::cat(vec![self.keys, next.keys], 2),
            values: Tensor::cat(vec![self.values, next.values], 2),
        }
    }
}

impl SelfAttention {
    /// Every position attends to all tokens of its sequence.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`
    /// - padding: `[batch, length]`, true where there is no token; each row needs at least one
    /// - output: `[batch, length, hidden_size]`
    pub fn forward(&self, x: Tensor<3>, padding: Tensor<2, Bool>) -> Tensor<3> {
        self.forward_masked(x, &AttentionMask::padding(padding))
    }

    /// Every position attends to what the mask lets it see.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`
    /// - output: `[batch, length, hidden_size]`
    pub fn forward_masked(&self, x: Tensor<3>, mask: &AttentionMask) -> Tensor<3> {
        let x = self.input.forward(x);
        let source = self.keys_values(x.clone());
        self.attend(x, source, mask)
    }

    /// Every position attends to itself and what is before it: positions whose keys and values
    /// were kept, to which those of `x` are added, and those of `x` itself.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`, the positions after those that were kept
    /// - output: `[batch, length, hidden_size]`
    pub fn forward_next(&self, x: Tensor<3>, kept: &mut Option<KeysValues>) -> Tensor<3> {
        let x = self.input.forward(x);
        let next = self.keys_values(x.clone());
        let all = match kept.take() {
            Some(before) => before.append(next),
            None => next,
        };
        *kept = Some(all.clone());
        self.attend(x, all, &AttentionMask::causal())
    }

    /// The keys and values of a source that is quantized already.
    pub(super) fn keys_values(&self, source: Tensor<3>) -> KeysValues {
        let keys = self.key_operand.forward(linear(&self.key, source.clone()));
        let values = self.value_operand.forward(linear(&self.value, source));
        KeysValues { keys: self.split(keys), values: self.split(values) }
    }

    /// Attention from `x`, which is quantized already.
    pub(super) fn attend(
        &self,
        x: Tensor<3>,
        source: KeysValues,
        mask: &AttentionMask,
    ) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let head = width / self.heads;
        let query = self.split(self.query_operand.forward(linear(&self.query, x)));
        let scores = matmul(query, source.keys.swap_dims(2, 3));
        let probabilities = masked_softmax(scores, 1.0 / (head as f64).sqrt(), mask);
        let probabilities = dropout(&self.dropout, self.probability_operand.forward(probabilities));

        let context = matmul(probabilities, source.values);
        self.output.forward(context.swap_dims(1, 2).reshape([batch, length, width]))
    }

    fn split(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, length, width] = x.dims();
        x.reshape([batch, length, self.heads, width / self.heads]).swap_dims(1, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{agree, burns_attention, device, quantizes, random};
    use burn::nn::attention::MhaInput;
    use burn::tensor::Tolerance;

    fn layer(device: &Device) -> SelfAttention {
        let initializer = Initializer::XavierUniform { gain: 1.0 };
        SelfAttentionConfig { hidden_size: 6, heads: 2, dropout: 0.0, initializer }.init(device)
    }

    /// The second of two sequences of five ends after three tokens.
    fn padding(device: &Device) -> Tensor<2, Bool> {
        let padding = [[false; 5], [false, false, false, true, true]];
        Tensor::from_data(padding, device)
    }

    #[test]
    fn padded_attention_is_burns() {
        let device = device();
        let padding = padding(&device);
        agree(
            &layer(&device),
            &random([2, 5, 6], &device),
            |layer, x| layer.forward(x, padding.clone()),
            |layer, x| {
                let input = MhaInput::self_attn(x).mask_pad(padding.clone());
                burns_attention(layer).forward(input).context
            },
        );
    }

    #[test]
    fn causal_attention_is_burns() {
        let device = device();
        let later = Tensor::<2, Bool>::tril_mask([5, 5], 0, &device).unsqueeze::<3>();
        let later = later.expand([2, 5, 5]);
        agree(
            &layer(&device),
            &random([2, 5, 6], &device),
            |layer, x| layer.forward_masked(x, &AttentionMask::causal()),
            |layer, x| {
                let input = MhaInput::self_attn(x).mask_attn(later.clone());
                burns_attention(layer).forward(input).context
            },
        );
    }

    #[test]
    fn positions_one_after_another_equal_all_at_once() {
        let device = Device::default();
        device.seed(18);
        let (layer, x) = (layer(&device), random([2, 5, 6], &device));
        let expected = layer.forward_masked(x.clone(), &AttentionMask::causal());
        let mut kept = None;
        let parts = [(0, 1), (1, 3), (4, 1)].map(|(start, length)| {
            layer.forward_next(x.clone().narrow(1, start, length), &mut kept)
        });
        let found = Tensor::cat(parts.to_vec(), 1).into_data();
        found.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(1e-5, 1e-5));
        assert_eq!(kept.expect("five positions").keys.dims(), [2, 2, 5, 3]);
    }

    #[test]
    fn every_operand_quantizes() {
        let device = device();
        let causal = |layer: &SelfAttention, x| layer.forward_masked(x, &AttentionMask::causal());
        quantizes(&layer(&device), [4, 6], &random([2, 5, 6], &device), causal);
    }
}
