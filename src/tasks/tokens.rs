//! Token sequences with an answer each.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::regression::RegressionBatch;
use super::{ClassificationBatch, Source};
use crate::data::DataError;
use crate::data::tokenizer::Encoded;
use crate::models::bert::{TokenBatch, WordBatch};

/// Model inputs that are made a batch at a time.
pub(super) trait Inputs: Send + Sync {
    type Batch: Send + 'static;

    /// How long an input is: those of one batch should be alike.
    fn length(&self, index: usize) -> usize;

    fn batch(&self, indices: &[usize], device: &Device) -> Self::Batch;

    /// The same for training in an epoch, which may see inputs changed at random.
    fn training_batch(&self, indices: &[usize], _epoch: usize, device: &Device) -> Self::Batch {
        self.batch(indices, device)
    }

    /// Whether a word of an input is in its batch, rather than cut off.
    fn has_word(&self, _index: usize, _word: usize) -> bool {
        true
    }
}

/// Token sequences, padded to the longest of a batch.
pub(super) struct Tokens {
    sequences: Vec<Encoded>,
    /// The token that fills a sequence up.
    pad: u32,
    /// Whether there are pairs of texts.
    pairs: bool,
}

impl Tokens {
    pub(super) fn new(sequences: Vec<Encoded>, pad: u32) -> Self {
        let pairs = sequences.iter().any(|sequence| sequence.types.contains(&1));
        Self { sequences, pad, pairs }
    }

    /// Sequences of one text each.
    pub(super) fn single(sequences: impl IntoIterator<Item = Vec<u32>>, pad: u32) -> Self {
        let encoded = |tokens: Vec<u32>| Encoded { types: vec![0; tokens.len()], tokens };
        Self { sequences: sequences.into_iter().map(encoded).collect(), pad, pairs: false }
    }

    pub(super) fn len(&self) -> usize {
        self.sequences.len()
    }

    pub(super) fn sequence(&self, index: usize) -> &Encoded {
        &self.sequences[index]
    }

    /// A batch of some sequences.
    pub(super) fn join(&self, sequences: &[&Encoded], device: &Device) -> TokenBatch {
        let length = sequences.iter().map(|s| s.tokens.len()).max().unwrap_or(0);
        let numbers = |of: fn(&Encoded) -> &Vec<u32>, fill: u32| {
            padded(sequences.iter().map(|s| of(s).as_slice()), length, fill.into(), device)
        };
        let ended: Vec<bool> =
            sequences.iter().flat_map(|s| (0..length).map(|t| t >= s.tokens.len())).collect();
        let shape = [sequences.len(), length];
        TokenBatch {
            tokens: numbers(|s| &s.tokens, self.pad),
            padding: Tensor::<2, Bool>::from_data(TensorData::new(ended, shape), device),
            types: self.pairs.then(|| numbers(|s| &s.types, 0)),
        }
    }
}

impl Inputs for Tokens {
    type Batch = TokenBatch;

    fn length(&self, index: usize) -> usize {
        self.sequences[index].tokens.len()
    }

    fn batch(&self, indices: &[usize], device: &Device) -> TokenBatch {
        let chosen: Vec<&Encoded> = indices.iter().map(|&i| self.sequence(i)).collect();
        self.join(&chosen, device)
    }
}

/// Sentences cut into sub-words, with the place of each word's first one. In the place of a word that
/// has none, the sentence's first token is read.
pub(super) struct Words {
    pub(super) tokens: Tokens,
    pub(super) places: Vec<Vec<Option<u32>>>,
}

impl Inputs for Words {
    type Batch = WordBatch;

    fn length(&self, index: usize) -> usize {
        self.tokens.length(index)
    }

    fn batch(&self, indices: &[usize], device: &Device) -> WordBatch {
        let place = |place: &Option<u32>| place.unwrap_or(0);
        let places = |&i: &usize| self.places[i].iter().map(place).collect();
        let places: Vec<Vec<u32>> = indices.iter().map(places).collect();
        let words = places.iter().map(Vec::len).max().unwrap_or(0);
        WordBatch {
            tokens: self.tokens.batch(indices, device),
            words: padded(places.iter().map(Vec::as_slice), words, 0, device),
        }
    }

    fn has_word(&self, index: usize, word: usize) -> bool {
        self.places[index][word].is_some()
    }
}

/// Rows of numbers, filled up to one length: `[rows, length]`.
pub(super) fn padded<'a, T: Copy + Into<i64> + 'a>(
    rows: impl Iterator<Item = &'a [T]>,
    length: usize,
    fill: i64,
    device: &Device,
) -> Tensor<2, Int> {
    let mut values = Vec::new();
    let mut count = 0;
    for row in rows {
        values.extend(row.iter().copied().map(Into::<i64>::into));
        count += 1;
        values.resize(count * length, fill);
    }
    Tensor::from_data(TensorData::new(values, [count, length]), device)
}

/// Token sequences with a class each.
pub(super) struct ClassSource {
    pub(super) tokens: Tokens,
    pub(super) labels: Vec<u32>,
}

impl Source<ClassificationBatch<TokenBatch>> for ClassSource {
    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn size(&self, index: usize) -> usize {
        self.tokens.length(index)
    }

    fn batch(
        &self,
        indices: &[usize],
        device: &Device,
    ) -> Result<ClassificationBatch<TokenBatch>, DataError> {
        let labels: Vec<i64> = indices.iter().map(|&i| self.labels[i].into()).collect();
        Ok(ClassificationBatch {
            input: self.tokens.batch(indices, device),
            targets: Tensor::from_data(TensorData::from(labels.as_slice()), device),
        })
    }
}

/// Token sequences with a number each.
pub(super) struct ScoreSource {
    pub(super) tokens: Tokens,
    pub(super) scores: Vec<f32>,
}

impl Source<RegressionBatch> for ScoreSource {
    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn size(&self, index: usize) -> usize {
        self.tokens.length(index)
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<RegressionBatch, DataError> {
        let scores: Vec<f32> = indices.iter().map(|&i| self.scores[i]).collect();
        Ok(RegressionBatch {
            input: self.tokens.batch(indices, device),
            targets: Tensor::from_data(TensorData::from(scores.as_slice()), device),
        })
    }
}
