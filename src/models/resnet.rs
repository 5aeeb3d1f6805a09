//! ResNet for small images (He et al. 2015, arXiv 1512.03385, section 4.2), and the parts that the
//! larger ones of [`resnet_imagenet`](super::resnet_imagenet) share with it.

use burn::module::Module;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, s};
use serde::{Deserialize, Serialize};

use super::settings::{Refused, assert_valid, sizes};
use super::{Classifier, convolution};
use crate::kernels::Activation;
use crate::nn::{ConvNorm, FoldBatchNorm, Quantized};

/// Configuration of a [`ResNet`] for small images: 6n + 2 layers in three stages of n blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// Layers, 6n + 2: 20 is ResNet-20.
    pub depth: usize,
    /// Channels of the first stage; the second and third have twice and four times as many.
    pub width: usize,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self { depth: 20, width: 16 }
    }
}

/// A residual network. That of [`ResNetConfig`] serves any image of at least 4 x 4 pixels: 32 x 32
/// as published, 8 x 8 for the optical digits.
#[derive(Module, Debug)]
pub struct ResNet {
    /// First convolution.
    pub stem: ConvNorm,
    /// Pooling after it, for large images.
    pub stem_pool: Option<MaxPool2d>,
    /// The stages, each a list of blocks.
    pub stages: Vec<Vec<ResidualBlock>>,
    /// Average over all positions.
    pub pool: AdaptiveAvgPool2d,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

/// Two or three convolutions with a shortcut around them.
///
/// Where the shape changes and there is no projection, the shortcut has no parameters: it takes
/// every second pixel and fills the new channels with zeros (option A of the paper).
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// First convolution.
    pub conv1: ConvNorm,
    /// Second convolution.
    pub conv2: ConvNorm,
    /// Third convolution, of bottleneck blocks.
    pub conv3: Option<ConvNorm>,
    /// Convolution of the shortcut.
    pub projection: Option<ConvNorm>,
    /// Stride of the block.
    pub stride: usize,
}

impl ResNetConfig {
    /// What is wrong with the settings.
    ///
    /// # Errors
    ///
    /// A depth that is not 6n + 2, or no channels.
    pub fn validate(&self) -> Result<(), Refused> {
        let depth = self.depth;
        if !(8..=1202).contains(&depth) || !(depth - 2).is_multiple_of(6) {
            return Err((
                "depth",
                format!("is {depth}; must be 6n + 2 with n from 1 to 200: 8, 14, 20, ..."),
            ));
        }
        sizes([("width", self.width)])
    }

    /// Makes the model for images of `channels` channels and `classes` classes.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> ResNet {
        assert_valid(self.validate());
        let blocks = (self.depth - 2) / 6;
        let stage = |stage: usize| {
            let width = self.width << stage;
            let block = |index: usize| match (stage, index) {
                (1.., 0) => ResidualBlock::basic(width / 2, width, 2, device),
                _ => ResidualBlock::basic(width, width, 1, device),
            };
            (0..blocks).map(block).collect()
        };
        ResNet {
            stem: ConvNorm::new(convolution([channels, self.width], 3, 1, 1, device), device),
            stem_pool: None,
            stages: (0..3).map(stage).collect(),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            classifier: Quantized::non_negative(
                LinearConfig::new(self.width * 4, classes).init(device),
                device,
            ),
        }
    }
}

impl ResidualBlock {
    /// Two 3x3 convolutions, the first with the stride.
    pub(super) fn basic(from: usize, to: usize, stride: usize, device: &Device) -> Self {
        Self {
            conv1: conv_norm([from, to], 3, stride, device),
            conv2: conv_norm([to, to], 3, 1, device),
            conv3: None,
            projection: None,
            stride,
        }
    }

    /// Convolutions of 1x1, 3x3 and 1x1, the second with the stride, over `inner` channels inside.
    pub(super) fn bottleneck(
        [from, inner, to]: [usize; 3],
        stride: usize,
        device: &Device,
    ) -> Self {
        Self {
            conv1: conv_norm([from, inner], 1, 1, device),
            conv2: conv_norm([inner, inner], 3, stride, device),
            conv3: Some(conv_norm([inner, to], 1, 1, device)),
            projection: None,
            stride,
        }
    }

    /// The same with a 1x1 convolution as shortcut (option B of the paper).
    pub(super) fn with_projection(self, from: usize, to: usize, device: &Device) -> Self {
        Self { projection: Some(conv_norm([from, to], 1, self.stride, device)), ..self }
    }

    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels_in, height, width]`, not negative
    /// - output: `[batch, channels_out, height / stride, width / stride]`, not negative
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = self.conv1.forward(x.clone(), Activation::Relu);
        let inner = match &self.conv3 {
            Some(last) => {
                last.forward(self.conv2.forward(inner, Activation::Relu), Activation::None)
            }
            None => self.conv2.forward(inner, Activation::None),
        };
        Activation::Relu.forward(inner + self.shortcut(x))
    }

    fn shortcut(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some(projection) = &self.projection {
            return projection.forward(x, Activation::None);
        }
        if self.stride == 1 {
            return x;
        }
        let x = x.slice(s![.., .., ..;2, ..;2]);
        let zeros = x.zeros_like();
        Tensor::cat(vec![x, zeros], 1)
    }
}

/// A convolution whose input is the result of a ReLU.
fn conv_norm(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> ConvNorm {
    ConvNorm::non_negative(convolution(channels, kernel, stride, 1, device), device)
}

impl FoldBatchNorm for ResNet {
    fn conv_norms(&mut self) -> Vec<&mut ConvNorm> {
        let blocks = self.stages.iter_mut().flatten().flat_map(|block| {
            let ResidualBlock { conv1, conv2, conv3, projection, .. } = block;
            [conv1, conv2].into_iter().chain(conv3).chain(projection)
        });
        std::iter::once(&mut self.stem).chain(blocks).collect()
    }
}

impl Classifier for ResNet {
    /// Images, `[batch, channels, height, width]`.
    type Input = Tensor<4>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.stem.forward(images, Activation::Relu);
        if let Some(pool) = &self.stem_pool {
            x = pool.forward(x);
        }
        for block in self.stages.iter().flatten() {
            x = block.forward(x);
        }
        self.classifier.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}
