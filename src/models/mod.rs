//! Models, one file each, and the loading of published checkpoints.

pub mod beam_search;
pub mod bert;
pub mod bi_lstm_tagger;
mod checkpoint;
pub mod detector;
pub mod encoder_decoder;
pub mod gru_spotter;
pub mod lstm_classifier;
pub mod lstm_language_model;
pub mod mobilenet;
pub mod resnet;
pub mod resnet_imagenet;
pub mod settings;
pub mod vgg;
pub mod vit;

pub use checkpoint::{CheckpointError, Head, Naming, load_checkpoint};

use burn::module::ModuleDisplay;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::nn::FoldBatchNorm;

/// A model that sorts its input into classes.
pub trait Classifier: FoldBatchNorm + ModuleDisplay + 'static {
    /// One batch of inputs.
    type Input: Clone + Send + 'static;

    /// The logits of every class, `[batch, classes]`.
    fn forward(&self, input: Self::Input) -> Tensor<2>;
}

/// A model that gives a sentence an intent and each of its words a slot label.
pub trait Tagger: FoldBatchNorm + ModuleDisplay + 'static {
    /// One batch of inputs.
    type Input: Clone + Send + 'static;

    /// The logits of every intent and slot label.
    fn forward(&self, input: Self::Input) -> Tags;
}

/// What a [`Tagger`] predicts of a batch.
#[derive(Clone, Debug)]
pub struct Tags {
    /// The logits of every intent, `[batch, intents]`.
    pub intent: Tensor<2>,
    /// The logits of every slot label for each word, `[batch, words, labels]`; those of padding
    /// mean nothing.
    pub slots: Tensor<3>,
}

/// A convolution before a normalization: no bias, and as much padding as keeps the size at stride 1.
fn convolution(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
    device: &Device,
) -> Conv2d {
    let padding = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_groups(groups)
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true })
        .init(device)
}

/// Whether a tensor of a torchvision file counts batches, which nothing here needs.
fn is_torchvision_buffer(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}
