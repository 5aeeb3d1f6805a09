//! A layer with an activation quantizer at its input.

use burn::module::Module;
use burn::nn::{Linear, conv::Conv2d};
use burn::tensor::{Device, Tensor};

use super::{conv2d, linear};
use crate::quant::ActivationQuantizer;

/// A layer with an activation quantizer at its input.
///
/// Without a plan it computes what the layer inside computes. In a config its name is the path of
/// this wrapper: the `layer` inside does not show.
#[derive(Module, Debug)]
pub struct Quantized<L: Module> {
    /// The layer.
    pub layer: L,
    /// Quantizes the layer's input.
    pub input: ActivationQuantizer,
}

impl<L: Module> Quantized<L> {
    /// Wraps a layer whose input can have both signs.
    pub fn new(layer: L, device: &Device) -> Self {
        Self { layer, input: ActivationQuantizer::signed(device) }
    }

    /// Wraps a layer whose input cannot be negative, such as the output of a ReLU.
    pub fn non_negative(layer: L, device: &Device) -> Self {
        Self { layer, input: ActivationQuantizer::non_negative(device) }
    }
}

impl Quantized<Linear> {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - x: `[..., d_input]`
    /// - output: `[..., d_output]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(&self.layer, self.input.forward(x))
    }
}

impl Quantized<Conv2d> {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels_in, height_in, width_in]`
    /// - output: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(&self.layer, self.input.forward(x))
    }
}
