//! A spotter of spoken words: GRU layers over log-mel features.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::Classifier;
use super::settings::{Refused, assert_valid, probabilities, sizes};
use crate::nn::{FoldBatchNorm, Gru, GruConfig, Quantized, padding_after};

/// Configuration of [`GruSpotter`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GruSpotterConfig {
    /// Size of every hidden state.
    pub hidden_size: usize,
    /// GRU layers; at least 1.
    pub layers: usize,
    /// Dropout probability between layers and before the classifier.
    pub dropout: f64,
}

impl Default for GruSpotterConfig {
    fn default() -> Self {
        Self { hidden_size: 128, layers: 1, dropout: 0.2 }
    }
}

/// GRU layers (as in Zhang et al. 2017, arXiv 1711.07128), and a linear layer on the mean of the
/// last one's states.
#[derive(Module, Debug)]
pub struct GruSpotter {
    /// The recurrent layers, first to last.
    pub layers: Vec<Gru>,
    /// Linear layer to the classes.
    pub classifier: Quantized<Linear>,
}

/// A batch of recordings.
#[derive(Clone, Debug)]
pub struct FrameBatch {
    /// Features, `[batch, frames, bands]`, padded at the end.
    pub frames: Tensor<3>,
    /// Frames of each recording, at least 1: `[batch]`.
    pub lengths: Tensor<1, Int>,
}

impl GruSpotterConfig {
    /// What is wrong with the configuration: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// No layer, a state without numbers, or dropout that is no probability.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([("hidden-size", self.hidden_size), ("layers", self.layers)])?;
        probabilities([("dropout", self.dropout)])
    }

    /// Makes the model for frames of `bands` features and `classes` classes.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass [`validate`](Self::validate).
    pub fn init(&self, bands: usize, classes: usize, device: &Device) -> GruSpotter {
        assert_valid(self.validate());
        let size = self.hidden_size;
        let layer = |i| {
            let (d_input, dropout) = if i == 0 { (bands, 0.0) } else { (size, self.dropout) };
            GruConfig { d_input, d_hidden: size, dropout }.init(device)
        };
        GruSpotter {
            layers: (0..self.layers).map(layer).collect(),
            classifier: Quantized::new(LinearConfig::new(size, classes).init(device), device)
                .with_dropout(self.dropout),
        }
    }
}

impl FoldBatchNorm for GruSpotter {}

impl Classifier for GruSpotter {
    type Input = FrameBatch;

    fn forward(&self, FrameBatch { frames, lengths }: FrameBatch) -> Tensor<2> {
        let [batch, length, _] = frames.dims();
        let mut x = frames;
        for layer in &self.layers {
            x = layer.forward(x);
        }
        let ended = padding_after(lengths.clone(), length).unsqueeze_dim::<3>(2).expand(x.dims());
        let sum = x.mask_fill(ended, 0.0).sum_dim(1).squeeze_dim::<2>(1);
        self.classifier.forward(sum / lengths.float().reshape([batch, 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cross_entropy;
    use crate::nn::testing::{device, quantized, random, trains};
    use burn::tensor::Tolerance;

    fn batch(frames: Tensor<3>) -> FrameBatch {
        let lengths = Tensor::from_ints([7, 3], &frames.device());
        FrameBatch { frames, lengths }
    }

    #[test]
    fn padding_changes_nothing() {
        let device = Device::default();
        device.seed(21);
        let config = GruSpotterConfig { hidden_size: 6, layers: 2, dropout: 0.2 };
        let model = config.init(4, 3, &device);
        let frames = random([2, 7, 4], &device);
        let logits = model.forward(batch(frames.clone()));
        assert_eq!(logits.dims(), [2, 3]);
        for (i, length) in [(0, 7), (1, 3)] {
            let lengths = Tensor::from_ints([length], &device);
            let frames = frames.clone().narrow(0, i, 1).narrow(1, 0, length as usize);
            let alone = model.forward(FrameBatch { frames, lengths });
            let found = logits.clone().narrow(0, i, 1).into_data();
            found.assert_approx_eq::<f32>(&alone.into_data(), Tolerance::rel_abs(1e-5, 1e-6));
        }
    }

    #[test]
    fn every_parameter_trains_also_quantized() {
        let device = device();
        let config = GruSpotterConfig { hidden_size: 6, layers: 2, dropout: 0.2 };
        let model = config.init(4, 3, &device);
        let frames = random([2, 7, 4], &device);
        let quantized = quantized(&model, 4, |model| {
            model.forward(batch(frames.clone().inner()));
        });
        for model in [model, quantized] {
            let targets = Tensor::from_ints([2, 0], &device);
            trains(&model, cross_entropy(model.forward(batch(frames.clone())), targets));
        }
    }
}
