//! A Vision Transformer for small images (Dosovitskiy et al. 2020, arXiv 2010.11929).

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig,
};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::Classifier;
use super::settings::{Refused, heads, probabilities, sizes};
use crate::nn::{EncoderLayer, EncoderLayerConfig, FoldBatchNorm, LayerNorm, Quantized, dropout};

/// Configuration of [`Vit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct VitConfig {
    /// Pixels along each side of a patch; divides the sides of the images.
    pub patch_size: usize,
    /// Width of the model.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; divide the width.
    pub heads: usize,
    /// Dropout probability of embeddings and of each part's result.
    pub dropout: f64,
    /// Dropout probability of the attention probabilities.
    pub attention_dropout: f64,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            patch_size: 4,
            hidden_size: 192,
            intermediate_size: 384,
            layers: 6,
            heads: 3,
            dropout: 0.1,
            attention_dropout: 0.0,
        }
    }
}

/// A Vision Transformer: patches as tokens, a class token, and an encoder that normalizes before
/// each part.
#[derive(Module, Debug)]
pub struct Vit {
    /// From the pixels of a patch to a token.
    pub patches: Quantized<Conv2d>,
    /// The token that the class is read from, `[hidden_size]`.
    pub class_token: Param<Tensor<1>>,
    /// One vector for the class token, and one for each patch.
    pub position: Embedding,
    /// Dropout of the embeddings.
    pub dropout: Dropout,
    /// The encoder layers, first to last.
    pub layers: Vec<EncoderLayer>,
    /// Normalization after the last layer.
    pub norm: LayerNorm,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

impl VitConfig {
    /// What is wrong with the configuration: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// Sizes of 0, heads that do not divide the width, or dropout that is no probability.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([
            ("hidden-size", self.hidden_size),
            ("intermediate-size", self.intermediate_size),
            ("layers", self.layers),
        ])?;
        heads("heads", self.heads, self.hidden_size)?;
        probabilities([("dropout", self.dropout), ("attention-dropout", self.attention_dropout)])
    }

    /// The number of patches of an image of a height and a width.
    ///
    /// # Errors
    ///
    /// If patches do not divide the image: the key, and what was found and is allowed.
    pub fn patches(&self, [height, width]: [usize; 2]) -> Result<usize, Refused> {
        let patch = self.patch_size;
        if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
            let message =
                format!("is {patch}; must divide the images of {width} by {height} pixels");
            return Err(("patch-size", message));
        }
        Ok((height / patch) * (width / patch))
    }

    /// Makes the model for images of `channels` channels, a height and a width, and `classes`
    /// classes.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate), or patches do not divide
    /// the images.
    pub fn init(
        &self,
        [channels, height, width]: [usize; 3],
        classes: usize,
        device: &Device,
    ) -> Vit {
        let patches = self.validate().and_then(|()| self.patches([height, width]));
        let patches = patches.unwrap_or_else(|(key, message)| panic!("{key} {message}"));
        let (width, patch) = (self.hidden_size, [self.patch_size; 2]);
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let layer = EncoderLayerConfig {
            hidden_size: width,
            intermediate_size: self.intermediate_size,
            heads: self.heads,
            hidden_dropout: self.dropout,
            attention_dropout: self.attention_dropout,
            layer_norm_epsilon: 1e-6,
            initializer: Initializer::XavierUniform { gain: 1.0 },
            norm_first: true,
        };
        Vit {
            patches: Quantized::new(
                Conv2dConfig::new([channels, width], patch).with_stride(patch).init(device),
                device,
            ),
            class_token: small.init([width], device),
            position: EmbeddingConfig::new(1 + patches, width)
                .with_initializer(small.clone())
                .init(device),
            dropout: DropoutConfig::new(self.dropout).init(),
            layers: (0..self.layers).map(|_| layer.init(device)).collect(),
            norm: LayerNorm::new(width, 1e-6, device),
            classifier: Quantized::new(
                LinearConfig::new(width, classes).with_initializer(small).init(device),
                device,
            ),
        }
    }
}

impl FoldBatchNorm for Vit {}

impl Classifier for Vit {
    /// Images of the size that the model was made for, `[batch, channels, height, width]`.
    type Input = Tensor<4>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let patches = self.patches.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        let [batch, count, width] = patches.dims();
        let device = patches.device();
        let class = self.class_token.val().reshape([1, 1, width]).expand([batch, 1, width]);
        let tokens = Tensor::cat(vec![class, patches], 1);
        let positions = Tensor::<1, Int>::arange(0..1 + count as i64, &device).unsqueeze();
        let positions = self.position.forward(positions).expand([batch, 1 + count, width]);
        let mut x = dropout(&self.dropout, tokens + positions);

        let padding = Tensor::<2, Int>::zeros([batch, 1 + count], &device).bool();
        for layer in &self.layers {
            x = layer.forward(x, padding.clone());
        }
        let class = x.narrow(1, 0, 1).squeeze_dim::<2>(1);
        self.classifier.forward(self.norm.forward(class))
    }
}
