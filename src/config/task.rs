//! `[task]`: what is learned from which data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Arch, Problem};
use crate::data::DataError;
use crate::data::audio::LogMelConfig;
use crate::data::digit_scenes::DigitScenesConfig;
use crate::data::listops::ListOpsConfig;
use crate::data::requests::RequestsConfig;
use crate::data::scan::ScanConfig;
use crate::data::tone_digits::ToneDigitsConfig;
use crate::data::word_chain::WordChainConfig;
use crate::models::beam_search::BeamSearch;

/// The tasks there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskName {
    /// Optical digits, 8x8 images of ten classes (built in).
    Digits,
    /// Fashion-MNIST, 28x28 grey images of ten classes.
    FashionMnist,
    /// CIFAR-10, 32x32 images of ten classes.
    #[serde(rename = "cifar-10")]
    Cifar10,
    /// A folder `train` and a folder `val` with one folder of images for each class.
    ImageFolder,
    /// Blood cells in microscope images, to be found (BCCD).
    Bccd,
    /// Several optical digits on a canvas, to be found (generated).
    DigitScenes,
    /// Penn Treebank, to be modelled word by word.
    Ptb,
    /// WikiText-2, to be modelled word by word.
    #[serde(rename = "wikitext-2")]
    Wikitext2,
    /// Text of a Markov chain, to be modelled word by word (generated).
    WordChain,
    /// Spoken digits (FSDD).
    Fsdd,
    /// Digits as pairs of tones (generated).
    ToneDigits,
    /// ListOps expressions, ten classes (generated).
    Listops,
    /// Stanford Sentiment Treebank in GLUE's form, two classes.
    Sst2,
    /// Corpus of Linguistic Acceptability, two classes.
    Cola,
    /// Microsoft Research Paraphrase Corpus, two classes.
    Mrpc,
    /// Recognizing Textual Entailment, two classes.
    Rte,
    /// Semantic Textual Similarity Benchmark, a number from 0 to 5.
    Stsb,
    /// Intents and slots of requests to an assistant (SNIPS).
    Snips,
    /// Intents and slots of requests about flights (ATIS).
    Atis,
    /// Intents and slots of requests from templates (generated).
    Requests,
    /// Captions of images, English to German (Multi30k).
    Multi30k,
    /// Commands to their actions (SCAN, generated from its grammar).
    Scan,
}

/// Whether a task starts from a published model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Fresh,
    /// From a folder.
    Published,
    /// Fresh, or from a file of weights.
    Either,
}

impl TaskName {
    /// The model families that serve it, the usual one first.
    pub(super) fn archs(self) -> &'static [Arch] {
        use TaskName::*;
        match self {
            Digits => &[Arch::Resnet, Arch::Lstm],
            FashionMnist | Cifar10 | ImageFolder => {
                &[Arch::Resnet, Arch::Vgg, Arch::MobilenetV2, Arch::ImagenetResnet, Arch::Vit]
            }
            Bccd | DigitScenes => &[Arch::Detector],
            Ptb | Wikitext2 | WordChain => &[Arch::LstmLanguageModel],
            Fsdd | ToneDigits => &[Arch::GruSpotter],
            Listops | Sst2 | Cola | Mrpc | Rte | Stsb => &[Arch::Bert],
            Snips | Atis => &[Arch::BiLstmTagger, Arch::Bert],
            Requests => &[Arch::BiLstmTagger],
            Multi30k | Scan => &[Arch::EncoderDecoder],
        }
    }

    /// The tables of `[task]` that belong to it.
    pub(super) fn tables(self) -> &'static [&'static str] {
        use TaskName::*;
        match self {
            Digits => &["digits"],
            FashionMnist | Cifar10 | ImageFolder => &["images"],
            Bccd => &["bccd"],
            DigitScenes => &["digit-scenes"],
            Ptb | Wikitext2 => &["text"],
            WordChain => &["text", "word-chain"],
            Fsdd => &["log-mel"],
            ToneDigits => &["log-mel", "tone-digits"],
            Listops => &["listops"],
            Sst2 => &["sst2"],
            Cola | Mrpc | Rte | Stsb => &["glue"],
            Snips | Atis => &["intents"],
            Requests => &["intents", "requests"],
            Multi30k => &["translation"],
            Scan => &["translation", "scan"],
        }
    }

    /// What a model of a family starts from.
    pub(super) fn start(self, arch: Arch) -> Start {
        use TaskName::*;
        match (self, arch) {
            (Sst2 | Cola | Mrpc | Rte | Stsb | Snips | Atis, Arch::Bert) => Start::Published,
            (_, Arch::ImagenetResnet | Arch::MobilenetV2) => Start::Either,
            _ => Start::Fresh,
        }
    }
}

/// `[task]`: the name, and tables of settings that belong to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TaskConfig {
    /// Which task.
    pub name: TaskName,
    /// Settings of `digits`.
    #[serde(default)]
    pub digits: DigitsConfig,
    /// Settings of `fashion-mnist`, `cifar-10` and `image-folder`.
    #[serde(default)]
    pub images: ImagesConfig,
    /// Settings of `bccd`.
    #[serde(default)]
    pub bccd: BccdConfig,
    /// Settings of `digit-scenes`.
    #[serde(default)]
    pub digit_scenes: DigitScenesConfig,
    /// Settings of `ptb`, `wikitext-2` and `word-chain`.
    #[serde(default)]
    pub text: TextConfig,
    /// What `word-chain` generates.
    #[serde(default)]
    pub word_chain: WordChainConfig,
    /// Features of `fsdd` and `tone-digits`.
    #[serde(default)]
    pub log_mel: LogMelConfig,
    /// What `tone-digits` generates.
    #[serde(default)]
    pub tone_digits: ToneDigitsConfig,
    /// Settings of `listops`.
    #[serde(default)]
    pub listops: ListOpsConfig,
    /// Settings of `sst2`.
    #[serde(default)]
    pub sst2: Sst2Config,
    /// Settings of `cola`, `mrpc`, `rte` and `stsb`.
    #[serde(default)]
    pub glue: GlueConfig,
    /// Settings of `snips`, `atis` and `requests`.
    #[serde(default)]
    pub intents: IntentsConfig,
    /// What `requests` generates.
    #[serde(default)]
    pub requests: RequestsConfig,
    /// Settings of `multi30k` and `scan`.
    #[serde(default)]
    pub translation: TranslationConfig,
    /// What `scan` generates.
    #[serde(default)]
    pub scan: ScanConfig,
}

/// `[task.digits]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DigitsConfig {
    /// Part of every class (0 to 1) that is kept for validation.
    pub valid_fraction: f64,
}

impl Default for DigitsConfig {
    fn default() -> Self {
        Self { valid_fraction: 0.2 }
    }
}

/// `[task.sst2]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Sst2Config {
    /// Longest sentence in tokens, with the special ones; longer ones are cut.
    pub max_length: usize,
    /// Sentences of the training file to use; all of them by default.
    pub train_examples: Option<usize>,
    /// Whole sentences of the training file to hold out, with all phrases cut from them, which
    /// training watches, with `dev` measured at the end. Without any it watches `dev`.
    pub held_out: usize,
}

impl Default for Sst2Config {
    fn default() -> Self {
        Self { max_length: 64, train_examples: None, held_out: 0 }
    }
}

/// `[task.images]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// Training images to use; all of them by default.
    pub train_examples: Option<usize>,
    /// Part of every class of the training images (0 to 1) that training watches instead of
    /// learning from it, where the data set has no such part.
    pub valid_fraction: f64,
    /// Whether training images are shifted and mirrored at random.
    pub augment: bool,
    /// Pixels by which an augmented image moves at most, in each direction.
    pub shift: usize,
    /// Folder of `image-folder`.
    pub folder: Option<PathBuf>,
    /// Pixels along each side of an image of `image-folder`.
    pub side: usize,
    /// What pixels are shifted and scaled by.
    pub normalization: Normalization,
}

/// Mean and deviation of each colour, by which the pixels of images are normalized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalization {
    /// Those of the training images.
    #[default]
    Data,
    /// Those of ImageNet, which published weights were trained with.
    Imagenet,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            train_examples: None,
            valid_fraction: 0.05,
            augment: false,
            shift: 4,
            folder: None,
            side: 224,
            normalization: Normalization::default(),
        }
    }
}

/// `[task.bccd]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BccdConfig {
    /// Width and height that images are resized to, in pixels; 640 by 480 as they are.
    pub size: [usize; 2],
    /// Whether training images are mirrored and flipped at random: a smear of blood has no upper side.
    pub augment: bool,
}

impl Default for BccdConfig {
    fn default() -> Self {
        Self { size: [320, 240], augment: false }
    }
}

/// `[task.text]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TextConfig {
    /// Words of a window, which back-propagation reaches.
    pub length: usize,
    /// Words before a window that are read to set its state.
    pub context: usize,
    /// Words to train on, from the beginning of the text; all of them by default. The vocabulary is
    /// that of the whole text.
    pub train_words: Option<usize>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self { length: 35, context: 35, train_words: None }
    }
}

/// `[task.glue]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GlueConfig {
    /// Longest sentence or pair in tokens, with the special ones; longer ones are cut.
    pub max_length: usize,
    /// Training examples to use; all of them by default.
    pub train_examples: Option<usize>,
    /// Part of every class of the training examples (0 to 1), or of all those of about one score,
    /// that training watches instead of learning from it, with `dev` measured at the end. Without
    /// it training learns from all and watches `dev`.
    pub valid_fraction: Option<f64>,
}

impl Default for GlueConfig {
    fn default() -> Self {
        Self { max_length: 128, train_examples: None, valid_fraction: None }
    }
}

/// `[task.intents]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IntentsConfig {
    /// Longest request to train on, in words; longer ones are left out.
    pub max_words: usize,
    /// `a` of the probability a / (n + a) with which a word that occurs n times in training is taken
    /// for an unknown one there, by models of whole words.
    pub word_dropout: f64,
    /// Longest request in sub-words of `bert`, with the special ones; longer ones are cut.
    pub max_tokens: usize,
}

impl Default for IntentsConfig {
    fn default() -> Self {
        Self { max_words: 64, word_dropout: 0.25, max_tokens: 128 }
    }
}

/// `[task.translation]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TranslationConfig {
    /// Tokens of the vocabulary that is learned from both languages, at most.
    pub vocabulary_size: usize,
    /// Longest sentence in tokens; longer pairs are left out of training. In evaluation longer
    /// sentences are cut, but for the text that translations are compared with.
    pub max_tokens: usize,
    /// Part of the weight of every token that is spread over all (0 to 1).
    pub label_smoothing: f64,
    /// How translations are searched for in evaluation.
    pub beam_search: BeamSearch,
}

impl Default for TranslationConfig {
    fn default() -> Self {
        Self {
            vocabulary_size: 8_000,
            max_tokens: 64,
            label_smoothing: 0.1,
            beam_search: BeamSearch::default(),
        }
    }
}

/// Examples, or words of a text, that are generated at most.
const MOST_GENERATED: usize = 10_000_000;

/// Pixels that an augmented image moves at most.
const MOST_SHIFT: usize = 1_000;

/// Keys of what is held out of training.
const DIGITS_FRACTION: &str = "task.digits.valid-fraction";
const IMAGES_FRACTION: &str = "task.images.valid-fraction";
const GLUE_FRACTION: &str = "task.glue.valid-fraction";
const SST2_HELD_OUT: &str = "task.sst2.held-out";

impl TaskConfig {
    /// The values by key that decide which examples are held out of training. Where two configurations agree in them,
    /// neither is measured on an example that the other trains on.
    pub(crate) fn held_out(&self, seed: u64) -> Vec<(&'static str, String)> {
        use TaskName::*;
        let seed = ("train.seed", seed.to_string());
        match (self.name, self.glue.valid_fraction, self.sst2.held_out) {
            // Parts that are as published.
            (ImageFolder | Bccd | Ptb | Wikitext2 | Snips | Atis | Multi30k, ..) => Vec::new(),
            (Cola | Mrpc | Rte | Stsb, None, _) => vec![(GLUE_FRACTION, "not set".to_string())],
            (Cola | Mrpc | Rte | Stsb, Some(part), _) => {
                vec![(GLUE_FRACTION, part.to_string()), seed]
            }
            (Sst2, _, 0) => vec![(SST2_HELD_OUT, "0".to_string())],
            (Sst2, _, count) => vec![(SST2_HELD_OUT, count.to_string()), seed],
            (Digits, ..) => vec![(DIGITS_FRACTION, self.digits.valid_fraction.to_string()), seed],
            (FashionMnist | Cifar10, ..) => {
                vec![(IMAGES_FRACTION, self.images.valid_fraction.to_string()), seed]
            }
            // A fixed part is held out, whose examples or their scenes the seed draws.
            (DigitScenes | Fsdd, ..) => vec![seed],
            // Generated one after another, what is validated with first.
            (WordChain, ..) => {
                let valid = self.word_chain.valid_words;
                vec![("task.word-chain.valid-words", valid.to_string()), seed]
            }
            (ToneDigits, ..) => {
                let valid = self.tone_digits.valid_examples;
                vec![("task.tone-digits.valid-examples", valid.to_string()), seed]
            }
            (Requests, ..) => {
                let valid = self.requests.valid_examples;
                vec![("task.requests.valid-examples", valid.to_string()), seed]
            }
            (Scan, ..) => vec![
                ("task.scan.valid-examples", self.scan.valid_examples.to_string()),
                ("task.scan.max-actions", self.scan.max_actions.to_string()),
                seed,
            ],
            (Listops, ..) => {
                let listops = &self.listops;
                vec![
                    ("task.listops.valid-examples", listops.valid_examples.to_string()),
                    ("task.listops.min-length", listops.min_length.to_string()),
                    ("task.listops.max-length", listops.max_length.to_string()),
                    ("task.listops.max-depth", listops.max_depth.to_string()),
                    ("task.listops.max-arguments", listops.max_arguments.to_string()),
                    ("task.listops.operators", format!("{:?}", listops.operators)),
                    seed,
                ]
            }
        }
    }

    pub(super) fn validate(&self) -> Result<(), Problem> {
        let half = |fraction: Option<f64>| fraction.unwrap_or(0.5);
        for (key, fraction) in [
            (DIGITS_FRACTION, self.digits.valid_fraction),
            (IMAGES_FRACTION, self.images.valid_fraction),
            (GLUE_FRACTION, half(self.glue.valid_fraction)),
        ] {
            if !(fraction > 0.0 && fraction < 1.0) {
                let message = format!("is {fraction}; must be above 0 and below 1");
                return Err(Problem::new(key, message));
            }
        }
        for (table, result) in [
            ("digit-scenes", self.digit_scenes.validate()),
            ("word-chain", self.word_chain.validate()),
            ("log-mel", self.log_mel.validate()),
            ("tone-digits", self.tone_digits.validate()),
            ("listops", self.listops.validate()),
            ("requests", self.requests.validate()),
            ("scan", self.scan.validate()),
        ] {
            result.map_err(|error| match error {
                DataError::InvalidSetting { key, found, allowed } => {
                    Problem::new(format!("task.{table}.{key}"), format!("is {found}: {allowed}"))
                }
                other => Problem::new(format!("task.{table}"), other.to_string()),
            })?;
        }
        // Generated examples lie in memory.
        for (key, count) in [
            ("digit-scenes.train-examples", self.digit_scenes.train_examples),
            ("digit-scenes.valid-examples", self.digit_scenes.valid_examples),
            ("word-chain.train-words", self.word_chain.train_words),
            ("word-chain.valid-words", self.word_chain.valid_words),
            ("tone-digits.train-examples", self.tone_digits.train_examples),
            ("tone-digits.valid-examples", self.tone_digits.valid_examples),
            ("listops.train-examples", self.listops.train_examples),
            ("listops.valid-examples", self.listops.valid_examples),
            ("requests.train-examples", self.requests.train_examples),
            ("requests.valid-examples", self.requests.valid_examples),
        ] {
            if count > MOST_GENERATED {
                let message = format!("is {count}; must be at most {MOST_GENERATED}");
                return Err(Problem::new(format!("task.{key}"), message));
            }
        }
        let shift = self.images.shift;
        if shift > MOST_SHIFT {
            let message = format!("is {shift}; must be at most {MOST_SHIFT} pixels");
            return Err(Problem::new("task.images.shift", message));
        }
        let dropout = self.intents.word_dropout;
        if !(dropout >= 0.0 && dropout.is_finite()) {
            let message = format!("is {dropout}; must be at least 0");
            return Err(Problem::new("task.intents.word-dropout", message));
        }
        let translation = &self.translation;
        if let Err((key, message)) = translation.beam_search.validate() {
            return Err(Problem::new(format!("task.translation.beam-search.{key}"), message));
        }
        let smoothing = translation.label_smoothing;
        if !(0.0..1.0).contains(&smoothing) {
            let message = format!("is {smoothing}; must be at least 0 and below 1");
            return Err(Problem::new("task.translation.label-smoothing", message));
        }
        let one = |count: Option<usize>| count.unwrap_or(1);
        for (key, value, least) in [
            ("task.sst2.max-length", self.sst2.max_length, 3),
            ("task.sst2.train-examples", one(self.sst2.train_examples), 1),
            ("task.glue.max-length", self.glue.max_length, 5),
            ("task.glue.train-examples", one(self.glue.train_examples), 1),
            ("task.images.train-examples", one(self.images.train_examples), 1),
            ("task.images.side", self.images.side, 8),
            ("task.bccd.size", self.bccd.size[0].min(self.bccd.size[1]), 16),
            ("task.text.length", self.text.length, 1),
            ("task.text.train-words", self.text.train_words.unwrap_or(2), 2),
            ("task.intents.max-words", self.intents.max_words, 1),
            ("task.intents.max-tokens", self.intents.max_tokens, 3),
            ("task.translation.vocabulary-size", translation.vocabulary_size, 1),
            ("task.translation.max-tokens", translation.max_tokens, 1),
        ] {
            if value < least {
                return Err(Problem::new(key, format!("is {value}; must be at least {least}")));
            }
        }
        match (self.name, &self.images.folder) {
            (TaskName::ImageFolder, None) => Err(Problem::new(
                "task.images.folder",
                "is missing: the task image-folder needs a folder with `train` and `val` in it",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_out_of_generated_examples_depends_on_how_many_there_are() {
        for (name, key) in [
            ("tone-digits", "valid-examples"),
            ("word-chain", "valid-words"),
            ("requests", "valid-examples"),
            ("scan", "valid-examples"),
            ("scan", "max-actions"),
            ("listops", "valid-examples"),
            ("listops", "max-length"),
            ("listops", "max-depth"),
        ] {
            let of = |count: usize, seed| {
                let text = format!("name = \"{name}\"\n[{name}]\n{key} = {count}");
                toml::from_str::<TaskConfig>(&text).unwrap().held_out(seed)
            };
            assert_eq!(of(10, 1), of(10, 1));
            let differ = |a: Vec<(&str, String)>, b: Vec<(&str, String)>| {
                let keys = a.into_iter().zip(b).filter(|(a, b)| a != b);
                keys.map(|((key, _), _)| key.to_string()).collect::<Vec<_>>()
            };
            assert_eq!(differ(of(10, 1), of(11, 1)), [format!("task.{name}.{key}")]);
            assert_eq!(differ(of(10, 1), of(10, 2)), ["train.seed"]);
        }
    }
}
