//! The Transformer's decoder layer, with normalization after each residual sum or before each part.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Int, Tensor};

use super::{
    CrossAttention, EncoderLayerConfig, KeysValues, LayerNorm, Quantized, SelfAttention, dropout,
};
use crate::kernels::{AttentionMask, gelu};

/// Causal self-attention, attention to a memory and a feed-forward part, each with a residual sum
/// and layer normalization (Vaswani et al. 2017, arXiv 1706.03762, section 3.1). The activation is
/// GELU with the error function. Made from an [`EncoderLayerConfig`].
#[derive(Module, Debug)]
pub struct DecoderLayer {
    /// Self-attention.
    pub attention: SelfAttention,
    /// Normalization of the self-attention's sum or input.
    pub attention_norm: LayerNorm,
    /// Attention to the memory.
    pub cross_attention: CrossAttention,
    /// Normalization of its sum or input.
    pub cross_attention_norm: LayerNorm,
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

/// What a [`DecoderLayer`] keeps while a sequence grows.
#[derive(Clone, Debug)]
pub struct DecoderCache {
    /// Keys and values of the positions so far; none before the first.
    pub before: Option<KeysValues>,
    /// Keys and values of the memory.
    pub memory: KeysValues,
}

impl EncoderLayerConfig {
    /// Makes a decoder layer of the same sizes.
    pub fn init_decoder(&self, device: &Device) -> DecoderLayer {
        let linear = |from, to| self.linear(from, to, device);
        let norm = || self.norm(device);
        let attention = self.attention();
        DecoderLayer {
            attention: attention.init(device),
            attention_norm: norm(),
            cross_attention: attention.init_cross(device),
            cross_attention_norm: norm(),
            intermediate: linear(self.hidden_size, self.intermediate_size),
            output: linear(self.intermediate_size, self.hidden_size),
            output_norm: norm(),
            dropout: DropoutConfig::new(self.hidden_dropout).init(),
            norm_first: self.norm_first,
        }
    }
}

impl DecoderLayer {
    /// Applies the layer to whole sequences: every position sees itself, the positions before it,
    /// and the memory.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`; padding at the end is seen by padding alone
    /// - memory: `[batch, memory_length, hidden_size]`
    /// - output: `[batch, length, hidden_size]`
    pub fn forward(
        &self,
        x: Tensor<3>,
        memory: Tensor<3>,
        memory_mask: &AttentionMask,
    ) -> Tensor<3> {
        let memory = self.cross_attention.keys_values(memory);
        let attend = |x| self.attention.forward_masked(x, &AttentionMask::causal());
        self.run(x, attend, memory, memory_mask)
    }

    /// What [`forward_next`](Self::forward_next) starts from.
    ///
    /// # Shapes
    ///
    /// - memory: `[batch, memory_length, hidden_size]`
    pub fn start(&self, memory: Tensor<3>) -> DecoderCache {
        DecoderCache { before: None, memory: self.cross_attention.keys_values(memory) }
    }

    /// Applies the layer to the positions that follow those of the cache, which then holds them too.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, hidden_size]`
    /// - output: `[batch, length, hidden_size]`
    pub fn forward_next(
        &self,
        x: Tensor<3>,
        cache: &mut DecoderCache,
        memory_mask: &AttentionMask,
    ) -> Tensor<3> {
        let DecoderCache { before, memory } = cache;
        let attend = |x| self.attention.forward_next(x, before);
        self.run(x, attend, memory.clone(), memory_mask)
    }

    fn run(
        &self,
        x: Tensor<3>,
        attend: impl FnOnce(Tensor<3>) -> Tensor<3>,
        memory: KeysValues,
        memory_mask: &AttentionMask,
    ) -> Tensor<3> {
        let x = self.part(x, &self.attention_norm, attend);
        let attend = |x| self.cross_attention.forward(x, memory, memory_mask);
        let x = self.part(x, &self.cross_attention_norm, attend);
        let feed_forward = |x| self.output.forward(gelu(self.intermediate.forward(x)));
        self.part(x, &self.output_norm, feed_forward)
    }

    fn part(
        &self,
        x: Tensor<3>,
        norm: &LayerNorm,
        part: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        match self.norm_first {
            true => dropout(&self.dropout, part(norm.forward(x.clone()))) + x,
            false => norm.forward(x.clone() + dropout(&self.dropout, part(x))),
        }
    }
}

impl DecoderCache {
    /// The cache of other sequences with their memories, in the order of their indices.
    pub fn select(&self, sequences: &Tensor<1, Int>) -> Self {
        Self { memory: self.memory.select(sequences), ..self.select_before(sequences) }
    }

    /// That of other sequences which have the same memories.
    pub fn select_before(&self, sequences: &Tensor<1, Int>) -> Self {
        let before = self.before.as_ref().map(|before| before.select(sequences));
        Self { before, memory: self.memory.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{
        agree, burns_feed_forward, burns_norm, device, quantizes, random, transformer_config,
    };
    use burn::tensor::{Bool, Tolerance};

    fn layer(norm_first: bool, device: &Device) -> DecoderLayer {
        transformer_config(norm_first).init_decoder(device)
    }

    fn memory_mask(device: &Device) -> AttentionMask {
        let padding = Tensor::<2, Bool>::from_data([[false; 3], [false, true, true]], device);
        AttentionMask::padding(padding)
    }

    /// The three parts, written out for either order of normalization.
    fn composed(layer: &DecoderLayer, x: Tensor<3>, memory: Tensor<3>) -> Tensor<3> {
        let own = |x| layer.attention.forward_masked(x, &AttentionMask::causal());
        let other = |x: Tensor<3>| {
            let mask = memory_mask(&x.device());
            layer.cross_attention.forward(
                x,
                layer.cross_attention.keys_values(memory.clone()),
                &mask,
            )
        };
        let feed_forward = |x| burns_feed_forward(&layer.intermediate, &layer.output, x);
        if layer.norm_first {
            let x = x.clone() + own(burns_norm(&layer.attention_norm, x));
            let x = x.clone() + other(burns_norm(&layer.cross_attention_norm, x));
            x.clone() + feed_forward(burns_norm(&layer.output_norm, x))
        } else {
            let x = burns_norm(&layer.attention_norm, x.clone() + own(x));
            let x = burns_norm(&layer.cross_attention_norm, x.clone() + other(x));
            burns_norm(&layer.output_norm, x.clone() + feed_forward(x))
        }
    }

    fn run(layer: &DecoderLayer, x: Tensor<3>, memory: &Tensor<3>) -> Tensor<3> {
        let memory = if x.is_autodiff() { memory.clone() } else { memory.clone().inner() };
        let mask = memory_mask(&x.device());
        layer.forward(x, memory, &mask)
    }

    #[test]
    fn layer_is_the_composition_of_its_parts() {
        let device = device();
        let (x, memory) = (random([2, 4, 6], &device), random([2, 3, 6], &device));
        for norm_first in [false, true] {
            agree(
                &layer(norm_first, &device),
                &x,
                |layer, x| run(layer, x, &memory),
                |layer, x| composed(layer, x, memory.clone()),
            );
        }
    }

    #[test]
    fn positions_one_after_another_equal_all_at_once() {
        let device = Device::default();
        device.seed(19);
        let layer = layer(true, &device);
        let (x, memory) = (random([2, 4, 6], &device), random([2, 3, 6], &device));
        let expected = run(&layer, x.clone(), &memory).into_data();
        let mask = memory_mask(&device);
        let mut cache = layer.start(memory);
        // The sequences change places midway.
        let order = Tensor::<1, Int>::from_ints([1, 0], &device);
        let turned = |x: Tensor<3>| x.select(0, order.clone());
        let mut parts = Vec::new();
        for t in 0..2 {
            parts.push(layer.forward_next(x.clone().narrow(1, t, 1), &mut cache, &mask));
        }
        cache = cache.select(&order);
        let padding = mask.padding.map(|padding| padding.select(0, order.clone()));
        let mask = AttentionMask { padding, causal: false };
        for t in 2..4 {
            let x = turned(x.clone().narrow(1, t, 1));
            parts.push(turned(layer.forward_next(x, &mut cache, &mask)));
        }
        let found = Tensor::cat(parts, 1).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-5));
    }

    #[test]
    fn every_operand_quantizes() {
        let device = device();
        let (x, memory) = (random([2, 4, 6], &device), random([2, 3, 6], &device));
        quantizes(&layer(false, &device), [10, 15], &x, |layer, x| run(layer, x, &memory));
    }
}
