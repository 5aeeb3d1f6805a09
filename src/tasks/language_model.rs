//! Modelling text word by word: Penn Treebank, WikiText-2, a generated chain.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Meter, MetricInfo, Objective, Source, SupervisedTask, TaskError, Unit};
use crate::config::{Config, TaskName};
use crate::data::DataError;
use crate::data::catalog::Locations;
use crate::data::corpus::{Corpus, END};
use crate::kernels::{CrossEntropy, cross_entropy_with};
use crate::metrics::{MetricError, Perplexity};
use crate::models::lstm_language_model::LstmLanguageModel;

/// The target of a place after the end of the text.
const IGNORED: i64 = -1;

/// Windows of a text, and the words before each.
#[derive(Clone, Debug)]
pub struct TextBatch {
    /// The words before the window, `[batch, context]`: they set the state that it starts from.
    pub context: Tensor<2, Int>,
    /// The words of the window, `[batch, length]`.
    pub words: Tensor<2, Int>,
    /// The word after each, `[batch, length]`, [-1](CrossEntropy::ignored) after the end.
    pub targets: Tensor<2, Int>,
    /// Of each window, how many targets are words.
    pub counted: Vec<usize>,
}

/// A text in windows.
///
/// A window's state comes from the `context` words before it, which are read again without a
/// gradient, rather than from the window before: so windows can be shuffled, shared out to devices
/// and resumed, and a state is never older than the weights.
struct TextSource {
    text: Vec<u32>,
    /// What stands before the beginning: the end of a line.
    before: u32,
    length: usize,
    context: usize,
}

impl Source<TextBatch> for TextSource {
    fn len(&self) -> usize {
        self.text.len().saturating_sub(1).div_ceil(self.length)
    }

    fn batch(&self, indices: &[usize], device: &Device) -> Result<TextBatch, DataError> {
        let word = |place: i64| match usize::try_from(place) {
            Ok(place) => self.text.get(place).copied(),
            Err(_) => Some(self.before),
        };
        let rows = |from: i64, count: usize, missing: i64| {
            let values: Vec<i64> = indices
                .iter()
                .flat_map(|&i| {
                    let start = (i * self.length) as i64 + from;
                    (start..start + count as i64).map(|p| word(p).map_or(missing, i64::from))
                })
                .collect();
            (
                Tensor::from_data(TensorData::new(values.clone(), [indices.len(), count]), device),
                values,
            )
        };
        let (targets, values) = rows(1, self.length, IGNORED);
        Ok(TextBatch {
            context: rows(-(self.context as i64), self.context, 0).0,
            words: rows(0, self.length, 0).0,
            targets,
            counted: values
                .chunks(self.length)
                .map(|window| window.iter().filter(|&&target| target != IGNORED).count())
                .collect(),
        })
    }
}

/// Learns the next word by cross-entropy; measured by perplexity.
#[derive(Clone, Debug)]
pub struct LanguageModelling;

impl Objective for LanguageModelling {
    type Network = LstmLanguageModel;
    type Batch = TextBatch;
    type Meter = PerplexityMeter;

    fn metric(&self) -> MetricInfo {
        MetricInfo { name: "perplexity", unit: Unit::Ratio, higher_is_better: false }
    }

    fn meter(&self) -> PerplexityMeter {
        PerplexityMeter::default()
    }

    fn loss(&self, network: &LstmLanguageModel, batch: TextBatch) -> Tensor<1> {
        let logits = logits(network, batch.context, batch.words);
        mean_loss(logits, batch.targets)
    }

    fn predict(&self, network: &LstmLanguageModel, batch: TextBatch) -> (Tensor<1>, Vec<TextLoss>) {
        let logits = logits(network, batch.context, batch.words);
        // Windows are what standard errors are over, each as one example.
        let windows = (0..batch.counted.len()).map(|row| {
            mean_loss(logits.clone().narrow(0, row, 1), batch.targets.clone().narrow(0, row, 1))
        });
        let means = Tensor::cat(windows.collect(), 0).into_data();
        let losses: Vec<TextLoss> = means
            .iter::<f32>()
            .zip(batch.counted)
            .map(|(mean, words)| TextLoss { nll: f64::from(mean) * words as f64, words })
            .collect();
        let nll: f64 = losses.iter().map(|loss| loss.nll).sum();
        let words: usize = losses.iter().map(|loss| loss.words).sum();
        let mean = (nll / words.max(1) as f64) as f32;
        (Tensor::from_floats([mean], &logits.device()), losses)
    }
}

/// The words that are expected after each, `[batch, length, vocabulary]`.
fn logits(
    network: &LstmLanguageModel,
    context: Tensor<2, Int>,
    words: Tensor<2, Int>,
) -> Tensor<3> {
    let states = (context.dims()[1] > 0).then(|| network.states(context));
    network.forward_from(words, states).0
}

/// The mean cross-entropy of the words that count.
fn mean_loss(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<1> {
    let [rows, length, words] = logits.dims();
    let settings = CrossEntropy { ignored: Some(IGNORED), smoothing: 0.0 };
    let logits = logits.reshape([rows * length, words]);
    cross_entropy_with(logits, targets.reshape([rows * length]), settings)
}

/// What the words of a window cost.
#[derive(Clone, Copy, Debug)]
pub struct TextLoss {
    /// Negative log-likelihood, summed.
    pub nll: f64,
    /// Words.
    pub words: usize,
}

/// Measures perplexity.
#[derive(Clone, Debug, Default)]
pub struct PerplexityMeter {
    perplexity: Perplexity,
    words: usize,
}

impl Meter for PerplexityMeter {
    type Example = TextLoss;

    fn add(&mut self, window: &TextLoss) -> Result<(), MetricError> {
        self.words += window.words;
        self.perplexity.add(window.nll, window.words as u64)
    }

    fn merge(&mut self, other: &Self) {
        self.perplexity.merge(&other.perplexity);
        self.words += other.words;
    }

    fn measures(&self) -> Result<Vec<(&'static str, f64)>, MetricError> {
        let (metric, value) = ("perplexity", self.perplexity.value()?);
        if !value.is_finite() {
            return Err(MetricError::NotFinite { metric, what: "the value".into(), value });
        }
        Ok(vec![(metric, value)])
    }

    fn examples(&self) -> usize {
        self.words
    }
}

/// A language model on one of the texts.
pub(super) fn task(
    config: &Config,
    locations: &Locations,
) -> Result<SupervisedTask<LanguageModelling>, TaskError> {
    let settings = &config.task.text;
    let (name, corpus) = match config.task.name {
        TaskName::Ptb => ("ptb", Corpus::penn_treebank(locations)?),
        TaskName::Wikitext2 => ("wikitext-2", Corpus::wikitext2(locations)?),
        _ => ("word-chain", config.task.word_chain.generate(config.train.seed)?),
    };
    let Corpus { vocabulary, mut train, valid, test, report } = corpus;
    if let Some(words) = settings.train_words {
        train.truncate(words);
    }
    let before = vocabulary.number(END).expect("every line ends");
    let (length, context) = (settings.length, settings.context);
    let source = |text| Arc::new(TextSource { text, before, length, context });
    let (model, words) = (config.model.lstm_language_model.clone(), vocabulary.len());
    Ok(SupervisedTask {
        name,
        objective: LanguageModelling,
        build: Box::new(move |device| Ok(model.init(words, device))),
        train: source(train),
        evaluation: vec![("valid", source(valid)), ("test", source(test))],
        report,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::lstm_language_model::LstmLanguageModelConfig;

    fn source(words: u32) -> TextSource {
        TextSource { text: (1..=words).collect(), before: 0, length: 4, context: 3 }
    }

    fn values(x: Tensor<2, Int>) -> Vec<i64> {
        x.into_data().iter::<i64>().collect()
    }

    #[test]
    fn windows_cover_the_text_once_and_know_the_words_before() {
        let source = source(10);
        assert_eq!(source.len(), 3);
        let batch = source.batch(&[0, 2], &Device::default()).unwrap();
        assert_eq!(values(batch.context), [0, 0, 0, 6, 7, 8]);
        assert_eq!(values(batch.words), [1, 2, 3, 4, 9, 10, 0, 0]);
        assert_eq!(values(batch.targets), [2, 3, 4, 5, 10, -1, -1, -1]);
        assert_eq!(batch.counted, [4, 1]);
    }

    #[test]
    fn perplexity_of_windows_is_that_of_the_text_where_the_context_reaches_its_beginning() {
        let device = Device::default();
        device.seed(5);
        let config = LstmLanguageModelConfig { hidden_size: 6, layers: 2, dropout: 0.0 };
        let model = config.init(12, &device);
        let measure = |length, context| {
            let source = TextSource { text: (1..=9).collect(), before: 0, length, context };
            let mut meter = PerplexityMeter::default();
            for index in 0..source.len() {
                let batch = source.batch(&[index], &device).unwrap();
                meter.add(&LanguageModelling.predict(&model, batch).1[0]).unwrap();
            }
            (meter.measures().unwrap()[0].1, meter.examples())
        };
        let (whole, words) = measure(8, 8);
        let (windows, same_words) = measure(3, 14);
        assert_eq!((words, same_words), (8, 8));
        // What is left is that the state has read the end of a line a few times more.
        let (forgetful, _) = measure(1, 0);
        let apart = |other: f64| (whole / other - 1.0).abs();
        assert!(apart(windows) < 0.1 * apart(forgetful), "{whole} {windows} {forgetful}");
    }

    #[test]
    fn every_window_is_an_example_and_together_they_are_the_batch() {
        let device = Device::default();
        device.seed(5);
        let config = LstmLanguageModelConfig { hidden_size: 6, layers: 1, dropout: 0.0 };
        let model = config.init(12, &device);
        let batch = source(10).batch(&[0, 1, 2], &device).unwrap();
        let loss = LanguageModelling.loss(&model, batch.clone()).into_scalar::<f32>();
        let (mean, windows) = LanguageModelling.predict(&model, batch);
        let words: Vec<usize> = windows.iter().map(|window| window.words).collect();
        assert_eq!(words, [4, 4, 1]);
        let nll: f64 = windows.iter().map(|window| window.nll).sum();
        assert!((f64::from(loss) - nll / 9.0).abs() < 1e-6, "{loss} and {nll} over nine words");
        assert!((loss - mean.into_scalar::<f32>()).abs() < 1e-6);
        assert!(windows[0].nll != windows[1].nll);
    }

    #[test]
    fn a_perplexity_beyond_all_numbers_is_an_error() {
        let mut meter = PerplexityMeter::default();
        meter.add(&TextLoss { nll: 1e4, words: 10 }).unwrap();
        let error = meter.measures().unwrap_err().to_string();
        assert!(error.contains("the value is inf"), "{error}");
    }

    #[test]
    fn training_can_be_on_the_first_words_alone() {
        let locations = Locations { data_dir: None, cache_dir: "none".into(), offline: true };
        let task = |train_words: Option<usize>| {
            let mut config = Config::parse(
                "[task]\nname = \"word-chain\"\n[model]\narch = \"lstm-language-model\"",
                "test".as_ref(),
                &[],
            )
            .unwrap();
            config.task.text.train_words = train_words;
            task(&config, &locations).unwrap()
        };
        let (whole, part) = (task(None), task(Some(71)));
        // Seventy words have one after them: two windows of 35.
        assert_eq!(part.train.len(), 2);
        assert!(whole.train.len() > 2);
        for (all, same) in whole.evaluation.iter().zip(&part.evaluation) {
            assert_eq!(all.1.len(), same.1.len(), "{}", all.0);
        }
    }
}
