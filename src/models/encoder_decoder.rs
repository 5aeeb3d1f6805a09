//! An encoder-decoder Transformer for translation (Vaswani et al. 2017, arXiv 1706.03762).

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Int, Tensor, TensorData, activation, module};
use serde::{Deserialize, Serialize};

use super::beam_search::{BeamSearch, Frame, Hypothesis, Predictor};
use super::bert::TokenBatch;
use super::settings::{Refused, assert_valid, heads, probabilities, sizes};
use crate::kernels::{self, AttentionMask, CrossEntropy, cross_entropy_with};
use crate::nn::{
    DecoderCache, DecoderLayer, EncoderLayer, EncoderLayerConfig, FoldBatchNorm, LayerNorm, dropout,
};
use crate::quant::ActivationQuantizer;

const LAYER_NORM_EPSILON: f64 = 1e-6;

/// How a position enters its token's vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// Sines and cosines of wavelengths from 2 pi to 20,000 pi; for any length.
    #[default]
    Sinusoidal,
    /// One trained vector for each position.
    Learned,
}

/// Configuration of [`EncoderDecoder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct EncoderDecoderConfig {
    /// Width of the model.
    pub hidden_size: usize,
    /// Width inside the feed-forward parts.
    pub intermediate_size: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Attention heads; divide the width.
    pub heads: usize,
    /// How positions enter.
    pub positions: Positions,
    /// Longest sequence, start and end included, where positions are learned.
    pub max_positions: usize,
    /// Whether source and target have one vocabulary and one table of vectors.
    pub share_embeddings: bool,
    /// Whether normalization stands before each part rather than after its residual sum.
    pub norm_first: bool,
    /// Dropout probability of embeddings and of each part's result.
    pub dropout: f64,
    /// Dropout probability of the attention probabilities.
    pub attention_dropout: f64,
}

impl Default for EncoderDecoderConfig {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            intermediate_size: 1024,
            encoder_layers: 3,
            decoder_layers: 3,
            heads: 4,
            positions: Positions::Sinusoidal,
            max_positions: 256,
            share_embeddings: true,
            norm_first: true,
            dropout: 0.1,
            attention_dropout: 0.0,
        }
    }
}

/// An encoder-decoder Transformer. The table of target vectors is also the weight of the output
/// layer (section 3.4), so one coding serves both.
#[derive(Module, Debug)]
pub struct EncoderDecoder {
    /// One vector for each source token; none where the target's serve both.
    pub source: Option<Embedding>,
    /// One vector for each target token.
    pub target: Embedding,
    /// One vector for each position of the source, where they are learned.
    pub source_positions: Option<Embedding>,
    /// One vector for each position of the target, where they are learned.
    pub target_positions: Option<Embedding>,
    /// Dropout of the embeddings.
    pub dropout: Dropout,
    /// The encoder layers, first to last.
    pub encoder: Vec<EncoderLayer>,
    /// Normalization after them, where layers normalize first.
    pub encoder_norm: Option<LayerNorm>,
    /// The decoder layers, first to last.
    pub decoder: Vec<DecoderLayer>,
    /// Normalization after them, where layers normalize first.
    pub decoder_norm: Option<LayerNorm>,
    /// What the output layer has besides the target's vectors.
    pub output: TiedOutput,
}

/// A linear layer to the tokens of a vocabulary whose weight is the table of their vectors.
#[derive(Module, Debug)]
pub struct TiedOutput {
    /// Quantizes the layer's input.
    pub input: ActivationQuantizer,
    /// One offset for each token, `[tokens]`.
    pub bias: Param<Tensor<1>>,
}

impl EncoderDecoderConfig {
    /// What is wrong with the configuration: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// Sizes of 0, heads that do not divide the width, or dropout that is no probability.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([
            ("hidden-size", self.hidden_size),
            ("intermediate-size", self.intermediate_size),
            ("encoder-layers", self.encoder_layers),
            ("decoder-layers", self.decoder_layers),
            ("max-positions", self.max_positions),
        ])?;
        heads("heads", self.heads, self.hidden_size)?;
        probabilities([("dropout", self.dropout), ("attention-dropout", self.attention_dropout)])
    }

    /// Makes the model for vocabularies of so many source and target tokens.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate), or embeddings are shared by
    /// vocabularies of different sizes.
    pub fn init(&self, source: usize, target: usize, device: &Device) -> EncoderDecoder {
        assert_valid(self.validate());
        assert!(!self.share_embeddings || source == target, "one vocabulary, where it is shared");
        let width = self.hidden_size;
        let embedding = |count, std| {
            EmbeddingConfig::new(count, width)
                .with_initializer(Initializer::Normal { mean: 0.0, std })
                .init(device)
        };
        let tokens = |count| embedding(count, (width as f64).powf(-0.5));
        let positions =
            || (self.positions == Positions::Learned).then(|| embedding(self.max_positions, 0.02));
        let norm = || self.norm_first.then(|| LayerNorm::new(width, LAYER_NORM_EPSILON, device));
        let layer = EncoderLayerConfig {
            hidden_size: width,
            intermediate_size: self.intermediate_size,
            heads: self.heads,
            hidden_dropout: self.dropout,
            attention_dropout: self.attention_dropout,
            layer_norm_epsilon: LAYER_NORM_EPSILON,
            initializer: Initializer::XavierUniform { gain: 1.0 },
            norm_first: self.norm_first,
        };
        EncoderDecoder {
            source: (!self.share_embeddings).then(|| tokens(source)),
            target: tokens(target),
            source_positions: positions(),
            target_positions: positions(),
            dropout: DropoutConfig::new(self.dropout).init(),
            encoder: (0..self.encoder_layers).map(|_| layer.init(device)).collect(),
            encoder_norm: norm(),
            decoder: (0..self.decoder_layers).map(|_| layer.init_decoder(device)).collect(),
            decoder_norm: norm(),
            output: TiedOutput {
                input: ActivationQuantizer::signed(device),
                bias: Param::from_tensor(Tensor::zeros([target], device)),
            },
        }
    }
}

impl EncoderDecoder {
    /// Predicts the token after each target token, from those before it and the source, which has
    /// at least one token.
    ///
    /// # Shapes
    ///
    /// - target: `[batch, length]`, from the start token on
    /// - output: the logits of every target token, `[batch, length, target_tokens]`
    ///
    /// # Panics
    ///
    /// If a sequence is longer than there are learned positions.
    pub fn forward(&self, source: TokenBatch, target: Tensor<2, Int>) -> Tensor<3> {
        let table = self.target.weight.val();
        let (memory, mask) = self.encode(source, &table);
        let mut x = self.embed(table.clone(), self.target_positions.as_ref(), target, 0);
        for layer in &self.decoder {
            x = layer.forward(x, memory.clone(), &mask);
        }
        self.logits(x, table.transpose())
    }

    /// The cross-entropy of every target token after the first, given those before it: the mean
    /// over all that are not padding, `[1]`.
    ///
    /// # Shapes
    ///
    /// - target: `[batch, length]`: start token, tokens, end token, and `padding` up to the length
    pub fn loss(
        &self,
        source: TokenBatch,
        target: Tensor<2, Int>,
        padding: u32,
        smoothing: f64,
    ) -> Tensor<1> {
        let [_, length] = target.dims();
        let next = target.clone().narrow(1, 1, length - 1).reshape([-1]);
        let logits = self.forward(source, target.narrow(1, 0, length - 1));
        let tokens = logits.dims()[2];
        let settings = CrossEntropy { ignored: Some(padding.into()), smoothing };
        cross_entropy_with(logits.reshape([-1, tokens as i64]), next, settings)
    }

    /// The best translation of each source that a beam search finds. The source is encoded once,
    /// and each position of a hypothesis is computed once. For a model outside of training.
    ///
    /// # Panics
    ///
    /// If a source is longer than there are learned positions.
    pub fn translate(
        &self,
        source: TokenBatch,
        search: &BeamSearch,
        frame: Frame,
    ) -> Vec<Hypothesis> {
        let [sentences, _] = source.tokens.dims();
        let mut search = search.clone();
        if let Some(positions) = &self.target_positions {
            search.max_length = search.max_length.min(positions.weight.dims()[0]);
        }
        search.search(&mut Translation::new(self, source), sentences, frame)
    }

    /// The encoder's result, `[batch, length, hidden_size]`, and what of it is seen.
    fn encode(&self, source: TokenBatch, table: &Tensor<2>) -> (Tensor<3>, AttentionMask) {
        let table = match &self.source {
            Some(source) => source.weight.val(),
            None => table.clone(),
        };
        let mut x = self.embed(table, self.source_positions.as_ref(), source.tokens, 0);
        for layer in &self.encoder {
            x = layer.forward(x, source.padding.clone());
        }
        (normalize(self.encoder_norm.as_ref(), x), AttentionMask::padding(source.padding))
    }

    /// The vectors of tokens that stand from position `first` on.
    fn embed(
        &self,
        table: Tensor<2>,
        positions: Option<&Embedding>,
        tokens: Tensor<2, Int>,
        first: usize,
    ) -> Tensor<3> {
        let ([batch, length], [_, width]) = (tokens.dims(), table.dims());
        let device = table.device();
        let positions = match positions {
            Some(positions) => {
                let most = positions.weight.dims()[0];
                assert!(first + length <= most, "{} tokens, {most} positions", first + length);
                let indices = first as i64..(first + length) as i64;
                positions.forward(Tensor::arange(indices, &device).reshape([1, length]))
            }
            None => sinusoids(first, length, width, &device),
        };
        let x = module::embedding(table, tokens) * (width as f64).sqrt();
        dropout(&self.dropout, x + positions.expand([batch, length, width]))
    }

    /// The output layer, with the transposed table as its weight, `[hidden_size, target_tokens]`.
    fn logits(&self, x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let x = self.output.input.forward(normalize(self.decoder_norm.as_ref(), x));
        let x = x.reshape([batch * length, width]);
        let logits = kernels::linear(x, weight, Some(self.output.bias.val()));
        let [_, tokens] = logits.dims();
        logits.reshape([batch, length, tokens])
    }
}

fn normalize(norm: Option<&LayerNorm>, x: Tensor<3>) -> Tensor<3> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}

/// Sines at even places, cosines at odd ones (section 3.5): `[1, length, width]`.
fn sinusoids(first: usize, length: usize, width: usize, device: &Device) -> Tensor<3> {
    let value = |position: usize, place: usize| {
        let odd = place % 2;
        let exponent = (place - odd) as f64 / width as f64;
        let angle = position as f64 / 10_000f64.powf(exponent);
        (if odd == 1 { angle.cos() } else { angle.sin() }) as f32
    };
    let rows = first..first + length;
    let values: Vec<f32> = rows.flat_map(|p| (0..width).map(move |i| value(p, i))).collect();
    Tensor::from_data(TensorData::new(values, [1, length, width]), device)
}

/// Translations that grow.
struct Translation<'a> {
    model: &'a EncoderDecoder,
    table: Tensor<2>,
    /// The output layer's weight.
    output: Tensor<2>,
    caches: Vec<DecoderCache>,
    mask: AttentionMask,
    /// The sentence of every row.
    sentences: Vec<usize>,
    /// Tokens so far.
    length: usize,
}

impl<'a> Translation<'a> {
    fn new(model: &'a EncoderDecoder, source: TokenBatch) -> Self {
        let [sentences, _] = source.tokens.dims();
        let table = model.target.weight.val();
        let (memory, mask) = model.encode(source, &table);
        let caches = model.decoder.iter().map(|layer| layer.start(memory.clone())).collect();
        // A flat tensor is laid out anew: once here, rather than at every step.
        let [tokens, width] = table.dims();
        let output = table.clone().transpose().reshape([tokens * width]).reshape([width, tokens]);
        let sentences = (0..sentences).collect();
        Self { model, table, output, caches, mask, sentences, length: 0 }
    }
}

impl Predictor for Translation<'_> {
    fn next(&mut self, tokens: &[u32]) -> Vec<f32> {
        let tokens: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
        let tokens = TensorData::new(tokens, [self.sentences.len(), 1]);
        let tokens = Tensor::from_data(tokens, &self.table.device());
        let positions = self.model.target_positions.as_ref();
        let mut x = self.model.embed(self.table.clone(), positions, tokens, self.length);
        for (layer, cache) in self.model.decoder.iter().zip(&mut self.caches) {
            x = layer.forward_next(x, cache, &self.mask);
        }
        self.length += 1;
        let logits = self.model.logits(x, self.output.clone()).squeeze_dim::<2>(1);
        let predicted = activation::log_softmax(logits, 1).into_data();
        predicted.convert::<f32>().try_to_vec().expect("data converted to f32")
    }

    fn select(&mut self, rows: &[usize]) {
        if rows.iter().copied().eq(0..self.sentences.len()) {
            return;
        }
        let sentences: Vec<usize> = rows.iter().map(|&row| self.sentences[row]).collect();
        let indices: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let rows = Tensor::<1, Int>::from_data(indices.as_slice(), &self.table.device());
        let same_memories = sentences == self.sentences;
        for cache in &mut self.caches {
            *cache = match same_memories {
                true => cache.select_before(&rows),
                false => cache.select(&rows),
            };
        }
        if !same_memories {
            let padding = self.mask.padding.take();
            self.mask.padding = padding.map(|padding| padding.select(0, rows));
        }
        self.sentences = sentences;
    }
}

impl FoldBatchNorm for EncoderDecoder {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::AdamW;
    use crate::nn::testing::{device, quantized, trains};
    use burn::nn::PositionalEncodingConfig;
    use burn::optim::{GradientsParams, ModuleOptimizer};
    use burn::tensor::{Bool, Tolerance};

    const PADDING: u32 = 0;
    const FRAME: Frame = Frame { start: 1, end: 2 };
    const TOKENS: usize = 9;

    fn config() -> EncoderDecoderConfig {
        EncoderDecoderConfig {
            hidden_size: 16,
            intermediate_size: 24,
            encoder_layers: 2,
            decoder_layers: 2,
            heads: 2,
            max_positions: 12,
            dropout: 0.0,
            ..EncoderDecoderConfig::default()
        }
    }

    /// Either order of normalization, either kind of positions, with and without a common table.
    fn configs() -> [EncoderDecoderConfig; 2] {
        let other = EncoderDecoderConfig {
            positions: Positions::Learned,
            share_embeddings: false,
            norm_first: false,
            ..config()
        };
        [config(), other]
    }

    /// Sentences, filled up to the same length.
    fn padded(sentences: &[Vec<u32>], device: &Device) -> TokenBatch {
        let length = sentences.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [sentences.len(), length];
        let token = |s: &Vec<u32>, t| i64::from(s.get(t).copied().unwrap_or(PADDING));
        let all = sentences.iter().flat_map(|s| (0..length).map(move |t| token(s, t)));
        let tokens = TensorData::new(all.collect::<Vec<i64>>(), shape);
        let ended = sentences.iter().flat_map(|s| (0..length).map(move |t| t >= s.len()));
        let padding = TensorData::new(ended.collect::<Vec<bool>>(), shape);
        TokenBatch {
            tokens: Tensor::from_data(tokens, device),
            padding: Tensor::<2, Bool>::from_data(padding, device),
            types: None,
        }
    }

    fn framed(sentence: &[u32]) -> Vec<u32> {
        [FRAME.start].iter().chain(sentence).chain([&FRAME.end]).copied().collect()
    }

    fn sources() -> Vec<Vec<u32>> {
        vec![vec![3, 4, 5, 6], vec![7], vec![8, 8, 3], vec![4, 3], vec![5, 5, 5, 5]]
    }

    /// Greedy search without a cache: the whole hypothesis again for every token.
    fn greedy(model: &EncoderDecoder, source: &[u32], max_length: usize) -> (Vec<u32>, bool) {
        let device = model.target.weight.device();
        let mut tokens = vec![FRAME.start];
        for length in 1..=max_length {
            let target = padded(std::slice::from_ref(&tokens), &device).tokens;
            let logits = model.forward(padded(&[source.to_vec()], &device), target);
            let last = logits.narrow(1, length - 1, 1).argmax(2).into_scalar::<i64>() as u32;
            if last == FRAME.end {
                return (tokens[1..].to_vec(), true);
            }
            tokens.push(last);
        }
        (tokens[1..].to_vec(), false)
    }

    /// The log-probability of a translation and its end, all at once.
    fn log_probability(model: &EncoderDecoder, source: &[u32], translation: &[u32]) -> f64 {
        let device = model.target.weight.device();
        let target = padded(&[framed(translation)], &device).tokens;
        let tokens = (translation.len() + 1) as f64;
        let source = padded(&[source.to_vec()], &device);
        -f64::from(model.loss(source, target, PADDING, 0.0).into_scalar::<f32>()) * tokens
    }

    fn search(width: usize, max_length: usize) -> BeamSearch {
        BeamSearch { width, length_penalty: 0.0, max_length }
    }

    #[test]
    fn sinusoids_are_burns() {
        let device = Device::default();
        let expected = PositionalEncodingConfig::new(6).init(&device).sinusoids;
        let expected = expected.narrow(1, 3, 40).into_data();
        let found = sinusoids(3, 40, 6, &device).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-4));
    }

    #[test]
    fn padding_changes_nothing() {
        let device = Device::default();
        for config in configs() {
            device.seed(25);
            let model = config.init(TOKENS, TOKENS, &device);
            let source = padded(&sources()[..2], &device);
            let target = padded(&[framed(&[3, 3]), framed(&[4])], &device).tokens;
            let logits = model.forward(source.clone(), target.clone());
            assert_eq!(logits.dims(), [2, 4, TOKENS]);
            let alone_source = padded(&sources()[1..2], &device);
            let alone_target = padded(&[framed(&[4])], &device).tokens;
            let alone = model.forward(alone_source.clone(), alone_target.clone());
            let found = logits.narrow(0, 1, 1).narrow(1, 0, 3).into_data();
            found.assert_approx_eq::<f32>(&alone.into_data(), Tolerance::rel_abs(1e-4, 1e-5));

            // The loss is a mean over tokens: three of one, two of the other.
            let together = model.loss(source, target, PADDING, 0.1).into_scalar::<f32>();
            let second = model.loss(alone_source, alone_target, PADDING, 0.1).into_scalar::<f32>();
            let first = padded(&sources()[..1], &device);
            let target = padded(&[framed(&[3, 3])], &device).tokens;
            let first = model.loss(first, target, PADDING, 0.1).into_scalar::<f32>();
            assert!((together - (3.0 * first + 2.0 * second) / 5.0).abs() < 1e-5);
        }
    }

    #[test]
    fn every_parameter_trains_also_quantized() {
        let device = device();
        for config in configs() {
            let config = EncoderDecoderConfig { dropout: 0.1, attention_dropout: 0.1, ..config };
            let model = config.init(TOKENS, TOKENS, &device);
            let batch = |device: &Device| {
                let target = [framed(&[6, 5, 4, 3]), framed(&[7, 7])];
                (padded(&sources()[..2], device), padded(&target, device).tokens)
            };
            let quantized = quantized(&model, 4, |model| {
                let (source, target) = batch(&device.clone().inner());
                model.forward(source, target);
            });
            for model in [model, quantized] {
                let (source, target) = batch(&device);
                trains(&model, model.loss(source, target, PADDING, 0.1));
                let inner = device.clone().inner();
                let found = model.valid().translate(batch(&inner).0, &search(3, 5), FRAME);
                assert_eq!(found.len(), 2);
            }
        }
    }

    #[test]
    fn width_1_is_greedy_search() {
        let device = Device::default();
        for config in configs() {
            for seed in 0..4 {
                device.seed(seed);
                let model = config.init(TOKENS, TOKENS, &device);
                let found = model.translate(padded(&sources(), &device), &search(1, 7), FRAME);
                for (found, source) in found.iter().zip(sources()) {
                    let expected = greedy(&model, &source, 7);
                    assert_eq!((found.tokens.clone(), found.ended), expected);
                }
            }
        }
    }

    #[test]
    fn learned_positions_bound_the_length() {
        let device = Device::default();
        device.seed(26);
        let [_, learned] = configs();
        let model = EncoderDecoderConfig { max_positions: 4, ..learned };
        let model = model.init(TOKENS, TOKENS, &device);
        let found = model.translate(padded(&sources(), &device), &search(2, 100), FRAME);
        assert!(found.iter().all(|hypothesis| hypothesis.tokens.len() <= 4));
    }

    /// The model turns sentences around.
    #[test]
    fn eight_pairs_are_learned_and_beams_find_them() {
        let device = Device::default().autodiff();
        device.seed(27);
        let mut sources = sources();
        sources.extend([vec![6, 4, 8], vec![3, 7], vec![6, 5, 4, 3]]);
        let targets: Vec<Vec<u32>> =
            sources.iter().map(|s| s.iter().rev().copied().collect()).collect();
        let framed: Vec<Vec<u32>> = targets.iter().map(|t| framed(t)).collect();
        let (source, target) = (padded(&sources, &device), padded(&framed, &device).tokens);

        let mut model = config().init(TOKENS, TOKENS, &device).train();
        let mut optimizer = ModuleOptimizer::from(AdamW::new(0.0));
        let mut loss = f32::INFINITY;
        for _ in 0..150 {
            let value = model.loss(source.clone(), target.clone(), PADDING, 0.0);
            let gradients = GradientsParams::from_grads(value.backward(), &model);
            model = optimizer.step(5e-3, model, gradients);
            loss = value.into_scalar();
        }
        assert!(loss < 0.05, "loss {loss}");

        let (model, source) = (model.valid(), padded(&sources, &device.inner()));
        let found = model.translate(source.clone(), &search(1, 9), FRAME);
        let tokens: Vec<Vec<u32>> = found.iter().map(|h| h.tokens.clone()).collect();
        assert_eq!(tokens, targets);
        for width in [2, 5] {
            let wider = model.translate(source.clone(), &search(width, 9), FRAME);
            for ((wider, greedy), source) in wider.iter().zip(&found).zip(&sources) {
                assert!(wider.ended && wider.score >= greedy.score - 1e-5);
                let expected = log_probability(&model, source, &wider.tokens);
                assert!((wider.score - expected).abs() < 1e-4, "{} {expected}", wider.score);
            }
        }
    }

    #[test]
    fn a_beam_of_all_sequences_is_at_least_as_good_as_greedy_search() {
        let device = Device::default();
        for seed in 0..6 {
            device.seed(seed);
            let model = config().init(TOKENS, TOKENS, &device);
            let batch = || padded(&sources()[..2], &device);
            let greedy = model.translate(batch(), &search(1, 3), FRAME);
            let all = model.translate(batch(), &search(TOKENS.pow(3), 3), FRAME);
            for ((all, greedy), source) in all.iter().zip(&greedy).zip(sources()) {
                assert!(all.ended && (!greedy.ended || all.score >= greedy.score - 1e-5));
                let expected = log_probability(&model, &source, &all.tokens);
                assert!((all.score - expected).abs() < 1e-4, "{} {expected}", all.score);
            }
        }
    }
}
