//! Multi-head attention from one sequence to another, whose operands can be quantized.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{KeysValues, SelfAttention, SelfAttentionConfig};
use crate::kernels::AttentionMask;
use crate::quant::ActivationQuantizer;

/// Multi-head attention from one sequence to another, the memory (Vaswani et al. 2017, arXiv
/// 1706.03762, section 3.2.3). Made from a [`SelfAttentionConfig`].
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Quantizes the memory, the input of the projections to keys and values.
    pub memory: ActivationQuantizer,
    /// The projections and heads; of its quantizers the one at the input serves the queries alone.
    pub attention: SelfAttention,
}

impl SelfAttentionConfig {
    /// Makes the layer for attention to another sequence.
    pub fn init_cross(&self, device: &Device) -> CrossAttention {
        CrossAttention { memory: ActivationQuantizer::signed(device), attention: self.init(device) }
    }
}

impl CrossAttention {
    /// The keys and values of a memory; they serve any number of calls of
    /// [`forward`](Self::forward).
    ///
    /// # Shapes
    ///
    /// - memory: `[batch, memory_length, hidden_size]`
    pub fn keys_values(&self, memory: Tensor<3>) -> KeysValues {
        self.attention.keys_values(self.memory.forward(memory))
    }

    /// Every position of `x` attends to what the mask lets it see of the memory.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`
    /// - output: `[batch, length, hidden_size]`
    pub fn forward(&self, x: Tensor<3>, memory: KeysValues, mask: &AttentionMask) -> Tensor<3> {
        let x = self.attention.input.forward(x);
        self.attention.attend(x, memory, mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{agree, burns_attention, device, quantizes, random};
    use burn::nn::Initializer;
    use burn::nn::attention::MhaInput;
    use burn::tensor::Bool;

    fn layer(device: &Device) -> CrossAttention {
        let initializer = Initializer::XavierUniform { gain: 1.0 };
        let config = SelfAttentionConfig { hidden_size: 6, heads: 2, dropout: 0.0, initializer };
        config.init_cross(device)
    }

    /// The memory of the second example ends after one token of four.
    fn padding(device: &Device) -> Tensor<2, Bool> {
        Tensor::from_data([[false; 4], [false, true, true, true]], device)
    }

    /// Burn's layer with the same parameters.
    fn burns(layer: &CrossAttention, x: Tensor<3>, memory: Tensor<3>) -> Tensor<3> {
        let padding = padding(&x.device());
        let input = MhaInput::new(x, memory.clone(), memory).mask_pad(padding);
        burns_attention(&layer.attention).forward(input).context
    }

    fn run(layer: &CrossAttention, x: Tensor<3>, memory: Tensor<3>) -> Tensor<3> {
        let mask = AttentionMask::padding(padding(&x.device()));
        layer.forward(x, layer.keys_values(memory), &mask)
    }

    #[test]
    fn attention_to_another_sequence_is_burns() {
        let device = device();
        let (x, memory) = (random([2, 3, 6], &device), random([2, 4, 6], &device));
        // With the gradient of either input.
        agree(
            &layer(&device),
            &x,
            |layer, x| run(layer, x, memory.clone()),
            |layer, x| burns(layer, x, memory.clone()),
        );
        agree(
            &layer(&device),
            &memory,
            |layer, memory| run(layer, x.clone(), memory),
            |layer, memory| burns(layer, x.clone(), memory),
        );
    }

    #[test]
    fn every_operand_quantizes() {
        let device = device();
        let (x, memory) = (random([2, 3, 6], &device), random([2, 4, 6], &device));
        quantizes(&layer(&device), [4, 7], &x, |layer, x| {
            let memory = if x.is_autodiff() { memory.clone() } else { memory.clone().inner() };
            run(layer, x, memory)
        });
    }
}
