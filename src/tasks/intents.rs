//! Intent and slots of requests: SNIPS, ATIS, and generated ones.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::pretrained::Pretrained;
use super::supervised::Build;
use super::tokens::{Inputs, Tokens, Words, padded};
use super::{Meter, MetricInfo, Objective, Source, SupervisedTask, TaskError, Unit};
use crate::config::{Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::intents::{IntentData, PAD, UNKNOWN, Utterance};
use crate::data::report::Report;
use crate::data::tokenizer::Encoded;
use crate::kernels::{CrossEntropy, cross_entropy_with};
use crate::metrics::{MetricError, SlotF1};
use crate::models::bert::{BertTagger, TokenBatch};
use crate::models::bi_lstm_tagger::BiLstmTagger;
use crate::models::{Tagger, Tags};

/// Where a configuration limits the sub-words of a request.
const MAX_TOKENS: &str = "task.intents.max-tokens";

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

struct RequestSource<S> {
    inputs: S,
    requests: Vec<Utterance>,
}

/// Classes of a model: those of the training requests. Others may have more, which it cannot predict.
#[derive(Clone, Copy, Debug)]
struct Classes {
    intents: usize,
    slots: usize,
}

impl<S: Inputs> RequestSource<S> {
    /// Adds the intents, and the slots of the words that are `asked` for by request and place.
    fn with_answers(
        &self,
        input: S::Batch,
        indices: &[usize],
        asked: impl Fn(usize, usize) -> bool,
        device: &Device,
    ) -> TagBatch<S::Batch> {
        let slots = |&index: &usize| -> Vec<i64> {
            let slot = |(word, &tag): (usize, &u32)| match asked(index, word) {
                true => tag.into(),
                false => IGNORED,
            };
            self.requests[index].tags.iter().enumerate().map(slot).collect()
        };
        let slots: Vec<Vec<i64>> = indices.iter().map(slots).collect();
        let words = slots.iter().map(Vec::len).max().unwrap_or(0);
        let slots = padded(slots.iter().map(Vec::as_slice), words, IGNORED, device);
        let intents: Vec<i64> = indices.iter().map(|&i| self.requests[i].intent.into()).collect();
        let intents = Tensor::from_data(TensorData::from(intents.as_slice()), device);
        TagBatch { input, intents, slots }
    }
}

impl<S: Inputs> Source<TagBatch<S::Batch>> for RequestSource<S> {
    fn len(&self) -> usize {
        self.requests.len()
    }

    fn size(&self, index: usize) -> usize {
        self.inputs.length(index)
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<TagBatch<S::Batch>, DataError> {
        Ok(self.with_answers(self.inputs.batch(indices, device), indices, |_, _| true, device))
    }

    fn training_batch(
        &self,
        indices: &[usize],
        epoch: usize,
        device: &Device,
    ) -> Result<TagBatch<S::Batch>, DataError> {
        let input = self.inputs.training_batch(indices, epoch, device);
        // A word that was cut off teaches nothing; in evaluation its slot counts all the same.
        let asked = |request, word| self.inputs.has_word(request, word);
        Ok(self.with_answers(input, indices, asked, device))
    }
}

/// Words of requests. Training takes a word that occurs n times for the unknown one with probability
/// a / (n + a) (Kiperwasser and Goldberg 2016, arXiv 1603.04351, section 4): it would never meet that
/// one otherwise, and evaluation does.
struct RequestWords {
    words: Tokens,
    seed: u64,
    /// The probability for every word.
    unknown: Arc<[f64]>,
}

impl RequestWords {
    /// `count` words, of which `training` are the training texts.
    fn unknown(count: usize, training: &[Vec<u32>], a: f64) -> Arc<[f64]> {
        let mut occurrences = vec![0usize; count];
        training.iter().flatten().for_each(|&word| occurrences[word as usize] += 1);
        occurrences.iter().map(|&n| a / (n as f64 + a).max(f64::MIN_POSITIVE)).collect()
    }
}

impl Inputs for RequestWords {
    type Batch = TokenBatch;

    fn length(&self, index: usize) -> usize {
        self.words.length(index)
    }

    fn batch(&self, indices: &[usize], device: &Device) -> TokenBatch {
        self.words.batch(indices, device)
    }

    fn training_batch(&self, indices: &[usize], epoch: usize, device: &Device) -> TokenBatch {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut changed = |&index: &usize| {
            rng.set_stream((epoch as u64) << 32 | index as u64);
            let mut sequence = self.words.sequence(index).clone();
            for word in &mut sequence.tokens {
                if rng.random_bool(self.unknown[*word as usize]) {
                    *word = UNKNOWN;
                }
            }
            sequence
        };
        let changed: Vec<Encoded> = indices.iter().map(&mut changed).collect();
        self.words.join(&changed.iter().collect::<Vec<_>>(), device)
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
    type Example = TaggedRequest;

    fn add(&mut self, request: &TaggedRequest) -> Result<(), MetricError> {
        let TaggedRequest { intent: (predicted, truth), slots } = request;
        let names = |side: fn(&(usize, usize)) -> usize| {
            slots.iter().map(|pair| self.tags[side(pair)].as_str()).collect::<Vec<_>>()
        };
        self.slots.add(&names(|pair| pair.0), &names(|pair| pair.1))?;
        let correct = predicted == truth;
        self.correct += usize::from(correct);
        self.exact += usize::from(correct && slots.iter().all(|(p, t)| p == t));
        self.examples += 1;
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.slots.merge(&other.slots);
        self.correct += other.correct;
        self.exact += other.exact;
        self.examples += other.examples;
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

/// The requests, and what a model has to tell apart.
fn read(
    config: &Config,
    locations: &Locations,
) -> Result<(&'static str, IntentData, Classes), TaskError> {
    let (name, data) = match config.task.name {
        TaskName::Snips => ("snips", IntentData::snips(locations)?),
        TaskName::Atis => ("atis", IntentData::atis(locations)?),
        _ => ("requests", config.task.requests.generate(config.train.seed)?),
    };
    let data = data.without_long(config.task.intents.max_words);
    let classes = Classes { intents: data.known_intents, slots: data.known_tags };
    Ok((name, data, classes))
}

/// The task, with inputs of requests as `inputs` makes them for a part.
fn task<N: Tagger, S: Inputs<Batch = N::Input> + 'static>(
    (name, data, classes): (&'static str, IntentData, Classes),
    mut inputs: impl FnMut(&IntentData, &[Utterance]) -> Result<(S, Report), TaskError>,
    build: Box<Build<N>>,
) -> Result<SupervisedTask<Tagging<N>>, TaskError> {
    let mut report = data.report.clone();
    let mut source = |requests: &[Utterance]| -> Result<Arc<dyn Source<_>>, TaskError> {
        let (inputs, found) = inputs(&data, requests)?;
        report.merge(found);
        Ok(Arc::new(RequestSource { inputs, requests: requests.to_vec() }))
    };
    let train = source(&data.train)?;
    let mut evaluation = vec![("valid", source(&data.valid)?)];
    if !data.test.is_empty() {
        evaluation.push(("test", source(&data.test)?));
    }
    let objective = Tagging::new(data.tags.into(), classes);
    Ok(SupervisedTask { name, objective, build, train, evaluation, report })
}

/// A bidirectional LSTM on words.
pub(super) fn bi_lstm(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Tagging<BiLstmTagger>>, TaskError> {
    let data = read(config, locations)?;
    let (model, words, classes) =
        (config.model.bi_lstm_tagger.clone(), data.1.vocabulary.len(), data.2);
    let (training, _) = data.1.word_numbers(&data.1.train);
    let unknown = RequestWords::unknown(words, &training, config.task.intents.word_dropout);
    let inputs = |data: &IntentData, requests: &[Utterance]| {
        let (numbers, found) = data.word_numbers(requests);
        let (seed, unknown) = (config.train.seed, unknown.clone());
        Ok((RequestWords { words: Tokens::single(numbers, PAD), seed, unknown }, found))
    };
    let build =
        move |device: &Device| Ok(model.init(words, classes.slots, classes.intents, device));
    task(data, inputs, Box::new(build))
}

/// A pretrained BERT on sub-words, which labels the first one of each word (Devlin et al. 2018,
/// arXiv 1810.04805, section 5.3).
pub(super) fn bert(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Tagging<BertTagger>>, TaskError> {
    let data = read(config, locations)?;
    let classes = data.2;
    let Pretrained { folder, tokenizer, pooling } =
        Pretrained::open(config, locations, config.task.intents.max_tokens, MAX_TOKENS)?;
    let inputs = |_: &IntentData, requests: &[Utterance]| {
        let texts: Vec<&[String]> = requests.iter().map(|r| r.words.as_slice()).collect();
        let (encoded, found) = tokenizer.encode_words(&texts)?;
        let (sequences, places) = encoded.into_iter().map(|e| (e.encoded, e.places)).unzip();
        Ok((Words { tokens: Tokens::new(sequences, tokenizer.pad_id()), places }, found))
    };
    let build = move |device: &Device| {
        let Classes { slots, intents } = classes;
        Ok(BertTagger::from_published(&folder, slots, intents, pooling, device)?)
    };
    task(data, inputs, Box::new(build))
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
        for request in [right, wrong] {
            meter.add(&request).unwrap();
        }
        let measures = meter.measures().unwrap();
        assert_eq!(measures[1], ("intent accuracy", 0.5));
        assert_eq!(measures[2], ("exact match", 0.5));
        // One of two predicted slots is right, and one of two true ones is found.
        assert_eq!(measures[0], ("slot F1", 0.5));
    }

    #[test]
    fn training_takes_rare_words_for_unknown_ones_now_and_then() {
        let device = Device::default();
        let requests = vec![vec![2, 2, 2, 2, 3], vec![2, 2, 2, 3, 4]];
        let unknown = RequestWords::unknown(5, &requests, 0.5);
        assert_eq!(unknown[2..], [0.5 / 7.5, 0.5 / 2.5, 0.5 / 1.5]);
        let inputs = RequestWords { words: Tokens::single(requests, PAD), seed: 7, unknown };
        let words = |batch: TokenBatch| batch.tokens.into_data().iter::<i64>().collect::<Vec<_>>();
        let original = words(inputs.batch(&[0, 1], &device));
        let epochs = 2000;
        let mut dropped = vec![0; 5];
        for epoch in 0..epochs {
            let found = words(inputs.training_batch(&[0, 1], epoch, &device));
            assert_eq!(found, words(inputs.training_batch(&[0, 1], epoch, &device)));
            for (&found, &word) in found.iter().zip(&original) {
                assert!(found == word || found == i64::from(UNKNOWN));
                dropped[word as usize] += usize::from(found != word);
            }
        }
        for (word, count, probability) in [(2, 7, 0.5 / 7.5), (3, 2, 0.2), (4, 1, 1.0 / 3.0)] {
            let expected = f64::from(epochs as u32 * count) * probability;
            let deviation = (expected * (1.0 - probability)).sqrt();
            assert!(
                (dropped[word] as f64 - expected).abs() < 5.0 * deviation,
                "{word} {dropped:?}"
            );
        }
        let never = RequestWords { unknown: RequestWords::unknown(5, &[], 0.0), ..inputs };
        assert_eq!(words(never.training_batch(&[0, 1], 1, &device)), original);
    }

    fn request(words: &[u32], tags: &[u32]) -> Utterance {
        let words = words.iter().map(u32::to_string).collect();
        Utterance { words, tags: tags.to_vec(), intent: 1 }
    }

    #[test]
    fn words_that_were_cut_off_are_measured_but_not_learned() {
        let device = Device::default();
        let inputs = Words {
            tokens: Tokens::single([vec![2, 5, 6, 3], vec![2, 8, 3]], PAD),
            places: vec![vec![Some(1), Some(2), None], vec![Some(1)]],
        };
        let requests = vec![request(&[5, 6, 7], &[0, 1, 2]), request(&[8], &[1])];
        let source = RequestSource { inputs, requests };
        let integers = |x: Tensor<2, Int>| x.into_data().iter::<i64>().collect::<Vec<_>>();
        let batch = source.batch(&[0, 1], &device).unwrap();
        assert_eq!(integers(batch.input.words), [1, 2, 0, 1, 0, 0]);
        assert_eq!(integers(batch.slots), [0, 1, 2, 1, IGNORED, IGNORED]);
        let batch = source.training_batch(&[0, 1], 1, &device).unwrap();
        assert_eq!(integers(batch.input.words), [1, 2, 0, 1, 0, 0]);
        assert_eq!(integers(batch.slots), [0, 1, IGNORED, 1, IGNORED, IGNORED]);
    }

    #[test]
    fn places_without_a_word_have_no_slot() {
        let device = Device::default();
        let requests = vec![request(&[5, 6, 7], &[0, 1, 2]), request(&[8], &[1])];
        let inputs = Tokens::single([vec![5, 6, 7], vec![8]], PAD);
        let batch = RequestSource { inputs, requests }.batch(&[0, 1], &device).unwrap();
        let slots: Vec<i64> = batch.slots.into_data().iter::<i64>().collect();
        assert_eq!(slots, [0, 1, 2, 1, IGNORED, IGNORED]);
        let words: Vec<i64> = batch.input.tokens.into_data().iter::<i64>().collect();
        assert_eq!(words, [5, 6, 7, 8, i64::from(PAD), i64::from(PAD)]);
        let ended: Vec<bool> = batch.input.padding.into_data().iter::<bool>().collect();
        assert_eq!(ended, [false, false, false, false, true, true]);
    }
}
