//! A compact one-stage detector with anchors, after YOLOv3 (Redmon and Farhadi 2018,
//! arXiv 1804.02767), with one grid of cells.

mod boxes;
mod loss;

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::convolution;
use super::settings::{Refused, assert_valid, sizes};
use crate::kernels::Activation;
use crate::metrics::boxes::Detection;
use crate::nn::{ConvNorm, FoldBatchNorm, Quantized};

pub use loss::DetectorLoss;

/// Values before the classes: the place of the centre, the size, and objectness.
const BOX_VALUES: usize = 5;

/// The probability of an object in a cell that a fresh model gives (Lin et al. 2017,
/// arXiv 1708.02002, section 4.1), so that the many empty cells do not swamp the first steps.
const PRIOR: f32 = 0.01;

/// Configuration of [`Detector`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DetectorConfig {
    /// Pixels along each side of a cell: a power of two.
    pub stride: usize,
    /// Channels after the first halving of the image; each next halving doubles them.
    pub width: usize,
    /// Convolutions after each halving.
    pub depth: usize,
    /// Widths and heights of the boxes that every cell starts from, in pixels.
    pub anchors: Vec<[f32; 2]>,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            stride: 16,
            width: 16,
            depth: 2,
            anchors: vec![[32.0, 32.0], [80.0, 80.0], [160.0, 160.0]],
        }
    }
}

/// A backbone of 3x3 convolutions with batch normalization and ReLU (no leaky one, so that
/// activations need no sign bit), and a 1x1 convolution to the boxes of every cell.
#[derive(Module, Debug)]
pub struct Detector {
    /// The convolutions, first to last.
    pub backbone: Vec<ConvNorm>,
    /// Convolution to what is predicted of each cell and anchor.
    pub head: Quantized<Conv2d>,
    /// Widths and heights of the anchors, in pixels.
    #[module(skip)]
    pub anchors: Vec<[f32; 2]>,
    /// Pixels along each side of a cell.
    pub stride: usize,
    /// The number of classes.
    pub classes: usize,
}

impl DetectorConfig {
    /// What is wrong with the configuration: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// If the stride is no power of two from 2 to 64, there are no channels, or an anchor has no area.
    pub fn validate(&self) -> Result<(), Refused> {
        if !(2..=64).contains(&self.stride) || !self.stride.is_power_of_two() {
            return Err(("stride", format!("is {}; must be 2, 4, 8, 16, 32 or 64", self.stride)));
        }
        sizes([("width", self.width)])?;
        let usable = |side: &f32| side.is_finite() && *side > 0.0;
        if self.anchors.is_empty() || !self.anchors.iter().flatten().all(usable) {
            let message = "must be one or more pairs of a width and a height above 0".to_string();
            return Err(("anchors", message));
        }
        Ok(())
    }

    /// Makes the model for images of `channels` channels and `classes` classes of objects.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, channels: usize, classes: usize, device: &Device) -> Detector {
        assert_valid(self.validate());
        let mut backbone = Vec::new();
        let mut from = channels;
        for level in 0..self.stride.ilog2() {
            let to = self.width << level;
            for index in 0..=self.depth {
                let stride = if index == 0 { 2 } else { 1 };
                let conv = convolution([from, to], 3, stride, 1, device);
                backbone.push(match backbone.is_empty() {
                    true => ConvNorm::new(conv, device),
                    false => ConvNorm::non_negative(conv, device),
                });
                from = to;
            }
        }
        Detector {
            backbone,
            head: Quantized::non_negative(self.head(from, classes, device), device),
            anchors: self.anchors.clone(),
            stride: self.stride,
            classes,
        }
    }

    fn head(&self, channels: usize, classes: usize, device: &Device) -> Conv2d {
        let outputs = BOX_VALUES + classes;
        let mut head = Conv2dConfig::new([channels, self.anchors.len() * outputs], [1, 1])
            .with_initializer(Initializer::Normal { mean: 0.0, std: 0.01 })
            .init(device);
        let bias = |output: usize| match output % outputs == BOX_VALUES - 1 {
            true => (PRIOR / (1.0 - PRIOR)).ln(),
            false => 0.0,
        };
        let bias: Vec<f32> = (0..self.anchors.len() * outputs).map(bias).collect();
        head.bias = Some(Param::from_data(bias.as_slice(), device));
        head
    }
}

impl Detector {
    /// Predicts for every cell and anchor: place of the centre (tx, ty), size (tw, th), objectness
    /// and the classes. What they mean is in [`boxes`](Self::boxes); objectness and classes are
    /// logits.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - output: `[batch, rows, columns, anchors, 5 + classes]`, rows and columns of cells: the
    ///   image's sides divided by the stride, rounded up
    pub fn forward(&self, images: Tensor<4>) -> Tensor<5> {
        let mut x = images;
        for conv in &self.backbone {
            x = conv.forward(x, Activation::Relu);
        }
        let y = self.head.forward(x);
        let [batch, _, rows, columns] = y.dims();
        let outputs = BOX_VALUES + self.classes;
        let y = y.reshape([batch, self.anchors.len(), outputs, rows, columns]);
        y.permute([0, 3, 4, 1, 2])
    }

    /// The objects in each image: every class of every cell and anchor whose score, the product of
    /// objectness and class probability, reaches `threshold`. Several can be of one object.
    ///
    /// `output` is what [`forward`](Self::forward) gave.
    pub fn detections(&self, output: Tensor<5>, threshold: f32) -> Vec<Vec<Detection>> {
        let [batch, rows, columns, anchors, outputs] = output.dims();
        let places = rows * columns * anchors;
        let host = |tensor: Tensor<5>| -> Vec<f32> {
            let data = tensor.into_data().convert::<f32>();
            data.try_to_vec().expect("data converted to f32")
        };
        let boxes = host(self.boxes(&output));
        let chances = host(sigmoid(output.narrow(4, 4, outputs - 4)));
        let image = |image: usize| {
            let place = |place: usize| {
                let bounds: [f32; 4] = std::array::from_fn(|i| boxes[place * 4 + i]);
                let (object, classes) = chances[place * (outputs - 4)..][..outputs - 4]
                    .split_first()
                    .expect("objectness is always there");
                let scores = classes.iter().map(move |class| object * class).enumerate();
                scores
                    .filter(|&(_, score)| score >= threshold)
                    .map(move |(class, score)| Detection { class, score, bounds })
            };
            (image * places..(image + 1) * places).flat_map(place).collect()
        };
        (0..batch).map(image).collect()
    }
}

impl FoldBatchNorm for Detector {
    fn conv_norms(&mut self) -> Vec<&mut ConvNorm> {
        self.backbone.iter_mut().collect()
    }
}
