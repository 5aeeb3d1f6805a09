//! BERT encoders (Devlin et al. 2018, arXiv 1810.04805), their own or from a published folder.

use std::path::Path;

use burn::module::Module;
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig,
};
use burn::tensor::{Bool, Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::settings::{Refused, assert_valid, heads, positive, probabilities, sizes};
use super::{CheckpointError, Classifier, Naming, Tagger, Tags, load_checkpoint};
use crate::nn::{
    EncoderLayer, EncoderLayerConfig, FoldBatchNorm, LayerNorm, Quantized, dropout, mean_until,
    select_positions,
};

/// Configuration of [`Bert`], under the names of a published folder's `config.json` (whose
/// `hidden_size` is `hidden-size` in a config of this project).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BertConfig {
    /// Width of the model.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads; divide the width.
    pub num_attention_heads: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Token types (sentence A and B).
    pub type_vocab_size: usize,
    /// Tokens in the vocabulary; 0 takes it from the data.
    pub vocab_size: usize,
    /// Dropout probability of embeddings and of each part's result.
    pub hidden_dropout_prob: f64,
    /// Dropout probability of the attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Added to the variance in layer normalization.
    pub layer_norm_eps: f64,
    /// Standard deviation of the weights at the start.
    pub initializer_range: f64,
    /// What stands for a whole sequence.
    pub pooling: Pooling,
}

/// What of the last encoder layer stands for a whole sequence: the pooler and a head read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// Its first token, as in BERT.
    #[default]
    FirstToken,
    /// The mean of its tokens, as sentence encoders are trained (Reimers and Gurevych 2019, arXiv
    /// 1908.10084).
    Mean,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            hidden_size: 128,
            intermediate_size: 512,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            vocab_size: 0,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            layer_norm_eps: 1e-12,
            initializer_range: 0.02,
            pooling: Pooling::FirstToken,
        }
    }
}

/// The keys of a published `config.json` that decide what the model computes.
#[derive(Deserialize)]
struct PublishedConfig {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    vocab_size: usize,
    hidden_dropout_prob: f64,
    attention_probs_dropout_prob: f64,
    layer_norm_eps: f64,
    initializer_range: f64,
    model_type: String,
    hidden_act: String,
    position_embedding_type: Option<String>,
}

/// A BERT encoder: embeddings, a stack of encoder layers, and a pooler.
#[derive(Module, Debug)]
pub struct Bert {
    /// Sum of word, position and token-type embeddings.
    pub embeddings: Embeddings,
    /// The encoder layers, first to last.
    pub layers: Vec<EncoderLayer>,
    /// Linear layer and tanh on what stands for the sequence.
    pub pooler: Quantized<Linear>,
    /// What that is.
    #[module(skip)]
    pub pooling: Pooling,
}

/// Word, position and token-type embeddings, summed and normalized.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// One vector for each token of the vocabulary.
    pub word: Embedding,
    /// One vector for each position.
    pub position: Embedding,
    /// One vector for each token type.
    pub token_type: Embedding,
    /// Normalization of the sum.
    pub norm: LayerNorm,
    /// Dropout after it.
    pub dropout: Dropout,
}

/// A batch of token sequences.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Token indices, `[batch, length]`.
    pub tokens: Tensor<2, Int>,
    /// True where a sequence has ended, `[batch, length]`.
    pub padding: Tensor<2, Bool>,
    /// The type of every token, `[batch, length]`: in a pair of sentences 0 in the first, 1 in the
    /// second. All are of type 0 where there is none.
    pub types: Option<Tensor<2, Int>>,
}

/// A batch of sentences cut into sub-words.
#[derive(Clone, Debug)]
pub struct WordBatch {
    /// The sub-words.
    pub tokens: TokenBatch,
    /// The position of every word's first sub-word, `[batch, words]`; any position fills a sentence
    /// up.
    pub words: Tensor<2, Int>,
}

/// What [`Bert`] computes of a batch.
#[derive(Clone, Debug)]
pub struct BertOutput {
    /// The last encoder layer's result, `[batch, length, hidden_size]`.
    pub hidden: Tensor<3>,
    /// The pooler's result, `[batch, hidden_size]`.
    pub pooled: Tensor<2>,
}

impl BertConfig {
    /// What is wrong with the settings.
    ///
    /// # Errors
    ///
    /// Sizes of 0, heads that do not divide the width, dropout that is no probability, or an epsilon or
    /// spread that is not above 0.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([
            ("hidden-size", self.hidden_size),
            ("intermediate-size", self.intermediate_size),
            ("num-hidden-layers", self.num_hidden_layers),
            ("max-position-embeddings", self.max_position_embeddings),
            ("type-vocab-size", self.type_vocab_size),
        ])?;
        heads("num-attention-heads", self.num_attention_heads, self.hidden_size)?;
        probabilities([
            ("hidden-dropout-prob", self.hidden_dropout_prob),
            ("attention-probs-dropout-prob", self.attention_probs_dropout_prob),
        ])?;
        positive([
            ("layer-norm-eps", self.layer_norm_eps),
            ("initializer-range", self.initializer_range),
        ])
    }

    /// Makes the model.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate), or the vocabulary is empty.
    pub fn init(&self, device: &Device) -> Bert {
        assert_valid(self.validate());
        assert!(self.vocab_size > 0, "the vocabulary is not empty");
        let embedding = |count| {
            EmbeddingConfig::new(count, self.hidden_size)
                .with_initializer(self.initializer())
                .init(device)
        };
        let layer = EncoderLayerConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            heads: self.num_attention_heads,
            hidden_dropout: self.hidden_dropout_prob,
            attention_dropout: self.attention_probs_dropout_prob,
            layer_norm_epsilon: self.layer_norm_eps,
            initializer: self.initializer(),
            norm_first: false,
        };
        Bert {
            embeddings: Embeddings {
                word: embedding(self.vocab_size),
                position: embedding(self.max_position_embeddings),
                token_type: embedding(self.type_vocab_size),
                norm: LayerNorm::new(self.hidden_size, self.layer_norm_eps, device),
                dropout: DropoutConfig::new(self.hidden_dropout_prob).init(),
            },
            layers: (0..self.num_hidden_layers).map(|_| layer.init(device)).collect(),
            pooler: self.linear(self.hidden_size, device),
            pooling: self.pooling,
        }
    }

    /// Makes a classifier with a fresh head.
    pub fn init_classifier(&self, classes: usize, device: &Device) -> BertClassifier {
        self.classifier(self.init(device), classes, device)
    }

    /// Makes a model of one number with a fresh head.
    pub fn init_regressor(&self, device: &Device) -> BertRegressor {
        self.regressor(self.init(device), device)
    }

    /// Makes a tagger with fresh heads.
    pub fn init_tagger(&self, labels: usize, intents: usize, device: &Device) -> BertTagger {
        self.tagger(self.init(device), labels, intents, device)
    }

    fn classifier(&self, bert: Bert, classes: usize, device: &Device) -> BertClassifier {
        BertClassifier { encoder: bert, classifier: self.head(classes, device) }
    }

    fn regressor(&self, bert: Bert, device: &Device) -> BertRegressor {
        BertRegressor { encoder: bert, output: self.head(1, device) }
    }

    fn tagger(&self, bert: Bert, labels: usize, intents: usize, device: &Device) -> BertTagger {
        BertTagger {
            encoder: bert,
            slots: self.head(labels, device),
            intent: self.head(intents, device),
        }
    }

    /// A linear layer of a head, which drops a part of its input.
    fn head(&self, to: usize, device: &Device) -> Quantized<Linear> {
        self.linear(to, device).with_dropout(self.hidden_dropout_prob)
    }

    fn linear(&self, to: usize, device: &Device) -> Quantized<Linear> {
        let config = LinearConfig::new(self.hidden_size, to).with_initializer(self.initializer());
        Quantized::new(config.init(device), device)
    }

    fn initializer(&self) -> Initializer {
        Initializer::Normal { mean: 0.0, std: self.initializer_range }
    }

    /// Reads the `config.json` of a published folder. It does not say what stands for a sequence:
    /// that is the first token until [`BertConfig::pooling`] is set.
    ///
    /// # Errors
    ///
    /// If the file is missing, is not such a file, or describes a model that this one is not
    /// (another family, activation, or kind of position embedding).
    pub fn from_published(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| CheckpointError::Read { path: path.clone(), source })?;
        let unsupported = |reason: String| CheckpointError::Config { path: path.clone(), reason };
        let config: PublishedConfig =
            serde_json::from_str(&text).map_err(|error| unsupported(error.to_string()))?;
        if config.model_type != "bert" {
            return Err(unsupported(format!(
                "model_type is `{}`; only `bert` is supported",
                config.model_type
            )));
        }
        if config.hidden_act != "gelu" {
            return Err(unsupported(format!(
                "hidden_act is `{}`; only `gelu` is supported",
                config.hidden_act
            )));
        }
        if let Some(kind) = config.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(unsupported(format!(
                "position_embedding_type is `{kind}`; only `absolute` is supported"
            )));
        }
        if config.num_attention_heads == 0
            || !config.hidden_size.is_multiple_of(config.num_attention_heads)
        {
            return Err(unsupported(format!(
                "num_attention_heads {} does not divide hidden_size {}",
                config.num_attention_heads, config.hidden_size
            )));
        }
        Ok(Self {
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            max_position_embeddings: config.max_position_embeddings,
            type_vocab_size: config.type_vocab_size,
            vocab_size: config.vocab_size,
            hidden_dropout_prob: config.hidden_dropout_prob,
            attention_probs_dropout_prob: config.attention_probs_dropout_prob,
            layer_norm_eps: config.layer_norm_eps,
            initializer_range: config.initializer_range,
            pooling: Pooling::FirstToken,
        })
    }
}

/// Names of a published file, and what they are here: each pattern is replaced in turn.
const PUBLISHED_NAMES: [(&str, &str); 13] = [
    (r"^bert\.", ""),
    (r"^embeddings\.word_embeddings\.", "embeddings.word."),
    (r"^embeddings\.position_embeddings\.", "embeddings.position."),
    (r"^embeddings\.token_type_embeddings\.", "embeddings.token_type."),
    (r"^embeddings\.LayerNorm\.", "embeddings.norm."),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.self\.", ".attention."),
    (r"\.attention\.output\.LayerNorm\.", ".attention_norm."),
    (r"\.attention\.output\.dense\.", ".attention.output.layer."),
    (r"\.intermediate\.dense\.", ".intermediate.layer."),
    (r"\.output\.LayerNorm\.", ".output_norm."),
    (r"\.output\.dense\.", ".output.layer."),
    (r"^pooler\.dense\.", "pooler.layer."),
];

/// What a published file holds beside the encoder: positions 0, 1, 2, ..., and the heads of
/// pretraining or of the task that it was fine-tuned on, instead of which a task here has its own.
fn is_unneeded(name: &str) -> bool {
    let heads = ["cls.", "classifier.", "qa_outputs."];
    name == "embeddings.position_ids" || heads.iter().any(|head| name.starts_with(head))
}

/// Weights of a published folder, the preferred one first.
const PUBLISHED_WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

impl Bert {
    /// Reads a published folder: `config.json`, and `model.safetensors` or else
    /// `pytorch_model.bin`. Weights of 16 bits are widened to 32.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, and if a tensor is missing, left over, or of another shape.
    pub fn from_published(
        folder: &Path,
        device: &Device,
    ) -> Result<(Self, BertConfig), CheckpointError> {
        let config = BertConfig::from_published(folder)?;
        let [preferred, other] = PUBLISHED_WEIGHTS.map(|name| folder.join(name));
        let path = if !preferred.exists() && other.exists() { other } else { preferred };
        let names = PUBLISHED_NAMES.map(|(from, to)| (from.to_string(), to.to_string()));
        let naming = Naming { names: names.into(), unneeded: is_unneeded };
        let bert = load_checkpoint(config.init(device), &path, &naming, None)?;
        Ok((bert, config))
    }

    /// Runs the encoder and the pooler.
    pub fn forward(&self, batch: TokenBatch) -> BertOutput {
        let mut hidden = self.embeddings.forward(batch.tokens, batch.types);
        for layer in &self.layers {
            hidden = layer.forward(hidden, batch.padding.clone());
        }
        let sequence = match self.pooling {
            Pooling::FirstToken => hidden.clone().narrow(1, 0, 1).squeeze_dim(1),
            Pooling::Mean => mean_until(hidden.clone(), batch.padding),
        };
        BertOutput { hidden, pooled: self.pooler.forward(sequence).tanh() }
    }

    /// The same encoder with another pooling.
    pub fn with_pooling(self, pooling: Pooling) -> Self {
        Self { pooling, ..self }
    }
}

impl Embeddings {
    /// Embeds token indices; all are of type 0 where there are no types.
    ///
    /// # Shapes
    ///
    /// - tokens, types: `[batch, length]`
    /// - output: `[batch, length, hidden_size]`
    pub fn forward(&self, tokens: Tensor<2, Int>, types: Option<Tensor<2, Int>>) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let device = tokens.device();
        let positions = Tensor::arange(0..length as i64, &device).reshape([1, length]);
        let types = types.unwrap_or_else(|| Tensor::zeros([1, 1], &device));
        let sum = self.word.forward(tokens)
            + self.position.forward(positions).expand([batch as i64, -1, -1])
            + self.token_type.forward(types).expand([batch as i64, length as i64, -1]);
        dropout(&self.dropout, self.norm.forward(sum))
    }
}

/// A BERT encoder with a linear layer to classes on the pooler's result.
#[derive(Module, Debug)]
pub struct BertClassifier {
    /// The encoder.
    pub encoder: Bert,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

impl BertClassifier {
    /// A published encoder with a fresh head.
    ///
    /// # Errors
    ///
    /// Those of [`Bert::from_published`].
    pub fn from_published(
        folder: &Path,
        classes: usize,
        pooling: Pooling,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let (bert, config) = Bert::from_published(folder, device)?;
        Ok(config.classifier(bert.with_pooling(pooling), classes, device))
    }
}

impl FoldBatchNorm for BertClassifier {}

impl Classifier for BertClassifier {
    type Input = TokenBatch;

    fn forward(&self, batch: TokenBatch) -> Tensor<2> {
        let pooled = self.encoder.forward(batch).pooled;
        self.classifier.forward(pooled)
    }
}

/// A BERT encoder with a linear layer to one number on the pooler's result.
#[derive(Module, Debug)]
pub struct BertRegressor {
    /// The encoder.
    pub encoder: Bert,
    /// Linear layer to the number.
    pub output: Quantized<Linear>,
}

impl BertRegressor {
    /// A published encoder with a fresh head.
    ///
    /// # Errors
    ///
    /// Those of [`Bert::from_published`].
    pub fn from_published(
        folder: &Path,
        pooling: Pooling,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let (bert, config) = Bert::from_published(folder, device)?;
        Ok(config.regressor(bert.with_pooling(pooling), device))
    }

    /// One number for every sequence, `[batch]`.
    pub fn forward(&self, batch: TokenBatch) -> Tensor<1> {
        let pooled = self.encoder.forward(batch).pooled;
        self.output.forward(pooled).squeeze_dim(1)
    }
}

/// A BERT encoder that tags words (Chen et al. 2019, arXiv 1902.10909): a linear layer to slot
/// labels on every word's first sub-word, and one to intents on the pooler's result.
#[derive(Module, Debug)]
pub struct BertTagger {
    /// The encoder.
    pub encoder: Bert,
    /// Linear layer from a word to its slot label.
    pub slots: Quantized<Linear>,
    /// Linear layer from the sentence to its intent.
    pub intent: Quantized<Linear>,
}

impl BertTagger {
    /// A published encoder with fresh heads.
    ///
    /// # Errors
    ///
    /// Those of [`Bert::from_published`].
    pub fn from_published(
        folder: &Path,
        labels: usize,
        intents: usize,
        pooling: Pooling,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        let (bert, config) = Bert::from_published(folder, device)?;
        Ok(config.tagger(bert.with_pooling(pooling), labels, intents, device))
    }
}

impl FoldBatchNorm for BertTagger {}

impl Tagger for BertTagger {
    type Input = WordBatch;

    fn forward(&self, batch: WordBatch) -> Tags {
        let BertOutput { hidden, pooled } = self.encoder.forward(batch.tokens);
        let words = select_positions(hidden, batch.words);
        Tags { slots: self.slots.forward(words), intent: self.intent.forward(pooled) }
    }
}

impl FoldBatchNorm for BertRegressor {}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::kernels::cross_entropy;
    use crate::nn::testing::{device, quantized, trains};
    use burn::nn::loss::{MseLoss, Reduction};
    use burn::tensor::Tolerance;

    /// A small BERT of nine tokens and six positions.
    pub(crate) fn config() -> BertConfig {
        BertConfig {
            hidden_size: 8,
            intermediate_size: 12,
            num_attention_heads: 2,
            vocab_size: 9,
            max_position_embeddings: 6,
            // Wide enough for no gradient to vanish.
            initializer_range: 0.5,
            ..BertConfig::default()
        }
    }

    /// A pair of two tokens and three, and one of a token and one.
    fn pairs(device: &Device) -> TokenBatch {
        TokenBatch {
            tokens: Tensor::from_ints([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]], device),
            padding: Tensor::from_data([[false; 5], [false, false, true, true, true]], device),
            types: Some(Tensor::from_ints([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0]], device)),
        }
    }

    #[test]
    fn heads_of_published_files_are_left_out() {
        for name in ["cls.predictions.bias", "classifier.weight", "qa_outputs.bias"] {
            assert!(is_unneeded(name), "{name}");
        }
        for name in ["layers.0.attention.query.layer.weight", "pooler.layer.bias"] {
            assert!(!is_unneeded(name), "{name}");
        }
    }

    #[test]
    fn token_types_tell_the_sentences_of_a_pair_apart() {
        let device = Device::default();
        device.seed(23);
        let model = config().init_classifier(3, &device);
        let of_types = |types| model.forward(TokenBatch { types, ..pairs(&device) });
        let none = of_types(None).into_data();
        let first = of_types(Some(Tensor::zeros([2, 5], &device))).into_data();
        first.assert_approx_eq::<f32>(&none, Tolerance::rel_abs(1e-5, 1e-6));
        let second = of_types(Some(Tensor::ones([2, 5], &device)));
        let both = of_types(pairs(&device).types);
        for (a, b) in [(&second, &both), (&both, &Tensor::from_data(none, &device))] {
            let least = (a.clone() - b.clone()).abs().max_dim(1).min().into_scalar::<f32>();
            assert!(least > 1e-3, "types change the logits by {least}");
        }
    }

    #[test]
    fn mean_pooling_reads_all_tokens_but_the_padding() {
        let device = Device::default();
        device.seed(25);
        let bert = BertConfig { pooling: Pooling::Mean, ..config() }.init(&device);
        let BertOutput { hidden, pooled } = bert.forward(pairs(&device));
        for (row, length) in [(0, 5), (1, 2)] {
            let tokens = hidden.clone().narrow(0, row, 1).narrow(1, 0, length).mean_dim(1);
            let expected = bert.pooler.forward(tokens.squeeze_dim::<2>(1)).tanh();
            let found = pooled.clone().narrow(0, row, 1).into_data();
            let tolerance = Tolerance::rel_abs(1e-5, 1e-6);
            found.assert_approx_eq::<f32>(&expected.into_data(), tolerance);
        }
    }

    #[test]
    fn a_regressor_gives_one_number_and_trains_also_quantized() {
        let device = device();
        let model = config().init_regressor(&device);
        let quantized = quantized(&model, 4, |model| {
            model.forward(pairs(&device.clone().inner()));
        });
        for model in [model, quantized] {
            let scores = model.forward(pairs(&device));
            assert_eq!(scores.dims(), [2]);
            let targets = Tensor::from_floats([4.5, 0.5], &device);
            trains(&model, MseLoss::new().forward(scores, targets, Reduction::Mean));
        }
    }

    /// Words begin at sub-words 1, 2 and 4, and at sub-word 1.
    fn words(device: &Device) -> WordBatch {
        let tokens = TokenBatch { types: None, ..pairs(device) };
        WordBatch { tokens, words: Tensor::from_ints([[1, 2, 4], [1, 0, 0]], device) }
    }

    #[test]
    fn a_tagger_labels_first_sub_words() {
        let device = Device::default();
        device.seed(24);
        let model = config().init_tagger(4, 3, &device);
        let tags = model.forward(words(&device));
        assert_eq!((tags.intent.dims(), tags.slots.dims()), ([2, 3], [2, 3, 4]));
        let BertOutput { hidden, pooled } = model.encoder.forward(words(&device).tokens);
        let tolerance = Tolerance::rel_abs(1e-5, 1e-6);
        let intent = model.intent.forward(pooled).into_data();
        tags.intent.into_data().assert_approx_eq::<f32>(&intent, tolerance);
        for (sentence, word, position) in [(0, 0, 1), (0, 1, 2), (0, 2, 4), (1, 0, 1)] {
            let expected = hidden.clone().narrow(0, sentence, 1).narrow(1, position, 1);
            let expected = model.slots.forward(expected).into_data();
            let found = tags.slots.clone().narrow(0, sentence, 1).narrow(1, word, 1).into_data();
            found.assert_approx_eq::<f32>(&expected, tolerance);
        }
    }

    #[test]
    fn a_tagger_trains_every_parameter_also_quantized() {
        let device = device();
        let model = config().init_tagger(4, 3, &device);
        let quantized = quantized(&model, 4, |model| {
            model.forward(words(&device.clone().inner()));
        });
        for model in [model, quantized] {
            let tags = model.forward(words(&device));
            let intents = Tensor::from_ints([2, 0], &device);
            let labels = Tensor::from_ints([0, 1, 2, 3, 3, 2], &device);
            let loss = cross_entropy(tags.intent, intents)
                + cross_entropy(tags.slots.reshape([6, 4]), labels);
            trains(&model, loss);
        }
    }
}
