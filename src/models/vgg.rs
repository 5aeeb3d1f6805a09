//! VGG-Small, the plain convolutional network of the quantization literature (Zhang et al. 2018,
//! arXiv 1807.10029; after Simonyan and Zisserman 2014, arXiv 1409.1556).

use burn::module::Module;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::settings::{Refused, assert_valid, sizes};
use super::{Classifier, convolution};
use crate::kernels::Activation;
use crate::nn::{ConvNorm, FoldBatchNorm, Quantized};

/// Pixels along each side of what the classifier sees: that of 32 x 32 images, pooled three times.
const SIDE: usize = 4;

/// Configuration of [`VggSmall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct VggSmallConfig {
    /// Channels of the first two convolutions; the next two have twice, the last two four times
    /// as many.
    pub width: usize,
}

impl Default for VggSmallConfig {
    fn default() -> Self {
        Self { width: 128 }
    }
}

/// Six 3x3 convolutions with batch normalization, max pooling after every second, and one linear
/// layer. Serves images of at least 8 x 8 pixels; the published one is for 32 x 32, and others are
/// averaged to as many positions before the linear layer.
#[derive(Module, Debug)]
pub struct VggSmall {
    /// The convolutions, first to last.
    pub convs: Vec<ConvNorm>,
    /// Pooling after every second convolution.
    pub max_pool: MaxPool2d,
    /// Average to 4 x 4 positions.
    pub pool: AdaptiveAvgPool2d,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

impl VggSmallConfig {
    /// What is wrong with the settings.
    ///
    /// # Errors
    ///
    /// No channels.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([("width", self.width)])
    }

    /// Makes the model for images of `channels` channels and `classes` classes.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> VggSmall {
        assert_valid(self.validate());
        let widths = [1, 1, 2, 2, 4, 4].map(|factor| factor * self.width);
        let conv = |index: usize| match index {
            0 => ConvNorm::new(convolution([channels, widths[0]], 3, 1, 1, device), device),
            _ => {
                let channels = [widths[index - 1], widths[index]];
                ConvNorm::non_negative(convolution(channels, 3, 1, 1, device), device)
            }
        };
        let features = widths[5] * SIDE * SIDE;
        VggSmall {
            convs: (0..widths.len()).map(conv).collect(),
            max_pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            pool: AdaptiveAvgPool2dConfig::new([SIDE, SIDE]).init(),
            classifier: Quantized::non_negative(
                LinearConfig::new(features, classes).init(device),
                device,
            ),
        }
    }
}

impl FoldBatchNorm for VggSmall {
    fn conv_norms(&mut self) -> Vec<&mut ConvNorm> {
        self.convs.iter_mut().collect()
    }
}

impl Classifier for VggSmall {
    /// Images, `[batch, channels, height, width]`.
    type Input = Tensor<4>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images;
        for pair in self.convs.chunks(2) {
            for conv in pair {
                x = conv.forward(x, Activation::Relu);
            }
            x = self.max_pool.forward(x);
        }
        self.classifier.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}
