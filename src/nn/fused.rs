//! Burn's layers, run through fused operations.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Dropout, Linear, PaddingConfig2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use crate::kernels::{self, Activation};

/// Applies Burn's dropout layer: in training only.
pub fn dropout<const D: usize>(layer: &Dropout, x: Tensor<D>) -> Tensor<D> {
    if !layer.training.is_enabled() || !x.device().is_autodiff() || layer.prob == 0.0 {
        return x;
    }
    kernels::dropout(x, layer.prob)
}

/// Applies Burn's linear layer, as one product over all rows.
///
/// # Shapes
///
/// - x: `[..., d_input]`
/// - output: `[..., d_output]`
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let x = x.reshape([rows, shape[D - 1]]);
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    let y = kernels::linear(x, layer.weight.val(), bias);
    shape[D - 1] = y.dims()[1];
    y.reshape(shape)
}

/// Applies Burn's convolution.
///
/// # Shapes
///
/// - x: `[batch, channels_in, height_in, width_in]`
/// - output: `[batch, channels_out, height_out, width_out]`
pub fn conv2d(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let padding = match layer.padding {
        PaddingConfig2d::Valid => [(0, 0); 2],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(top, bottom), (left, right)],
        // How much that is follows from the input, by rules that are Burn's own.
        PaddingConfig2d::Same => return layer.forward(x),
    };
    let options =
        ConvOptions::new_with_padding(layer.stride, padding, layer.dilation, layer.groups);
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    kernels::conv2d(x, layer.weight.val(), bias, options)
}

/// Applies Burn's batch normalization and an activation after it: with the statistics of the
/// batch in training, which then enter the running ones, and with the running ones elsewhere.
///
/// # Shapes
///
/// - x: `[batch, channels, ...]`
/// - output: `[batch, channels, ...]`
pub fn batch_norm<const D: usize>(
    layer: &BatchNorm,
    x: Tensor<D>,
    activation: Activation,
) -> Tensor<D> {
    if !layer.training.is_enabled() || !x.device().is_autodiff() {
        return activation.forward(layer.forward(x));
    }
    let device = x.device();
    let (gamma, beta) = (layer.gamma.val(), layer.beta.val());
    let (y, mean, variance) = kernels::batch_norm_train(x, gamma, beta, layer.epsilon, activation);
    for (running, batch) in [(&layer.running_mean, mean), (&layer.running_var, variance)] {
        let before = running.value_sync().to_device(&device);
        let after = before * (1.0 - layer.momentum) + batch.detach() * layer.momentum;
        running.update(after.detach());
    }
    y
}

/// Layer normalization over the last dimension (Ba et al. 2016, arXiv 1607.06450).
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale of every element, `[width]`.
    pub gamma: Param<Tensor<1>>,
    /// Offset of every element, `[width]`.
    pub beta: Param<Tensor<1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    /// Makes the layer for rows of `width` elements.
    pub fn new(width: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: Param::from_tensor(Tensor::ones([width], device)),
            beta: Param::from_tensor(Tensor::zeros([width], device)),
            epsilon,
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - x: `[..., width]`
    /// - output: `[..., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        kernels::layer_norm(x, self.gamma.val(), self.beta.val(), self.epsilon)
    }
}
