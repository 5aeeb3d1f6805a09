//! ResNet for large images (He et al. 2015, arXiv 1512.03385, table 1), as torchvision has it: the
//! stride of a bottleneck block stands in its 3x3 convolution.

use std::path::Path;

use burn::nn::pool::{AdaptiveAvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{LinearConfig, PaddingConfig2d};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::resnet::{ResNet, ResidualBlock};
use super::settings::{Refused, assert_valid, sizes};
use super::{CheckpointError, Head, Naming, convolution, is_torchvision_buffer, load_checkpoint};
use crate::nn::{ConvNorm, Quantized};

/// Configuration of a [`ResNet`] for large images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ImageNetResNetConfig {
    /// Layers.
    pub depth: Depth,
    /// Channels inside the blocks of the first stage; each next stage has twice as many. Published
    /// files are of 64.
    pub width: usize,
}

impl Default for ImageNetResNetConfig {
    fn default() -> Self {
        Self { depth: Depth::D18, width: 64 }
    }
}

/// The published depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub enum Depth {
    /// 18 layers in basic blocks.
    D18,
    /// 34 layers in basic blocks.
    D34,
    /// 50 layers in bottleneck blocks.
    D50,
    /// 101 layers in bottleneck blocks.
    D101,
    /// 152 layers in bottleneck blocks.
    D152,
}

impl TryFrom<usize> for Depth {
    type Error = String;

    fn try_from(depth: usize) -> Result<Self, String> {
        Ok(match depth {
            18 => Depth::D18,
            34 => Depth::D34,
            50 => Depth::D50,
            101 => Depth::D101,
            152 => Depth::D152,
            _ => return Err(format!("depth is {depth}; must be 18, 34, 50, 101 or 152")),
        })
    }
}

impl From<Depth> for usize {
    fn from(depth: Depth) -> usize {
        match depth {
            Depth::D18 => 18,
            Depth::D34 => 34,
            Depth::D50 => 50,
            Depth::D101 => 101,
            Depth::D152 => 152,
        }
    }
}

impl Depth {
    /// Blocks of each stage.
    fn blocks(self) -> [usize; 4] {
        match self {
            Depth::D18 => [2, 2, 2, 2],
            Depth::D34 | Depth::D50 => [3, 4, 6, 3],
            Depth::D101 => [3, 4, 23, 3],
            Depth::D152 => [3, 8, 36, 3],
        }
    }

    fn has_bottlenecks(self) -> bool {
        !matches!(self, Depth::D18 | Depth::D34)
    }
}

/// Channels after a bottleneck block, as multiples of those inside.
const EXPANSION: usize = 4;

impl ImageNetResNetConfig {
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
    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> ResNet {
        assert_valid(self.validate());
        let bottlenecks = self.depth.has_bottlenecks();
        let mut from = self.width;
        let mut stages = Vec::new();
        for (stage, count) in self.depth.blocks().into_iter().enumerate() {
            let inner = self.width << stage;
            let to = if bottlenecks { EXPANSION * inner } else { inner };
            let mut blocks = Vec::new();
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let block = match bottlenecks {
                    true => ResidualBlock::bottleneck([from, inner, to], stride, device),
                    false => ResidualBlock::basic(from, to, stride, device),
                };
                blocks.push(match (from, stride) == (to, 1) {
                    true => block,
                    false => block.with_projection(from, to, device),
                });
                from = to;
            }
            stages.push(blocks);
        }
        ResNet {
            stem: ConvNorm::new(convolution([channels, self.width], 7, 2, 1, device), device),
            stem_pool: Some(
                MaxPool2dConfig::new([3, 3])
                    .with_strides([2, 2])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .init(),
            ),
            stages,
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            classifier: Quantized::non_negative(
                LinearConfig::new(from, classes).init(device),
                device,
            ),
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
    ) -> Result<ResNet, CheckpointError> {
        let naming = Naming { names: published_names(), unneeded: is_torchvision_buffer };
        let fresh = (head == Head::Fresh).then_some("classifier");
        load_checkpoint(self.init(3, classes, device), path, &naming, fresh)
    }
}

/// Torchvision's names, and what they are here.
fn published_names() -> Vec<(String, String)> {
    let stages =
        (0..4).map(|stage| (format!(r"^layer{}\.", stage + 1), format!("stages.{stage}.")));
    let rest = [
        (r"^conv1\.", "stem.layer."),
        (r"^bn1\.", "stem.norm."),
        (r"\.conv(\d)\.", ".conv$1.layer."),
        (r"\.bn(\d)\.", ".conv$1.norm."),
        (r"\.downsample\.0\.", ".projection.layer."),
        (r"\.downsample\.1\.", ".projection.norm."),
        (r"^fc\.", "classifier.layer."),
    ];
    stages.chain(rest.map(|(from, to)| (from.to_string(), to.to_string()))).collect()
}
