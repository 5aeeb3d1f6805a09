//! ResNet for small images (He et al. 2015, arXiv 1512.03385, section 4.2).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, s};
use serde::{Deserialize, Serialize};

use super::{Classifier, convolution};
use crate::kernels::Activation;
use crate::nn::{Quantized, batch_norm};

/// Configuration of [`ResNet`]: 6n + 2 layers in three stages of n blocks.
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

/// ResNet-20 and its like. Serves any image of at least 4 x 4 pixels: 32 x 32 as published, 8 x 8
/// for the optical digits.
#[derive(Module, Debug)]
pub struct ResNet {
    /// First convolution.
    pub stem: Quantized<Conv2d>,
    /// Normalization after it.
    pub stem_norm: BatchNorm,
    /// The three stages, each a list of blocks.
    pub stages: Vec<Vec<BasicBlock>>,
    /// Average over all positions.
    pub pool: AdaptiveAvgPool2d,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

/// Two 3x3 convolutions with a shortcut around them.
///
/// The shortcut has no parameters: where the block halves the image and widens the channels, it
/// takes every second pixel and fills the new channels with zeros (option A of the paper).
#[derive(Module, Debug)]
pub struct BasicBlock {
    /// First convolution.
    pub conv1: Quantized<Conv2d>,
    /// Normalization after it.
    pub norm1: BatchNorm,
    /// Second convolution.
    pub conv2: Quantized<Conv2d>,
    /// Normalization after it.
    pub norm2: BatchNorm,
    /// Stride of the first convolution and of the shortcut.
    pub stride: usize,
}

impl ResNetConfig {
    /// Makes the model for images of `channels` channels and `classes` classes.
    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> ResNet {
        let blocks = (self.depth - 2) / 6;
        let stage = |stage: usize| {
            let width = self.width << stage;
            let block = |index: usize| match (stage, index) {
                (1.., 0) => basic_block(width / 2, width, 2, device),
                _ => basic_block(width, width, 1, device),
            };
            (0..blocks).map(block).collect()
        };
        let last = self.width * 4;
        ResNet {
            stem: Quantized::new(conv3x3(channels, self.width, 1, device), device),
            stem_norm: BatchNormConfig::new(self.width).init(device),
            stages: (0..3).map(stage).collect(),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            classifier: Quantized::non_negative(
                LinearConfig::new(last, classes).init(device),
                device,
            ),
        }
    }
}

fn conv3x3(from: usize, to: usize, stride: usize, device: &Device) -> Conv2d {
    convolution([from, to], 3, stride, 1, device)
}

fn basic_block(from: usize, to: usize, stride: usize, device: &Device) -> BasicBlock {
    BasicBlock {
        conv1: Quantized::non_negative(conv3x3(from, to, stride, device), device),
        norm1: BatchNormConfig::new(to).init(device),
        conv2: Quantized::non_negative(conv3x3(to, to, 1, device), device),
        norm2: BatchNormConfig::new(to).init(device),
        stride,
    }
}

impl BasicBlock {
    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels_in, height, width]`, not negative
    /// - output: `[batch, channels_out, height / stride, width / stride]`, not negative
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = self.conv1.forward(x.clone());
        let inner = batch_norm(&self.norm1, inner, Activation::Relu);
        let inner = batch_norm(&self.norm2, self.conv2.forward(inner), Activation::None);
        Activation::Relu.forward(inner + self.shortcut(x))
    }

    fn shortcut(&self, x: Tensor<4>) -> Tensor<4> {
        if self.stride == 1 {
            return x;
        }
        let x = x.slice(s![.., .., ..;2, ..;2]);
        let zeros = x.zeros_like();
        Tensor::cat(vec![x, zeros], 1)
    }
}

impl Classifier for ResNet {
    /// Images, `[batch, channels, height, width]`.
    type Input = Tensor<4>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = batch_norm(&self.stem_norm, self.stem.forward(images), Activation::Relu);
        for block in self.stages.iter().flatten() {
            x = block.forward(x);
        }
        self.classifier.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}
