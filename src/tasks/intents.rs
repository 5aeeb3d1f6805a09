//! Intent and slots of requests: SNIPS, ATIS, and generated ones.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::tokens::{Tokens, padded};
use super::{Meter, MetricInfo, Objective, Source, SupervisedTask, TaskError, Unit};
use crate::config::{Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::intents::{IntentData, PAD, Utterance};
use crate::kernels::{CrossEntropy, cross_entropy_with};
use crate::metrics::{MetricError, SlotF1};
use crate::models::bert::TokenBatch;
use crate::models::bi_lstm_tagger::BiLstmTagger;
use crate::models::{Tagger, Tags};

/// The slot of a place without a word.
const IGNORED: i64 = -1;

/// A batch of requests.
#[derive(Clone, Debug)]
pub struct TagBatch<I> {
    /// The words.
    pub input: I,
    /// The intent of each request, `[batch]`.
    pub intents: Tensor<1, Int>,
    /// The slot label of every word, `[batch, words]`, -1 where there is none.
    pub slots: Tensor<2, Int>,
}

struct RequestSource {
    tokens: Tokens,
    requests: Vec<Utterance>,
}

/// Classes of a model: those of the training requests. Others may have more, which it cannot predict.
#[derive(Clone, Copy, Debug)]
struct Classes {
    intents: usize,
    slots: usize,
}

impl Source<TagBatch<TokenBatch>> for RequestSource {
    fn len(&self) -> usize {
        self.requests.len()
    }

    fn size(&self, index: usize) -> usize {
        self.tokens.length(index)
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<TagBatch<TokenBatch>, DataError> {
        let chosen = || indices.iter().map(|&i| &self.requests[i]);
        let input = self.tokens.batch(indices, device);
        let [_, length] = input.tokens.dims();
        let slots = padded(chosen().map(|r| r.tags.as_slice()), length, IGNORED, device);
        let intents: Vec<i64> = chosen().map(|r| r.intent.into()).collect();
        Ok(TagBatch {
            input,
            intents: Tensor::from_data(TensorData::from(intents.as_slice()), device),
            slots,
        })
    }
}

/// Learns intents and slots together, by the sum of both cross-entropies (Hakkani-Tur et al. 2016).
#[derive(Debug)]
pub struct Tagging<N> {
    /// Names of the slot labels, those that training lacks at the end.
    tags: Arc<[String]>,
    classes: Classes,
    network: std::marker::PhantomData<fn() -> N>,
}

impl<N> Clone for Tagging<N> {
    fn clone(&self) -> Self {
        Self { tags: self.tags.clone(), ..*self }
    }
}

impl<N: Tagger> Tagging<N> {
    fn new(tags: Arc<[String]>, classes: Classes) -> Self {
        Self { tags, classes, network: std::marker::PhantomData }
    }

    fn mean_loss(&self, tags: &Tags, intents: Tensor<1, Int>, slots: Tensor<2, Int>) -> Tensor<1> {
        let [batch, words, labels] = tags.slots.dims();
        let settings = CrossEntropy { ignored: Some(IGNORED), smoothing: 0.0 };
        // What training lacks costs nothing: the model has no class for it. It is measured as wrong.
        let unknown = slots.clone().greater_equal_elem(self.classes.slots as i64);
        let slots = slots.mask_fill(unknown, IGNORED);
        let unknown = intents.clone().greater_equal_elem(self.classes.intents as i64);
        let intents = intents.mask_fill(unknown, IGNORED);
        let of_slots = cross_entropy_with(
            tags.slots.clone().reshape([batch * words, labels]),
            slots.reshape([batch * words]),
            settings,
        );
        of_slots + cross_entropy_with(tags.intent.clone(), intents, settings)
    }
}

impl<N: Tagger> Objective for Tagging<N> {
    type Network = N;
    type Batch = TagBatch<N::Input>;
    type Meter = TagMeter;

    fn metric(&self) -> MetricInfo {
        MetricInfo { name: "slot F1", unit: Unit::Fraction, higher_is_better: true }
    }

    fn meter(&self) -> TagMeter {
        TagMeter {
            tags: self.tags.clone(),
            slots: SlotF1::new(),
            correct: 0,
            exact: 0,
            examples: 0,
        }
    }

    fn loss(&self, network: &N, batch: Self::Batch) -> Tensor<1> {
        self.mean_loss(&network.forward(batch.input), batch.intents, batch.slots)
    }

    fn predict(&self, network: &N, batch: Self::Batch) -> (Tensor<1>, Vec<TaggedRequest>) {
        let tags = network.forward(batch.input);
        let loss = self.mean_loss(&tags, batch.intents.clone(), batch.slots.clone());
        let [_, words, _] = tags.slots.dims();
        let integers = |x: Tensor<1, Int>| x.into_data().iter::<i64>().collect::<Vec<_>>();
        let intents = integers(tags.intent.argmax(1).squeeze_dim(1));
        let slots = integers(tags.slots.argmax(2).reshape([-1]));
        let truth = integers(batch.slots.reshape([-1]));
        let rows = slots.chunks_exact(words).zip(truth.chunks_exact(words));
        let requests = intents.into_iter().zip(integers(batch.intents)).zip(rows);
        let outcome = requests.map(|(intent, (predicted, truth))| {
            let labels = predicted.iter().zip(truth).filter(|&(_, &truth)| truth != IGNORED);
            TaggedRequest {
                intent,
                slots: labels.map(|(&p, &t)| (p as usize, t as usize)).collect(),
            }
        });
        (loss, outcome.collect())
    }
}

/// What was predicted of a request, and what is true.
#[derive(Clone, Debug)]
pub struct TaggedRequest {
    /// The intent.
    pub intent: (i64, i64),
    /// The slot label of every word.
    pub slots: Vec<(usize, usize)>,
}

/// Measures slots by F1 over whole slots, intents by accuracy, and requests that are right in both.
#[derive(Clone, Debug)]
pub struct TagMeter {
    tags: Arc<[String]>,
    slots: SlotF1,
    correct: usize,
    exact: usize,
    examples: usize,
}

impl Meter for TagMeter {
    type Outcome = Vec<TaggedRequest>;

    fn add(&mut self, requests: &Vec<TaggedRequest>) -> Result<(), MetricError> {
        for TaggedRequest { intent: (predicted, truth), slots } in requests {
            let names = |side: fn(&(usize, usize)) -> usize| {
                slots.iter().map(|pair| self.tags[side(pair)].as_str()).collect::<Vec<_>>()
            };
            self.slots.add(&names(|pair| pair.0), &names(|pair| pair.1))?;
            let correct = predicted == truth;
            self.correct += usize::from(correct);
            self.exact += usize::from(correct && slots.iter().all(|(p, t)| p == t));
        }
        self.examples += requests.len();
        Ok(())
    }

    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError> {
        let of_all = |count: usize| count as f64 / self.examples.max(1) as f64;
        Ok(vec![
            ("slot F1", self.slots.value()?),
            ("intent accuracy", of_all(self.correct)),
            ("exact match", of_all(self.exact)),
        ])
    }

    fn examples(&self) -> usize {
        self.examples
    }
}

/// A bidirectional LSTM on words.
pub(super) fn bi_lstm(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Tagging<BiLstmTagger>>, TaskError> {
    let (name, data) = match config.task.name {
        TaskName::Snips => ("snips", IntentData::snips(locations)?),
        TaskName::Atis => ("atis", IntentData::atis(locations)?),
        _ => ("requests", config.task.requests.generate(config.train.seed)?),
    };
    let data = data.without_long(config.task.intents.max_words);
    let classes = Classes { intents: data.known_intents, slots: data.known_tags };
    let source = |requests: &[Utterance]| -> Arc<dyn Source<_>> {
        let words = requests.iter().map(|request| data.word_numbers(request));
        let tokens = Tokens::single(words, PAD);
        Arc::new(RequestSource { tokens, requests: requests.to_vec() })
    };
    let mut evaluation = vec![("valid", source(&data.valid))];
    if !data.test.is_empty() {
        evaluation.push(("test", source(&data.test)));
    }
    let (model, words) = (config.model.bi_lstm_tagger.clone(), data.vocabulary.len());
    Ok(SupervisedTask {
        name,
        objective: Tagging::new(data.tags.clone().into(), classes),
        build: Box::new(move |device| {
            Ok(model.init(words, classes.slots, classes.intents, device))
        }),
        train: source(&data.train),
        evaluation,
        report: data.report.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    fn tagging() -> Tagging<BiLstmTagger> {
        let tags = ["O", "B-city", "I-city", "B-day"].map(str::to_string);
        Tagging::new(tags.into(), Classes { intents: 2, slots: 3 })
    }

    #[test]
    fn what_training_lacks_costs_nothing_and_counts_as_wrong() {
        let device = Device::default();
        let tags = Tags {
            intent: Tensor::from_floats([[2.0, 0.0], [0.0, 1.0]], &device),
            slots: Tensor::from_floats([[[1.0, 0.0, 0.0]; 2], [[0.0, 3.0, 0.0]; 2]], &device),
        };
        let loss = |intents: [i64; 2], slots: [[i64; 2]; 2]| {
            let intents = Tensor::from_ints(intents, &device);
            tagging().mean_loss(&tags, intents, Tensor::from_ints(slots, &device)).into_data()
        };
        // The second intent (2) and the last slot (3) are no classes of the model.
        let found = loss([0, 2], [[0, 1], [1, 3]]);
        let expected = {
            let intent = (1.0 + (-2f32).exp()).ln();
            let first = [(1f32.exp() + 2.0).ln() - 1.0, (1f32.exp() + 2.0).ln()];
            let second = (3f32.exp() + 2.0).ln() - 3.0;
            intent + (first[0] + first[1] + second) / 3.0
        };
        let expected = Tensor::<1>::from_floats([expected], &device).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-5, 1e-5));

        let mut meter = tagging().meter();
        let right = TaggedRequest { intent: (1, 1), slots: vec![(0, 0), (1, 1), (2, 2)] };
        let wrong = TaggedRequest { intent: (1, 2), slots: vec![(0, 0), (1, 3)] };
        meter.add(&vec![right, wrong]).unwrap();
        let measures = meter.measures().unwrap();
        assert_eq!(measures[1], ("intent accuracy", 0.5));
        assert_eq!(measures[2], ("exact match", 0.5));
        // One of two predicted slots is right, and one of two true ones is found.
        assert_eq!(measures[0], ("slot F1", 0.5));
    }

    #[test]
    fn places_without_a_word_have_no_slot() {
        let device = Device::default();
        let request = |words: &[u32], tags: &[u32]| Utterance {
            words: words.iter().map(u32::to_string).collect(),
            tags: tags.to_vec(),
            intent: 1,
        };
        let requests = vec![request(&[5, 6, 7], &[0, 1, 2]), request(&[8], &[1])];
        let tokens = Tokens::single([vec![5, 6, 7], vec![8]], PAD);
        let batch = RequestSource { tokens, requests }.batch(&[0, 1], &device).unwrap();
        let slots: Vec<i64> = batch.slots.into_data().iter::<i64>().collect();
        assert_eq!(slots, [0, 1, 2, 1, IGNORED, IGNORED]);
        let words: Vec<i64> = batch.input.tokens.into_data().iter::<i64>().collect();
        assert_eq!(words, [5, 6, 7, 8, i64::from(PAD), i64::from(PAD)]);
        let ended: Vec<bool> = batch.input.padding.into_data().iter::<bool>().collect();
        assert_eq!(ended, [false, false, false, false, true, true]);
    }
}
