//! MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381).

use std::path::Path;

use burn::module::Module;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::settings::{Refused, assert_valid, positive, probabilities};
use super::{
    CheckpointError, Classifier, Head, Naming, convolution, is_torchvision_buffer, load_checkpoint,
};
use crate::kernels::Activation;
use crate::nn::{ConvNorm, FoldBatchNorm, Quantized};

/// Rows of the paper's table 2: expansion t, channels c, blocks n, stride s of the first block.
const BOTTLENECKS: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

/// Configuration of [`MobileNetV2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MobileNetV2Config {
    /// All channels are multiplied with it and rounded to a multiple of 8.
    pub width_multiplier: f64,
    /// Dropout probability before the classifier.
    pub dropout: f64,
}

impl Default for MobileNetV2Config {
    fn default() -> Self {
        Self { width_multiplier: 1.0, dropout: 0.2 }
    }
}

/// MobileNetV2: inverted residual blocks of depthwise convolutions. Serves images of any size; the
/// published one halves its input five times.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    /// First convolution, which halves the image.
    pub stem: ConvNorm,
    /// The blocks, first to last.
    pub blocks: Vec<InvertedResidual>,
    /// Convolution to the last channels.
    pub head: ConvNorm,
    /// Average over all positions.
    pub pool: AdaptiveAvgPool2d,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

/// A 1x1 convolution that widens (left out where the expansion is 1), a depthwise 3x3 convolution
/// and a 1x1 convolution that narrows; with a shortcut where input and output have the same shape.
#[derive(Module, Debug)]
pub struct InvertedResidual {
    /// Widening convolution.
    pub expand: Option<ConvNorm>,
    /// Depthwise convolution.
    pub depthwise: ConvNorm,
    /// Narrowing convolution, without an activation after it.
    pub project: ConvNorm,
    /// Whether the input is added to the output.
    pub shortcut: bool,
}

impl MobileNetV2Config {
    /// What is wrong with the settings.
    ///
    /// # Errors
    ///
    /// A multiplier that is not above 0, or no probability.
    pub fn validate(&self) -> Result<(), Refused> {
        positive([("width-multiplier", self.width_multiplier)])?;
        probabilities([("dropout", self.dropout)])
    }

    /// Makes the model for images of `channels` channels and `classes` classes.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> MobileNetV2 {
        assert_valid(self.validate());
        let stem = self.channels(32);
        // The paper widens the last layer only, never narrows it.
        let last =
            Self { width_multiplier: self.width_multiplier.max(1.0), ..*self }.channels(1280);
        let mut blocks = Vec::new();
        let mut from = stem;
        for (expansion, to, count, stride) in BOTTLENECKS {
            let to = self.channels(to);
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                blocks.push(inverted_residual(from, to, expansion, stride, device));
                from = to;
            }
        }
        MobileNetV2 {
            stem: ConvNorm::new(convolution([channels, stem], 3, 2, 1, device), device),
            blocks,
            head: ConvNorm::new(convolution([from, last], 1, 1, 1, device), device),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            classifier: Quantized::non_negative(
                LinearConfig::new(last, classes).init(device),
                device,
            )
            .with_dropout(self.dropout),
        }
    }

    /// A model with weights under torchvision's names, for images of three channels.
    ///
    /// # Errors
    ///
    /// Those of [`load_checkpoint`].
    pub fn from_published(
        &self,
        path: &Path,
        classes: usize,
        head: Head,
        device: &Device,
    ) -> Result<MobileNetV2, CheckpointError> {
        let naming = Naming { names: published_names(), unneeded: is_torchvision_buffer };
        let fresh = (head == Head::Fresh).then_some("classifier");
        load_checkpoint(self.init(3, classes, device), path, &naming, fresh)
    }

    /// Channels after the width multiplier: the nearest multiple of 8, at least 8, and never more
    /// than a tenth below (the rule of the paper's own code).
    fn channels(&self, channels: usize) -> usize {
        let exact = channels as f64 * self.width_multiplier;
        let rounded = ((exact + 4.0) / 8.0).floor().max(1.0) * 8.0;
        (if rounded < 0.9 * exact { rounded + 8.0 } else { rounded }) as usize
    }
}

/// Torchvision's names, and what they are here.
fn published_names() -> Vec<(String, String)> {
    // There, layers are numbered: the stem is 0, the blocks follow, and the head is the last. So
    // are the parts of a block, whose first has no expansion.
    let parts = |layer: usize, names: &[&'static str]| {
        let part = |(index, name): (usize, &&'static str)| {
            let file = format!(r"^features\.{layer}\.conv\.{index}\.");
            let here = format!("blocks.{}.{name}.", layer - 1);
            // All but the last are a pair of convolution and normalization.
            match *name {
                "project.layer" | "project.norm" => vec![(file, here)],
                _ => vec![
                    (format!(r"{file}0\."), format!("{here}layer.")),
                    (format!(r"{file}1\."), format!("{here}norm.")),
                ],
            }
        };
        names.iter().enumerate().flat_map(part).collect::<Vec<_>>()
    };
    let blocks: usize = BOTTLENECKS.iter().map(|(_, _, count, _)| count).sum();
    let mut names = parts(1, &["depthwise", "project.layer", "project.norm"]);
    for layer in 2..=blocks {
        names.extend(parts(layer, &["expand", "depthwise", "project.layer", "project.norm"]));
    }
    let mut name = |from: String, to: &str| names.push((from, to.to_string()));
    for (layer, here) in [(0, "stem"), (blocks + 1, "head")] {
        name(format!(r"^features\.{layer}\.0\."), &format!("{here}.layer."));
        name(format!(r"^features\.{layer}\.1\."), &format!("{here}.norm."));
    }
    name(r"^classifier\.1\.".to_string(), "classifier.layer.");
    names
}

fn inverted_residual(
    from: usize,
    to: usize,
    expansion: usize,
    stride: usize,
    device: &Device,
) -> InvertedResidual {
    let inner = from * expansion;
    let expand = || ConvNorm::new(convolution([from, inner], 1, 1, 1, device), device);
    let depthwise = convolution([inner, inner], 3, stride, inner, device);
    let project = convolution([inner, to], 1, 1, 1, device);
    InvertedResidual {
        expand: (expansion > 1).then(expand),
        depthwise: ConvNorm::non_negative(depthwise, device),
        project: ConvNorm::non_negative(project, device),
        shortcut: stride == 1 && from == to,
    }
}

impl InvertedResidual {
    /// Applies the block.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels_in, height, width]`
    /// - output: `[batch, channels_out, height / stride, width / stride]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let inner = match &self.expand {
            Some(expand) => expand.forward(x.clone(), Activation::Relu6),
            None => x.clone(),
        };
        let inner = self.depthwise.forward(inner, Activation::Relu6);
        let inner = self.project.forward(inner, Activation::None);
        if self.shortcut { inner + x } else { inner }
    }
}

impl FoldBatchNorm for MobileNetV2 {
    fn conv_norms(&mut self) -> Vec<&mut ConvNorm> {
        let blocks = self.blocks.iter_mut().flat_map(|block| {
            block.expand.iter_mut().chain([&mut block.depthwise, &mut block.project])
        });
        std::iter::once(&mut self.stem).chain(blocks).chain([&mut self.head]).collect()
    }
}

impl Classifier for MobileNetV2 {
    /// Images, `[batch, channels, height, width]`.
    type Input = Tensor<4>;

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.stem.forward(images, Activation::Relu6);
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x = self.head.forward(x, Activation::Relu6);
        self.classifier.forward(self.pool.forward(x).flatten::<2>(1, 3))
    }
}
