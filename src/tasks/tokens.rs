//! Token sequences with a class each.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::Source;
use super::classification::ClassificationBatch;
use crate::data::listops::TokenExample;
use crate::models::bert::TokenBatch;

/// Token sequences with a class each, padded to the longest of a batch.
pub(super) struct TokenSource {
    pub(super) examples: Vec<TokenExample>,
    /// The token that fills a sequence up.
    pub(super) pad: u32,
}

impl Source<ClassificationBatch<TokenBatch>> for TokenSource {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn size(&self, index: usize) -> usize {
        self.examples[index].tokens.len()
    }

    fn batch(&self, indices: &[usize], device: &Device) -> ClassificationBatch<TokenBatch> {
        let chosen = || indices.iter().map(|&i| &self.examples[i]);
        let length = chosen().map(|e| e.tokens.len()).max().unwrap_or(0);
        let shape = [indices.len(), length];
        let padded = |e: &TokenExample| {
            let fill = length - e.tokens.len();
            let tokens = e.tokens.iter().copied().map(i64::from);
            tokens.chain(std::iter::repeat_n(i64::from(self.pad), fill)).collect::<Vec<_>>()
        };
        let tokens: Vec<i64> = chosen().flat_map(padded).collect();
        let ended: Vec<bool> =
            chosen().flat_map(|e| (0..length).map(|t| t >= e.tokens.len())).collect();
        let labels: Vec<i64> = chosen().map(|e| i64::from(e.label)).collect();
        ClassificationBatch {
            input: TokenBatch {
                tokens: Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), device),
                padding: Tensor::<2, Bool>::from_data(TensorData::new(ended, shape), device),
                types: None,
            },
            targets: Tensor::from_data(TensorData::from(labels.as_slice()), device),
        }
    }
}
