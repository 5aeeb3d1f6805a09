//! Long short-term memory in both directions.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::{Lstm, LstmConfig, reverse_sequences};

/// Two LSTM layers over the same sequences, one from the first token to the last, one from the last
/// to the first (Schuster and Paliwal 1997). Made from an [`LstmConfig`].
#[derive(Module, Debug)]
pub struct BiLstm {
    /// From the first token to the last.
    pub forward: Lstm,
    /// From the last token to the first.
    pub reverse: Lstm,
}

impl LstmConfig {
    /// Makes the layer for both directions, each with hidden states of this size.
    pub fn init_bidirectional(&self, device: &Device) -> BiLstm {
        BiLstm { forward: self.init(device), reverse: self.init(device) }
    }
}

impl BiLstm {
    /// Runs the layer over sequences, each direction from a zero state; the reverse direction
    /// starts at each sequence's last token.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, length, d_input]`, padding at the end; lengths: `[batch]`
    /// - output: the hidden states of both directions side by side, `[batch, length, 2 * d_hidden]`
    pub fn forward(&self, x: Tensor<3>, lengths: Tensor<1, Int>) -> Tensor<3> {
        let reversed = reverse_sequences(x.clone(), lengths.clone());
        let reverse = reverse_sequences(self.reverse.forward(reversed), lengths);
        Tensor::cat(vec![self.forward.forward(x), reverse], 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{agree, device, quantizes, random};

    const LENGTHS: [i64; 3] = [5, 1, 3];

    fn layer(device: &Device) -> BiLstm {
        LstmConfig { d_input: 4, d_hidden: 6, dropout: 0.0 }.init_bidirectional(device)
    }

    fn lengths(device: &Device) -> Tensor<1, Int> {
        Tensor::from_ints(LENGTHS, device)
    }

    /// Every sequence alone, without padding: turned around by index, and filled up with zeros.
    fn one_by_one(layer: &BiLstm, x: Tensor<3>) -> Tensor<3> {
        let [_, length, _] = x.dims();
        let rows = LENGTHS.iter().enumerate().map(|(i, &len)| {
            let len = len as usize;
            let x = x.clone().narrow(0, i, 1).narrow(1, 0, len);
            let reverse = layer.reverse.forward(x.clone().flip([1])).flip([1]);
            let both = Tensor::cat(vec![layer.forward.forward(x), reverse], 2);
            let rest = Tensor::zeros([1, length - len, both.dims()[2]], &both.device());
            Tensor::cat(vec![both, rest], 1)
        });
        Tensor::cat(rows.collect(), 0)
    }

    /// The layer's result, zero where a sequence has ended.
    fn run(layer: &BiLstm, x: Tensor<3>) -> Tensor<3> {
        let lengths = lengths(&x.device());
        let padding = crate::nn::padding_after(lengths.clone(), x.dims()[1]);
        let y = layer.forward(x, lengths);
        let padding = padding.unsqueeze_dim::<3>(2).expand(y.dims());
        y.mask_fill(padding, 0.0)
    }

    #[test]
    fn padding_changes_neither_values_nor_gradients() {
        let device = device();
        agree(&layer(&device), &random([3, 5, 4], &device), run, one_by_one);
    }

    #[test]
    fn every_operand_quantizes() {
        let device = device();
        quantizes(&layer(&device), [4, 4], &random([3, 5, 4], &device), run);
    }
}
