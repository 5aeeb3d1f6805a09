//! Translation: Multi30k English to German, and generated commands with their actions.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use super::tokens::{Inputs, Tokens, padded};
use super::{Meter, MetricInfo, Objective, Source, SupervisedTask, TaskError, Unit};
use crate::config::{Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::subwords::{BEGIN, END, PAD, Subwords};
use crate::data::translation::{
    ParallelText, SentencePair, TokenPair, encode_evaluation, encode_training,
};
use crate::metrics::{Bleu, MetricError};
use crate::models::beam_search::{BeamSearch, Frame};
use crate::models::bert::TokenBatch;
use crate::models::encoder_decoder::EncoderDecoder;

/// A batch of sentences and their translations.
#[derive(Clone, Debug)]
pub struct TranslationBatch {
    /// What is to be translated, an end token after it.
    pub source: TokenBatch,
    /// The translations: start token, tokens, end token, padding. `[batch, length]`
    pub target: Tensor<2, Int>,
    /// The translations as text.
    pub references: Vec<String>,
}

struct PairSource {
    sources: Tokens,
    targets: Vec<Vec<u32>>,
    references: Vec<String>,
}

impl PairSource {
    fn new(pairs: Vec<TokenPair>, references: Vec<String>) -> Self {
        let framed = |TokenPair { source, target }| {
            ([&source[..], &[END]].concat(), [&[BEGIN], &target[..], &[END]].concat())
        };
        let (sources, targets): (Vec<_>, _) = pairs.into_iter().map(framed).unzip();
        Self { sources: Tokens::single(sources, PAD), targets, references }
    }
}

impl Source<TranslationBatch> for PairSource {
    fn len(&self) -> usize {
        self.sources.len()
    }

    fn size(&self, index: usize) -> usize {
        self.sources.length(index).max(self.targets[index].len())
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<TranslationBatch, DataError> {
        let targets = || indices.iter().map(|&i| self.targets[i].as_slice());
        let longest = targets().map(<[u32]>::len).max().unwrap_or(0);
        Ok(TranslationBatch {
            source: self.sources.batch(indices, device),
            target: padded(targets(), longest, PAD.into(), device),
            references: indices.iter().map(|&i| self.references[i].clone()).collect(),
        })
    }
}

/// Learns the next token of a translation by cross-entropy with label smoothing; measured on what a
/// beam search finds.
#[derive(Clone, Debug)]
pub struct Translating {
    smoothing: f64,
    search: BeamSearch,
    subwords: Arc<Subwords>,
    /// Whether translations that are right in every word are counted too.
    exact: bool,
}

impl Objective for Translating {
    type Network = EncoderDecoder;
    type Batch = TranslationBatch;
    type Meter = TranslationMeter;

    fn metric(&self) -> MetricInfo {
        MetricInfo { name: "BLEU", unit: Unit::Points, higher_is_better: true }
    }

    fn meter(&self) -> TranslationMeter {
        let exact = self.exact.then_some(0);
        TranslationMeter { bleu: Bleu::new(), exact, examples: 0 }
    }

    fn output_table(&self) -> Option<&'static str> {
        Some("target")
    }

    fn loss(&self, network: &EncoderDecoder, batch: TranslationBatch) -> Tensor<1> {
        network.loss(batch.source, batch.target, PAD, self.smoothing)
    }

    fn predict(
        &self,
        network: &EncoderDecoder,
        batch: TranslationBatch,
    ) -> (Tensor<1>, Vec<Translated>) {
        let loss = network.loss(batch.source.clone(), batch.target, PAD, 0.0);
        let frame = Frame { start: BEGIN, end: END };
        let found = network.translate(batch.source, &self.search, frame);
        let text = |tokens: &[u32]| self.subwords.decode(tokens).expect("tokens of the vocabulary");
        let pairs = found.iter().zip(batch.references);
        let outcome = pairs
            .map(|(found, reference)| Translated { hypothesis: text(&found.tokens), reference });
        (loss, outcome.collect())
    }
}

/// A translation that was found, and the true one.
#[derive(Clone, Debug)]
pub struct Translated {
    /// What was found.
    pub hypothesis: String,
    /// What is true.
    pub reference: String,
}

/// Measures BLEU.
#[derive(Clone, Debug)]
pub struct TranslationMeter {
    bleu: Bleu,
    /// Translations equal to their reference, where they are counted.
    exact: Option<usize>,
    examples: usize,
}

impl Meter for TranslationMeter {
    type Example = Translated;

    fn add(
        &mut self,
        Translated { hypothesis, reference }: &Translated,
    ) -> Result<(), MetricError> {
        self.bleu.add(hypothesis, &[reference])?;
        if let Some(exact) = &mut self.exact {
            *exact += usize::from(hypothesis == reference);
        }
        self.examples += 1;
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.bleu.merge(&other.bleu);
        if let (Some(exact), Some(others)) = (&mut self.exact, other.exact) {
            *exact += others;
        }
        self.examples += other.examples;
    }

    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError> {
        let mut measures = vec![("BLEU", self.bleu.value()?.score)];
        if let Some(exact) = self.exact {
            measures.push(("exact match", exact as f64 / self.examples.max(1) as f64));
        }
        Ok(measures)
    }

    fn examples(&self) -> usize {
        self.examples
    }
}

/// An encoder-decoder Transformer on one of the data sets; both languages have one vocabulary.
pub(super) fn task(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<Translating>, TaskError> {
    let settings = &config.task.translation;
    let (name, text) = match config.task.name {
        TaskName::Multi30k => ("multi30k", ParallelText::multi30k(locations)?),
        _ => ("scan", config.task.scan.generate(config.train.seed)?),
    };
    let sides = text.train.iter().flat_map(|pair| [pair.source.as_str(), pair.target.as_str()]);
    let subwords = Arc::new(Subwords::train(sides, settings.vocabulary_size)?);
    let (training, mut report) =
        encode_training(&text.train, &subwords, &subwords, settings.max_tokens)?;
    let references = vec![String::new(); training.len()];
    let train = PairSource::new(training, references);
    let mut evaluation = Vec::new();
    for (split, pairs) in [("valid", &text.valid), ("test", &text.test)] {
        if pairs.is_empty() {
            continue;
        }
        let (encoded, found) = encode_evaluation(pairs, &subwords, &subwords, settings.max_tokens)?;
        report.merge(found);
        // What is found is compared with the whole text, whatever was cut of its tokens.
        let reference = |pair: &SentencePair| pair.target.clone();
        let source = PairSource::new(encoded, pairs.iter().map(reference).collect());
        evaluation.push((split, Arc::new(source) as Arc<_>));
    }
    let (model, tokens) = (config.model.encoder_decoder.clone(), subwords.len());
    Ok(SupervisedTask {
        name,
        objective: Translating {
            smoothing: settings.label_smoothing,
            search: settings.beam_search.clone(),
            subwords,
            exact: name == "scan",
        },
        build: Box::new(move |device| Ok(model.init(tokens, tokens, device))),
        train: Arc::new(train),
        evaluation,
        report,
    })
}
